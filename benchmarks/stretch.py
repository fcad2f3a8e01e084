"""Part `stretch`: for how long one chain holds the event loop, whatever else waits for it.

Chains go one by one through the still engine (`benchmarks.still`), their sinks apart, and every callback of
the loop is timed. CPU of this one thread: other programs do not count. Of each chain the best of several that
differ by a moment counts, for the longest stretch and for all of them together.
"""

from __future__ import annotations

import time
from asyncio import Handle
from typing import Any
from unittest.mock import patch

from benchmarks.parts import Options
from benchmarks.report import Report, median
from benchmarks.still import START_US, Still, StillLoop, messages

COLUMNS = ["strikes", "longest_us", "whole_us", "turns"]
PRODUCTS = 8
_TURN = 50_000  # nanoseconds; what is shorter is no part of a chain


def run(options: Options) -> list[Report]:
    """A row for chains of few strikes, of some and of many."""
    report = Report("stretch", "CPU time for which one chain holds the event loop", COLUMNS)
    for strikes in (21,) if options.quick else (21, 60, 200):
        report.rows.append({"strikes": strikes, **_measured(strikes, 2 if options.quick else 12)})
    report.notes.append("longest: one stretch; whole: all of the chain; turns: stretches of more than 50 us")
    return [report]


def _measured(strikes: int, rounds: int) -> dict[str, Any]:
    made = messages("chains", PRODUCTS * (rounds + 1), PRODUCTS, strikes)
    loop, took = StillLoop(), list[int]()
    of_each: list[list[tuple[int, int, int]]] = [[] for _ in range(PRODUCTS)]
    once = Handle._run

    def timed(handle: Handle) -> None:
        before = time.thread_time_ns()
        once(handle)
        took.append(time.thread_time_ns() - before)

    async def one_by_one() -> None:
        still = Still(lambda: START_US + int(loop.time() * 1e6), analytics=True)
        async with still.engine:
            for number, message in enumerate(made):
                took.clear()
                await still.flood((message,))
                if number >= PRODUCTS:  # the first of a product finds nothing to compare with
                    turns = sum(ns > _TURN for ns in took)
                    of_each[number % PRODUCTS].append((max(took), sum(took), turns))

    with patch.object(Handle, "_run", timed):
        loop.run_until_complete(one_by_one())
    loop.close()
    longest, whole, turns = zip(*(map(min, zip(*each, strict=True)) for each in of_each), strict=True)
    in_us = {"longest_us": longest, "whole_us": whole}
    return {name: median([ns / 1000 for ns in every]) for name, every in in_us.items()} | {
        "turns": median(list(turns))
    }
