"""Reports on mails: delivery status (RFC 3464, RFC 6533) and complaints (ARF, RFC 5965)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from enricher.mail.charsets import plain, words
from enricher.mail.dates import read_date
from enricher.mail.defects import Defects
from enricher.mail.headers import header_of, read_header
from enricher.mail.mime import Part
from enricher.mail.models import Bounce, Feedback
from enricher.mail.threads import bare_id

STATUS = ("message/delivery-status", "message/global-delivery-status")
FEEDBACK = "message/feedback-report"
ORIGINAL = (
    *("message/rfc822", "message/global", "message/rfc822-headers", "message/global-headers"),
    "text/rfc822-headers",
)
_BLOCKS = re.compile(rb"\r?\n(?:[ \t]*\r?\n)+")
_MOST = 1000
_LONGEST = 1_000_000

Block = dict[str, list[str]]
"""Fields by their names in lower case."""


def bounces(parts: Sequence[Part]) -> tuple[Bounce, ...]:
    """What became of each recipient of a mail, as its delivery report says."""
    found: list[Bounce] = []
    for part in parts:
        if part.kind not in STATUS:
            continue
        about = _original_id(parts)
        host = ""
        for block in _blocks(part.data):
            recipient = _one(block, "final-recipient") or _one(block, "original-recipient")
            if not recipient:
                host = host or _typed(_one(block, "reporting-mta"))
            elif len(found) < _MOST:
                found.append(
                    Bounce(
                        recipient=_typed(recipient),
                        original_recipient=_typed(_one(block, "original-recipient")) or None,
                        action=_one(block, "action").lower(),
                        status=_one(block, "status").partition(" ")[0],
                        reason=_typed(_one(block, "diagnostic-code")),
                        host=_typed(_one(block, "remote-mta")) or None,
                        reported_by=host or None,
                        message_id=about,
                    )
                )
    return tuple(found)


def feedback(parts: Sequence[Part], defects: Defects) -> Feedback | None:
    """A complaint about a mail; None where there is none."""
    for part in parts:
        if part.kind == FEEDBACK:
            block: Block = {}
            for each in _blocks(part.data):
                for name, values in each.items():
                    block.setdefault(name, []).extend(values)
            arrived = _one(block, "arrival-date") or _one(block, "received-date")
            return Feedback(
                kind=_one(block, "feedback-type").lower(),
                reported_by=_one(block, "user-agent") or None,
                source_ip=_one(block, "source-ip") or None,
                sender=_address(_one(block, "original-mail-from")) or None,
                recipients=tuple(map(_address, block.get("original-rcpt-to", ())))[:_MOST],
                domains=tuple(block.get("reported-domain", ()))[:_MOST],
                arrived=read_date(arrived, defects) if arrived else None,
                message_id=_original_id(parts),
            )
    return None


def _blocks(data: bytes) -> Iterator[Block]:
    for number, raw in enumerate(_BLOCKS.split(data[:_LONGEST].strip(), maxsplit=_MOST + 1)):
        if number > _MOST:
            return
        raw += b"\n"
        block: Block = {}
        for name, value in read_header(raw, 0, len(raw), len(raw), len(raw)).fields:
            block.setdefault(name.lower(), []).append(words(plain(value)))
        yield block


def _original_id(parts: Sequence[Part]) -> str | None:
    """The id of the mail that a report is about: it is attached, or its header is."""
    for part in parts:
        if part.kind in ORIGINAL:
            raw = header_of(part.data) or part.data[:1000]
            for name, value in read_header(raw, 0, len(raw), len(raw), len(raw)).fields:
                if name.lower() == "message-id":
                    return bare_id(plain(value)) or None
    return None


def _one(block: Block, name: str) -> str:
    return block[name][0].strip() if name in block else ""


def _typed(value: str) -> str:
    """Without the type that stands before it: ``rfc822; ann@a.example``."""
    kind, semicolon, rest = value.partition(";")
    return _address(rest) if semicolon and " " not in kind.strip() else _address(value)


def _address(value: str) -> str:
    value = value.strip()
    return value[1:-1] if value[:1] == "<" and value[-1:] == ">" else value
