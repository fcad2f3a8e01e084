"""Threads: where blocking handlers run, a bounded number at a time."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.to_thread

from enricher.engine.ports import Delivery

HANDLED: ContextVar[Delivery | None] = ContextVar("handled", default=None)
"""The message whose handler a task runs."""


class NotBegun(Exception):
    """The wait for a thread was given up, for all of them hang, or the machine was too busy to begin it.

    The function was not called.
    """


class Threads:
    """Runs functions in at most ``limit`` threads at a time, those included that nobody waits for any more.

    A thread cannot be stopped: after a timeout its result is thrown away, but it counts until it has ended,
    so that handlers that hang cannot fill the process with threads. ``ended`` counts those that have.
    """

    def __init__(self, limit: int) -> None:
        self.ended = 0
        self._limit = limit
        self._limiter = anyio.CapacityLimiter(limit)
        self._everybody = anyio.CapacityLimiter(math.inf)  # the library's own limit is for other work
        # Who has begun and not ended; True: nobody waits for it any more.
        self._begun: dict[object, bool] = {}
        self._waiting: dict[object, anyio.CancelScope] = {}

    @property
    def hang(self) -> bool:
        """Whether every thread is past its timeout, so that nothing can begin."""
        return sum(self._begun.values()) >= self._limit

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def runs(self, who: object) -> bool:
        """Whether a thread that ``who`` asked for has begun and not ended."""
        return who in self._begun

    def give_up(self) -> None:
        """Whoever waits for a thread gets `NotBegun`."""
        for scope in self._waiting.values():
            scope.cancel()

    async def run(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        timeout: float | None,
        who: object = None,
    ) -> Any:
        """What ``function`` returns or raises; `TimeoutError` after ``timeout`` seconds in its thread.

        The wait for a thread is not part of them: whoever waits is not to blame for those that hang. Raises
        `NotBegun` when it is given up. ``who`` is a name for this run, which `runs` is asked by.
        """
        borrower, loop, delivery = who or object(), asyncio.get_running_loop(), HANDLED.get()
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
                    loop.call_soon_threadsafe(self._end, borrower, delivery)

        with anyio.CancelScope() as self._waiting[borrower]:
            try:
                await self._limiter.acquire_on_behalf_of(borrower)
                self._begun[borrower] = False
                if delivery is not None:
                    delivery.run_began()
            finally:
                del self._waiting[borrower]
        if borrower not in self._begun:
            raise NotBegun
        try:
            with anyio.fail_after(timeout):
                return await anyio.to_thread.run_sync(
                    in_thread, abandon_on_cancel=True, limiter=self._everybody
                )
        except BaseException as error:
            if taken.acquire(blocking=False):
                self._end(borrower, delivery)
                if isinstance(error, TimeoutError):
                    raise NotBegun from error
            elif borrower in self._begun:
                self._begun[borrower] = True
            raise

    def _end(self, borrower: object, delivery: Delivery | None) -> None:
        del self._begun[borrower]
        if delivery is not None:
            delivery.run_ended()
        self.ended += 1
        self._limiter.release_on_behalf_of(borrower)
