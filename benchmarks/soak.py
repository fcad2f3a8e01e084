"""Memory, CPU per message and latency of a worker under a steady load, sampled over time.

``python -m benchmarks.soak [MINUTES] [MESSAGES_PER_SECOND]``: a mix over 8 products against a sink that keeps
nothing; one JSON line a sample. The 15-minute window has filled after 15 minutes: from there on memory
should stay where it is.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import psutil
from redis.asyncio import Redis

from benchmarks.servers import Worker, null_mongo, redis_server
from benchmarks.servers import worker as worker_process
from enricher.feed.publish import publish_at_rate, redis_publisher
from enricher.feed.synthetic import SyntheticMarket


async def main(minutes: float = 25, rate: float = 1000) -> None:
    """Run the load and print the samples."""
    with (
        redis_server() as redis,
        null_mongo() as mongo,
        worker_process(redis.url, mongo.url) as worker,
    ):
        async with Redis.from_url(redis.url) as client:
            feed = asyncio.create_task(
                publish_at_rate(
                    SyntheticMarket(8).stream(lambda: time.time_ns() // 1000),
                    redis_publisher(client),
                    rate=rate,
                    duration=minutes * 60,
                )
            )
            await _sample(feed, worker, psutil.Process(worker.pid))


async def _sample(feed: asyncio.Task[object], worker: Worker, watched: psutil.Process) -> None:
    began, before_cpu, before_done = time.monotonic(), 0.0, 0
    while not feed.done():
        await asyncio.sleep(30)
        now = worker.figures()
        done = sum(t.get("processed", 0) for t in now["topics"].values())
        times = watched.cpu_times()
        cpu = times.user + times.system
        print(
            json.dumps(
                {
                    "minute": round((time.monotonic() - began) / 60, 1),
                    "rss_mb": round(watched.memory_info().rss / 1e6, 1),
                    "us_per_message": round((cpu - before_cpu) / max(done - before_done, 1) * 1e6, 1),
                    "processed": done,
                    "p50_ms": now["latency"]["commit"]["p50_ms"],
                    "p99_ms": now["latency"]["commit"]["p99_ms"],
                }
            ),
            flush=True,
        )
        before_cpu, before_done = cpu, done


if __name__ == "__main__":
    asyncio.run(main(*(float(argument) for argument in sys.argv[1:])))
