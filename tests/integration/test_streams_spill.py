"""Spilling: when memory is full messages wait in a stream, and none overtakes an older one of its key."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.dead_letters.list_store import ListLetterStore
from enricher.adapters.redis.sink import RedisLive
from enricher.adapters.redis.stream.appender import BridgeLimits
from enricher.adapters.redis.stream.source import StreamSource
from enricher.adapters.redis.stream.spill import SpillSource
from enricher.config import PoolSettings
from enricher.dead_letters.sink import DeadLetterSink
from enricher.engine.effects import Append, Effect
from enricher.engine.router import Overload, Route
from enricher.engine.service import Engine
from tests.integration.streams import OUT, QUICK, reading, wall_clock
from tests.memory import MemorySource
from tests.rig import until
from tests.servers import RedisProcess

STREAM = "spill"


class Valve:
    """A handler that lets messages pass while it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, event: Any, context: Any) -> list[Effect]:
        await self.open.wait()
        return [Append(OUT, {b"body": context.body})]


class Spilling:
    """A running engine whose memory is small, what feeds it, and a client to look at what it did."""

    def __init__(self, engine: Engine, memory: MemorySource, spill: SpillSource, client: Redis) -> None:
        self.engine = engine
        self.spill = spill
        self.client = client
        self.sent: dict[str, list[int]] = defaultdict(list)
        self._memory = memory

    def send(self, first: int, last: int, topic: str = "t", keys: str = "abc") -> None:
        """Send numbered messages, of the keys in turn."""
        for number in range(first, last):
            key = keys[number % len(keys)]
            self.sent[topic + key].append(number)
            self._memory.send(topic, json.dumps({"k": key, "n": number, "t": topic}).encode())

    @property
    def spilling(self) -> list[str]:
        return list(self.spill.health()["spilling"])


async def came_out(client: Redis) -> dict[str, list[int]]:
    """The numbers in the order in which they were committed, by topic and key."""
    found: dict[str, list[int]] = defaultdict(list)
    for _, fields in await client.xrange(OUT):
        message = json.loads(fields[b"body"])
        found[message["t"] + message["k"]].append(message["n"])
    return found


@asynccontextmanager
async def spilling(
    url: str, handler: Any, *, drain: float = 5.0, looking: str = "", **limits: Any
) -> AsyncIterator[Spilling]:
    """An engine of at most ten messages; topic ``t`` spills and ``u`` shares its source."""
    client, look = redis_client(url, socket_timeout=1), redis_client(looking or url, socket_timeout=60)
    letters = DeadLetterSink(ListLetterStore(client, "dlq"))
    memory = MemorySource(wall_clock)
    reader = StreamSource(
        client,
        STREAM,
        group="me",
        consumer="me",
        dead_letters=letters,
        clock=wall_clock,
        backoff=QUICK,
        **reading(),
    )
    spill = SpillSource(
        memory,
        reader,
        client,
        instance="me",
        clock=wall_clock,
        limits=BridgeLimits(**{"lease": 0.6, "timeout": 1.0, **limits}),
        backoff=QUICK,
    )
    routes = [
        Route(
            topic=topic,
            handler=handler,
            key=lambda body: str(json.loads(body)["k"]),
            sinks=("live",),
            overload=Overload.SPILL,
        )
        for topic in ("t", "u")
    ]
    engine = Engine(
        routes,
        [spill],
        [RedisLive(client), letters],
        clock=wall_clock,
        pool=PoolSettings(max_messages=10, concurrency=4),
        backoff=QUICK,
        drain_deadline=drain,
    )
    try:
        async with engine:
            yield Spilling(engine, memory, spill, look)
    finally:
        await client.aclose()
        await look.aclose()


async def test_what_memory_cannot_hold_waits_in_the_stream_and_keeps_its_order(any_redis_url: str) -> None:
    valve = Valve()
    async with spilling(any_redis_url, valve) as found:
        await until(lambda: found.spill.health()["ready"] and not found.spill._behind)
        found.send(0, 200)
        await until(lambda: found.spilling == ["t"] and found.spill.health()["buffered"] == 0)
        assert found.engine.pool.count == 10
        assert await found.client.xlen(STREAM) == 190
        valve.open.set()
        # While the stream is read back more comes in: it has to queue up behind.
        for first in range(200, 400, 20):
            found.send(first, first + 20)
            await asyncio.sleep(0.01)
        await until(lambda: not found.spilling, "the topic to return to memory")
        # The last entries read back may still fill the memory.
        await until(lambda: found.engine.pool.count == 0)
        spilled = found.spill.spilled
        for number in range(400, 410):
            found.send(number, number + 1)
            await until(lambda: found.engine.pool.count == 0)
        assert found.spill.spilled == spilled

        async def all_out() -> bool:
            return await came_out(found.client) == found.sent

        await until(all_out, "everything, once and in order")
        assert found.engine.stats.total("dropped") == 0


async def test_a_topic_returns_by_itself_while_another_goes_on_spilling(redis_url: str) -> None:
    valve = Valve()
    valve.open.set()
    async with spilling(redis_url, valve) as found:
        await until(lambda: found.spill.health()["ready"] and not found.spill._behind)
        valve.open.clear()
        found.send(0, 30, "t")
        found.send(30, 31, "u")
        await until(lambda: found.spilling == ["t", "u"])
        await until(lambda: found.spill.health()["buffered"] == 0)
        valve.open.set()
        number = 31
        while "u" in found.spilling:
            found.send(number, number + 20, "t")
            number += 20
            await asyncio.sleep(0.005)
        await until(lambda: not found.spilling)

        async def all_out() -> bool:
            return await came_out(found.client) == found.sent

        await until(all_out, "everything, once and in order")


async def test_what_was_spilled_outlives_the_process_and_comes_before_anything_new(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        async with spilling(redis_url, Valve(), drain=0.05) as found:
            await until(lambda: found.spill.health()["ready"] and not found.spill._behind)
            found.send(0, 100)
            await until(lambda: found.spill.spilled == 90 and found.spill.health()["buffered"] == 0)
            lost = found.engine
        # What was in memory only is lost, and said to be; what was read back already was handed back.
        assert lost.lost.total() == 10
        valve = Valve()
        valve.open.set()
        async with spilling(redis_url, valve) as found:
            found.send(100, 130)
            await until(lambda: not found.spilling and not found.spill._behind)
            found.send(130, 160)

            async def all_out() -> bool:
                return sum(map(len, (await came_out(client)).values())) == 150

            await until(all_out)
        out = await came_out(client)
        assert {key: numbers == sorted(numbers) for key, numbers in out.items()} == dict.fromkeys(out, True)
        assert sorted(n for numbers in out.values() for n in numbers) == list(range(10, 160))


async def test_an_outage_while_spilling_is_bridged_by_the_buffer(own_redis: RedisProcess) -> None:
    valve = Valve()
    async with spilling(own_redis.url, valve) as found:
        await until(lambda: found.spill.health()["ready"] and not found.spill._behind)
        found.send(0, 50)
        await until(lambda: found.spill.health()["buffered"] == 0)
        own_redis.kill()
        found.send(50, 100)
        await asyncio.sleep(0.1)
        own_redis.start()
        valve.open.set()

        async def all_out() -> bool:
            return await came_out(found.client) == found.sent

        await until(all_out, "everything, once and in order")
        await until(lambda: not found.spilling)


async def test_a_stream_that_lost_its_entries_does_not_hold_a_topic_for_ever(redis_url: str) -> None:
    valve = Valve()
    async with spilling(redis_url, valve) as found:
        await until(lambda: found.spill.health()["ready"] and not found.spill._behind)
        found.send(0, 100)
        await until(lambda: found.spill.health()["buffered"] == 0)
        await found.client.flushall()
        valve.open.set()
        await until(lambda: not found.spilling, "the topic to return to memory")
        found.send(100, 101)

        async def out() -> bool:
            return 100 in (await came_out(found.client))["tb"]

        await until(out)
