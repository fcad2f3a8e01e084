"""Mails in the dashboard: listed, and one with its text and headers. What a mail says is shown as text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from enricher.mail.settings import MailSettings
from enricher.system import Host
from enricher.web.requests import Refusal
from enricher.web.views import Asked, View

_LONGEST_TEXT = 200_000
_NEWEST = [("processed_at", -1), ("_id", -1)]


class MailQuery(msgspec.Struct, frozen=True):
    """Which mails: from or to an address, of a thread; ``before`` is the ``next`` of another answer."""

    sender: str = ""
    recipient: str = ""
    thread: str = ""
    before: str = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class MailRow(msgspec.Struct, frozen=True):
    """A mail in a list."""

    id: str
    processed_at: datetime | None
    date: datetime | None
    sender: str
    subject: str
    attachments: int
    defects: list[str]


class MailList(msgspec.Struct, frozen=True):
    """Mails, the newest first."""

    mails: list[MailRow]
    next: str


class MailDetail(msgspec.Struct, frozen=True):
    """A mail whole; ``more`` has the fields that are shown as they are stored."""

    row: MailRow
    thread: str
    people: list[tuple[str, str]]
    text: str
    has_html: bool
    headers: list[list[str]]
    attachments: list[dict[str, Any]]
    more: dict[str, Any]


class MailScreens:
    """The views of mails, from the collection of the settings."""

    def __init__(self, settings: MailSettings, host: Host) -> None:
        self._settings = settings
        self._host = host

    def views(self) -> list[View]:
        return [
            View(
                "mails",
                self.listed,
                "Mails that were processed, newest first.",
                query=MailQuery,
                menu="Mail",
                template="enricher.mail.web:mails.html",
            ),
            View(
                "mails/{id:path}",
                self.mail,
                "A mail: its people, text, headers and attachments.",
                within="Mail",
                template="enricher.mail.web:mail.html",
            ),
        ]

    async def listed(self, asked: Asked[MailQuery]) -> MailList:
        query = asked.parameters
        fields = {"from.address": query.sender, "to.address": query.recipient, "thread": query.thread}
        wanted: dict[str, Any] = {field: value for field, value in fields.items() if value}
        if query.before:
            at, id_ = _mark(query.before)
            wanted["$or"] = [{"processed_at": {"$lt": at}}, {"processed_at": at, "_id": {"$lt": id_}}]
        found = await self._host.reader.find(
            self._settings.collection, wanted, sort=_NEWEST, limit=query.limit
        )
        last = found[-1] if len(found) == query.limit and found[-1].get("processed_at") else None
        following = f"{last['processed_at'].isoformat()} {last['_id']}" if last else ""
        return MailList([_row(mail) for mail in found], following)

    async def mail(self, asked: Asked[Any]) -> MailDetail:
        found = await self._host.reader.find(
            self._settings.collection, {"_id": asked.path["id"]}, limit=1
        )
        if not found:
            raise Refusal(404, "there is no mail with this id")
        mail = found[0]
        people = [
            (title, ", ".join(map(_person, mail.get(name) or ())))
            for title, name in (
                ("From", "from"),
                ("Sender", "sender"),
                ("Reply to", "reply_to"),
                ("To", "to"),
                ("Cc", "cc"),
                ("Bcc", "bcc"),
            )
        ]
        shown = {"_id", "text", "html", "headers", "attachments", "subject", "thread", "date", "defects"}
        shown |= {"from", "sender", "reply_to", "to", "cc", "bcc", "received_at", "processed_at"}
        return MailDetail(
            row=_row(mail),
            thread=str(mail.get("thread") or ""),
            people=[(title, names) for title, names in people if names],
            text=str(mail.get("text") or mail.get("safe_text") or "")[:_LONGEST_TEXT],
            has_html=bool(mail.get("html")),
            headers=[list(map(str, each)) for each in mail.get("headers") or ()],
            attachments=[dict(each) for each in mail.get("attachments") or ()],
            more={name: value for name, value in mail.items() if name not in shown and value},
        )


def _row(mail: Mapping[str, Any]) -> MailRow:
    return MailRow(
        id=str(mail["_id"]),
        processed_at=mail.get("processed_at"),
        date=mail.get("date"),
        sender=", ".join(map(_person, mail.get("from") or ())),
        subject=str(mail.get("subject") or ""),
        attachments=len(mail.get("attachments") or ()),
        defects=[str(each) for each in mail.get("defects") or ()],
    )


def _person(mailbox: Mapping[str, Any]) -> str:
    name, address = str(mailbox.get("name") or ""), str(mailbox.get("address") or "")
    return f"{name} <{address}>" if name and address else name or address


def _mark(text: str) -> tuple[datetime, str]:
    moment, _, id_ = text.partition(" ")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise Refusal(422, f"the 'next' of another answer was expected, got {text!r:.60}") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC), id_
