"""The engine's own tasks: none of them ends before it is told to, and if one does, somebody is told."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from enricher.engine.apart import GRACE


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
        raise
    task.result()


def is_asked_to_end() -> bool:
    """Whether a scope around this task is cancelled."""
    return anyio.current_effective_deadline() == -math.inf
