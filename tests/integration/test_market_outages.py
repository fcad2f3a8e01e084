"""Servers that are killed, frozen, restarted or away at the start cost nothing that was received."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from enricher.clock import wall_clock
from tests.integration.test_market_contract import SECOND, chain, quote, tick
from tests.integration.worker import CHAINS, DEADLINE, QUOTES, TICKS, Worker, running
from tests.rig import until
from tests.servers import MongoProcess, RedisProcess, ServerProcess

# Short timeouts, so that a frozen server is soon noticed.
QUICK = {
    "redis.socket_timeout": 0.5,
    "redis.canary_interval": 0.2,
    "redis.canary_timeout": 1.0,
    "mongo.timeout": 0.7,
    "retry.max_delay": 0.5,
}
# After it was noticed: long enough for more than one attempt in vain.
OUTAGE = 1.5


async def feed(worker: Worker, first: int, number: int) -> None:
    """Ticks ``first`` to ``first + number``, with a quote and a chain in between."""
    start = wall_clock() // SECOND * SECOND - 100 * SECOND
    await worker.send(TICKS, *(tick(100.0 + n, start + n * 1000, n) for n in range(first, first + number)))
    await worker.send(QUOTES, quote(at_us=start + first))
    await worker.send(CHAINS, chain(start + first))


def assert_complete(worker: Worker, ticks: int, rounds: int) -> None:
    """Everything sent is stored once and published once, in order."""
    assert [d["tick_id"] for d in worker.stored("underlying_ticks")] == list(range(ticks))
    assert [m["price"] for m in worker.published("underlying")] == [100.0 + n for n in range(ticks)]
    assert len(worker.stored("option_quotes")) == len(worker.stored("option_chains")) == rounds
    assert len(worker.published("option_chain")) == rounds


async def kill(server: ServerProcess) -> None:
    server.kill()


async def restart(server: ServerProcess) -> None:
    await asyncio.to_thread(server.start)


async def freeze(server: ServerProcess) -> None:
    server.pause()


async def thaw(server: ServerProcess) -> None:
    server.resume()


Step = Callable[[ServerProcess], Awaitable[None]]


@pytest.mark.parametrize(("begin", "end"), [(kill, restart), (freeze, thaw)], ids=["killed", "frozen"])
async def test_a_mongodb_that_is_away_costs_time_and_nothing_else(
    own_mongo: MongoProcess, redis_url: str, begin: Step, end: Step
) -> None:
    async with running(redis_url, own_mongo.url("market"), QUICK) as worker:
        await feed(worker, 0, 50)
        await worker.settled()
        await begin(own_mongo)
        for at in range(50, 950, 300):
            await feed(worker, at, 300)
        await until(lambda: worker.enricher.health()["status"] == "degraded", "the outage")
        await asyncio.sleep(OUTAGE)
        assert worker.enricher.engine.pool.count > 800
        assert "documents" in worker.enricher.health()["outages"]
        await end(own_mongo)
        await worker.settled()
        await until(lambda: worker.enricher.health()["status"] == "ready", "the end of the outage")
        assert_complete(worker, 950, 4)
        assert await worker.letters() == []
        assert (await worker.cached("latest:underlying:NIFTY"))["price"] == 1049.0


async def heard_again(worker: Worker, gaps: int) -> None:
    """Wait until the worker is subscribed again and has noted what it may have missed."""
    await until(lambda: worker.enricher.ready, "a new subscription")
    await until(lambda: len(worker.stored("feed_gaps")) >= gaps, "the gap")


async def listen_again(worker: Worker) -> None:
    """A new listener, since the outage ended that of the test too, and new connections."""
    await worker.listener.stop()
    await worker.redis.connection_pool.disconnect()
    await worker.listener.start()


@pytest.mark.parametrize(("begin", "end"), [(kill, restart), (freeze, thaw)], ids=["killed", "frozen"])
async def test_a_redis_that_is_away_loses_nothing_received_and_leaves_a_gap_on_record(
    own_redis: RedisProcess, mongo_database_url: str, begin: Step, end: Step
) -> None:
    with capture_logs() as logs:
        async with running(own_redis.url, mongo_database_url, QUICK) as worker:
            await feed(worker, 0, 50)
            await worker.settled()
            # These are taken in, and most are still in the pool when the server goes.
            await feed(worker, 50, 950)
            await until(lambda: worker.enricher.stats.total("received") >= worker.sent, "the intake")
            await begin(own_redis)
            gone_us = wall_clock()
            await until(lambda: worker.enricher.health()["outages"], "the outage")
            await asyncio.sleep(OUTAGE)
            back_us = wall_clock()
            await end(own_redis)
            await heard_again(worker, 3)
            await listen_again(worker)
            await until(lambda: not worker.enricher.engine.pool.count, "the pool to empty")
            gaps = worker.documents["feed_gaps"].find().sort("channel", 1).to_list()
            assert [gap["channel"] for gap in gaps] == sorted([TICKS, QUOTES, CHAINS])
            for gap in gaps:
                assert gap["from"].timestamp() * 1e6 <= gone_us + 2 * SECOND
                assert back_us - SECOND // 1000 <= gap["to"].timestamp() * 1e6 <= wall_clock()
                assert gap["reason"]
            assert [entry["channel"] for entry in logs if entry["event"] == "gap"] == [TICKS, QUOTES, CHAINS]
            # What was received is stored and shown, once; what comes now goes through.
            assert [d["tick_id"] for d in worker.stored("underlying_ticks")] == list(range(1000))
            assert worker.count(TICKS, "processed") == 1000
            assert (await worker.cached("latest:underlying:NIFTY"))["price"] == 1099.0
            assert (await worker.cached("ohlc:NIFTY:15m"))["num_ticks"] == 1000
            sent = 0
            while sent < 10:  # on a busy machine a connection may be given up once more
                sent = -worker.sent
                await feed(worker, 1000, 10)
                sent += worker.sent
            await worker.settled()
            assert len(worker.stored("underlying_ticks")) == 1010
            assert [m["price"] for m in worker.published("underlying")][-10:] == [
                1100.0 + n for n in range(10)
            ]
            assert await worker.letters() == []


async def test_a_worker_starts_while_both_servers_are_away_and_waits_for_them(
    own_redis: RedisProcess, own_mongo: MongoProcess
) -> None:
    # A server that has just recovered may take a while to make an index, and longer if it is asked again.
    patient = {**QUICK, "mongo.timeout": 5.0}
    own_redis.kill()
    own_mongo.kill()
    async with running(own_redis.url, own_mongo.url("market"), patient, ready=False) as worker:
        await until(lambda: len(worker.enricher.health()["outages"]) == 2, "both outages")
        assert not worker.enricher.ready
        assert worker.enricher.health()["status"] == "degraded"
        await restart(own_redis)
        await until(lambda: worker.enricher.health()["sources"]["pubsub"]["ready"], "the subscription")
        assert not worker.enricher.ready
        await worker.listener.start()
        await feed(worker, 0, 100)
        await until(lambda: worker.enricher.stats.total("received") == worker.sent, "the intake")
        assert worker.enricher.engine.pool.count == worker.sent
        await restart(own_mongo)
        await worker.settled()
        await asyncio.wait_for(worker.enricher.wait_ready(), DEADLINE)
        assert_complete(worker, 100, 1)
        assert await worker.letters() == []
