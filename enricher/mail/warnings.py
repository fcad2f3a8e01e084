"""What a reader should beware of. None of it is wrong by itself: each has honest reasons too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from enricher.mail.models import Link, Mailbox

REPLY_TO_DIFFERS = "ReplyToDiffers"
ADDRESS_IN_NAME = "AddressInName"
LINK_TEXT_DIFFERS = "LinkTextDiffers"
SCRIPT_LINK = "ScriptLink"

_ADDRESS = re.compile(r"[^\s@<>()\[\],;:\"]+@[^\s@<>()\[\],;:\"]+\.[^\W\d_]+")
_SCRIPTS = ("javascript:", "vbscript:", "data:")


def warnings(from_: Sequence[Mailbox], reply_to: Sequence[Mailbox], links: Sequence[Link]) -> Iterator[str]:
    """What is odd about a mail, by name."""
    addresses = {one.address.lower() for one in from_}
    if from_ and any(one.address and one.address.lower() not in addresses for one in reply_to):
        yield REPLY_TO_DIFFERS
    for one in from_:
        if "@" in one.name and any(
            found.lower() != one.address.lower() for found in _ADDRESS.findall(one.name[:1000])
        ):
            yield ADDRESS_IN_NAME
            break
    if links:
        if any(link.misleading for link in links):
            yield LINK_TEXT_DIFFERS
        if any(link.target.lower().startswith(_SCRIPTS) for link in links):
            yield SCRIPT_LINK
