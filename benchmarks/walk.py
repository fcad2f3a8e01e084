"""Part `walk`: the way of one message through the source, call by call.

One tick goes through the real engine in this process (`benchmarks.still`), after others that are not
counted. Each call of a function of enricher's own is one step, in the order of the calls; a step into another
file than the one before is a change of file. A way with few changes is easier to follow for who reads along.
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import FrameType

import enricher
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.still import START_US, Still, StillLoop, messages

_ROOT = Path(enricher.__file__).parent
_WARM_UP = 16


def walk(kind: str = "ticks", *, analytics: bool = True) -> list[str]:
    """The file of each call inside enricher while one message of a ``kind`` goes through, in order."""
    loop, files = StillLoop(), list[str]()
    made = messages(kind, _WARM_UP + 1)

    def called(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and (name := frame.f_code.co_filename).startswith(str(_ROOT)):
            files.append(str(Path(name).relative_to(_ROOT)))

    async def run() -> None:
        still = Still(lambda: START_US + int(loop.time() * 1e6), analytics=analytics)
        async with still.engine:
            await still.trickle(made[:-1])
            before = sys.getprofile()
            sys.setprofile(called)
            try:
                await still.trickle(made[-1:])
            finally:
                sys.setprofile(before)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return files


def changes(files: list[str]) -> int:
    """How often the file is another one than before."""
    return sum(here != there for here, there in pairwise(files))


def run(options: Options) -> list[Report]:
    """Calls and changes of file per kind of message, and the files of a tick in the order of first visit."""
    columns = ["message", "calls", "changes", "files"]
    totals = Report("walk", "one message through enricher's own code", columns)
    for kind in ("ticks", "quotes", "chains"):
        files = walk(kind)
        row = {"message": kind, "calls": len(files), "changes": changes(files), "files": len(set(files))}
        totals.rows.append(row)
    way = Report("files", "those of a tick, in the order of first visit", ["file", "calls"])
    way.rows = [{"file": file, "calls": calls} for file, calls in Counter(walk()).items()]
    return [totals, way]
