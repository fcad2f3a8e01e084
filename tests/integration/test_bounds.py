"""A worker that is fed far faster than it can commit: its bounds hold, and every message is accounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from enricher.clock import wall_clock
from enricher.embedded import binaries
from tests.integration.test_market_contract import tick
from tests.integration.worker import ROOT, TICKS, Worker, WorkerProcess, encoded, running
from tests.rig import until
from tests.servers import LOOPBACK, MongoProcess, free_port

PRODUCTS = [f"P{number}" for number in range(8)]
MIB = 1024 * 1024
BOUNDS = {
    "messages": {"pool.max_messages": 400},
    "bytes": {"pool.max_bytes": 64 * 1024, "pool.max_message_bytes": 16 * 1024},
}


async def flood(worker: Worker, first: int, number: int) -> None:
    """Publish ticks ``first`` ... to all products in turn, as fast as they are taken in."""
    now, limits = wall_clock(), worker.enricher.engine.pool.limits
    for at in range(first, first + number, 200):
        numbers = range(at, at + 200)
        await worker.send(TICKS, *(tick(100, now + n, n, product=PRODUCTS[n % 8]) for n in numbers))
        await until(lambda: worker.enricher.stats.total("received") >= worker.sent, "the reader")
        pool = worker.enricher.engine.pool
        assert pool.count <= limits.max_messages
        assert pool.bytes <= limits.max_bytes


def of_all(worker: Worker) -> list[int]:
    return sorted(document["tick_id"] for document in worker.stored("underlying_ticks"))


@pytest.mark.parametrize("known", [False, True], ids=["new products", "products with state"])
@pytest.mark.parametrize("bound", list(BOUNDS))
@pytest.mark.parametrize("policy", ["drop_oldest", "conflate"])
async def test_a_pool_that_overflows_keeps_its_bounds_and_the_newest_and_counts_the_rest(
    policy: str, bound: str, known: bool, redis_url: str, own_mongo: MongoProcess
) -> None:
    overrides: dict[str, Any] = {**BOUNDS[bound], "mongo.timeout": 1, "retry.max_delay": 0.1}
    overrides["market.overload"] = policy
    async with running(redis_url, own_mongo.url("market"), overrides) as worker:
        if known:
            await flood(worker, 0, 200)
            await worker.settled()
        before = of_all(worker)
        own_mongo.pause()
        await flood(worker, 1000, 4000)
        gone = worker.count(TICKS, "dropped") + worker.count(TICKS, "conflated")
        pool = worker.enricher.engine.pool
        assert pool.count == 4000 - gone
        assert gone > 3000
        assert bool(worker.count(TICKS, "conflated")) == (policy == "conflate")
        own_mongo.resume()
        await worker.settled()
        left = [number for number in of_all(worker) if number not in before]
        assert len(left) == 4000 - gone
        # The last tick of every product is among those that are left.
        assert set(left) >= set(range(4992, 5000))
        assert worker.count(TICKS, "processed") == len(before) + len(left)
        assert [m["price"] for m in worker.published("underlying")] == [100] * (len(before) + len(left))
        assert (pool.count, pool.bytes) == (0, 0)
        await flood(worker, 6000, 200)
        await worker.settled()
        assert of_all(worker)[-200:] == list(range(6000, 6200))


@contextmanager
def a_mongo_that_keeps_nothing() -> Iterator[tuple[str, int]]:
    """URL and process id of a server that answers at once, until it is stopped with SIGSTOP."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.null_mongo", str(port)]
    process = subprocess.Popen(binaries.bound_to_this_process(command), cwd=ROOT)
    try:
        yield f"mongodb://{LOOPBACK}:{port}/market", process.pid
    finally:
        process.kill()
        process.wait()


async def test_at_its_defaults_the_process_stays_within_a_quarter_of_a_gibibyte_of_messages(
    redis_url: str,
) -> None:
    note = "x" * 100_000
    with a_mongo_that_keeps_nothing() as (mongo_url, mongo):
        async with WorkerProcess(redis_url, mongo_url, {"ENRICHER_MONGO__TIMEOUT": "1"}) as worker:
            await worker.send([(TICKS, encoded(tick(100, wall_clock(), 0)))])
            await worker.settled()
            figures = await worker.figures()
            assert figures is not None
            process = psutil.Process(figures["pid"])
            at_rest = process.memory_info().rss
            os.kill(mongo, signal.SIGSTOP)
            try:
                now, sizes = wall_clock(), []
                for at in range(1, 3601, 120):
                    body = [encoded(tick(100, now + n, n, note=note)) for n in range(at, at + 120)]
                    await worker.send([(TICKS, text) for text in body])
                    await worker.taken_in()
                    figures = await worker.figures()
                    assert figures is not None
                    assert figures["pool"]["bytes"] <= 256 * MIB
                    sizes.append(process.memory_info().rss - at_rest)
            finally:
                os.kill(mongo, signal.SIGCONT)
            assert max(sizes) < (256 + 96) * MIB
            # 360 MB were sent; from where the pool was full on, no more memory was taken.
            assert sizes[-1] - sizes[-6] < 16 * MIB
            await worker.settled()
            figures = await worker.figures()
            assert figures is not None
            counts = figures["topics"][TICKS]
            assert counts["dropped"] > 500
            assert counts["processed"] + counts["dropped"] == counts["received"] == 3601
            assert (figures["pool"]["messages"], figures["pool"]["bytes"]) == (0, 0)


async def test_a_message_of_a_feed_may_not_be_as_long_as_a_mail(
    redis_url: str, mongo_database_url: str
) -> None:
    async with running(redis_url, mongo_database_url, {"mail.enabled": True}) as worker:
        at = wall_clock()
        long = {**tick(100, at, 1), "more": "x" * MIB}
        await worker.take(TICKS, long, {**tick(100, at, 2), "more": "x" * 1000})
        await worker.redis.xadd("email_ingestion_stream", {"message_id": "1", "body": "x" * 2 * MIB})
        await until(lambda: worker.documents["emails"].count_documents({}) == 1, "the mail")
        assert of_all(worker) == [2]
        (letter,) = await worker.letters()
        assert letter["error"] == f"$: expected at most {MIB} bytes, got {len(encoded(long))} bytes"
