"""A mail from fields that somebody has parsed already."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from enricher.mail.addresses import mailboxes
from enricher.mail.charsets import plain, to_text, words
from enricher.mail.dates import read_date
from enricher.mail.models import Attachment, Mail, Mailbox
from enricher.mail.threads import ids, thread_of

# Field of an entry -> attribute of the mail; the first of several names that is there counts.
_PEOPLE = {"from": "from_", "sender": "sender", "to": "to", "cc": "cc", "bcc": "bcc", "reply_to": "reply_to"}
_TEXT = ("text", "body_text", "body")
_HTML = ("html", "body_html")
_LARGEST_SIZE = 2**63 - 1
# Above this many seconds since 1970 (the year 5138) a number counts milliseconds.
_MILLISECONDS = 100_000_000_000


def mail_of_fields(values: Mapping[str, Any], *, id: str, message_id: str | None) -> Mail:  # noqa: A002
    """The mail in the fields of an entry (see `entries`); what it does not take stays in ``fields``.

    Values that cannot be read stay there too, and ``defects`` names them.
    """
    fields = dict(values)
    defects: dict[str, None] = {}

    def take(*names: str) -> str | None:
        found = None
        for name in names:
            if found is None and name in fields:
                found = _text(fields.pop(name), defects)
        return found

    people: dict[str, Any] = {
        name: _people(fields.pop(key)) for key, name in _PEOPLE.items() if key in fields
    }
    references = ids(take("references") or "")
    replied = ids(take("in_reply_to") or "")
    thread = take("thread_id") or thread_of(references, replied, message_id or id)
    date = None
    if (when := take("date")) is not None:
        date = moment(when, defects)
        if date is None:
            fields["date"] = values["date"]
    return Mail(
        id=id,
        message_id=message_id,
        thread=thread,
        in_reply_to=replied,
        references=references,
        date=date,
        subject=words(plain(take("subject") or "")),
        text=take(*_TEXT),
        html=take(*_HTML),
        attachments=_listed(fields, "attachments", _attachments, defects),
        headers=_listed(fields, "headers", _headers, defects),
        defects=tuple(defects),
        fields=fields,
        **people,
    )


def moment(text: str, defects: dict[str, None]) -> datetime | None:
    """A date as ISO 8601, as in a header, or as seconds or milliseconds since 1970, in UTC."""
    text = text.strip()
    try:
        if text.isascii() and text.replace(".", "", 1).isdigit():
            number = float(text)
            return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS else number, UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return read_date(text, defects)
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        return read_date("", defects)


def _text(value: Any, defects: dict[str, None]) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        text, explained = to_text(value, "utf-8")
        if not explained:
            defects["UndecodableBytesDefect"] = None
        return text
    return msgspec.json.encode(value).decode()


def _people(value: Any) -> tuple[Mailbox, ...]:
    if isinstance(value, bytes):
        value = to_text(value, "utf-8")[0]
    if isinstance(value, str):
        stripped = value.strip()
        decoded = _json(stripped) if stripped[:1] in ("[", "{") else None
        if decoded is None:
            return mailboxes(plain(value))
        value = decoded
    members = value if isinstance(value, list) else [value]
    found: list[Mailbox] = []
    for member in members:
        if isinstance(member, dict):
            address = str(member.get("address") or member.get("email") or "")
            found.append(Mailbox(str(member.get("name") or ""), address))
        elif isinstance(member, str):
            found += mailboxes(plain(member))
    return tuple(found)


def _listed(fields: dict[str, Any], name: str, read: Any, defects: dict[str, None]) -> Any:
    """What the JSON of a field lists; a field that lists nothing of the kind is left where it is."""
    value = fields.get(name)
    if value is None or value in ("", b""):
        fields.pop(name, None)
        return ()
    try:
        found = read(_json(value) if isinstance(value, (str, bytes)) else value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        defects[f"Invalid{name.title()}Defect"] = None
        return ()
    del fields[name]
    return found


def _attachments(value: Any) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            filename=_maybe(part, "filename", "name"),
            content_type=_maybe(part, "content_type", "mime_type", "mimeType") or "application/octet-stream",
            disposition=_maybe(part, "disposition"),
            content_id=_maybe(part, "content_id"),
            size=_size(part.get("size")),
        )
        for part in _listing(value)
    )


def _size(value: Any) -> int | None:
    if value is None:
        return None
    size = int(value)
    if not 0 <= size <= _LARGEST_SIZE:
        raise ValueError(f"a size cannot be {size}")
    return size


def _headers(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = value.items() if isinstance(value, dict) else _listing(value)
    return tuple((str(name), words(plain(str(text)))) for name, text in pairs)


def _listing(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def _maybe(part: Mapping[str, Any], *names: str) -> str | None:
    return next((str(part[name]) for name in names if part.get(name)), None)


def _json(value: str | bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
