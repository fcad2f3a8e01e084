"""Appends to the stream what was accepted and not appended, for Redis was away or the process ended between.

An entry is appended right after its event was stored. So what is PENDING and older than the first entry of
the stream that is not finished, and than ``events.sweep_after``, has no entry. Of two workers that find it
one appends: each append carries a claim.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

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
        after = self._settings.sweep_after
        before = self._host.clock() / 1e6 - after
        oldest = self._oldest()
        if oldest is not None:
            before = min(before, oldest / 1000 - after)
        query = {"status": "PENDING", "created_at": {"$lt": datetime.fromtimestamp(before, UTC)}}
        order = [("created_at", 1)]
        found = await self._host.reader.find(self._settings.collection, query, sort=order, limit=_PAGE)
        window = int(self._host.clock() / 1e6 // (after * 4))
        for event in found:
            claim = f"{event['_id']} {event['revision']} {window}"
            self._host.emit(
                SetClaim(f"{self._settings.stream}:swept", claim, int(after * 8) + 1),
                Append(self._settings.stream, {b"id": event["_id"].encode()}),
            )
        if found:
            log.warning("events_appended_by_sweep", events=len(found))
        return len(found)
