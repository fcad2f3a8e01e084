"""A worker process: ``python -m benchmarks.worker REDIS_URL MONGO_URL [section.key=value ...]``.

It prints ``ready``; then it answers each line on its standard input with one line of JSON: the worker's own
figures, its CPU seconds (``cpu_s``) and resident bytes (``rss``).
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

from enricher import Enricher, load
from enricher.cli.loop import run_loop


async def main(redis_url: str, mongo_url: str, *options: str) -> int:
    """Serve until killed."""
    overrides = dict(option.split("=", 1) for option in options)
    settings = load(
        overrides={"redis.url": redis_url, "mongo.url": mongo_url, **overrides}
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # standard output is for the answers
    )
    async with Enricher.from_settings(settings) as enricher:
        await enricher.wait_ready()
        questions = asked()
        print("ready", flush=True)
        while await questions.get():
            print(answer(enricher), flush=True)
    return 0


def answer(enricher: Enricher) -> str:
    """One line of JSON."""
    figures: dict[str, Any] = enricher.figures()
    figures["cpu_s"] = time.process_time()
    figures["rss"] = psutil.Process().memory_info().rss
    return msgspec.json.encode(figures).decode()


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
