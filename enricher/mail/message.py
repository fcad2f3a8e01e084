"""A mail from its bytes (RFC 5322, MIME): headers, people, bodies, what is attached, the thread.

`mime` takes the message apart; headers, parameters, charsets and addresses are read in modules of their own.
A mail may be broken in any way: what can be read is read, and ``defects`` names the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enricher.mail.addresses import mailboxes
from enricher.mail.authentication import authentications
from enricher.mail.bodies import Bodies
from enricher.mail.charsets import plain, words
from enricher.mail.dates import read_date
from enricher.mail.defects import TOO_MANY_HEADERS, Defects
from enricher.mail.headers import MOST_FIELDS
from enricher.mail.html import read_html
from enricher.mail.mime import Apart, Part, take_apart
from enricher.mail.models import Link, Mail, Mailbox
from enricher.mail.reports import bounces, feedback
from enricher.mail.threads import ids, thread_of
from enricher.mail.warnings import warnings
from enricher.texts import as_bytes, as_text

_READ = (
    *("from", "sender", "to", "cc", "bcc", "reply-to"),
    *("date", "subject", "message-id", "in-reply-to", "references", "authentication-results"),
)


def parse_message(
    raw: bytes, *, id: str = "", message_id: str | None = None, fields: Mapping[str, Any] | None = None  # noqa: A002
) -> Mail:
    """The mail in ``raw``. ``message_id`` wins over the header; ``fields`` go into the mail as they are.

    No bytes are refused. What comes out can be stored, but for a mail of more than the store takes.
    """
    raw = as_bytes(raw)
    id, message_id = as_text(id), None if message_id is None else as_text(message_id)  # noqa: A001
    message = take_apart(raw)
    defects: Defects = dict.fromkeys(message.defects)
    headers, values = _headers(message, b"\x1b" in raw, defects)
    bodies = Bodies(defects)
    bodies.read(message.parts)
    own_id = message_id or next(filter(None, values["message-id"]), None)
    references = ids(" ".join(values["references"]))
    replied = ids(" ".join(values["in-reply-to"]))
    html, html_text = bodies.joined("text/html"), None
    links: tuple[Link, ...] = ()
    if html is not None:
        html_text, links = read_html(html, defects)
    from_, sender = _people(values["from"], defects), _people(values["sender"], defects)
    reply_to = _people(values["reply-to"], defects)
    subject = values["subject"][0] if values["subject"] else ""
    reports = any(part.kind.startswith("message/") for part in message.parts)
    return Mail(
        id=id,
        message_id=own_id,
        thread=thread_of(references, replied, own_id or id),
        in_reply_to=replied,
        references=references,
        date=read_date(values["date"][0], defects) if values["date"] else None,
        subject=subject,
        sender=sender,
        from_=from_,
        to=_people(values["to"], defects),
        cc=_people(values["cc"], defects),
        bcc=_people(values["bcc"], defects),
        reply_to=reply_to,
        text=bodies.joined("text/plain"),
        html=html,
        html_text=html_text,
        links=links,
        attachments=tuple(bodies.attachments),
        authentication=authentications(found) if (found := values["authentication-results"]) else (),
        protection=tuple(bodies.protection),
        events=tuple(bodies.events),
        bounces=bounces(message.parts) if reports else (),
        feedback=feedback(message.parts, defects) if reports else None,
        warnings=tuple(
            warnings(from_, sender, reply_to, (subject, *[one.filename for one in bodies.attachments]), links)
        ),
        headers=headers,
        defects=tuple(defects),
        size=len(raw),
        fields={as_text(name): value for name, value in fields.items()} if fields else {},
        raw=raw,
    )


def _headers(
    message: Apart, escapes: bool, defects: Defects
) -> tuple[tuple[tuple[str, str], ...], dict[str, list[str]]]:
    """Every header, decoded; and the values of those that a mail has, by name.

    Addresses are taken apart before their words are decoded: a decoded comma separates nobody.
    """
    fields, charset = message.headers, None
    headers: list[tuple[str, str]] = []
    values: dict[str, list[str]] = {name: [] for name in _READ}
    if len(fields) > MOST_FIELDS:
        defects[TOO_MANY_HEADERS] = None
        fields = fields[:MOST_FIELDS]
    for name, value in fields:
        # Most values are one line of ASCII, and need no reading.
        if value.isascii() and not escapes:
            text = plain(value) if "\n" in value else value.rstrip(" \t")
        else:
            # Raw bytes are mostly in the charset of the text.
            charset = charset or _charset(message.parts)
            text = plain(value, defects, charset)
        low = name.lower()
        if low in values:
            values[low].append(text)
        if "=?" in text:
            text = words(text, defects)
        headers.append((name if name.isascii() else plain(name), text))
        if low == "subject":
            values[low][-1] = text
    return tuple(headers), values


def _charset(parts: Sequence[Part]) -> str:
    return next((part.parameters["charset"] for part in parts if "charset" in part.parameters), "utf-8")


def _people(values: Sequence[str], defects: Defects) -> tuple[Mailbox, ...]:
    if not values:
        return ()
    if len(values) == 1:
        return mailboxes(values[0], defects)
    # As one list: what bounds a list bounds them all.
    return mailboxes(", ".join(values), defects)
