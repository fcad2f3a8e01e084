"""A block that is entered and left by whatever tasks, though what it holds must be left by who entered it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio

from enricher.errors import EnricherError


class OwnTask:
    """Holds ``block`` in a task of its own, from `enter` to `leave`; each is called once.

    When the block fails in between, the task that called `enter` is cancelled, if it still runs, and `leave`
    raises the cause, in place of that cancellation.
    """

    def __init__(self, block: AbstractAsyncContextManager[Any], name: str) -> None:
        self._block = block
        self._name = name
        self._entered, self._leaving = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None]
        self._host: asyncio.Task[Any] | None = None
        self._interrupted = self._cancelled = False

    async def enter(self) -> None:
        """Return once it is entered. Raises what entering raised; cancelled, it leaves nothing behind."""
        self._host = asyncio.current_task()
        self._task = asyncio.create_task(self._hold(), name=self._name)
        entered = asyncio.create_task(self._entered.wait())
        try:
            await asyncio.wait((self._task, entered), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end(cancel=True)
            if self._interrupted:
                self._raise_cause()
            raise
        finally:
            entered.cancel()
        if not self._entered.is_set():
            self._raise_cause()
            raise asyncio.CancelledError  # by somebody who cancels every task there is

    async def leave(self) -> None:
        """Return once the block is left. Raises what ended it or what leaving raised.

        Whoever is cancelled in here cancels what the block does to end, and waits for it all the same.
        """
        self._leaving.set()
        cancelled = await self._end()
        self._raise_cause()
        if cancelled:
            raise asyncio.CancelledError

    async def _hold(self) -> None:
        async with self._block:
            self._entered.set()
            try:
                await self._leaving.wait()
            except BaseException:
                # Who is in there would wait for nothing.
                if self._host is not None and not self._host.done() and not self._leaving.is_set():
                    self._interrupted = True
                    self._host.cancel()
                raise

    async def _end(self, *, cancel: bool = False) -> bool:
        """Wait for the end of the task; whether who waits was cancelled meanwhile."""
        cancelled = False
        with anyio.CancelScope(shield=True):
            while not self._task.done():
                if cancel:
                    self._cancelled = True
                    self._task.cancel()
                try:
                    await asyncio.wait((self._task,))
                except asyncio.CancelledError:
                    cancel = cancelled = True
        return cancelled

    def _raise_cause(self) -> None:
        if self._interrupted and self._host is not None:
            self._host.uncancel()
        if not self._task.cancelled():
            if failed := self._task.exception():
                raise failed
        elif not self._cancelled and not (self._host and self._host.cancelling()):
            raise EnricherError(f"{self._name} was cancelled by somebody who may not")
