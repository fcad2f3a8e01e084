"""Part `state`: what the state of one product takes, by the number of its messages.

Mixed messages of many products go through the real engine in this process (`benchmarks.still`), with
analytics. Counted is what Python has allocated after them and had not before, and where: the same on every
machine.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import enricher
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.still import START_US, Still, StillLoop, messages
from benchmarks.workloads import CYCLE, lazily

_ROOT = str(Path(enricher.__file__).parent)
_WARM_UP = 50
_AFTER = 10  # the writer lets go of a batch when it takes the next
_FILES = 12


def kept(products: int, each: int) -> tuple[float, Counter[str]]:
    """The bytes that a product takes after ``each`` mixed messages of it, and those of files of ours."""
    loop, files = StillLoop(), Counter[str]()
    others = messages("mix", _WARM_UP + _AFTER, 2)
    made = list(islice(lazily("mix", products, clock=lambda: START_US - 1_000_000), products * each))

    async def run() -> float:
        still = Still(lambda: START_US + int(loop.time() * 1e6), analytics=True)
        async with still.engine:
            await still.flood(others[:_WARM_UP])
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            await still.flood(made)
            await still.trickle(others[_WARM_UP:])
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            for line in tracemalloc.take_snapshot().statistics("filename"):
                files[line.traceback[0].filename] += line.size
        return (after - before) / products

    try:
        total = loop.run_until_complete(run())
    finally:
        tracemalloc.stop()
        loop.close()
    ours = {name.removeprefix(_ROOT + "/"): size / products for name, size in files.items() if _ROOT in name}
    return total, Counter(ours)


def run(options: Options) -> list[Report]:
    """A row per number of messages, and the files that most was allocated in."""
    products = 50 if options.quick else 200
    report = Report("state", "memory that the state of one product takes", ["messages", "bytes"])
    for each in (4, len(CYCLE["mix"])):
        total, files = kept(products, each)
        report.rows.append({"messages": each, "bytes": round(total)})
    report.notes.append("messages: of the mix, of each product; after the last row each had its first chain")
    where = Report("files", "where most of the last row was allocated", ["file", "bytes"])
    where.rows = [{"file": name, "bytes": round(size)} for name, size in files.most_common(_FILES)]
    return [report, where]
