"""enricher inside somebody else's asyncio program: what it does there, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from enricher import (
    BadMessage,
    Context,
    Effect,
    Enricher,
    EnricherError,
    Insert,
    RetryPolicy,
    Route,
    SetKey,
    Settings,
    load,
)
from enricher.config import Count, Section, Text
from enricher.engine.ports import Answer, Delivery, Reader, Write
from tests.integration.host import GREETINGS, greet, numbered, settings_for, stored
from tests.rig import PATIENCE, until
from tests.servers import LOOPBACK, MongoProcess, RedisProcess, Urls


@pytest.fixture
def settings(urls: Urls) -> Settings:
    return settings_for(*urls)


# -- what is left alone ----------------------------------------------------------------------------


def test_importing_does_nothing() -> None:
    program = """
import os, sys, threading, asyncio, signal, logging
read = []
class Watched(type(os.environ)):
    def __getitem__(self, key):
        read.append(key)
        return super().__getitem__(key)
import motor.motor_asyncio, redis.asyncio, structlog, anyio, msgspec, rich, click
os.environ.__class__ = Watched
signals = {n: signal.getsignal(n) for n in signal.valid_signals()}
configured, threads = structlog.get_config(), threading.enumerate()
import enricher, enricher.app, enricher.assembly
assert not [key for key in read if "ENRICHER" in key or "URL" in key or "SERVICE" in key], read
assert threading.enumerate() == threads
assert asyncio._get_running_loop() is None
assert asyncio.get_event_loop_policy()._local._loop is None
assert {n: signal.getsignal(n) for n in signal.valid_signals()} == signals
assert structlog.get_config() == configured and not logging.getLogger().handlers
assert "uvloop" not in type(asyncio.get_event_loop_policy()).__module__
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_what_only_looks_needs_no_market_no_engine_and_no_database_driver() -> None:
    program = """
import sys
import enricher.cli.dlq, enricher.market.cli.feed, enricher.cli.health, enricher.market.cli.record
heavy = ("pymongo", "motor", "enricher.app", "enricher.engine.pool", "enricher.market.routes")
assert not [name for name in heavy if name in sys.modules], [name for name in heavy if name in sys.modules]
from enricher import Enricher, Settings
import enricher
assert enricher.Enricher is Enricher is sys.modules["enricher.app"].Enricher and "load" in dir(enricher)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


async def test_signals_logging_and_tasks_are_as_before_once_it_has_gone(settings: Settings) -> None:
    def surroundings() -> object:
        root = logging.getLogger()
        signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
        return signals, root.handlers[:], root.level, structlog.get_config(), structlog.is_configured()

    before, tasks = surroundings(), asyncio.all_tasks()
    async with Enricher(settings, routes=[GREETINGS]) as enricher:
        await enricher.wait_ready()
        assert surroundings() == before
    assert surroundings() == before
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("driver", [AsyncIOMotorClient, AsyncMongoClient])
async def test_clients_of_the_host_are_used_and_left_open(driver: Callable[[str], Any], urls: Urls) -> None:
    # As a host has them: text for answers, the newest protocol, its own pool.
    redis = Redis.from_url(urls.redis, decode_responses=True, protocol=3, client_name="host")
    mongo = driver(urls.mongo)
    name = mongo.get_default_database().name
    # The addresses in the settings lead nowhere: only the host's clients can do the work.
    here = settings_for(f"redis://{LOOPBACK}:1/0", f"mongodb://{LOOPBACK}:1", mongo__database=name)
    listener = redis.pubsub()
    await listener.subscribe("greeted")
    assert await listener.get_message(timeout=PATIENCE), "not subscribed"
    async with Enricher(here, routes=[GREETINGS], redis=redis, mongo=mongo) as enricher:
        await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
        assert await redis.publish("greetings", numbered(1)) == 1
        await until(lambda: enricher.stats.total("processed") == 1, "the message")
        await enricher.submit("greetings", b"no JSON")
        await until(lambda: enricher.stats.total("dead") == 1, "the dead letter")
    assert await redis.get("greeting:1") == "hello n1"
    assert await redis.llen("dlq:enrichment") == 1
    heard = await listener.get_message(timeout=PATIENCE)
    assert heard["data"] == "hello n1"
    assert (await mongo.get_default_database()["greetings"].find_one({}))["text"] == "hello n1"
    await listener.aclose()
    await redis.aclose()
    closing = mongo.close()
    if closing is not None:
        await closing


async def test_two_live_side_by_side_in_one_loop(
    redis_url: str, mongo_database_url: str, own_redis: RedisProcess, own_mongo: MongoProcess
) -> None:
    def wave(event: Any, context: Context) -> list[Effect]:
        return [Insert("waves", {"_id": event["id"]})]

    one = Enricher(settings_for(redis_url, mongo_database_url), routes=[GREETINGS])
    other_url = own_mongo.url("other")
    two = Enricher(settings_for(own_redis.url, other_url), routes=[Route(topic="waves", handler=wave)])
    async with one, two:
        await asyncio.gather(one.wait_ready(), two.wait_ready())
        await asyncio.gather(
            *(one.submit("greetings", numbered(n), committed=True) for n in range(50)),
            *(two.submit("waves", numbered(n), committed=True) for n in range(70)),
        )
        own_redis.kill()
        await until(lambda: two.health()["status"] == "degraded", "the second one's outage")
        assert one.health()["status"] == "ready"
        await one.submit("greetings", numbered(50), committed=True)
        own_redis.start()
        await until(lambda: two.ready and two.health()["status"] == "ready", "its end")
    assert (one.stats.total("processed"), two.stats.total("processed")) == (51, 70)
    assert stored(mongo_database_url) == list(range(51))
    assert stored(other_url, "waves") == list(range(70))
    assert stored(mongo_database_url, "waves") == []


# -- a program's own parts -------------------------------------------------------------------------


class Index(Effect, frozen=True):
    """Put a document into the search index."""

    sink: ClassVar[str] = "search"
    identity: str
    words: tuple[str, ...]


class Search:
    """A sink of the program's own."""

    name = "search"
    durable = False

    def __init__(self) -> None:
        self.words: dict[str, tuple[str, ...]] = {}
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        for write in writes:
            for effect in write.effects:
                if isinstance(effect, Index):
                    self.words[effect.identity] = effect.words
        return {}

    async def close(self) -> None:
        self.closed += 1


async def test_a_sink_of_ones_own_lands_effects_of_ones_own_kind(
    settings: Settings, mongo_database_url: str
) -> None:
    def index(event: Any, context: Context) -> list[Effect]:
        identity = str(event["id"])
        return [Insert("pages", {"_id": event["id"]}), Index(identity, tuple(event["name"].split()))]

    search = Search()
    route = Route(topic="pages", handler=index, sinks=("documents", "search"))
    async with Enricher(settings, routes=[route, GREETINGS], sinks=[search]) as enricher:
        await enricher.submit("pages", numbered(1, name="max pain"), committed=True)
        enricher.emit(Index("2", ("by", "hand")))
        await enricher.submit("greetings", numbered(1), committed=True)
    assert search.words == {"1": ("max", "pain"), "2": ("by", "hand")}
    assert (search.opened, search.closed) == (1, 1)
    assert stored(mongo_database_url, "pages") == [1]


async def test_an_effect_that_no_sink_lands_is_loud(settings: Settings) -> None:
    async with Enricher(settings, routes=[GREETINGS]) as enricher:
        with pytest.raises(LookupError, match="no sink named search"):
            enricher.emit(Index("1", ()))
    with pytest.raises(LookupError, match="no sink named pictures"):
        async with Enricher(settings, routes=[Route(topic="pages", handler=greet, sinks=("pictures",))]):
            pass


class ShopSettings(Section, frozen=True, kw_only=True):
    """A program's own section."""

    greeting: Text = "welcome"
    copies: Count = 1


async def test_a_section_of_ones_own_is_read_like_any_other(urls: Urls, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[shop]\ngreeting = "namaste"\n\n[market]\nenabled = false\n')
    environment = {"ENRICHER_SHOP__COPIES": "3", "REDIS_URL": urls.redis, "MONGO_URL": urls.mongo}
    settings = load(file, environment, sections={"shop": ShopSettings})
    shop = settings.section(ShopSettings)
    assert shop == ShopSettings(greeting="namaste", copies=3)

    def serve(event: Any, context: Context) -> list[Effect]:
        return [Insert("served", {"_id": n, "text": shop.greeting}) for n in range(shop.copies)]

    async with Enricher(settings, routes=[Route(topic="shop", handler=serve)]) as enricher:
        await enricher.submit("shop", b"{}", committed=True)
    assert stored(urls.mongo, "served") == [0, 1, 2]


async def test_an_async_handler_finds_its_clients_and_is_retried(settings: Settings, urls: Urls) -> None:
    directory = Redis.from_url(urls.redis)
    attempts: list[int] = []

    async def look_up(event: Any, context: Context) -> list[Effect]:
        attempts.append(context.attempt)
        owner = await context.clients["directory"].get("owner:7")
        if owner is None:
            await context.clients["directory"].set("owner:7", "Asha")
            raise ConnectionError("the directory does not know yet")
        return [Insert("orders", {"_id": event["id"], "owner": owner.decode()})]

    policy = RetryPolicy(max_retries=2, base=0.01, jitter="none")
    route = Route(topic="orders.*", handler=look_up, retry=policy, timeout=5)
    async with Enricher(settings, routes=[route], clients={"directory": directory}) as enricher:
        await enricher.submit("orders.new", numbered(1), committed=True)
    await directory.aclose()
    assert attempts == [1, 2]
    assert stored(urls.mongo, "orders") == [1]


class Tally:
    """A state_store of the program's own: how many messages each account has had."""

    name = "tally"

    async def restore(self, reader: Reader, wanted: Mapping[str, Delivery]) -> Mapping[str, list[int]]:
        query = {"account": {"$in": list(wanted)}}
        found = await reader.find("tallies", query, sort=[("count", 1)])
        held = {document["account"]: document["count"] for document in found}
        return {key: [held.get(key, 0)] for key in wanted}

    async def unfinished(self, reader: Reader, now_us: int) -> Sequence[str]:
        return ()

    def seen(self, state: list[int], event: Any, context: Any) -> str | None:
        return None

    def fold(self, state: list[int], change: Any) -> str | None:
        state[0] = change
        return None

    def show(self, state: list[int], now_us: int) -> Sequence[Effect]:
        return ()

    def due(self, state: list[int]) -> int | None:
        return None

    def on_time(self, state: list[int], now_us: int) -> Sequence[Effect]:
        return ()


async def test_a_state_store_of_ones_own_remembers_over_a_restart(
    settings: Settings, mongo_database_url: str
) -> None:
    def count(state: list[int], event: Any, context: Context) -> tuple[int, list[Effect]]:
        account, number = str(event["id"]), state[0] + 1
        document = {"_id": f"{account}:{number}", "account": account, "count": number}
        return number, [Insert("tallies", document)]

    def account_of(body: bytes) -> str:
        return str(json.loads(body)["id"])

    route = Route(topic="counted", handler=count, key=account_of, state_store=Tally())
    for _ in range(2):
        async with Enricher(settings, routes=[route]) as enricher:
            accounts = [n % 3 for n in range(30)]
            await asyncio.gather(
                *(enricher.submit("counted", numbered(a), committed=True) for a in accounts)
            )
    expected = sorted(f"{account}:{number}" for account in range(3) for number in range(1, 21))
    assert stored(mongo_database_url, "tallies") == expected


# -- handing in ------------------------------------------------------------------------------------


async def test_submit_returns_once_accepted_or_once_committed_as_asked(
    redis_url: str, own_mongo: MongoProcess
) -> None:
    settings = settings_for(redis_url, own_mongo.url("shop"))
    async with Enricher(settings, routes=[GREETINGS]) as enricher:
        await enricher.wait_ready()
        own_mongo.pause()
        first = await asyncio.wait_for(enricher.submit("greetings", numbered(1)), PATIENCE)
        waiting = asyncio.create_task(enricher.submit("greetings", numbered(2), committed=True))
        await until(lambda: "documents" in enricher.health()["outages"], "the outage")
        assert not waiting.done()
        own_mongo.resume()
        second = await asyncio.wait_for(waiting, PATIENCE)
        assert stored(own_mongo.url("shop")) == [1, 2]
        assert first != second


async def test_submit_raises_what_happened_to_a_message(settings: Settings, redis_url: str) -> None:
    class Odd(BadMessage):
        pass

    def handler(event: Any, context: Context) -> list[Effect]:
        if event["id"] == 2:
            raise Odd("$.id", "another id", "2")
        return greet(event, context)

    async with Enricher(settings, routes=[Route(topic="greetings", handler=handler)]) as enricher:
        with pytest.raises(BadMessage) as bad:
            await enricher.submit("greetings", b"no JSON", committed=True)
        assert (bad.value.path, bad.value.expected.split()[0]) == ("$", "JSON")
        with pytest.raises(Odd) as odd:
            await enricher.submit("greetings", b'{"id": 2}', committed=True)
        assert (odd.value.path, odd.value.found) == ("$.id", "2")
        with pytest.raises(BadMessage, match="one of the known topics greetings"):
            await enricher.submit("unheard of", b"{}", committed=True)
        with pytest.raises(EnricherError, match="ended as dead: enrich: 'name'") as failed:
            await enricher.submit("greetings", b'{"id": 1}', committed=True)
        assert isinstance(failed.value.__cause__, KeyError)
        with pytest.raises(EnricherError, match="ended as dead: commit: "):
            await enricher.submit("greetings", b'{"id": {"$a": 1}, "name": ""}', committed=True)
    client = Redis.from_url(redis_url)
    assert await client.llen("dlq:enrichment") == 5
    await client.aclose()


async def test_submit_takes_text_and_bytes_alone(settings: Settings) -> None:
    handed_in: list[tuple[Any, Any]] = [("greetings", {"id": 1}), ("greetings", None), (b"greetings", b"{}")]
    async with Enricher(settings, routes=[GREETINGS]) as enricher:
        for topic, body in handed_in:
            with pytest.raises(TypeError, match=r"expected text, and bytes or text \(`json.dumps`"):
                await enricher.submit(topic, body, committed=True)
        assert not enricher.engine.pool.count


async def test_emitted_effects_land_in_their_order(settings: Settings, urls: Urls) -> None:
    client = Redis.from_url(urls.redis)
    async with Enricher(settings, routes=[GREETINGS]) as enricher:
        for number in range(100):
            enricher.emit(SetKey("progress", str(number).encode(), 0), Insert("steps", {"_id": number}))
    assert await client.get("progress") == b"99"
    await client.aclose()
    assert stored(urls.mongo, "steps") == list(range(100))
