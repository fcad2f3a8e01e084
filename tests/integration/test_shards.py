"""Shards: four processes share the products, and all is as if it were one, whoever dies or doubles."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.pubsub import PubSubSource
from enricher.adapters.redis.stream.shard_lock import ShardLock, ShardLost
from enricher.adapters.redis.stream.shards import Shard
from enricher.app import Enricher, wall_clock
from enricher.engine.effects import Append, Effect, Publish
from enricher.engine.router import Route, Router
from tests.integration.streams import QUICK
from tests.integration.worker import TICKS, WorkerProcess, database, encoded, iso, running, worker_settings
from tests.rig import PATIENCE, Sums, until
from tests.servers import Urls

INTAKE = {"streams.intake": {TICKS: "stream"}, "market.idle_close": 1.0}
STREAM = "enricher:intake:worker-enricher"
RECORD = "published"
PRODUCTS = [f"P{n}" for n in range(10)]


def ticks(count: int, at_us: int) -> list[bytes]:
    """Ticks of several minutes and products in a fixed order, some out of order and some twice."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        at = at_us + number * 240_000_000 // count - chance.choice((0, 0, 0, 500_000))
        tick = {
            "type": "UNDERLYING",
            "product": chance.choice(PRODUCTS),
            "price": 100 + chance.randrange(1000) / 4,
            "tick_id": number,
            "timestamp": iso(at),
        }
        made += [encoded(tick)] * chance.choice((1, 1, 1, 2))
    return made


def a_quarter_that_is_over() -> int:
    """When to begin so that the clock has left every window of `ticks` behind, for good."""
    quarter = 900_000_000
    return (wall_clock() - 30_000_000) // quarter * quarter - 300_000_000


def bars(messages: list[bytes]) -> set[tuple[str, int, int]]:
    """(product, minutes, number of the window) of every bar that the ticks fall into."""
    found = set()
    for message in map(json.loads, messages):
        at = datetime.fromisoformat(message["timestamp"]).timestamp()
        found |= {(message["product"], minutes, int(at // (60 * minutes))) for minutes in (1, 5, 15)}
    return found


async def result(redis: Redis, mongo_url: str) -> dict[str, Any]:
    """Ticks, bars and caches, without what depends on the clock."""
    documents = database(mongo_url)
    unlike = {"processed_at", "revision", "updated_at"}
    found: dict[str, Any] = {
        name: sorted(
            (json.dumps({k: v for k, v in d.items() if k not in unlike}, default=str, sort_keys=True))
            for d in documents[name].find()
        )
        for name in ("underlying_ticks", "ohlc_bars")
    }
    for key in sorted(await redis.keys("ohlc:*") + await redis.keys("latest:*")):
        found[key.decode()] = json.loads(await redis.get(key) or b"null")
    documents.client.close()
    return found


async def append(redis: Redis, messages: list[bytes]) -> None:
    """Append ticks to the intake stream, as the bridge does."""
    async with redis.pipeline(transaction=False) as pipeline:
        for message in messages:
            pipeline.xadd(STREAM, {"topic": TICKS, "body": message, "at": wall_clock()})
        await pipeline.execute()


class ShardProcess(WorkerProcess):
    """``enricher run`` for one shard, with figures of its own."""

    def __init__(self, redis_url: str, mongo_url: str, shard: str, name: str, lease: int = 1) -> None:
        super().__init__(
            redis_url,
            mongo_url,
            {
                "ENRICHER_STREAMS__INTAKE": f"{TICKS}=stream",
                "ENRICHER_STREAMS__LEASE": str(lease),
                "ENRICHER_STREAMS__BLOCK": "0.2",
                "ENRICHER_STREAMS__SHARD": shard,
                "ENRICHER_STREAMS__RECORD_EFFECTS": RECORD,
                "ENRICHER_MARKET__IDLE_CLOSE": "1",
                "ENRICHER_SERVICE__DRAIN_DEADLINE": "2",
                "ENRICHER_STATS__KEY_PREFIX": f"figures-{name}",
            },
            forked=True,
        )
        self._prefix = f"figures-{name}"

    async def figures(self) -> dict[str, Any] | None:
        text = await self.client.get(f"{self._prefix}:worker-enricher:test-{self._starts}")
        return None if text is None else json.loads(text)

    async def shard(self) -> dict[str, Any]:
        """What its hold says."""
        found = await self.figures() or {}
        held = [s for name, s in found.get("sources", {}).items() if name.startswith("shard ")]
        return dict(held[0]) if held else {}

    def freeze(self, *, on: bool) -> None:
        """Stop the process in its tracks, or let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    async def ended(self) -> int:
        """The exit code of a process that ends by itself."""
        assert self._process is not None
        process, self._process = self._process, None
        return await asyncio.to_thread(process.wait, PATIENCE)


async def test_four_processes_one_killed_and_one_doubled_do_what_one_does(urls: Urls) -> None:
    messages = ticks(400, a_quarter_that_is_over())
    path, mark, options = urls.mongo.partition("?")
    alone = f"{path}_alone{mark}{options}"
    async with running(urls.redis, alone, INTAKE) as worker:
        await append(worker.redis, messages)
        await until(lambda: len(worker.stored("underlying_ticks")) == 400, "all ticks")
        await worker.settled()
        count = len(bars(messages))
        await until(lambda: worker.documents["ohlc_bars"].count_documents({}) == count, "the last bars")
        await worker.settled()
        expected = await result(worker.redis, alone)
        await worker.redis.flushall()

    # Five processes on a busy machine: none may be kept from renewing its lease for as long as that.
    processes = [ShardProcess(*urls, f"{i}/4", f"w{i}", 3) for i in range(4)]
    second = ShardProcess(*urls, "2/4", "second", 3)
    try:
        await asyncio.gather(*(p.start() for p in processes))
        redis = processes[0].client
        await append(redis, messages[:150])
        await processes[1].kill()
        await append(redis, messages[150:300])
        await asyncio.gather(processes[1].start(), doubled(second))
        await append(redis, messages[300:])
        documents = database(urls.mongo)
        await until(lambda: documents["underlying_ticks"].count_documents({}) == 400, "all ticks")

        async def same() -> bool:
            return await result(redis, urls.mongo) == expected

        await until(same, "the result of one process")
        assert (await second.shard())["ready"] is False
        published = Counter(fields[b"identity"] for _, fields in await redis.xrange(RECORD))
        assert (len(published), set(published.values())) == (400, {1})
        groups = {g["name"].decode(): g["pending"] for g in await redis.xinfo_groups(STREAM)}
        assert groups == {f"worker-enricher:{i}/4": 0 for i in range(4)}
        documents.client.close()
    finally:
        for process in (*processes, second):
            await process.__aexit__(None, None, None)


async def doubled(process: ShardProcess) -> None:
    """Start a process whose shard is held: it waits, so nobody waits for it."""
    starting = asyncio.create_task(process.start())

    async def waits() -> bool:
        return process._client is not None and bool((await process.shard()).get("holder"))

    await until(waits, "the second to wait")
    starting.cancel()


async def test_a_holder_that_was_frozen_lands_nothing_and_ends(urls: Urls) -> None:
    messages = ticks(150, wall_clock() - 300_000_000)
    first = ShardProcess(*urls, "0/1", "first")
    second = ShardProcess(*urls, "0/1", "second")
    try:
        await first.start()
        await append(first.client, messages[:100])
        await asyncio.sleep(0.05)
        first.freeze(on=True)
        await second.start()
        await append(second.client, messages[100:])
        documents = database(urls.mongo)
        await until(lambda: documents["underlying_ticks"].count_documents({}) == 150, "all ticks")
        first.freeze(on=False)
        assert await first.ended() == 1
        assert documents["underlying_ticks"].count_documents({}) == 150

        async def all_published() -> bool:
            # What the first had only stored comes to the second when its lease has run out.
            return await second.client.xlen(RECORD) >= 150

        await until(all_published, "all on the channel")
        published = Counter(f[b"identity"] for _, f in await second.client.xrange(RECORD))
        assert (len(published), set(published.values())) == (150, {1})
        documents.client.close()
    finally:
        await first.__aexit__(None, None, None)
        await second.__aexit__(None, None, None)


async def test_a_process_that_waits_for_its_shard_stops_when_told(urls: Urls) -> None:
    waiting = ShardProcess(*urls, "0/1", "waiting")
    async with redis_client(urls.redis, socket_timeout=PATIENCE) as redis:
        await redis.set(f"{STREAM}:worker-enricher:0/1:holder", "thief")
        try:
            await doubled(waiting)
            assert await waiting.stop() == 0
        finally:
            await waiting.__aexit__(None, None, None)
        assert await redis.get(f"{STREAM}:worker-enricher:0/1:holder") == b"thief"


async def test_routes_without_state_share_one_group_beside_the_shards(urls: Urls) -> None:
    def copied(event: Any, context: Any) -> list[Effect]:
        return [Append("out", {b"body": context.body})]

    orders = Route(topic="orders", handler=copied, sinks=("live",))
    overrides = {"streams.intake": {TICKS: "stream", "orders": "stream"}, "streams.block": 0.1}
    documents = database(urls.mongo)
    async with AsyncExitStack() as stack:
        for index in (0, 1):
            more = {**overrides, "streams.shard": f"{index}/2", "service.instance": f"w{index}"}
            settings = worker_settings(*urls, more)
            worker = await stack.enter_async_context(Enricher(settings, routes=[orders]))
            await asyncio.wait_for(worker.wait_ready(), PATIENCE)
        redis = await stack.enter_async_context(redis_client(urls.redis, socket_timeout=PATIENCE))
        for number, message in enumerate(ticks(50, wall_clock() - 300_000_000)):
            await redis.publish(TICKS, message)
            await redis.publish("orders", encoded({"n": number}))
        sent = number + 1

        async def done() -> bool:
            return await redis.xlen("out") >= sent and documents["underlying_ticks"].count_documents({}) == 50

        await until(done, "both routes")

        async def nothing_pending() -> bool:
            groups = await redis.xinfo_groups(STREAM)
            return not sum(g["pending"] for g in groups)

        await until(nothing_pending)
        names = {g["name"].decode() for g in await redis.xinfo_groups(STREAM)}
        assert names == {"worker-enricher", "worker-enricher:0/2", "worker-enricher:1/2"}
        out = sorted(json.loads(f[b"body"])["n"] for _, f in await redis.xrange("out"))
        assert out == list(range(sent))
        assert await redis.llen("dlq:enrichment") == 0
    documents.client.close()


# -- the parts -----------------------------------------------------------------------------------------


async def test_a_second_holder_waits_and_takes_over_under_a_higher_number(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=PATIENCE) as client:
        first, second = (
            ShardLock(client, Shard(0, 2), scope="s", instance=name, lease=lease, backoff=QUICK)
            for name, lease in (("first", 3.0), ("second", 0.6))
        )
        tasks = [asyncio.create_task(first.run(None))]  # type: ignore[arg-type]
        await asyncio.wait_for(first.wait(), PATIENCE)
        tasks.append(asyncio.create_task(second.run(None)))  # type: ignore[arg-type]
        await until(lambda: second.health()["holder"].startswith("first "))
        left = await client.pttl("s:holder")

        async def renewed() -> bool:
            return await client.pttl("s:holder") > left

        await until(renewed, "the lease to be renewed")
        assert (first.sure, second.sure) == (True, False)
        await first.close()
        await asyncio.wait_for(second.wait(), PATIENCE)
        assert second.number > first.number
        assert int(await client.get(second.fence)) == second.number
        before = second.number
        await client.flushall()
        await until(lambda: second.number > before, "a new number after all was lost")
        assert not tasks[1].done()
        # Somebody takes it by force, as after a pause longer than the lease.
        await client.mset({"s:holder": "thief", second.fence: second.number + 1})
        with pytest.raises(ShardLost, match="thief"):
            await asyncio.wait_for(tasks[1], PATIENCE)
        assert not second.sure
        await second.close()
        assert await client.get("s:holder") == b"thief"


def nothing(state: Any, event: Any, context: Any) -> tuple[Any, list[Effect]]:
    return None, [Publish("out", b"")]


def product(body: bytes) -> str:
    return str(json.loads(body)["product"])


def test_every_message_belongs_to_exactly_one_shard() -> None:
    router = Router([Route(topic=TICKS, handler=nothing, key=product, state_store=Sums())])
    bodies = [encoded({"product": name}) for name in PRODUCTS] + [b"no JSON", b"", b"\xff"]
    for count in (1, 2, 4, 7):
        for topic in (TICKS, "unknown"):
            for body in bodies:
                keeping = [s for s in Shard(0, count).siblings if s.keeps(router, topic, body)]
                assert len(keeping) == 1
    shards = Shard(0, 4).siblings
    assert {next(s for s in shards if s.owns(name)) for name in PRODUCTS} == set(shards)
    with_key = next(s for s in shards if s.keeps(router, TICKS, bodies[0]))
    assert with_key.owns(PRODUCTS[0])


async def test_what_is_heard_in_memory_is_sifted_too() -> None:
    router = Router([Route(topic=TICKS, handler=nothing, key=product, state_store=Sums())])
    heard: dict[int, list[bytes]] = {}
    client = Redis()
    bodies = [encoded({"product": name}) for name in PRODUCTS]
    for shard in Shard(0, 2).siblings:
        source = PubSubSource(
            lambda: client,
            client,
            channels=[TICKS],
            instance="test",
            clock=wall_clock,
            keeps=partial(shard.keeps, router),
        )
        intake: Any = Mock()
        source._hand_over([[b"message", TICKS.encode(), body] for body in bodies], intake)
        heard[shard.index] = [delivery.body for delivery in intake.offer_all.call_args.args[0]]
    assert sorted(heard[0] + heard[1]) == sorted(bodies)
    assert all(heard.values())


@pytest.mark.parametrize("text", ["4", "4/4", "-1/4", "a/b", "0/0", "1/", "/2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="i/n"):
        Shard.parse(text)
