"""Threads: where blocking handlers run, a bounded number at a time."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread


class Threads:
    """Runs functions in at most ``limit`` threads at a time, those included that nobody waits for any more.

    A thread cannot be stopped: after a timeout its result is thrown away, but it counts until it has ended,
    so that handlers that hang cannot fill the process with threads.
    """

    def __init__(self, limit: int) -> None:
        self._limiter = anyio.CapacityLimiter(limit)
        self._everybody = anyio.CapacityLimiter(math.inf)  # the library's own limit is for other work

    @property
    def running(self) -> int:
        """How many have begun and not ended."""
        return self._limiter.borrowed_tokens

    async def run(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None
    ) -> Any:
        """What ``function`` returns or raises; `TimeoutError` after ``timeout`` seconds in its thread.

        The wait for a thread is not part of them: whoever waits is not to blame for those that hang.
        """
        borrower, loop = object(), asyncio.get_running_loop()
        taken = threading.Lock()  # by the thread that begins or by the caller that has given up, once

        def in_thread() -> Any:
            if not taken.acquire(blocking=False):
                return None
            try:
                return function(*arguments)
            except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit) as error:
                # Here they are nobody's but the function's own, and out there they would end everything.
                raise RuntimeError(f"the function raised {type(error).__name__}") from error
            finally:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._limiter.release_on_behalf_of, borrower)

        await self._limiter.acquire_on_behalf_of(borrower)
        try:
            with anyio.fail_after(timeout):
                return await anyio.to_thread.run_sync(
                    in_thread, abandon_on_cancel=True, limiter=self._everybody
                )
        except BaseException:
            if taken.acquire(blocking=False):
                self._limiter.release_on_behalf_of(borrower)
            raise
