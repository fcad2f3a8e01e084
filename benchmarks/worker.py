"""A worker process: ``python -m benchmarks.worker REDIS_URL MONGO_URL [--lag] [section.key=value ...]``.

It prints ``ready``; then it answers each line ``figures`` on its standard input with one line of JSON: the
worker's own figures, its CPU seconds (``cpu_s``), resident bytes (``rss``) and, where it is sampled, how late
its loop wakes a sleeper of 10 ms (``lag``). ``reset`` answers the same, then samples the lag afresh;
``--lag`` samples from the start. Sampling takes about 0.3 % of a core: not for an idle worker.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import msgspec
import psutil
import structlog

from benchmarks.measure import Latencies
from enricher import Enricher, load
from enricher.cli.loop import run_loop

LAG_SAMPLE = 0.01


async def main(redis_url: str, mongo_url: str, *options: str) -> int:
    """Serve until killed."""
    overrides = dict(option.split("=", 1) for option in options if option != "--lag")
    settings = load(
        overrides={"redis.url": redis_url, "mongo.url": mongo_url, **overrides}
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # standard output is for the answers
    )
    lag = Latencies()
    async with Enricher.from_settings(settings) as enricher:
        await enricher.wait_ready()
        questions = asked()
        print("ready", flush=True)
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(sample(lag)) if "--lag" in options else None
            while True:
                question = await questions.get()
                print(answer(enricher, lag), flush=True)
                if question == "reset":
                    lag.clear()
                    sampling = sampling or tasks.create_task(sample(lag))


def answer(enricher: Enricher, lag: Latencies) -> str:
    """One line of JSON."""
    figures: dict[str, Any] = enricher.figures()
    figures["cpu_s"] = time.process_time()
    figures["rss"] = psutil.Process().memory_info().rss
    if lag.total:
        figures["lag"] = lag.summary()
    return msgspec.json.encode(figures).decode()


async def sample(lag: Latencies) -> None:
    """Record by how much each sleep is longer than asked for."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(LAG_SAMPLE)
        lag.record(int((time.perf_counter() - before - LAG_SAMPLE) * 1e6))


def asked() -> asyncio.Queue[str]:
    """The lines of the standard input, as they come; a thread reads, for it may be a file or a terminal."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())

    threading.Thread(target=read, daemon=True).start()
    return lines


if __name__ == "__main__":
    run_loop(lambda: main(*sys.argv[1:]))
