"""Threads for a client that blocks: a call is handed to one directly."""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

_Call = tuple[AbstractEventLoop, "Future[Any]", Callable[..., Any], tuple[Any, ...]]


class CommandThreads:
    """At most ``limit`` threads for the client that blocks: begun when they are needed, and then kept.

    A trip to one and back costs half of what it costs with the standard library's executor.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = 0
        self._under_way = 0
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` returns or raises; it goes on where nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        outcome: Future[Any] = loop.create_future()
        self._under_way += 1
        if self._begun < min(self._under_way, self._limit):
            self._begun += 1
            # It ends with the process, however long a server takes to answer.
            threading.Thread(target=self._work, name="enricher-mongo", daemon=True).start()
        self._calls.put((loop, outcome, function, arguments))
        return await outcome

    def close(self) -> None:
        """Let the threads end that have nothing to do, the others when they have done it."""
        begun, self._begun = self._begun, 0
        for _ in range(begun):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._do(*call)
            del call  # nothing may keep what is committed alive until the next command

    def _do(
        self,
        loop: AbstractEventLoop,
        outcome: Future[Any],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            try:
                result = function(*arguments)
            except BaseException as error:  # noqa: BLE001  it is raised where the outcome is awaited
                loop.call_soon_threadsafe(self._settle, outcome, None, error)
            else:
                loop.call_soon_threadsafe(self._settle, outcome, result, None)

    def _settle(self, outcome: Future[Any], result: Any, error: BaseException | None) -> None:
        # Here, since what was given up keeps its thread until it ends.
        self._under_way -= 1
        if outcome.done():  # given up
            return
        if error is None:
            outcome.set_result(result)
        else:
            outcome.set_exception(error)
