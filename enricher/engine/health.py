"""How the engine is: one word for it, and the watchdog that looks whether what waits moves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import anyio

from enricher.engine.pool import Pool
from enricher.engine.stalls import Stalls, Waiting
from enricher.engine.writer import Writer
from enricher.log import log


def status(
    *,
    failed: bool,
    stopping: bool,
    stalled: bool,
    degraded: bool,
    opened: bool,
    connected: bool,
    restoring: bool,
) -> str:
    """The worst of what is so.

    ``degraded``: a server is away, or a topic in trouble. ``opened``: every sink was; until then sources that
    are not ``connected`` are starting, and after that they have lost their server.
    """
    for word, is_so in (
        ("failed", failed),
        ("stopping", stopping),
        ("stalled", stalled),
        ("degraded", degraded),
        ("starting", not opened),
        ("degraded", not connected),
        ("restoring", restoring),
    ):
        if is_so:
            return word
    return "ready"


class Watchdog:
    """Looks whether what waits in ``pool`` and ``writer`` moves, and logs when it does not."""

    def __init__(self, pool: Pool, writer: Writer, stall_after: float) -> None:
        self.stalls = Stalls(stall_after)
        self.looked: float | None = None
        self._pool = pool
        self._writer = writer
        self._stalled: Sequence[Waiting] = ()
        self._unread: set[str] = set()

    async def run(self) -> None:
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

    @property
    def stalled(self) -> Iterable[str]:
        """What waits and does not move, and why; also for other threads, while the loop itself stands."""
        if self.looked is not None and time.monotonic() - self.looked > self.stalls.after + 1:
            return ("the loop has not turned: a handler holds it",)
        return [f"{stalled.what}: {stalled.why}" for stalled in self._stalled]

    def _report_unread(self) -> None:
        """Log what cannot be read where no write logs that its server is away: new keys wait for that."""
        unread, away = self._pool.unread, self._writer.outages
        for sink in self._unread - unread.keys():
            log.warning("states_read_again", sink=sink)
        for sink in unread.keys() - self._unread - away.keys():
            log.warning("states_unread", sink=sink, reason=unread[sink])
        self._unread = {sink for sink in unread if sink in self._unread or sink not in away}
