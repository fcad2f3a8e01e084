"""The engine's own tasks: none of them ends before it should, and if one does, that is reported."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import anyio
import anyio.abc

from enricher.engine.isolation import GRACE, is_ctrl_c
from enricher.errors import EngineFailed
from enricher.log import log
from enricher.texts import text_of, trace_of


async def endless(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """``await function(*arguments)``, which is to go on until a scope around it is cancelled.

    A task group that a child leaves early, or that is cancelled by a child's stray cancellation, would say
    nothing of it. Raises `RuntimeError`, which names the function.
    """
    await to_its_end(function, *arguments)
    if not is_asked_to_end():
        raise RuntimeError(f"{_name(function)} has ended by itself")


async def to_its_end(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """``await function(*arguments)``. Raises `RuntimeError` when it is cancelled by no scope around it."""
    try:
        await function(*arguments)
    except asyncio.CancelledError as error:
        if is_asked_to_end():
            raise
        raise RuntimeError(f"{_name(function)} was cancelled by somebody who may not") from error


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", str(function))


async def in_task(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """``await function(*arguments)`` in a task of its own: each turn of the loop costs it no call more.

    Whoever is cancelled here cancels it, every `GRACE` until it has ended. Raises what it raises, a
    cancellation that nobody asked for too.
    """

    task = asyncio.ensure_future(function(*arguments))
    try:
        await asyncio.wait((task,))
    except BaseException:
        with anyio.CancelScope(shield=True):
            while not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=GRACE)
        if not task.cancelled():
            task.exception()  # nobody wants it any more, which asyncio would log
        raise
    task.result()


def is_asked_to_end() -> bool:
    """Whether a scope around this task is cancelled."""
    return anyio.current_effective_deadline() == -math.inf


class Service:
    """A coroutine function that goes on beside the engine until `close`; it may also return before.

    ``close`` raises what it raised on its way out.
    """

    def __init__(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._function = function
        self._scope = anyio.CancelScope()
        self._begun = False
        self._ended = anyio.Event()
        self._error: Exception | None = None

    async def run(self) -> None:
        self._begun = True
        try:
            with self._scope:
                await self._function()
        except Exception as error:
            if self._scope.cancel_called:
                self._error = error
            raise
        finally:
            self._ended.set()

    async def close(self) -> None:
        self._scope.cancel()
        if self._begun:
            await self._ended.wait()
        if self._error is not None:
            raise self._error


class Parts:
    """Tasks beside a block: if one raises, the block is cancelled, and leaving it raises `EngineFailed`.

    ``on_failed`` is told which part failed. After the end (``ended``) nobody minds what a part does.
    """

    def __init__(self, on_failed: Callable[[str], None]) -> None:
        self.failure: EngineFailed | None = None
        self.ended = False
        self._on_failed = on_failed
        self._tasks: anyio.abc.TaskGroup
        self._block = anyio.CancelScope()

    async def enter(self) -> None:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._block.__enter__()

    def begin(self, part: str, run: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run a part beside the others until the block is left."""
        self._tasks.start_soon(self._supervised, part, run, *arguments)

    async def leave(
        self,
        stop: Callable[[], Awaitable[None]],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Leave the block: ``stop``, then cancel what still runs. Raises `EngineFailed` if a part failed."""
        if self._block.__exit__(kind, error, trace):
            kind = error = trace = None
        try:
            if kind is None or not issubclass(kind, BaseExceptionGroup):
                # Also on the way out of an error or a cancellation the messages get their chance.
                with anyio.CancelScope(shield=True):
                    await stop()
        finally:
            self._tasks.cancel_scope.cancel()
            result = await self._tasks.__aexit__(kind, error, trace)
        if self.failure is not None and error is None:
            raise self.failure
        return result

    async def _supervised(self, part: str, run: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run a part. If it raises, that is logged at once, and the block is cancelled."""
        try:
            await in_task(run, *arguments)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_asked_to_end():
                raise
            first = error
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            if is_ctrl_c(first):
                raise first from None
            if not self.ended:
                self._fail(part, first)

    def _fail(self, part: str, error: BaseException) -> None:
        why = f"{type(error).__name__}: {text_of(error)}"
        log.critical("engine_failed", part=part, error=why, traceback=trace_of(error))
        if self.failure is None:
            self.failure = EngineFailed(part, why)
            self.failure.__cause__ = error
        self._block.cancel()
        self._on_failed(part)
