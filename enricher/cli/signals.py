"""SIGTERM and Ctrl-C: the first asks to stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import anyio

from enricher.cli.loop import run_loop
from enricher.cli.main import OK, SECOND_SIGNAL

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process with 130.

    SIGHUP (the terminal was closed) asks to stop, too, however often it comes; not under nohup.

    Enter it in the main thread, inside the running loop. On leaving, the handlers from before are restored,
    unless a signal has come. The second signal works even while the loop is busy: it waits for nothing, and
    embedded servers end with this process.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    seen = 0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += number in SIGNALS
        if seen > 1:
            # Only what is safe in the middle of anything: no buffers, no locks.
            try:
                os.write(2, f"ended at once by a second {signal.Signals(number).name}\n".encode())
            finally:
                os._exit(SECOND_SIGNAL)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(asked.set)

    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    heeded = SIGNALS if nohup else (*SIGNALS, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in heeded}
    try:
        yield asked
    finally:
        for number, handler in before.items() if not seen else ():
            signal.signal(number, handler)


def until_signal(work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` to its end, or cancel it at the first SIGTERM or Ctrl-C; its errors are passed on."""

    async def main() -> int:
        with stop_on_signal() as stop:
            try:
                async with anyio.create_task_group() as tasks:

                    async def watch() -> None:
                        await stop.wait()
                        tasks.cancel_scope.cancel()

                    tasks.start_soon(watch)
                    await work()
                    tasks.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                error: BaseException = group
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                raise error from group
        return OK

    run_loop(main)
