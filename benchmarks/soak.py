"""Memory, CPU per message and latency of a worker under a steady load, sampled over time.

``python -m benchmarks.soak [MINUTES] [MESSAGES_PER_SECOND]``: a mix over 8 products against a sink that keeps
nothing; one JSON line a sample. The 15-minute window has filled after 15 minutes: from there on memory
should stay where it is.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time

import psutil
from redis.asyncio import Redis

from benchmarks.cpu import answers, figures, process
from enricher.embedded.binaries import redis_binary
from enricher.feed.publish import publish_at_rate, redis_publisher
from enricher.feed.synthetic import SyntheticMarket

REDIS_PORT, MONGO_PORT = 17380, 17018


async def main(minutes: float = 25, rate: float = 1000) -> None:
    """Run the load and print the samples."""
    redis_url = f"redis://127.0.0.1:{REDIS_PORT}/0"
    mongo_url = f"mongodb://127.0.0.1:{MONGO_PORT}"
    with tempfile.TemporaryDirectory() as folder:
        server = (str(redis_binary()), "--port", str(REDIS_PORT), "--save", "", "--dir", folder)
        with (
            process(*server, "--bind", "127.0.0.1", "--loglevel", "warning"),
            process(sys.executable, "-m", "benchmarks.null_mongo", str(MONGO_PORT)),
        ):
            client = Redis.from_url(redis_url)
            await answers(client)
            with process(sys.executable, "-m", "benchmarks.worker", redis_url, mongo_url) as worker:
                while (await figures(client)).get("status") != "ready":
                    await asyncio.sleep(0.1)
                feed = asyncio.create_task(
                    publish_at_rate(
                        SyntheticMarket(8).stream(lambda: time.time_ns() // 1000),
                        redis_publisher(client),
                        rate=rate,
                        duration=minutes * 60,
                    )
                )
                await _sample(feed, client, psutil.Process(worker.pid))
            await client.aclose()


async def _sample(feed: asyncio.Task[object], client: Redis, watched: psutil.Process) -> None:
    began, before_cpu, before_done = time.monotonic(), 0.0, 0
    while not feed.done():
        await asyncio.sleep(30)
        now = await figures(client)
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
