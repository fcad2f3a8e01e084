"""One message is one message: duplicates at once, long after, over restarts and lost replies."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from tests.integration.test_market_contract import AT, MINUTE, NOW, SECOND, chain, leg, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, running
from tests.rig import Clock
from tests.servers import FaultyProxy, Urls


async def claims(worker: Any) -> list[bytes]:
    """The keys that hold claims."""
    return sorted([key async for key in worker.redis.scan_iter("processed:*")])


async def forget_claims(client: Redis) -> None:
    """What a crash before the Redis half leaves: no claim and nothing visible."""
    await client.flushdb()


@pytest.mark.parametrize("tick_id", [7, "seven", None])
async def test_a_tick_sent_twenty_times_at_once_is_one_document_and_one_message(
    redis_url: str, mongo_database_url: str, tick_id: object
) -> None:
    async with running(redis_url, mongo_database_url) as worker:
        await asyncio.gather(*(worker.send(TICKS, tick(5.0, tick_id=tick_id)) for _ in range(20)))
        await worker.settled()
        assert worker.count(TICKS, "received") == 20
        assert len(worker.stored("underlying_ticks")) == 1
        assert len(worker.published("underlying")) == 1
        assert (await worker.cached("ohlc:NIFTY:1m"))["num_ticks"] == 1
        assert worker.count(TICKS, "processed") == 1
        assert worker.count(TICKS, "duplicate") == 19


@pytest.mark.parametrize("long_after", [False, True], ids=["at once", "long after"])
@pytest.mark.parametrize(
    ("channel", "message", "collection", "seconds"),
    [
        (TICKS, tick(5.0), "underlying_ticks", 3600),
        (TICKS, tick(5.0, tick_id=None), "underlying_ticks", 3600),
        (QUOTES, quote(), "option_quotes", 600),
        (CHAINS, chain(), "option_chains", 600),
    ],
    ids=["tick", "tick without id", "quote", "chain"],
)
async def test_the_same_message_again_after_a_restart_is_stored_and_published_once(
    redis_url: str,
    mongo_database_url: str,
    channel: str,
    message: dict[str, Any],
    collection: str,
    seconds: int,
    long_after: bool,
) -> None:
    async with running(redis_url, mongo_database_url, clock=Clock(NOW)) as worker:
        await worker.take(channel, message, message)
        first = worker.stored(collection)
        published = list(worker.heard)
        if long_after:
            await forget_claims(worker.redis)
    later = NOW + (seconds + 1) * SECOND if long_after else NOW + SECOND
    async with running(redis_url, mongo_database_url, clock=Clock(later)) as worker:
        await worker.take(channel, message, message)
        assert worker.stored(collection) == first
        assert len(first) == 1
        assert worker.heard == []
        assert len(published) == {TICKS: 1, QUOTES: 0, CHAINS: 2}[channel]
        assert await worker.letters() == []


async def test_a_tick_id_with_another_time_is_a_new_tick(urls: Urls) -> None:
    async with running(*urls) as worker:
        ticks = [tick(float(n), AT + n, tick_id=7) for n in range(1, 11)]
        await worker.take(TICKS, *ticks, *ticks)
        assert [d["price"] for d in worker.stored("underlying_ticks")] == [float(n) for n in range(1, 11)]
        assert len(worker.published("underlying")) == 10
        # Of one id the last eight times are remembered.
        held = await worker.redis.get("processed:underlying:NIFTY:7")
        assert held == ",".join(str(AT + n) for n in range(10, 2, -1)).encode()


async def test_ticks_without_an_id_are_told_apart_by_their_bytes(urls: Urls) -> None:
    async with running(*urls) as worker:
        without = tick(1.0)
        del without["tick_id"]
        await worker.take(TICKS, without, {**without, "price": 2.0}, without, {**without, "tick_id": ""})
        assert len(worker.stored("underlying_ticks")) == 3
        assert len(worker.published("underlying")) == 3
        assert await claims(worker) == []


async def test_a_claim_of_the_old_worker_is_none(urls: Urls) -> None:
    async with running(*urls) as worker:
        await worker.redis.set("processed:underlying:NIFTY:1", "1", ex=3600)
        await worker.take(TICKS, tick(5.0))
        assert len(worker.stored("underlying_ticks")) == len(worker.published("underlying")) == 1
        assert await worker.redis.get("processed:underlying:NIFTY:1") == str(AT).encode()


async def test_a_message_stored_but_not_yet_shown_is_shown_once_as_it_was_stored(urls: Urls) -> None:
    """The crash came between the MongoDB half of a commit and its Redis half."""
    chains = [(CHAINS, chain(AT - 3 * MINUTE)), (CHAINS, chain())]
    messages = [(TICKS, tick(5.0)), (QUOTES, quote()), *chains]
    keys = ("latest:underlying:NIFTY", "latest:option:NIFTYCALL21500", "latest:chain:NIFTY:2025-06-26")
    collections = ("underlying_ticks", "option_quotes", "option_chains")
    async with running(*urls, clock=Clock(NOW)) as worker:
        for channel, message in messages:
            await worker.take(channel, message)
        stored = [worker.stored(collection) for collection in collections]
        heard = [worker.published(what) for what in ("underlying", "option_chain")]
        before = [await worker.redis.get(key) for key in keys]
        assert stored[2][1]["buildup"] is not None
        await forget_claims(worker.redis)
    async with running(*urls, clock=Clock(NOW + 90 * SECOND)) as worker:
        for channel, message in (*messages, *reversed(messages)):
            await worker.take(channel, message)
        assert [worker.stored(collection) for collection in collections] == stored
        shown = [worker.published(what) for what in ("underlying", "option_chain")]
        assert [sorted(found, key=str) for found in shown] == [sorted(found, key=str) for found in heard]
        assert [await worker.redis.get(key) for key in keys] == before
        assert (await worker.cached("ohlc:NIFTY:1m"))["num_ticks"] == 1


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


EVERYTHING = [
    *((TICKS, tick(100.0 + n, AT + n * SECOND, n)) for n in range(30)),
    *((QUOTES, quote(21000 + 100 * n)) for n in range(10)),
    (CHAINS, chain()),
    (CHAINS, chain(AT + SECOND, calls=[leg(21500, "CALL", 41_000, 5, 130)])),
]


def insert_command(request: bytes) -> bool:
    return b"insert" in request


def commit_script(request: bytes) -> bool:
    return b"EVALSHA" in request and b"underlying" in request


@pytest.mark.parametrize("lost", ["mongo", "redis"])
async def test_a_write_whose_reply_was_lost_doubles_nothing(urls: Urls, lost: str) -> None:
    url = urls.redis if lost == "redis" else urls.mongo
    name = urlsplit(urls.mongo).path.strip("/")
    async with FaultyProxy(port_of(url)) as proxy:
        through = {"redis.url": proxy.redis_url()}
        if lost == "mongo":
            through = {"mongo.url": f"{proxy.mongo_url(name)}&socketTimeoutMS=1500"}
        later = Clock(NOW + MINUTE)
        async with running(*urls, through=through, clock=later) as worker:
            await worker.take(TICKS, tick(99.0, AT - SECOND, 999))
            proxy.lose_next_reply(commit_script if lost == "redis" else insert_command)
            for channel, message in EVERYTHING:
                await worker.send(channel, message)
            await worker.settled()
            assert proxy.lost_replies == 1
            assert len(worker.stored("underlying_ticks")) == 31
            assert len(worker.stored("option_quotes")) == 10
            assert len(worker.stored("option_chains")) == 2
            assert [m["price"] for m in worker.published("underlying")] == [99.0] + [
                100.0 + n for n in range(30)
            ]
            assert len(worker.published("option_chain")) == 2
            assert (await worker.cached("ohlc:NIFTY:1m"))["num_ticks"] == 31
            assert await worker.letters() == []


async def test_documents_of_the_old_worker_are_read_for_what_they_hold(urls: Urls) -> None:
    """They have ids of MongoDB's own, no event_us, and sometimes not even what they should."""

    def date(us: int) -> datetime:
        return datetime.fromtimestamp(us / 1e6, UTC)

    async with running(*urls, ready=False) as worker:
        old = {"product": "NIFTY", "timestamp": date(AT - SECOND)}
        worker.documents["underlying_ticks"].insert_many(
            [
                {**old, "price": 90.0, "tick_id": 0},
                {**old, "price": None, "tick_id": 3},
                {**old, "price": 91.0, "tick_id": 4, "volume": "many"},
                {"product": "NIFTY", "timestamp": "yesterday", "price": 1.0},
            ]
        )
        worker.documents["option_quotes"].insert_many(
            [{**quote(21000, "PUT", iv=0.33), **old}, {**old, "symbol": "broken"}]
        )
        worker.documents["option_chains"].insert_many(
            [{**chain(), **old}, {**old, "expiry": "2025-06-26", "calls": None}]
        )
    settings = {"market.buildup_min_age": 0.0}
    async with running(*urls, settings, clock=Clock(NOW)) as worker:
        await worker.send(TICKS, tick(100.0))
        await worker.take(CHAINS, chain())
        window = await worker.cached("ohlc:NIFTY:1m")
        assert (window["low"], window["num_ticks"]) == (90.0, 3)
        assert worker.published("option_chain")[0]["buildup"]["since_us"] == (AT - SECOND) // 1000 * 1000
        assert await worker.letters() == []


async def test_a_future_tick_that_comes_again_when_its_time_has_come_still_moves_nothing(urls: Urls) -> None:
    clock = Clock(AT)
    ahead = tick(999.0, AT + 30 * SECOND, 2)
    async with running(*urls, clock=clock) as worker:
        await worker.take(TICKS, tick(1.0), ahead)
        clock.advance(60)
        await worker.take(TICKS, ahead, tick(2.0, AT + 40 * SECOND, 3))
        window = await worker.cached("ohlc:NIFTY:1m")
        assert (window["high"], window["num_ticks"]) == (2.0, 2)
        assert len(worker.published("underlying")) == 3
    async with running(*urls, clock=clock) as worker:
        await worker.take(TICKS, ahead, tick(3.0, AT + 41 * SECOND, 4))
        window = await worker.cached("ohlc:NIFTY:1m")
        assert (window["high"], window["num_ticks"]) == (3.0, 3)
        assert json.dumps(worker.heard).count("999.0") == 0
