"""A mail from its bytes (RFC 5322, MIME): headers, people, bodies, what is attached, the thread.

`mime` takes the message apart; headers, parameters, charsets and addresses are read here. A mail may be
broken in any way: what can be read is read, and ``defects`` names the rest.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from enricher.mail.addresses import mailboxes
from enricher.mail.charsets import plain, to_text, words
from enricher.mail.mime import Part, take_apart
from enricher.mail.models import Attachment, Mail, Mailbox
from enricher.mail.parameters import split
from enricher.texts import as_bytes, as_text

_ID = re.compile(r"<([^<>]*)>")
_SPACE = re.compile(r"\s+")
_OF_PARTS = {"content-type", "content-disposition", "content-id"}
_ADDRESSES = {"to", "cc", "bcc", "from", "sender", "reply-to"}
# A mail has a few dozen of each; a hostile one is not to fill the memory of its readers.
_MOST_PARTS = _MOST_HEADERS = _MOST_IDS = 1000
# Characters of all headers with addresses: odd ones are read at about a million a second.
_MOST_ADDRESSED = 1_000_000


def parse_message(
    raw: bytes, *, id: str = "", message_id: str | None = None, fields: Mapping[str, Any] | None = None  # noqa: A002
) -> Mail:
    """The mail in ``raw``. ``message_id`` wins over the header; ``fields`` go into the mail as they are.

    Raises `BadMessage` for parts without end, one in the other or one by one, and for nothing else.
    """
    raw = as_bytes(raw)
    id, message_id = as_text(id), None if message_id is None else as_text(message_id)  # noqa: A001
    message = take_apart(raw)
    values: defaultdict[str, list[str]] = defaultdict(list)
    headers: list[tuple[str, str]] = []
    defects: dict[str, None] = {}
    for name, value in message.headers:
        if len(headers) == _MOST_HEADERS:
            defects["TooManyHeadersDefect"] = None
            break
        low = name.lower()
        text = plain(value)
        values[low].append(text)
        # Addresses are taken apart before their words are decoded: a decoded comma separates nobody.
        headers.append((name, words(text) if low not in _ADDRESSES else text))
    headers = [(n, words(v) if n.lower() in _ADDRESSES else v) for n, v in headers]
    defects.update(dict.fromkeys(message.defects))
    if sum(len(value) for low in _ADDRESSES for value in values[low]) > _MOST_ADDRESSED:
        defects["TooManyAddressesDefect"] = None
        for low in _ADDRESSES:
            values[low].clear()  # they are among the headers
    bodies = _Bodies(defects)
    bodies.read(message.parts)
    date = read_date(values["date"][0], defects) if values["date"] else None
    own_id = message_id or next(filter(None, values["message-id"]), None)
    references = ids(" ".join(values["references"]))
    replied = ids(" ".join(values["in-reply-to"]))
    subject = words(values["subject"][0]) if values["subject"] else ""
    return Mail(
        id=id,
        message_id=own_id,
        thread=thread_of(references, replied, own_id or id),
        in_reply_to=replied,
        references=references,
        date=date,
        subject=subject,
        sender=_people(values["sender"]),
        from_=_people(values["from"]),
        to=_people(values["to"]),
        cc=_people(values["cc"]),
        bcc=_people(values["bcc"]),
        reply_to=_people(values["reply-to"]),
        text=bodies.joined("text/plain"),
        html=bodies.joined("text/html"),
        attachments=tuple(bodies.attachments),
        headers=tuple(headers),
        defects=tuple(defects),
        size=len(raw),
        fields={as_text(name): value for name, value in (fields or {}).items()},
        raw=raw,
    )


class _Bodies:
    """Sorts the parts of a message into bodies and attachments."""

    def __init__(self, defects: dict[str, None]) -> None:
        self.attachments: list[Attachment] = []
        self._defects = defects
        self._texts: dict[str, list[str]] = {}

    def joined(self, kind: str) -> str | None:
        """All texts of a kind in the order shown; None if there is none."""
        found = self._texts.get(kind)
        if found is None:
            return None
        shown = [text for text in found if text.strip()] or found[:1]
        return shown[0] if len(shown) == 1 else "\n".join(shown)

    def read(self, parts: Sequence[Part]) -> None:
        """Look at every part once, in order."""
        for number, part in enumerate(parts):
            if number == _MOST_PARTS:
                self._defects["TooManyPartsDefect"] = None
                return
            self._read_part(part)

    def _read_part(self, part: Part) -> None:
        found = _part_headers(part)
        kind, parameters = _content_type(part, found.get("content-type", ""))
        disposition, more = split(found.get("content-disposition", ""))
        filename = more.get("filename") or parameters.get("name") or None
        if kind.startswith("multipart/") and not part.contains:
            kind = "text/plain"  # its boundary never came: what there is, is text
        data = part.data
        self._defects.update(dict.fromkeys(part.defects))
        if kind in ("text/plain", "text/html") and disposition != "attachment":
            text, explained = to_text(data, parameters.get("charset"))
            if not explained:
                self._defects["UndecodableBytesDefect"] = None
            self._texts.setdefault(kind, []).append(text)
            if filename is None:
                return  # one that has a name is shown, and can be saved too
        content_id = found.get("content-id", "").strip("<> ") or None
        self.attachments.append(
            Attachment(
                filename=filename,
                content_type=kind,
                disposition=disposition or None,
                content_id=content_id,
                size=part.size if part.contains else len(data),
            )
        )


def _content_type(part: Part, value: str) -> tuple[str, dict[str, str]]:
    kind, parameters = split(value)
    if kind.count("/") != 1:
        return part.kind if not kind else "text/plain", parameters
    return kind, parameters


def _part_headers(part: Part) -> dict[str, str]:
    """The headers that say what a part is, each where it stands first."""
    found: dict[str, str] = {}
    for key, value in part.headers:
        name = key.lower()
        if name in _OF_PARTS and name not in found:
            found[name] = plain(value)
    return found


def _people(values: Sequence[str]) -> tuple[Mailbox, ...]:
    if len(values) == 1:
        return mailboxes(values[0])
    return tuple(person for value in values for person in mailboxes(value))


def ids(value: str) -> tuple[str, ...]:
    """The message ids in a header, without brackets; each once, in order."""
    found = _ID.findall(value) or value.split()
    return tuple(dict.fromkeys(filter(None, (_SPACE.sub("", each) for each in found[-_MOST_IDS:]))))


def bare_id(message_id: str) -> str:
    """A message id without brackets and white space: what tells mails apart."""
    found = _ID.search(message_id)
    return _SPACE.sub("", found[1] if found else message_id)


def thread_of(references: Sequence[str], in_reply_to: Sequence[str], own: str) -> str | None:
    """The id of the mail that began the conversation (RFC 5322 3.6.4): the oldest one that is named."""
    for named in (*references[:1], *in_reply_to[:1]):
        return named
    return bare_id(own) if own else None


def read_date(text: str, defects: dict[str, None]) -> datetime | None:
    """A date in UTC (a mail's own without an offset counts as UTC); None, and a defect, where it is none."""
    try:
        found = parsedate_to_datetime(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
        defects["InvalidDateDefect"] = None
        return None
