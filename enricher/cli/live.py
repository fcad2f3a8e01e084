"""A view that is redrawn on a terminal and printed once per interval anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from rich.console import Console, RenderableType
from rich.live import Live

# Columns of a file or a pipe; nothing is wrapped at the 80 that rich would take for it.
PLAIN_WIDTH = 160

NOTHING = "-"


def console() -> Console:
    """Standard output; without a terminal behind it wide, and without colours."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PLAIN_WIDTH, no_color=True)


def redraws(out: Console) -> bool:
    """Whether what was shown can be drawn over: on a terminal, unless it is one (TERM=dumb) that cannot."""
    return out.is_terminal and not out.is_dumb_terminal


def number(value: float | None, decimals: int = 0, unit: str = "") -> str:
    """A number for people: thousands apart, ``-`` for None."""
    return NOTHING if value is None else f"{value:,.{decimals}f}{unit}"


def milliseconds(value: float | None) -> str:
    """A duration given in milliseconds, short: ``12.3 ms``, ``34.5 s``, ``2.5 h``, ``51.0 d``."""
    if value is None:
        return NOTHING
    for unit, size, least in (("d", 86_400_000, 2), ("h", 3_600_000, 2), ("s", 1000, 10)):
        if value >= least * size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.1f} ms"


def time_of_day(us: int) -> str:
    """Microseconds since 1970 as the time of the day, UTC."""
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%H:%M:%S")


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for ``event``, for at most ``seconds``; True when it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def show(
    out: Console,
    view: Callable[[], Awaitable[RenderableType]],
    interval: float,
    stop: asyncio.Event,
    *,
    screen: bool = False,
) -> None:
    """Show ``view()`` every ``interval`` seconds until ``stop`` is set.

    Where `redraws` says so it is redrawn in place (``screen``: on a screen of its own, gone afterwards);
    elsewhere each view is printed below the one before.
    """
    if not redraws(out):
        while not await wait(stop, interval):
            out.print(await view())
        return
    with Live(await view(), console=out, screen=screen, auto_refresh=False, transient=True) as live:
        while not await wait(stop, interval):
            live.update(await view(), refresh=True)
