"""What a mail is once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec


class Mailbox(msgspec.Struct, frozen=True):
    """A person or a list; ``name`` is empty where the sender gave none."""

    name: str
    address: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a part that is no body.

    ``size`` in bytes, decoded; None where it cannot be told. ``content_id`` is what an HTML body calls it by.
    """

    filename: str | None
    content_type: str
    disposition: str | None
    content_id: str | None
    size: int | None


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail, decoded.

    ``id``           who it is: what makes two entries the same mail
    ``message_id``   as the entry or its header says, None where neither does
    ``thread``       id of the mail that began the conversation (itself, if it did)
    ``date``         UTC; None where there is none that can be read
    ``text, html``   the bodies; parts shown one after the other are joined
    ``headers``      every header in order, values decoded
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
    attachments: tuple[Attachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    defects: tuple[str, ...] = ()
    size: int | None = None
    fields: Mapping[str, Any] = {}
    raw: bytes | None = None

    def document(self) -> dict[str, Any]:
        """The mail as it is stored: all but ``raw``, under ``_id``."""
        plain: dict[str, Any] = {"_id": self.id}
        for name, attribute in _STORED:
            value = getattr(self, attribute)
            if type(value) is tuple:
                value = [_builtin(item) for item in value]
            elif type(value) is dict:
                value = dict(value)  # whoever is handed the mail may change its own
            plain[name] = value
        return plain


def _builtin(item: Any) -> Any:
    if isinstance(item, msgspec.Struct):
        return msgspec.structs.asdict(item)
    return list(item) if type(item) is tuple else item


_STORED = tuple(
    (field.encode_name, field.name)
    for field in msgspec.structs.fields(Mail)
    if field.name not in ("id", "raw")
)
