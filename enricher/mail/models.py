"""What a mail is once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec


class Mailbox(msgspec.Struct, frozen=True):
    """A person or a list; ``name`` is empty where the sender gave none."""

    name: str
    address: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a part that is no body.

    ``size`` in bytes, decoded; None where it cannot be told. ``content_id`` is what an HTML body calls it by.
    ``role`` says what it is for where that is known: a signature, an encrypted mail, a calendar, a report.
    """

    filename: str | None
    content_type: str
    disposition: str | None
    content_id: str | None
    size: int | None
    role: str | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link of an HTML body: the text shown, where it leads, and whether the text names another host."""

    text: str
    target: str
    misleading: bool


class Authentication(msgspec.Struct, frozen=True, kw_only=True):
    """What ``host`` says it found: ``method`` (spf, dkim, dmarc, ...) and ``result`` (pass, fail, none, ...).

    ``host`` is empty where the header does not say who wrote it. ``properties`` say of what: pairs such as
    ("header.d", "a.example").
    """

    host: str
    method: str
    result: str
    reason: str | None
    properties: tuple[tuple[str, str], ...]


class Bounce(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recipient of a mail (RFC 3464).

    ``action`` is failed, delayed, delivered, relayed or expanded; ``status`` the code of RFC 3463, such as
    5.1.1; ``reason`` what the ``host`` that refused the mail said. ``message_id`` is that of the mail.
    """

    recipient: str
    original_recipient: str | None
    action: str
    status: str
    reason: str
    host: str | None
    reported_by: str | None
    message_id: str | None


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """A complaint about a mail (RFC 5965): its ``kind`` is abuse, fraud, virus, not-spam or other.

    ``sender``, ``recipients`` and ``message_id`` are those of the mail.
    """

    kind: str
    reported_by: str | None
    source_ip: str | None
    sender: str | None
    recipients: tuple[str, ...]
    domains: tuple[str, ...]
    arrived: datetime | None
    message_id: str | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a calendar that a mail brings.

    ``method`` says what the mail is about it: REQUEST, REPLY, CANCEL, PUBLISH. ``start`` and ``end`` are UTC,
    or None where their zone is not known; of a whole day, and of a time without a zone, as if it were UTC.
    """

    method: str | None
    uid: str | None
    sequence: int
    status: str | None
    summary: str
    location: str | None
    start: datetime | None
    end: datetime | None
    all_day: bool
    zone: str | None
    recurrence: str | None
    organizer: Mailbox | None
    attendees: tuple[Mailbox, ...]


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail, decoded.

    ``id``           who it is: what makes two entries the same mail
    ``message_id``   as the entry or its header says, None where neither does
    ``thread``       id of the mail that began the conversation (itself, if it did)
    ``date``         UTC; None where there is none that can be read
    ``text, html``   the bodies; parts shown one after the other are joined
    ``html_text``    what the HTML shows, as text that is safe to show; None where there is no HTML
    ``links``        of the HTML, with their real targets
    ``headers``      every header in order, values decoded
    ``authentication`` what hosts say of the sender; whoever reads it trusts its own host alone
    ``protection``   how it is signed or encrypted: smime-signed, smime-encrypted, pgp-signed, pgp-encrypted
    ``events``       of the calendars that it brings
    ``bounces``      what became of whom, if it is a delivery report
    ``feedback``     the complaint, if it is one
    ``warnings``     what a reader should beware of, by name
    ``defects``      what is wrong with it, by name (`email.errors` and ours)
    ``fields``       the entry's other fields, unchanged
    ``size``         bytes of the message, None where the entry brought parsed fields
    ``raw``          the message as it came, None where the entry brought parsed fields
    """

    id: str = ""
    message_id: str | None = None
    thread: str | None = None
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    date: datetime | None = None
    subject: str = ""
    sender: tuple[Mailbox, ...] = ()
    from_: tuple[Mailbox, ...] = msgspec.field(name="from", default=())
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    text: str | None = None
    html: str | None = None
    html_text: str | None = None
    links: tuple[Link, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    authentication: tuple[Authentication, ...] = ()
    protection: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    bounces: tuple[Bounce, ...] = ()
    feedback: Feedback | None = None
    warnings: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    defects: tuple[str, ...] = ()
    size: int | None = None
    fields: Mapping[str, Any] = {}
    raw: bytes | None = None

    def document(self) -> dict[str, Any]:
        """The mail as it is stored: all but ``raw``, under ``_id``."""
        plain: dict[str, Any] = {"_id": self.id}
        plain.update(zip(_NAMES, _VALUES(self), strict=True))
        for name in _LISTS:
            value = plain[name]
            plain[name] = [_builtin(item) for item in value] if value else []
        plain["headers"] = list(map(list, self.headers))
        plain["fields"] = dict(self.fields)  # whoever is handed the mail may change its own
        if self.feedback is not None:
            plain["feedback"] = _builtin(self.feedback)
        return plain


def _builtin(item: Any) -> Any:
    if type(item) is Mailbox:
        return {"name": item.name, "address": item.address}
    if type(item) is tuple:
        return list(item) if item and type(item[0]) is str else [_builtin(each) for each in item]
    if isinstance(item, msgspec.Struct):
        return {name: _builtin(getattr(item, name)) for name in item.__struct_fields__}
    return item


_STORED = [field for field in msgspec.structs.fields(Mail) if field.name not in ("id", "raw")]
_NAMES = [field.encode_name for field in _STORED]
_VALUES = attrgetter(*(field.name for field in _STORED))
_LISTS = [field.encode_name for field in _STORED if field.default == () and field.name != "headers"]
