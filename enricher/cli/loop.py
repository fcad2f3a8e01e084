"""The event loop of a process that is ours."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from enricher.engine.apart import is_ctrl_c
from enricher.log import log
from enricher.texts import text_of, trace_of

COLLECT = (10_000, 20, 1_000)
"""Thresholds of the garbage collector's three generations."""

SWITCH = 0.0005
"""Seconds after which a thread that waits for the interpreter gets it."""


def run_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run ``main`` to its end on uvloop where there is one, else on asyncio's own loop.

    The process is ours here, so the garbage collector is told what it holds: state that lives for hours and
    messages that live for milliseconds, hardly ever in cycles. As it comes, it looks through the state of
    50,000 products every few minutes, which holds the loop for half a second.

    A thread that speaks to MongoDB asks for the interpreter about seven times a command, and is kept waiting
    each time for up to the switch interval while handlers run: at Python's own 5 ms that is most of what a
    commit takes.

    What stops the loop before ``main`` has ended (``sys.exit`` in a task that a handler made) is logged, and
    it goes on: whoever waits for that task is told.
    """
    gc.set_threshold(*COLLECT)
    sys.setswitchinterval(SWITCH)
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        work = runner.get_loop().create_task(main())
        while True:
            try:
                return runner.run(_end_of(work))
            except BaseException as error:
                if work.done() or is_ctrl_c(error):
                    raise
                # A handler has stopped the loop, or a task that it made has let out what ends a loop.
                why = f"{type(error).__name__}: {text_of(error)}"
                log.error("loop_interrupted", error=why, traceback=trace_of(error))


async def _end_of(work: asyncio.Task[int]) -> int:
    return await work
