"""The market over a stream: what was published while nobody worked is enriched, once, after a crash too."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from enricher.assembly import build
from enricher.clock import wall_clock
from enricher.engine.router import Overload
from enricher.errors import ConfigError
from enricher.systems import load
from tests.integration.worker import DEADLINE, TICKS, WorkerProcess, database, encoded, iso, running
from tests.memory import MemoryDeadLetters
from tests.rig import until
from tests.servers import Urls

INTAKE = {"streams.intake": {TICKS: "stream"}}
STREAM = "enricher:intake:worker-enricher"
SPILL = "enricher:spill:worker-enricher:blue"


def tick(number: int, at_us: int) -> dict[str, Any]:
    return {
        "type": "UNDERLYING",
        "product": "NIFTY",
        "price": 100.0 + number,
        "tick_id": number,
        "timestamp": iso(at_us + number),
    }


async def test_ticks_take_the_way_over_the_stream(urls: Urls) -> None:
    async with running(*urls, INTAKE) as worker:
        at = wall_clock()
        await worker.take(TICKS, *[tick(n, at) for n in range(200)], b"no tick")
        assert [d["tick_id"] for d in worker.stored("underlying_ticks")] == list(range(200))
        assert [m["price"] for m in worker.published("underlying")] == [100.0 + n for n in range(200)]
        (letter,) = await worker.letters()
        assert (letter["body"], letter["stage"]) == ("no tick", "decode")
        assert (await worker.redis.xpending(STREAM, "worker-enricher"))["pending"] == 0
        assert await worker.redis.xlen(STREAM) == 201
        sources = worker.enricher.health()["sources"]
        assert sources[f"bridge to {STREAM}"]["appended"] == 201


async def test_a_pattern_does_not_bring_past_the_stream_what_takes_the_way_over_it(urls: Urls) -> None:
    settings = {**INTAKE, "market.channels.patterns": ["market:*"]}
    async with running(*urls, settings) as worker:
        at, stats = wall_clock(), worker.enricher.stats
        for number in range(20):
            assert await worker.redis.publish(TICKS, encoded(tick(number, at))) == 2
        await worker.redis.publish("market:trad", b"{}")
        await until(lambda: stats.total("processed") == 20 and stats.total("dead") == 1, "all of them")
        assert (stats.total("received"), stats.total("duplicate"), stats.total("dead")) == (21, 0, 1)


async def test_entries_that_wait_when_a_worker_starts_are_enriched(urls: Urls) -> None:
    async with running(*urls, INTAKE) as worker:
        await worker.take(TICKS, tick(0, wall_clock()))
        at = wall_clock()
    async with running(*urls, INTAKE, ready=False) as worker:
        for number in range(1, 50):
            await worker.redis.xadd(STREAM, {"topic": TICKS, "body": encoded(tick(number, at)), "at": at})
        await until(lambda: len(worker.stored("underlying_ticks")) == 50, "all ticks")
        await until(lambda: not worker.enricher.engine.pool.count, "the commit")
        window = await worker.cached("ohlc:NIFTY:1m")
        assert (window["num_ticks"], window["high"]) == (50, 149.0)


async def test_a_worker_killed_in_the_middle_loses_and_repeats_nothing(urls: Urls) -> None:
    environment = {
        "ENRICHER_STREAMS__INTAKE": f"{TICKS}=stream",
        "ENRICHER_STREAMS__LEASE": "1",
        "ENRICHER_STREAMS__BLOCK": "0.2",
    }
    at = wall_clock()
    async with WorkerProcess(*urls, environment, forked=True) as worker:
        heard = worker.client.pubsub()
        await heard.subscribe("enriched:underlying")
        await heard.get_message(timeout=DEADLINE)
        for number in range(600):
            await worker.client.xadd(STREAM, {"topic": TICKS, "body": encoded(tick(number, at)), "at": at})
            if number == 300:
                await worker.kill()
        await worker.start()
        documents = database(urls.mongo)
        await until(lambda: documents["underlying_ticks"].count_documents({}) >= 600, "all ticks")

        prices: list[float] = []
        while len(prices) < 600:
            message = await heard.get_message(timeout=DEADLINE)
            assert message is not None, f"only {len(prices)} were published"
            prices.append(json.loads(message["data"])["price"])
        assert sorted(prices) == [100.0 + n for n in range(600)]
        assert await heard.get_message(timeout=0.2) is None
        assert documents["underlying_ticks"].count_documents({}) == 600
        documents.client.close()


async def test_a_group_destroyed_under_load_costs_no_tick_and_repeats_none(urls: Urls) -> None:
    async with running(*urls, INTAKE) as worker:
        at = wall_clock()
        for part in range(5):
            await worker.send(TICKS, *[tick(n, at) for n in range(part * 100, part * 100 + 100)])
            await until(lambda part=part: worker.count(TICKS, "received") > part * 100, "some of them")
            await worker.redis.xgroup_destroy(STREAM, "worker-enricher")
        await until(lambda: len(worker.published("underlying")) >= 500, "all ticks")
        await worker.settled()
        prices = [message["price"] for message in worker.published("underlying")]
        assert sorted(prices) == [100.0 + n for n in range(500)]
        assert len(worker.stored("underlying_ticks")) == 500
        assert worker.enricher.health()["sources"][f"stream {STREAM}"]["created_again"] >= 1


async def test_with_two_bridges_nothing_is_missing_when_the_one_that_appends_is_killed(urls: Urls) -> None:
    environment = {
        "ENRICHER_STREAMS__INTAKE": f"{TICKS}=stream",
        "ENRICHER_STREAMS__LEASE": "1",
        "ENRICHER_STREAMS__BLOCK": "0.2",
        "ENRICHER_STREAMS__RECORD_EFFECTS": "published",
    }
    documents = database(urls.mongo)
    first = WorkerProcess(*urls, environment, forked=True)
    async with (
        first,
        running(*urls, {**INTAKE, "streams.record_effects": "published"}) as second,
    ):
        name = f"bridge to {STREAM}"
        assert not second.enricher.health()["sources"][name]["appends"]
        at = wall_clock()
        for number in range(400):
            await second.send(TICKS, tick(number, at))
            if number == 200:
                await first.kill()
            await asyncio.sleep(0.002)
        await until(lambda: documents["underlying_ticks"].count_documents({}) == 400, "all ticks")
        assert second.enricher.health()["sources"][name]["appends"]

        async def all_published() -> bool:
            return await second.redis.xlen("published") >= 400

        await until(all_published)
        found = [fields[b"identity"] for _, fields in await second.redis.xrange("published")]
        assert (len(found), len(set(found))) == (400, 400)
        # What both heard while nobody held the lease stands in the stream twice, and is told apart.
        assert await second.redis.xlen(STREAM) >= 400
    documents.client.close()


async def test_the_market_spills_while_memory_is_full_and_loses_no_tick(urls: Urls) -> None:
    small = {
        "market.overload": "spill",
        "pool.max_messages": 50,
        "streams.record_effects": "published",
        "service.instance": "blue",
    }
    async with running(*urls, small) as worker:
        at = wall_clock()
        await worker.send(TICKS, *[tick(n, at) for n in range(1000)])
        await until(lambda: len(worker.published("underlying")) == 1000, "all on the channel")
        assert len(worker.stored("underlying_ticks")) == 1000
        source = worker.enricher.health()["sources"][f"spill to {SPILL}"]
        assert source["spilled"] > 0
        assert [m["price"] for m in worker.published("underlying")] == [100.0 + n for n in range(1000)]
        assert (await worker.cached("ohlc:NIFTY:1m"))["num_ticks"] == 1000
        found = [fields[b"identity"] for _, fields in await worker.redis.xrange("published")]
        assert (len(found), len(set(found))) == (1000, 1000)
        await until(
            lambda: not worker.enricher.health()["sources"][f"spill to {SPILL}"]["spilling"], "memory again"
        )


async def test_what_a_stream_feeds_waits_when_the_pool_is_full() -> None:
    settings = load(overrides=INTAKE)
    parts = build(settings)
    overloads = {route.topic: route.overload for route in parts.engine.router.routes}
    assert overloads[TICKS] is Overload.BLOCK
    assert set(overloads.values()) == {Overload.BLOCK, Overload.DROP_OLDEST}
    await parts.close()


async def test_an_intake_for_a_topic_that_nobody_handles_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"streams\.intake = 'market:trad'.*market:underlying"):
        build(load(overrides={"streams.intake": {"market:trad": "stream"}}))


async def test_a_store_of_dead_letters_that_does_not_acknowledge_is_refused() -> None:
    with pytest.raises(ConfigError, match="DeadLetterSink"):
        build(load(overrides=INTAKE), {"sinks": [MemoryDeadLetters()]})
