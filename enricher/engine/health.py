"""How the engine is: one word for it, figures, and the watchdog that looks whether what waits moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from enricher.engine.pool import Pool
from enricher.engine.ports import Source
from enricher.engine.stalls import Stalls, Waiting
from enricher.engine.writer import Writer
from enricher.log import log


class Health:
    """What is known of a pool, its writer, its sources and the ``troubles`` of topics."""

    def __init__(
        self,
        pool: Pool,
        writer: Writer,
        sources: Sequence[Source],
        troubles: Callable[[], Mapping[str, str]],
        stall_after: float,
    ) -> None:
        self.opened = False
        """Whether every sink was opened that is not derived from others."""
        self.stalls = Stalls(stall_after)
        self.looked: float | None = None
        self._pool = pool
        self._writer = writer
        self._sources = sources
        self._troubles = troubles
        self._stalled: Sequence[Waiting] = ()
        self._unread: set[str] = set()

    @property
    def ready(self) -> bool:
        """Whether the sinks were opened, every source is connected, and everything is restored."""
        return self.opened and not self.stalled and self._pool.restoring is None and self._connected

    @property
    def _connected(self) -> bool:
        return all(source.health()["ready"] for source in self._sources)

    @property
    def outages(self) -> dict[str, str]:
        """The sinks that are unreachable now, for writes or for states to be read, and why."""
        return {**self._pool.unread, **self._writer.outages}

    @property
    def stalled(self) -> list[str]:
        """What waits and does not move, and why; also for other threads, while the loop itself stands."""
        if self.looked is not None and time.monotonic() - self.looked > self.stalls.after + 1:
            return ["the loop has not turned: a handler holds it"]
        return [f"{stalled.what}: {stalled.why}" for stalled in self._stalled]

    def report(self, *, failed: bool, stopping: bool) -> dict[str, Any]:
        """See `Engine.health`. The status is the worst of what is so."""
        outages, troubles, restoring = self.outages, dict(self._troubles()), self._pool.restoring
        stalled = self.stalled
        words = (
            ("failed", failed),
            ("stopping", stopping),
            ("stalled", stalled),
            ("degraded", outages or troubles),
            ("starting", not self.opened),
            # Once open, a source that lost its server is degraded; before that we are starting.
            ("degraded", not self._connected),
            ("restoring", restoring is not None),
            ("ready", True),
        )
        return {
            "status": next(word for word, is_so in words if is_so),
            "restoring": None if restoring is None else dict(zip(("done", "total"), restoring, strict=True)),
            "outages": outages,
            "troubles": troubles,
            "stalled": stalled,
            "sources": {source.name: dict(source.health()) for source in self._sources},
            "pool": {
                "messages": self._pool.count,
                "bytes": self._pool.bytes,
                "lanes": self._pool.lanes,
                "turns": self._pool.turns,
            },
        }

    async def watch(self) -> None:
        """Look for as long as the engine lives."""
        while True:
            self.look()
            await anyio.sleep(min(1.0, self.stalls.after / 4))

    def look(self) -> None:
        """Log what has stalled or moves again, and let other workers have what cannot begin here."""
        self.looked = time.monotonic()
        waiting = (*self._pool.waiting(self.stalls.after), *self._writer.waiting)
        before = {stalled.what for stalled in self._stalled}
        self._stalled = self.stalls.look(waiting, self.looked)
        for stalled in self._stalled:
            if stalled.what not in before:
                log.error("stalled", what=stalled.what, why=stalled.why, lanes=stalled.lanes)
        if before and not self._stalled:
            log.warning("stall_ended", what=sorted(before))
        self._report_unread()
        self._pool.hand_back({stalled.topic for stalled in self._stalled if stalled.topic})

    def _report_unread(self) -> None:
        """Log what cannot be read, for which new keys wait, where no write logs the outage."""
        unread, away = self._pool.unread, self._writer.outages
        for sink in self._unread - unread.keys():
            log.warning("states_read_again", sink=sink)
        for sink in unread.keys() - self._unread - away.keys():
            log.warning("states_unread", sink=sink, reason=unread[sink])
        self._unread = {sink for sink in unread if sink in self._unread or sink not in away}
