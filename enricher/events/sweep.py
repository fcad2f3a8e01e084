"""Appends to the stream what has no entry there: Redis was away, has lost it, or the process ended between.

An entry is appended right after its event was stored, and is there until the event has ended. So what has
not ended and was last changed before the first entry of the stream that is not finished was appended, and
longer than ``events.sweep_after`` ago, has no entry. What is tried again later has none in the stream until
then: it is given that time too. Of two workers that find it one appends: each append carries a claim.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import anyio

from enricher.engine.effects import Append, SetClaim
from enricher.errors import SinkUnavailable
from enricher.events.settings import EventSettings
from enricher.log import log
from enricher.system import Host

_PAGE = 500


class Sweep:
    """Looks every half of ``events.sweep_after``.

    ``oldest`` says when the first entry that is not finished was appended (ms since 1970; None: there is
    none), and raises nothing; ``current`` whether that is known now.
    """

    def __init__(
        self,
        settings: EventSettings,
        host: Host,
        oldest: Callable[[], float | None],
        current: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._host = host
        self._oldest = oldest
        self._current = current

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await anyio.sleep(self._settings.sweep_after / 2)
            if not self._current():
                continue
            try:
                await self.sweep()
            except SinkUnavailable as error:
                log.debug("sweep_failed", reason=str(error))

    async def sweep(self) -> int:
        """Append what is missing now; how many these are. Raises `SinkUnavailable`."""
        after, retry_after = self._settings.sweep_after, self._settings.max_backoff
        before = self._host.clock() / 1e6 - after
        oldest = self._oldest()
        if oldest is not None:
            before = min(before, oldest / 1000 - after)
        cases = [
            {"status": {"$in": ["PENDING", "STARTED"]}, **_changed(before)},
            {"status": "RETRY", **_changed(before - retry_after)},
        ]
        number = 0
        for case in cases:
            async for event in self._found(case):
                claims = f"{self._settings.stream}:swept:{event['_id']}"
                self._host.emit(
                    SetClaim(claims, str(event["revision"]), int(after * 8) + 1),
                    Append(self._settings.stream, {b"id": event["_id"].encode()}),
                )
                number += 1
        if number:
            log.warning("events_appended_by_sweep", events=number)
        return number

    async def _found(self, query: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a query, the oldest first, page by page."""
        asked: Mapping[str, Any] = query
        while True:
            page = await self._host.reader.find(
                self._settings.collection, asked, sort=[("created_at", 1), ("_id", 1)], limit=_PAGE
            )
            for event in page:
                yield event
            if len(page) < _PAGE:
                return
            at, id_ = page[-1]["created_at"], page[-1]["_id"]
            later = {"$or": [{"created_at": {"$gt": at}}, {"created_at": at, "_id": {"$gt": id_}}]}
            asked = {"$and": [query, later]}


def _changed(before: float) -> dict[str, Any]:
    """Last changed before then (seconds since 1970). The other bound is one that an index has."""
    at = {"$lt": datetime.fromtimestamp(before, UTC)}
    return {"created_at": at, "updated_at": at}
