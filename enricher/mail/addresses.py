"""Address lists: who a mail is from and to."""

from __future__ import annotations

import inspect
import re
from email.utils import getaddresses
from typing import Any

from enricher.mail.charsets import words
from enricher.mail.models import Mailbox

# "Name <local@domain>" or a bare address, without quotes, comments or groups: nearly all there are.
_SIMPLE = re.compile(r'([^<>"(),;:@\\]*)<([^<>"(),;:\\\s]+)>|([^<>"(),;:@\\\s]+@[^<>"(),;:@\\\s]+)')
_QUOTED = re.compile(r'"([^"\\]*)"\s*<([^<>"(),;:\\\s]+)>')
_MOST = 10_000

# Newer interpreters refuse a whole list for one odd member unless told otherwise.
_LENIENT: dict[str, Any] = {"strict": False} if "strict" in inspect.signature(getaddresses).parameters else {}


def mailboxes(value: str) -> tuple[Mailbox, ...]:
    """The mailboxes in ``value`` (as `charsets.plain` gives it), names decoded, groups as their members.

    What has no address at all is kept as a name without one, so that nothing the sender said is lost.
    """
    value = value.strip()
    if not value:
        return ()
    found = _SIMPLE.fullmatch(value)
    if found is not None:
        name, address, bare = found.groups()
        return (Mailbox(words(name or "").strip(), address or bare),)
    found = _QUOTED.fullmatch(value)
    if found is not None:
        return (Mailbox(words(found[1]), found[2]),)
    if '"' not in value and "(" not in value and ":" not in value and "\\" not in value:
        simple = [_SIMPLE.fullmatch(part.strip()) for part in value.split(",")[:_MOST]]
        if all(match is not None for match in simple):
            return tuple(
                Mailbox(words(match[1] or "").strip(), match[2] or match[3])
                for match in simple
                if match is not None
            )
    try:
        found_all = getaddresses([value], **_LENIENT)[:_MOST]
    except RecursionError:
        return (Mailbox(value, ""),)  # comments within comments without end
    return tuple(Mailbox(words(name), address) for name, address in found_all if name or address)
