"""Leases are kept while a handler holds up the event loop that renews them: by a thread.

A call that holds the interpreter itself (a long regular expression, a sort) holds this thread as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

import anyio
import anyio.to_thread
from redis.exceptions import RedisError

from enricher.log import log

# The loop renews every third of a lease. Held up, it is found out after at most a quarter of one.
_LOOKS = 8
_RENEWALS = 3
# A loop that has not turned for so many leases is dead, and holds nothing for ever.
_DEAD = 10
# Seconds that a renewal may take on when the source ends.
_PATIENCE = 2.0


class LeaseThread:
    """Calls ``renew`` in a thread, in an event loop of its own, while the loop of ``begin`` does not turn.

    ``lease`` is in seconds, ``source`` a name for the log.
    """

    def __init__(self, source: str, lease: float, renew: Callable[[], Awaitable[None]]) -> None:
        self._source = source
        self._lease = lease
        self._renew = renew
        self._stopping = threading.Event()
        self._asked_at: float | None = None
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"leases of {self._source}", daemon=True)
        self._thread.start()

    async def end(self) -> None:
        """Return when nothing is renewed any more."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join(0.05)  # it nearly always waits, and ends at once
        if self._thread.is_alive():
            with anyio.move_on_after(_PATIENCE):
                await anyio.to_thread.run_sync(self._thread.join, abandon_on_cancel=True)

    def _run(self) -> None:
        renewed = 0.0
        while not self._stopping.wait(self._lease / _LOOKS):
            if self._asked_at is None:
                self._asked_at = monotonic()
                try:
                    self._loop.call_soon_threadsafe(self._answered)
                except RuntimeError:
                    return  # the loop has ended
                continue
            now = monotonic()
            if now - self._asked_at > _DEAD * self._lease:
                log.error("leases_not_kept", source=self._source, seconds=round(now - self._asked_at, 1))
                return
            if now - renewed >= self._lease / _RENEWALS:
                renewed = now
                with suppress(RedisError, OSError, RuntimeError):  # tried again soon
                    asyncio.run(self._in_time())

    async def _in_time(self) -> None:
        with anyio.fail_after(self._lease / _RENEWALS):
            await self._renew()

    def _answered(self) -> None:
        self._asked_at = None
