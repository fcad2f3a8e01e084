"""The event loop of a process that is ours."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from enricher.engine.isolation import is_ctrl_c
from enricher.log import log
from enricher.texts import text_of, trace_of

COLLECT = (10_000, 20, 1_000)
"""Thresholds of the garbage collector's three generations."""

SWITCH = 0.0005
"""Seconds after which a thread that waits for the interpreter gets it."""

OPEN_FILES = 65_536
"""How many are enough: there are programs that close all they may have open, one by one."""


def run_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run ``main`` to its end on uvloop where there is one, else on asyncio's own loop.

    It also sets the garbage collector: state lives for hours and messages for milliseconds, hardly ever in
    cycles. With Python's own thresholds it looks through the state of 50,000 products every few minutes,
    which blocks the loop for half a second.

    And it sets the switch interval. A thread that talks to MongoDB asks for the interpreter about seven times
    a command, and waits each time for up to this interval while handlers run. With Python's own 5 ms that is
    most of the time of a commit.

    And it may open more files, if the system lets it: each connection of a client is one.

    What stops the loop before ``main`` has ended (``sys.exit`` in a task of a handler) is logged, and the
    loop goes on: the error is raised where that task is awaited.
    """
    gc.set_threshold(*COLLECT)
    sys.setswitchinterval(SWITCH)
    _open_many_files()
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


def _open_many_files() -> None:
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        with suppress(ValueError, OSError):  # macOS has a lower limit than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _end_of(work: asyncio.Task[int]) -> int:
    return await work
