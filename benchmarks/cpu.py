"""CPU time of our own process per message, under flood, servers apart.

A workload is made beforehand and published as fast as Redis takes it; the worker runs in a process of its
own against a Redis and a sink that keeps nothing. What is printed is the worker's user + system time
divided by the messages, the median of several rounds after one that is not counted.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.embedded.binaries import redis_binary
from enricher.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING
from enricher.feed.synthetic import SyntheticMarket

Message = tuple[str, bytes]


def workload(kind: str, count: int, products: int, strikes: int, seed: int = 7) -> list[Message]:
    """``count`` messages of one kind: ticks, quotes, chains or mix, timestamped from now on."""
    market = SyntheticMarket(products, strikes=strikes, seed=seed)
    now = time.time_ns() // 1000
    channel = {"ticks": UNDERLYING, "quotes": OPTION_QUOTE, "chains": OPTION_CHAIN}.get(kind)
    made: list[Message] = []
    while len(made) < count:
        for topic, body in market.mix(now):
            if channel is None or topic == channel:
                made.append((topic, body))
        now += 1000
    return made[:count]


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is ended with the block."""
    child = subprocess.Popen(command)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()


async def publish(client: Redis, messages: list[Message], batch: int = 200) -> None:
    """Publish everything, in order, many to a round trip."""
    for start in range(0, len(messages), batch):
        pipe = client.pipeline(transaction=False)
        for topic, body in messages[start : start + batch]:
            pipe.publish(topic, body)
        await pipe.execute()


async def figures(client: Redis) -> dict[str, Any]:
    """The newest figures that the worker keeps in Redis."""
    keys = await client.keys("enricher:stats:*")
    value = await client.get(keys[0]) if keys else None
    return json.loads(value) if value else {}


async def settled(client: Redis, wanted: int) -> dict[str, Any]:
    """The figures once ``wanted`` messages have left the worker in any way."""
    names = ("processed", "duplicate", "dead", "dropped", "conflated")
    for _ in range(1200):
        now = await figures(client)
        done = sum(t.get(n, 0) for t in now.get("topics", {}).values() for n in names)
        if done >= wanted:
            return now
        await asyncio.sleep(0.1)
    raise TimeoutError(f"the worker did not finish {wanted} messages: {now}")


async def one_kind(
    kind: str, count: int, products: int, strikes: int, rounds: int, *options: str
) -> dict[str, Any]:
    """CPU microseconds per message of a fresh worker, median and spread over ``rounds``."""
    with tempfile.TemporaryDirectory() as folder:
        redis_port, mongo_port = 17379, 17017
        redis_url = f"redis://127.0.0.1:{redis_port}/0"
        server = (str(redis_binary()), "--port", str(redis_port), "--save", "", "--dir", folder)
        quiet = ("--loglevel", "warning", "--bind", "127.0.0.1")
        with (
            process(*server, *quiet),
            process(sys.executable, "-m", "benchmarks.null_mongo", str(mongo_port)),
        ):
            client = Redis.from_url(redis_url)
            await answers(client)
            mongo_url = f"mongodb://127.0.0.1:{mongo_port}"
            command = (sys.executable, "-m", "benchmarks.worker", redis_url, mongo_url, *options)
            with process(*command) as worker:
                while (await figures(client)).get("status") != "ready":
                    await asyncio.sleep(0.1)
                watched = psutil.Process(worker.pid)
                market = workload(kind, count * (rounds + 1), products, strikes)
                costs, done = [], 0
                for number in range(rounds + 1):
                    part = market[number * count : (number + 1) * count]
                    before = watched.cpu_times()
                    await publish(client, part)
                    done += count
                    now = await settled(client, done)
                    after = watched.cpu_times()
                    used = after.user + after.system - before.user - before.system
                    if number:
                        costs.append(used / count * 1e6)
                rss = watched.memory_info().rss
            await client.aclose()
    return {
        "kind": kind,
        "products": products,
        "strikes": strikes,
        "messages": count,
        "us_median": round(statistics.median(costs), 1),
        "us_min": round(min(costs), 1),
        "us_max": round(max(costs), 1),
        "rss_mb": round(rss / 1e6, 1),
        "dropped": sum(t.get("dropped", 0) for t in now["topics"].values()),
        "dead": sum(t.get("dead", 0) for t in now["topics"].values()),
        "latency": now["latency"]["commit"],
    }


async def answers(client: Redis) -> None:
    """Return when the benchmark's Redis takes commands."""
    for _ in range(100):
        try:
            await client.ping()
        except (OSError, RedisError):
            await asyncio.sleep(0.05)
        else:
            return
    raise TimeoutError("the benchmark's Redis did not answer within 5 s")


def main(rounds: int = 3) -> None:
    """Print one line per workload."""
    for kind, count, products in (
        ("ticks", 10_000, 1),
        ("ticks", 10_000, 8),
        ("quotes", 10_000, 8),
        ("chains", 1_000, 8),
        ("mix", 10_000, 8),
    ):
        row = asyncio.run(one_kind(kind, count, products, 21, rounds))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
