"""What every contestant's jobs do: nothing, or note how late they have begun."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

REDIS_URL = os.environ.get("PEER_REDIS_URL", "redis://localhost/0")
LOG = Path(os.environ.get("JOBS_LOG", os.devnull))
AT_ONCE = 8
RESULT_TTL = 3600  # seconds
MINUTE_US = 60_000_000


def noop(number: int, name: str) -> dict[str, int]:
    """The job whose cost is that of its framework."""
    return {"number": number, "length": len(name)}


def late(number: int) -> int:
    """A job that notes how long ago it was due (microseconds since 1970)."""
    return _noted("late", time.time_ns() // 1000 - number)


def cron() -> int:
    """A job of each minute, which notes how long ago the minute began."""
    return _noted("cron", time.time_ns() // 1000 % MINUTE_US)


def _noted(name: str, us: int) -> int:
    # One write to a file that is appended to: lines of several processes do not mix.
    with LOG.open("ab", buffering=0) as file:
        file.write(b"%s %d\n" % (name.encode(), us))
    return us


def coroutine(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The same as a coroutine function."""

    async def run(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return run


def in_context(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The same as a coroutine function with a context, which it does not use, before the arguments."""

    async def run(_: Any, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    run.__qualname__ = function.__qualname__
    return run
