"""What a start finds stored: all of it works again, at a cost that is in proportion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from enricher.clock import wall_clock
from enricher.engine.effects import SetKey
from enricher.engine.ports import Delivery
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.market.state.recent import MOST, aged
from enricher.market.state.restore import Restore
from tests.integration.test_market_contract import MINUTE, SECOND, chain, leg, quote, tick
from tests.integration.test_market_restarts import hand_in, rig_over
from tests.integration.worker import CHAINS, QUOTES, TICKS, WorkerProcess, database, encoded, iso
from tests.rig import Rig, until
from tests.servers import RedisProcess

HOUR = 60 * MINUTE
SETTINGS = MarketSettings(lateness=0.0, buildup_min_age=0.0)
SETTINGS_CUMULATIVE = MarketSettings(lateness=0.0, buildup_min_age=0.0, volume="cumulative")


async def test_all_that_has_a_checkpoint_is_restored_however_long_ago_it_was_heard() -> None:
    before = rig_over()
    async with before.engine:
        hand_in(before, TICKS, tick(100.0, before.clock.now_us))
        await before.drained()
    assert not before.stored.collections.get("ohlc_bars")
    after = rig_over(before)
    after.clock.advance(3 * 24 * 3600)
    async with after.engine as engine:
        await engine.wait_ready()
        assert engine.pool.lanes == 1
        after.clock.advance(60)
        # Bars that were open on Friday are final without another tick.
        await until(lambda: len(after.stored.collections.get("ohlc_bars", {})) == 3)
    assert all(bar["final"] for bar in after.stored.collections["ohlc_bars"].values())


async def test_a_member_from_before_what_is_read_back_leaves_the_sorted_set_as_any_other() -> None:
    before = rig_over()
    at = before.clock.now_us - HOUR
    async with before.engine:
        for moment, strike in ((at, 21000), (at + HOUR - MINUTE, 21500)):
            hand_in(before, QUOTES, quote(strike, "CALL", moment, iv=0.2, expiry="2099-06-26"))
            await before.drained()
    after = rig_over(before)
    async with after.engine:
        hand_in(after, QUOTES, quote(21000, "CALL", at + HOUR, iv=None, expiry="2099-06-26"))
        await after.drained()
        assert [score for _, score in after.shown.sorted_set("iv_surface:NIFTY")] == [21500.0]


class Counted:
    """Reads from the stored documents of a rig, and counts what a server without limits goes through."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.gone_through = 0

    async def find(self, collection: str, query: Mapping[str, Any], **how: Any) -> list[dict[str, Any]]:
        self.gone_through += len(await self._rig.stored.find(collection, query))
        return await self._rig.stored.find(collection, query, **how)


async def test_reading_back_is_linear_also_for_what_came_after_the_checkpoint() -> None:
    rig = rig_over()
    at, documents = rig.clock.now_us, 4000
    async with rig.engine:
        for n in range(documents):
            # The only checkpoint is that of the first message, as in a run of less than a minute.
            hand_in(rig, QUOTES, quote(20000 + n % 50, "CALL", at - 40 * SECOND + n * 10_000, iv=0.2))
        await rig.drained()
    reader = Counted(rig)
    states = await Restore(partial(ProductState, settings=SETTINGS), "timestamp").load(
        reader, {"NIFTY": Delivery("", b"", at)}
    )
    assert len(states["NIFTY"].quotes.surface) == 50
    assert reader.gone_through < 4 * documents


async def test_what_a_day_had_traded_is_not_looked_for_in_all_of_its_ticks() -> None:
    settings = {"market__volume": "cumulative"}
    rig, hours = rig_over(None, **settings), 5
    at = rig.clock.now_us - hours * HOUR
    async with rig.engine:
        for n in range(hours * 60):
            hand_in(rig, TICKS, tick(100.0, at + n * MINUTE, n, volume=1000 + n if n != 7 else 9000))
            if n % 10 == 0:
                await rig.drained()
        await rig.drained()
    wanted = {"NIFTY": Delivery("", b"", rig.clock.now_us)}
    restoring = Restore(partial(ProductState, settings=SETTINGS_CUMULATIVE), "timestamp")
    reader = Counted(rig)
    known = (await restoring.load(reader, wanted))["NIFTY"]
    assert reader.gone_through < 300
    (checkpoint,) = rig.stored.collections["enricher_state"].values()
    del checkpoint["volume_us"]
    looked_up = (await restoring.load(reader, wanted))["NIFTY"]
    for state in (known, looked_up):
        # Nothing was traded since the peak.
        assert {bar.content.volume for bar in state.bars.bars.idle_close(rig.clock.now_us + HOUR)} == {0}


def one_of_each(at: int, number: int) -> list[tuple[str, dict[str, Any]]]:
    """A tick, a quote and a chain of a moment."""
    legs = [leg(strike, "CALL", 100, 5, 10.0 + number) for strike in (21000, 21500)]
    return [
        (TICKS, tick(100.0 + number, at, number)),
        (QUOTES, quote(21000, "CALL", at, iv=0.2 + number / 100, expiry="2099-06-26")),
        (CHAINS, chain(at, expiry="2099-06-26", calls=legs)),
    ]


async def test_a_crash_between_storing_and_showing_is_made_good_by_the_next_start(
    own_redis: RedisProcess, mongo_database_url: str
) -> None:
    own_redis.call("ACL", "SETUSER", "app", "on", ">p", "~*", "&*", "+@all")
    url = own_redis.url.replace("redis://", "redis://app:p@")
    heard: list[tuple[str, dict[str, Any]]] = []
    at = wall_clock() - 10 * SECOND
    async with (
        Redis.from_url(own_redis.url) as client,
        client.pubsub() as listener,
        WorkerProcess(url, mongo_database_url) as process,
    ):

        async def listen() -> None:
            async for message in listener.listen():
                if message["type"] == "message":
                    heard.append((message["channel"].decode(), json.loads(message["data"])))

        await listener.subscribe("enriched:underlying", "enriched:option_chain")
        listening = asyncio.create_task(listen())
        documents = database(mongo_database_url)
        with documents.client:
            await process.send([(to, encoded(m)) for to, m in one_of_each(at, 0)])
            await until(lambda: len(heard) == 2)
            # From now on Redis takes no commit; what comes is stored and waits for it.
            own_redis.call("ACL", "SETUSER", "app", "-eval", "-evalsha", "-script")
            for number in range(1, 4):
                later = one_of_each(at + number * SECOND, number)
                await process.send([(to, encoded(message)) for to, message in later])
            await until(lambda: documents["option_chains"].count_documents({}) >= 2)
            await process.kill()
            own_redis.call("ACL", "SETUSER", "app", "+@all")
            for _ in range(2):
                # The second time there is nothing to make good.
                await process.start()
                await process.kill()
            stored = {name: list(documents[name].find()) for name in ("underlying_ticks", "option_chains")}
            every = [document for found in stored.values() for document in found]
            told = sorted(str(document["processed_at"].replace(tzinfo=None)) for document in every)
        await until(lambda: len(heard) >= len(told))
        listening.cancel()
        ticks, chains = stored["underlying_ticks"], stored["option_chains"]
        assert len(ticks) + len(chains) > 3
        times = [datetime.fromisoformat(message["processed_at"]).replace(tzinfo=None) for _, message in heard]
        assert sorted(map(str, times)) == told
        prices = [message["price"] for channel, message in heard if channel == "enriched:underlying"]
        assert prices == sorted(document["price"] for document in ticks)
        newest = prices[-1]
        shown = {name: json.loads(await client.get(f"ohlc:NIFTY:{name}")) for name in ("1m", "15m")}
        assert {window["close"] for window in shown.values()} == {newest}
        assert shown["1m"]["num_ticks"] == len(ticks)
        assert json.loads(await client.get("latest:underlying:NIFTY"))["price"] == newest
        last = max(chains, key=lambda document: document["event_us"])
        cached = json.loads(await client.get("latest:chain:NIFTY:2099-06-26"))
        assert [cached["calls"], cached["atm_straddle_price"]] == [last["calls"], last["atm_straddle_price"]]


@pytest.mark.parametrize("shown", [True, False])
async def test_a_start_shows_only_what_was_not_and_only_the_last_of_it(shown: bool) -> None:
    before = rig_over()
    at = before.clock.now_us
    before.live.down = not shown
    await before.engine.__aenter__()
    for number in range(3):
        for channel, message in one_of_each(at - (3 - number) * SECOND, number):
            hand_in(before, channel, message)
    await until(lambda: len(before.stored.collections.get("option_chains", {})) == 3)
    if shown:
        await before.drained()
    await before.engine.stop(0.05)
    keys, published = dict(before.shown.keys), list(before.shown.published)
    after = rig_over(before)
    after.clock.advance(60)
    async with after.engine as engine:
        await engine.wait_ready()
        await until(lambda: not engine.writer.unfinished)
    if shown:
        assert (after.shown.published, after.shown.keys) == ([], keys)
        return
    assert published == []
    assert len(after.shown.published) == 6
    assert json.loads(after.shown.keys["ohlc:NIFTY:5m"])["num_ticks"] == 3
    assert json.loads(after.shown.keys["latest:option:NIFTYCALL21000"])["iv"] == 0.22
    assert "volatility_surface:NIFTY" in after.shown.keys
    # A window of a minute is over by now; nobody takes it for one of this minute.
    assert "ohlc:NIFTY:1m" not in after.shown.keys


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("apart_us", [0, 1000])
async def test_a_surface_that_waits_is_shown_at_a_stop_and_after_a_kill(killed: bool, apart_us: int) -> None:
    before = rig_over()
    at = before.clock.now_us - SECOND
    async with before.engine:
        for number, expiry in enumerate(("2099-06-26", "2099-07-31")):
            calls = [leg(strike, "CALL", 100, 5, 10.0, iv=0.2) for strike in (21000, 21500)]
            hand_in(before, CHAINS, chain(at + number * apart_us, expiry=expiry, calls=calls))
            await before.drained()
        keys = dict(before.shown.keys)
        assert expiries_of(keys) == ["2099-06-26"]
    assert expiries_of(before.shown.keys) == ["2099-06-26", "2099-07-31"]
    if killed:
        before.shown.keys = keys
        before.shown.versions["volatility_surface:NIFTY"] = at
        after = rig_over(before)
        async with after.engine as engine:
            await engine.wait_ready()
            await until(lambda: not engine.writer.unfinished)
        assert expiries_of(after.shown.keys) == ["2099-06-26", "2099-07-31"]


def expiries_of(keys: Mapping[str, bytes]) -> list[str]:
    """The expiries on the surface that is shown."""
    return [row["expiry"] for row in json.loads(keys["volatility_surface:NIFTY"])["expiries"]]


@pytest.mark.parametrize(("hours", "shown"), [(0.5, MOST), (48, 0)])
async def test_a_weekend_is_not_published(hours: float, shown: int) -> None:
    before = rig_over()
    async with before.engine:
        for number in range(2 * MOST):
            hand_in(before, TICKS, tick(100.0, before.clock.now_us, number))
        await before.drained()
    before.shown.value_claims.clear()
    after = rig_over(before)
    after.clock.advance(hours * 3600)
    async with after.engine as engine:
        await engine.wait_ready()
        await until(lambda: not engine.writer.unfinished)
    assert len(after.shown.published) == shown


def as_read(text: bytes) -> Any:
    """A message or cache without its time of processing; times as moments, with or without an offset."""
    held = json.loads(text)
    held.pop("processed_at", None)
    for name in ("timestamp", "start_time", "end_time"):
        if name in held:
            held[name] = datetime.fromisoformat(held[name])
    return held


ZONE = {"feed__timezone": "Asia/Kolkata"}


@pytest.mark.parametrize("set_s", [2, -7200], ids=["soon after", "by a clock that was set back"])
@pytest.mark.parametrize("first", [0, 3], ids=["at once", "after a while"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"market__unknown": "zero"}, ZONE, {**ZONE, "feed__naive_dates": "as_sent"}],
    ids=["plain", "zero", "naive", "as sent"],
)
async def test_a_crash_ends_with_all_that_an_uninterrupted_run_shows(
    settings: dict[str, str], first: int, set_s: int
) -> None:
    async def shown(crash: bool) -> tuple[dict[str, Any], list[str]]:
        rig = rig_over(None, **settings)
        at, pieces = rig.clock.now_us, []
        for number in range(6):
            for channel, message in one_of_each(at - (6 - number) * SECOND, number):
                if channel == QUOTES:
                    alone = {"product": "QUOTED", "symbol": "QUOTED CALL"}
                    message |= {"iv": None, "bid": None} if number % 2 else alone
                if settings.keys() & ZONE:
                    moment = at - (6 - number) * SECOND + 19800 * SECOND
                    message["timestamp"] = iso(moment, naive=True)
                pieces.append((channel, message))
        await rig.engine.__aenter__()
        for channel, message in pieces[: 3 * first]:
            hand_in(rig, channel, message)
            await rig.drained()
        # What two commits hold is stored, and a third would wait.
        rig.documents.open_gate.clear()
        rig.live.down = crash
        for channel, message in pieces[3 * first :]:
            hand_in(rig, channel, message)
        writer, left = rig.engine.writer, len(pieces) - 3 * first
        await until(lambda: sum(write.delivery is not None for write in writer.left()) == left)
        rig.documents.open_gate.set()
        kinds = ("underlying_ticks", "option_quotes", "option_chains")
        await until(lambda: sum(len(rig.stored.collections.get(kind, ())) for kind in kinds) == len(pieces))
        if not crash:
            await rig.drained()
        published = list(rig.shown.published)
        await rig.engine.stop(0.05)
        if crash:
            rig, before = rig_over(rig, **settings), rig
            rig.clock.now_us = before.clock.now_us + set_s * SECOND
            async with rig.engine as engine:
                await engine.wait_ready()
                await until(lambda: not engine.writer.unfinished)
            published += rig.shown.published
        keys = {k: as_read(v) for k, v in rig.shown.keys.items() if not k.startswith("feed:")}
        told = [(to, as_read(text)) for to, text in published if to != "enriched:product"]
        return {**keys, "members": rig.shown.sorted_set("iv_surface:NIFTY")}, sorted(map(str, told))

    assert await shown(crash=True) == await shown(crash=False)


def test_a_cache_lives_no_longer_because_the_clock_was_set_back() -> None:
    key = SetKey("ohlc:NIFTY:1m", b"", 60_000, 7)
    assert list(aged([key], -3600 * SECOND)) == [SetKey("ohlc:NIFTY:1m", b"", 60_000, 6)]
