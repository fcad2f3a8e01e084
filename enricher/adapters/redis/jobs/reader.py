"""The reader that waits for queues which were found empty, and begins what comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from enricher.adapters.redis.jobs.fetch import Fetch, Newest
from enricher.adapters.redis.raw_connection import RawConnection, pack
from enricher.job_store import JobQueueSettings, Run

_BLOCK = 5.0  # seconds: the server answers in time, so that a connection that is gone is found out


class Reader:
    """Waits over ``connection`` once it is told that the queues are `drained`; calls ``wake`` when there may
    be more to begin than the one run that it hands over.

    ``free`` is asked for the number of slots: it keeps one while it waits. One reader serves one connection.
    """

    def __init__(
        self,
        connection: RawConnection,
        settings: JobQueueSettings,
        fetch: Fetch,
        *,
        free: Callable[[], int],
        hand_over: Callable[[Sequence[Run]], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self.kept = 0
        self._connection = connection
        self._connection.timeout = _BLOCK + settings.timeout
        self._prefix = settings.prefix
        self._fetch = fetch
        self._free = free
        self._hand_over = hand_over
        self._wake = wake
        self._drained: asyncio.Future[Newest] = asyncio.get_running_loop().create_future()

    def drained(self, newest: Newest) -> None:
        """Every queue was empty when these were its newest entries."""
        if not self._drained.done():
            self._drained.set_result(newest)

    async def run(self) -> None:
        """Wait until cancelled."""
        while True:
            newest: Newest | None = await self._drained
            while newest is not None:
                newest = await self._next(newest)
            # What was found meanwhile is older than the news.
            self._drained = asyncio.get_running_loop().create_future()
            self._wake()

    async def _next(self, newest: Newest) -> Newest | None:
        """Wait for more than ``newest``; the newest after that, None if there may be more to begin."""
        streams = [f"{self._prefix}:{queue.decode()}" for queue in newest]
        block = int(_BLOCK * 1000)
        wait = pack("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *streams, *newest.values())
        if self._free() < 2:
            # A slot must be left for what is due by its time.
            (news,) = await self._connection.execute([wait])
            return None if news else newest
        self.kept = 1
        try:
            # In one write: the server begins the job as soon as it has told of it.
            fetch = self._fetch.packed(self._fetch.parts(1, suspects=False))
            news, reply = await self._connection.execute([wait, fetch])
        finally:
            self.kept = 0
        if isinstance(news, Exception):
            raise news
        if isinstance(reply, Exception):
            if str(reply).startswith("NOSCRIPT"):
                return None
            raise reply
        begun = self._fetch.read(reply)
        await self._hand_over(begun.runs)
        # Without a run somebody else was faster: the queues are empty again.
        known = newest | {run.queue.encode(): run.entry.encode() for run in begun.runs}
        return begun.newest if not begun.runs or begun.newest == known else None
