"""A mail from fields that somebody has parsed already."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from enricher.mail.addresses import mailboxes, person
from enricher.mail.authentication import authentications
from enricher.mail.charsets import plain, to_text, words
from enricher.mail.dates import read_date
from enricher.mail.defects import Defects
from enricher.mail.html import read_html
from enricher.mail.mime import Part
from enricher.mail.models import Attachment, Mail, Mailbox
from enricher.mail.parameters import split
from enricher.mail.protection import of_text, protection, role
from enricher.mail.threads import ids, thread_of
from enricher.mail.warnings import warnings

# Field of an entry -> attribute of the mail; the first of several names that is there counts.
_PEOPLE = {"from": "from_", "sender": "sender", "to": "to", "cc": "cc", "bcc": "bcc", "reply_to": "reply_to"}
Headers = tuple[tuple[str, str], ...]
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
    defects: Defects = {}
    headers: Headers = _listed(fields, "headers", _headers, defects)

    def in_headers(name: str) -> list[str]:
        return [value for header, value in headers if header.lower() == name.replace("_", "-")]

    def take(*names: str) -> str | None:
        found = None
        for name in names:
            if found is None and name in fields:
                found = _text(fields.pop(name), defects)
        return found

    def said(name: str) -> str | None:
        return take(name) if name in fields else next(iter(in_headers(name)), None)

    people: dict[str, Any] = {
        name: _people(fields.pop(key) if key in fields else ", ".join(in_headers(key)), defects)
        for key, name in _PEOPLE.items()
    }
    references = ids(said("references") or "")
    replied = ids(said("in_reply_to") or "")
    thread = take("thread_id") or thread_of(references, replied, message_id or id)
    date = None
    if (when := said("date")) is not None:
        date = moment(when, defects)
        if date is None and "date" in values:
            fields["date"] = values["date"]
    subject, text, html = words(plain(said("subject") or ""), defects), take(*_TEXT), take(*_HTML)
    html_text, links = (None, ()) if html is None else read_html(html, defects)
    attachments: tuple[Attachment, ...] = _listed(fields, "attachments", _attachments, defects)
    kinds = (*(protection(one.role) for one in attachments), None if text is None else of_text(text))
    shown = (subject, *(one.filename for one in attachments))
    return Mail(
        id=id,
        message_id=message_id,
        thread=thread,
        in_reply_to=replied,
        references=references,
        date=date,
        subject=subject,
        text=text,
        html=html,
        html_text=html_text,
        links=links,
        attachments=attachments,
        authentication=authentications(in_headers("authentication-results")),
        protection=tuple(dict.fromkeys(filter(None, kinds))),
        warnings=tuple(warnings(people["from_"], people["sender"], people["reply_to"], shown, links)),
        headers=tuple((name, words(value)) for name, value in headers),
        defects=tuple(defects),
        fields=fields,
        **people,
    )


def moment(text: str, defects: Defects) -> datetime | None:
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


def _text(value: Any, defects: Defects) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        text, explained = to_text(value, "utf-8")
        if not explained:
            defects["UndecodableBytesDefect"] = None
        return text
    return msgspec.json.encode(value).decode()


def _people(value: Any, defects: Defects) -> tuple[Mailbox, ...]:
    if isinstance(value, bytes):
        value = to_text(value, "utf-8")[0]
    if isinstance(value, str):
        stripped = value.strip()
        decoded = _json(stripped) if stripped[:1] in ("[", "{") else None
        if decoded is None:
            return mailboxes(plain(value), defects)
        value = decoded
    members = value if isinstance(value, list) else [value]
    found: list[Mailbox] = []
    for member in members:
        if isinstance(member, dict):
            address = plain(str(member.get("address") or member.get("email") or ""))
            address = address.strip().removeprefix("<").removesuffix(">")
            found.append(person(words(plain(str(member.get("name") or ""))), address, defects))
        elif isinstance(member, str):
            found += mailboxes(plain(member), defects)
    return tuple(found)


def _listed(fields: dict[str, Any], name: str, read: Any, defects: Defects) -> Any:
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
    return tuple(map(_attachment, _listing(value)))


def _attachment(part: Mapping[str, Any]) -> Attachment:
    written = _maybe(part, "content_type", "mime_type", "mimeType") or "application/octet-stream"
    kind, parameters = split(written)
    return Attachment(
        filename=_maybe(part, "filename", "name"),
        content_type=written,
        disposition=_maybe(part, "disposition"),
        content_id=_maybe(part, "content_id"),
        size=_size(part.get("size")),
        role=role(Part([], {}, kind, parameters, b"")),
    )


def _size(value: Any) -> int | None:
    if value is None:
        return None
    size = int(value)
    if not 0 <= size <= _LARGEST_SIZE:
        raise ValueError(f"a size cannot be {size}")
    return size


def _headers(value: Any) -> Headers:
    pairs = value.items() if isinstance(value, dict) else _listing(value)
    return tuple(
        (str(name), plain(str(text)))
        for name, texts in pairs
        for text in (texts if isinstance(texts, list) else (texts,))
    )


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
