"""Killing, stopping and starting in the middle of a window changes no number."""

from __future__ import annotations

import asyncio
import json
import random
import time
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from enricher import load
from enricher.assembly import planned
from enricher.clock import to_date, wall_clock
from enricher.engine.ports import Delivery
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.market.state.restore import Restore
from tests.integration.test_market_contract import MINUTE, SECOND, chain, leg, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, WorkerProcess, database, encoded, iso, running
from tests.rig import Rig, until
from tests.servers import Urls

LENGTH = 40 * MINUTE
STORED = 5000
SETTINGS = {
    "market.lateness": 2.0,
    "feed.max_future": 600.0,
    "market.buildup_min_age": 120.0,
    "market.folds": ["session"],
}
ENVIRONMENT = {
    "ENRICHER_MARKET__LATENESS": "2",
    "ENRICHER_FEED__MAX_FUTURE": "600",
    "ENRICHER_MARKET__BUILDUP_MIN_AGE": "120",
    "ENRICHER_MARKET__FOLDS": "session",
}
Message = tuple[str, bytes]


def session(end_us: int) -> list[Message]:
    """Forty minutes of one product, out of order by up to three minutes, some ticks far too late or early."""
    rng = random.Random(11)
    timed: list[tuple[int, Message]] = []
    price = 21500.0
    for n in range(800):
        at = end_us - LENGTH + n * 3 * SECOND
        price = round(price + rng.uniform(-5, 5), 2)
        held_back = rng.choice([0, 0, 0, 0, 1, 10, 180]) * SECOND
        message = tick(price, at, n if n % 7 else None, volume=rng.randrange(100))
        timed.append((at + held_back, (TICKS, encoded(message))))
        if n % 4 == 0:
            strike = 21000 + 100 * rng.randrange(10)
            kind = rng.choice(["CALL", "PUT"])
            iv = rng.choice([None, round(rng.uniform(0.1, 0.3), 4)])
            expiry = rng.choice(["2099-06-26", "2099-07-31"])
            sent = quote(strike, kind, at, iv=iv, expiry=expiry)
            timed.append((at + held_back, (QUOTES, encoded(sent))))
        if n % 7 == 0:
            legs = [
                leg(21000 + 500 * k, "CALL", rng.randrange(9999), 5, rng.uniform(1, 500)) for k in range(3)
            ]
            sent = chain(at, expiry=rng.choice(["2099-06-26", "2099-07-31"]), calls=legs)
            timed.append((at + held_back // 2, (CHAINS, encoded(sent))))
    for n in range(5):
        # Beyond what any window holds, and beyond what the clock allows to move anything.
        late = tick(1.0, end_us - LENGTH - n * SECOND, f"late {n}")
        ahead = tick(99999.0, end_us + (400 + n) * SECOND, f"ahead {n}")
        timed.append((end_us - (19 - 3 * n) * MINUTE, (TICKS, encoded(late))))
        timed.append((end_us - (20 - 3 * n) * MINUTE, (TICKS, encoded(ahead))))
    timed.sort(key=lambda pair: pair[0])
    return [message for _, message in timed]


async def numbers(redis_url: str, mongo_url: str) -> dict[str, Any]:
    """Everything that was computed, but for times of processing, counts of revisions, and marks of a gap."""
    found: dict[str, Any] = {}
    client = Redis.from_url(redis_url)
    try:
        keys = sorted([key.decode() async for key in client.scan_iter("*")])
        shown = ("ohlc:", "latest:", "volatility_surface:")
        for key in (k for k in keys if k.startswith(shown)):
            value = json.loads(await client.get(key))
            value.pop("processed_at", None)
            without_gap(value)
            for row in value.get("smiles", ()):
                row.pop("svi")  # fitted when there is time: perhaps not yet
                row.pop("svi_reason", None)
            found[key] = value
        found["iv_surface"] = await client.zrange("iv_surface:NIFTY", 0, -1, withscores=True)
        found["letters"] = await client.lrange("dlq:enrichment", 0, -1)
    finally:
        await client.aclose()
    documents = database(mongo_url)
    with documents.client:
        for collection in ("underlying_ticks", "option_quotes", "option_chains", "ohlc_bars"):
            rows = list(documents[collection].find().sort("_id", 1))
            for row in rows:
                row.pop("processed_at", None)
                row.pop("revision", None)
                without_gap(row)
            found[collection] = rows
    return found


def without_gap(row: dict[str, Any]) -> None:
    """Take out the mark of a start: an interrupted run has more of them."""
    flags = row.get("flags", {})
    if flags.pop("gap", None) and not flags:
        del row["flags"]


def assert_the_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, list) and found[name] != value:
            assert len(found[name]) == len(value), name
            wrong = [pair for pair in zip(found[name], value, strict=True) if pair[0] != pair[1]]
            assert not wrong, (name, len(wrong), wrong[0])
        assert found[name] == value, name


@pytest.mark.parametrize("how", ["killed when idle", "killed at work", "stopped"])
async def test_an_interrupted_run_ends_with_the_numbers_of_one_that_was_not(urls: Urls, how: str) -> None:
    messages = session(wall_clock() - 20 * SECOND)
    straight_redis, straight_mongo = urls.redis[:-1] + "1", urls.mongo.replace("/test_", "/test_s")
    try:
        async with running(straight_redis, straight_mongo, SETTINGS) as worker:
            for at in range(0, len(messages), 50):
                await worker.send_all(messages[at : at + 50])
                await worker.settled()
        expected = await numbers(straight_redis, straight_mongo)
    finally:
        documents = database(straight_mongo)
        with documents.client:
            documents.client.drop_database(documents.name)
    assert len(expected["underlying_ticks"]) == 810
    assert sum(d.get("folded") is False for d in expected["underlying_ticks"]) == 10
    cuts = [0, 500, len(messages)]
    async with WorkerProcess(*urls, ENVIRONMENT) as process:
        for begin, end in pairwise(cuts):
            await process.send(messages[begin:end])
            if how == "killed at work":
                await process.kill()
                await process.start()
                # The publisher says again what it does not know to have arrived.
                await process.send(messages[begin:end])
            if how != "stopped":
                await process.settled()
            if end != len(messages):
                if how == "stopped":
                    await process.taken_in()
                    assert await process.stop() == 0
                else:
                    await process.kill()
                await process.start()
        await process.settled()
        found = await numbers(*urls)
    assert_the_same(found, expected)


async def test_what_was_taken_in_is_committed_before_a_stop_ends(urls: Urls) -> None:
    async with WorkerProcess(*urls) as process:
        ticks = [(TICKS, encoded(tick(1.0 + n, tick_id=n))) for n in range(1500)]
        await process.send(ticks)
        await process.taken_in()
        assert await process.stop() == 0
    documents = database(urls.mongo)
    with documents.client:
        assert documents["underlying_ticks"].count_documents({}) == 1500


async def test_the_first_tick_after_a_restart_finds_every_stored_tick_of_its_window(
    redis_url: str, mongo_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """How long loading them took is printed, not judged."""
    now = wall_clock()
    documents = database(mongo_database_url)
    with documents.client:
        async with running(redis_url, mongo_database_url) as worker:
            await worker.take(TICKS, tick(1.0, now - 60 * MINUTE, "first"))
            (model,) = worker.stored("underlying_ticks")
        rows = []
        for n in range(STORED):
            at = now - (STORED - n) * 200_000
            row = {**model, "_id": f"{at}:5:NIFTY:{n}", "tick_id": n, "event_us": at, "price": float(n)}
            rows.append({**row, "timestamp": to_date(at)})
        for at in range(0, STORED, 2500):
            documents["underlying_ticks"].insert_many(rows[at : at + 2500])
        documents["enricher_state"].update_one({"_id": "NIFTY"}, {"$set": {"ticks_us": now - 200_000}})
    async with running(redis_url, mongo_database_url) as worker:
        began = time.perf_counter()
        await worker.take(TICKS, tick(0.5, now, "last"))
        lasted = time.perf_counter() - began
        window = await worker.cached("ohlc:NIFTY:15m")
        assert window["num_ticks"] == 4500
        assert window["end_time"] == iso(now)
        assert (window["high"], window["low"]) == (STORED - 1, 0.5)
    with capsys.disabled():
        print(f"\nfirst tick after a restart on {STORED} stored ticks: {lasted * 1000:.0f} ms")


def rig_over(before: Rig | None = None, **settings: Any) -> Rig:
    """The market routes on memory sinks; one after ``before`` finds what that stored and showed."""
    # Curves are fitted when there is time for it, which is no part of what is compared.
    overrides = {"market.svi_interval": 0, **{k.replace("__", "."): v for k, v in settings.items()}}
    rig = Rig(*planned(load(overrides=overrides))[0].routes)
    if before is not None:
        rig.stored.collections = before.stored.collections
        rig.shown.keys, rig.shown.versions = before.shown.keys, before.shown.versions
        rig.shown.value_claims = before.shown.value_claims
        rig.shown.members, rig.shown.member_claims = before.shown.members, before.shown.member_claims
    return rig


def hand_in(rig: Rig, channel: str, message: dict[str, Any]) -> None:
    rig.engine.pool.offer(Delivery(channel, encoded(message), rig.clock()))


async def test_a_member_that_a_crash_kept_from_the_sorted_set_is_in_it_after_the_next_message() -> None:
    before = rig_over()
    at = before.clock.now_us
    await before.engine.__aenter__()
    before.live.down = True
    hand_in(before, QUOTES, quote(21000, "CALL", at - SECOND, iv=0.2, expiry="2099-06-26"))
    await until(lambda: bool(before.stored.collections.get("option_quotes")))
    await before.engine.stop(0.05)
    after = rig_over(before)
    async with after.engine:
        hand_in(after, QUOTES, quote(21000, "PUT", at, iv=None, expiry="2099-06-26"))
        await after.drained()
        ((member, score),) = after.shown.sorted_set("iv_surface:NIFTY")
    assert (json.loads(member)["iv"], score) == (0.2, 21000.0)


@pytest.mark.parametrize("pace", [4 * MINUTE, 47 * SECOND], ids=["rare", "frequent"])
@pytest.mark.parametrize("cut", range(1, 12))
async def test_a_restart_between_any_two_chains_changes_nothing_that_is_said_of_them(
    cut: int, pace: int
) -> None:
    rng = random.Random(5)
    start = rig_over().clock.now_us - 60 * MINUTE
    sent = []
    for n in range(12):
        at = start + n * pace - rng.choice([0, 0, pace + MINUTE])
        expiry = rng.choice(["2025-06-26", "2025-07-31"])
        legs = [
            leg(k, "CALL", rng.randrange(9999), 5, last, bid=last - 2, ask=last + 2, iv=rng.uniform(0.1, 0.3))
            for k, last in ((21000, 640.0), (21500, rng.uniform(200, 300)), (22000, 70.0))
        ]
        puts = [
            leg(k, "PUT", rng.randrange(9999), 5, last, bid=last - 2, ask=last + 2)
            for k, last in ((21000, 60.0), (21500, rng.uniform(200, 300)), (22000, 520.0))
        ]
        # Some quotes are older than their chain: stale at once, or soon after.
        for side, old in ((legs, 200), (puts, 310)):
            side[rng.randrange(3)]["timestamp"] = iso(at - old * SECOND)
        sent.append(chain(at, expiry=expiry, calls=legs, puts=puts))

    async def said(*pieces: list[dict[str, Any]]) -> tuple[list[bytes], dict[str, bytes]]:
        messages: list[bytes] = []
        rig: Rig | None = None
        for piece in pieces:
            rig = rig_over(rig)
            async with rig.engine:
                for message in piece:
                    hand_in(rig, CHAINS, message)
                    await rig.drained()
            messages += [text for _, text in rig.shown.published]
        assert rig is not None
        return messages, rig.shown.keys

    assert await said(sent[:cut], sent[cut:]) == await said(sent)


async def test_loading_gives_way_to_the_loop_every_few_documents() -> None:
    rig = rig_over()
    at, documents, turns = rig.clock.now_us, 3000, 0
    async with rig.engine:
        for n in range(documents):
            hand_in(rig, TICKS, tick(100.0 + n, at - n * 100_000, n))
            await asyncio.sleep(0)
        await rig.drained()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    restoring = Restore(partial(ProductState, settings=MarketSettings(lateness=0.0)), "timestamp")
    states = await restoring.load(rig.stored, {"NIFTY": Delivery("", b"", at)})
    beside.cancel()
    assert len(states["NIFTY"].windows.ticks) == documents
    assert turns >= 2 * documents // 200
