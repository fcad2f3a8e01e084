"""Code that is not ours, in a task of its own: whatever it does to its task ends its message alone.

A cancellation that is let out, a `task.cancelling()` that stays above 0 and the like would otherwise be taken
by task groups and scopes around it for a stop that is meant. Plain functions that run inline are judged by
`let_out` alone.
"""

from __future__ import annotations

import asyncio
import dis
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from enricher.log import log
from enricher.texts import text_of

GRACE = 1.0
"""Seconds that a task gets to end after each cancellation."""

_RAISE = dis.opmap["RAISE_VARARGS"]


async def apart(
    function: Callable[..., Awaitable[Any]], *arguments: Any, timeout: float | None = None, name: str = ""
) -> Any:
    """What ``await function(*arguments)`` gives, in a task of its own with a copy of our context.

    Raises what it raises; `TimeoutError` when it was cancelled after ``timeout`` seconds, and again every
    `GRACE` until it ends; `RuntimeError` for what is no `Exception`. Whoever is cancelled here cancels
    it, and lets go of one that goes on for more than `GRACE`, with an error line that calls it ``name``.
    """
    done: list[tuple[Any, BaseException | None]] = []
    task = asyncio.create_task(_run(function, arguments, done))
    late = False
    try:
        await asyncio.wait((task,), timeout=timeout)
        while not task.done():
            late = True
            task.cancel()
            await asyncio.wait((task,), timeout=GRACE)
    except BaseException:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait((task,), timeout=GRACE)
        if not task.done():
            log.error("handler_does_not_end", handler=name, seconds=GRACE)
        raise
    if not done:  # cancelled before it began, or ended by Ctrl-C
        done.append((None, asyncio.CancelledError() if task.cancelled() else task.exception()))
    result, error = done.pop()  # what refers to itself is freed late
    try:
        if error is None:
            return result
        if late and isinstance(error, asyncio.CancelledError):
            raise TimeoutError(f"took longer than {timeout:g} s") from error
        raise error if isinstance(error, Exception) else let_out(error)
    finally:
        del error


async def _run(
    function: Callable[..., Awaitable[Any]],
    arguments: tuple[Any, ...],
    done: list[tuple[Any, BaseException | None]],
) -> None:
    """Into ``done``, for a task that was asked to cancel itself tells neither result nor error."""
    try:
        done.append((await function(*arguments), None))
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        done.append((None, error))


def current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  whoever asks is a coroutine
    return task


async def uncancelled(task: asyncio.Task[Any]) -> None:
    """Give the loop a turn, and take back that plain code has cancelled ``task``, the one we are in.

    Since the task last waited nobody else can have done so. Who does it meanwhile is heeded.
    """
    while task.uncancel():
        pass
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if task.cancelling():
            raise


def let_out(error: BaseException) -> Exception:
    """What code did wrong that lets out what would end more than its message. Raises a Ctrl-C as it is.

    A stray cancellation would end the pool without a word, for task groups take it for their own;
    ``sys.exit`` would end the process, and the entry that leads to it the next one, and so on.
    """
    if is_ctrl_c(error):
        raise error
    if isinstance(error, asyncio.CancelledError):
        failed = RuntimeError("the handler let out the cancellation of something it waited for")
    else:
        failed = RuntimeError(f"the handler let out {type(error).__name__}: {text_of(error)}")
    failed.__cause__ = error
    return failed


def is_ctrl_c(error: BaseException) -> bool:
    """Whether somebody at the keyboard means it: no statement in the code itself has raised it."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code
    # asyncio's own handler of the signal has a statement for it.
    return code.co_code[trace.tb_lasti] != _RAISE or code.co_filename == asyncio.runners.__file__
