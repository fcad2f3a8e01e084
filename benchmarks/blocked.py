"""A program that embeds the engine and waits for room: ``REDIS_URL MONGO_URL RATE SECONDS POOL``.

The market routes block instead of dropping, and messages are handed in when they are due by ``RATE`` a
second, or as soon as there is room. Prints JSON: what was handed in in how many ``seconds``, and the engine's
figures.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sys
import time

import msgspec
import psutil
import structlog
import uvloop

from benchmarks.measure import counted
from benchmarks.workloads import stamped, workload
from enricher import Enricher, load
from enricher.adapters.memory_source import MemoryDelivery
from enricher.engine.overload import Overload
from enricher.market.plan import market_routes

MADE = 5000
MARK_US = 1_790_000_000_000_000


async def main(redis_url: str, mongo_url: str, rate: float, seconds: float, pool: int) -> None:
    """Hand in for so long, wait until all is committed, tell."""
    common = {"redis.url": redis_url, "mongo.url": mongo_url, "pool.max_messages": pool}
    settings = load(overrides={**common, "market.enabled": False})
    routes = market_routes(load(overrides=common))
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # standard output is for the answer
    )
    blocking = [dataclasses.replace(route, overload=Overload.BLOCK) for route in routes]
    async with Enricher.from_settings(settings, routes=blocking) as enricher:
        await enricher.wait_ready()
        # Some messages over and over, each time with a new timestamp, and so another message: making them is
        # a cost of this process that a subscriber does not have.
        stream = itertools.cycle(workload("mix", MADE, start_us=MARK_US, step_us=0))
        began, cpu, rss = time.monotonic(), time.process_time(), 0
        quarter: tuple[float, int] | None = None
        for number in itertools.count():
            now = time.monotonic()
            if now - began >= seconds:
                break
            if quarter is None and now - began >= seconds / 4:
                quarter = (now, counted(enricher.figures(), "processed"))
            if (early := began + number / rate - now) > 0:
                await asyncio.sleep(early)
            now_us = time.time_ns() // 1000
            ((topic, body),) = stamped((next(stream),), (now_us,), MARK_US)
            await enricher.engine.put(MemoryDelivery(topic, body, now_us, None))
            if number % 500 == 0:
                rss = max(rss, psutil.Process().memory_info().rss)
                await asyncio.sleep(0)
        ended, figures = time.monotonic(), enricher.figures()
        since, before = quarter or (began, 0)
        told = {
            "sent": number,
            "seconds": ended - began,
            "cpu_s": time.process_time() - cpu,
            "processed_s": (counted(figures, "processed") - before) / (ended - since),
            "rss": max(rss, psutil.Process().memory_info().rss),
        }
        await enricher.stop(60)
        told["figures"] = enricher.figures()
    print(msgspec.json.encode(told).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
