"""Which events are meant: by status, type, text, error and time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from enricher.events.documents import Status


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What an event must be like; whatever is left at its default lets everything through.

    ``text`` is a part of its data as JSON, ``error`` of what `error_line` says of it, both in any case.
    ``since_us`` and ``until_us`` (microseconds since 1970 UTC, both inclusive) bound when it was accepted.
    """

    statuses: tuple[Status, ...] = ()
    types: tuple[str, ...] = ()
    text: str = ""
    error: str = ""
    since_us: int | None = None
    until_us: int | None = None

    def query(self, statuses: tuple[Status, ...] = ()) -> dict[str, Any]:
        """What the server can select; ``statuses`` count where the filter names none."""
        found: dict[str, Any] = {}
        if wanted := self.statuses or statuses:
            found["status"] = {"$in": list(wanted)}
        if self.types:
            found["type"] = {"$in": list(self.types)}
        bounds = {"$gte": self.since_us, "$lte": self.until_us}
        accepted = {name: _date(us) for name, us in bounds.items() if us is not None}
        return {**found, "created_at": accepted} if accepted else found

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether what only we can compare fits."""
        if self.text and self.text.casefold() not in as_json(event["data"]).casefold():
            return False
        return self.error.casefold() in error_line(event).casefold()


EVERY = EventFilter()


def error_line(event: Mapping[str, Any]) -> str:
    """Node, type and text of its error, else why the search server has refused it; "" without either."""
    if error := event.get("error"):
        return f"{error['node']}: {error['type']}: {error['message']}"
    search = event.get("search") or {}
    return f"search: {search['error']}" if search.get("error") else ""


def as_json(value: Any) -> str:
    """A stored value as JSON."""
    return msgspec.json.encode(value).decode()


def _date(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)
