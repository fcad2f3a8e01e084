"""Closed bars are the fold of the stored ticks, whatever order they came in and whenever it stopped."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd
import pytest

from enricher.clock import event_us, to_date
from enricher.engine.effects import Upsert
from enricher.market.folds.gaps import GAP
from tests.integration.test_market_contract import MINUTE, SECOND, quote, tick
from tests.integration.worker import QUOTES, TICKS, Worker, running
from tests.rig import Clock, until
from tests.servers import Urls

START = 1_750_000_500_000_000  # on the minute, and on the quarter of an hour
QUICK = {"market.idle_close": 0.2}
NEVER_IDLE = {"market.idle_close": 3600}
RETENTION = 15 * MINUTE


def disordered(seed: int) -> list[dict[str, Any]]:
    """Fifty minutes of ticks in the order they come: many tied, some late, some too late for anything."""
    rng = random.Random(seed)
    timed = []
    for n in range(1500):
        at = START + rng.randrange(3000) * SECOND
        held_back = rng.choice([0, 0, 0, 1, 5, 170, 1200]) * SECOND
        volume = rng.choice([None, rng.randrange(500)])
        timed.append((at + held_back, tick(round(rng.uniform(90, 110), 2), at, n, volume=volume)))
    timed.sort(key=lambda pair: pair[0])
    return [message for _, message in timed]


def expected_bars(ticks: list[dict[str, Any]], minutes: int) -> dict[Any, dict[str, Any]]:
    """Bars by start, worked out by pandas from the ticks that came in time to be folded."""
    rows, newest = [], 0
    for message in ticks:
        at = int(pd.Timestamp(message["timestamp"]).value // 1000)
        if at >= newest - RETENTION:
            rows.append({**message, "at": at, "start": pd.Timestamp(at, unit="us", tz="UTC")})
        newest = max(newest, at)
    frame = pd.DataFrame(rows).sort_values(["at", "tick_id"])
    frame["start"] = frame["start"].dt.floor(f"{minutes}min")
    frame["volume"] = frame["volume"].astype("float64")
    frame["turnover"] = frame["price"] * frame["volume"]
    found = {}
    for start, group in frame.groupby("start"):
        known = group["volume"].notna().any()
        volume = group["volume"].sum()
        found[start.to_pydatetime()] = {
            "open": group["price"].iloc[0],
            "high": group["price"].max(),
            "low": group["price"].min(),
            "close": group["price"].iloc[-1],
            "num_ticks": len(group),
            "volume": volume if known else None,
            "vwap": round(group["turnover"].sum() / volume, 6) if known and volume else None,
        }
    return found


def stored_bars(worker: Worker, minutes: int) -> dict[Any, dict[str, Any]]:
    """The stored bars of a window by start."""
    names = ("open", "high", "low", "close", "num_ticks", "volume", "vwap")
    found = {}
    for document in worker.stored("ohlc_bars", window_minutes=minutes):
        assert document["end"] - document["start"] == pd.Timedelta(minutes=minutes)
        assert document["final"] is True
        bar = {name: document[name] for name in names}
        found[document["start"]] = {**bar, "vwap": None if bar["vwap"] is None else round(bar["vwap"], 6)}
    return found


async def test_bars_equal_what_pandas_makes_of_the_same_ticks(urls: Urls) -> None:
    ticks = disordered(5)
    async with running(*urls, QUICK) as worker:
        for at in range(0, len(ticks), 100):
            await worker.take(TICKS, *ticks[at : at + 100])
        assert worker.count(TICKS, "late") > 10
        for minutes in (1, 5, 15):
            expected = expected_bars(ticks, minutes)
            await until(
                lambda m=minutes, e=expected: stored_bars(worker, m) == e,  # type: ignore[misc]
                f"{len(expected)} bars of {minutes} min",
            )
        assert any(bar["revision"] > 0 for bar in worker.stored("ohlc_bars"))


async def test_bars_of_a_run_in_pieces_equal_those_of_one_piece(urls: Urls) -> None:
    ticks = disordered(6)
    for begin, end in ((0, 410), (410, 411), (411, 1020)):
        async with running(*urls) as worker:
            await worker.take(TICKS, *ticks[begin:end])
    async with running(*urls, QUICK) as worker:
        await worker.take(TICKS, *ticks[1020:])
        for minutes in (1, 5, 15):
            expected = expected_bars(ticks, minutes)
            await until(
                lambda m=minutes, e=expected: stored_bars(worker, m) == e,  # type: ignore[misc]
                f"{len(expected)} bars of {minutes} min",
            )


async def test_a_late_tick_makes_a_new_revision_of_the_bars_it_falls_into(urls: Urls) -> None:
    def of(worker: Worker) -> list[tuple[int, int, float]]:
        rows = worker.stored("ohlc_bars", start=to_date(START))
        return sorted((row["window_minutes"], row["revision"], row["high"]) for row in rows)

    # Lateness is two seconds: the minute is over once a tick of two seconds after it is there.
    async with running(*urls, NEVER_IDLE) as worker:
        await worker.take(TICKS, tick(100.0, START, 1), tick(101.0, START + 62 * SECOND - 1, 2))
        assert of(worker) == []
        await worker.take(TICKS, tick(102.0, START + 62 * SECOND, 3))
        assert of(worker) == [(1, 0, 100.0)]
        await worker.take(TICKS, tick(105.0, START + SECOND, 4))
        assert of(worker) == [(1, 1, 105.0)]
    async with running(*urls, NEVER_IDLE) as worker:
        await worker.take(TICKS, tick(104.0, START + 2 * SECOND, 5), tick(99.0, START + 63 * SECOND, 6))
        assert of(worker) == [(1, 2, 105.0)]
        (stored,) = worker.stored("ohlc_bars")
        assert stored["num_ticks"] == 3
        for revision in (0, 1, 2):
            worker.enricher.emit(
                Upsert("ohlc_bars", {**stored, "revision": revision, "high": 0.0}, "revision")
            )
        await until(lambda: not worker.enricher.engine.writer.unfinished, "the older revisions")
        assert of(worker) == [(1, 2, 105.0)]


async def test_a_product_that_falls_idle_gets_its_bars_and_later_ticks_revise_them(urls: Urls) -> None:
    clock = Clock(START + 70 * SECOND)
    async with running(*urls, QUICK, clock=clock) as worker:
        await worker.take(TICKS, tick(100.0, START, 1), tick(101.0, START + 61 * SECOND, 2))
        clock.advance(0.3)
        await until(lambda: len(worker.stored("ohlc_bars")) == 1, "the minute that is over")
        clock.advance(15 * 60)
        await until(lambda: len(worker.stored("ohlc_bars")) == 4, "the windows that are over")
        await worker.take(TICKS, tick(90.0, START + 3 * SECOND, 3))
        rows = worker.stored("ohlc_bars", start=to_date(START))
        assert {(r["window_minutes"], r["revision"], r["low"]) for r in rows} == {
            (1, 1, 90.0),
            (5, 1, 90.0),
            (15, 1, 90.0),
        }


async def test_bars_left_open_by_a_stop_are_closed_though_no_tick_comes(urls: Urls) -> None:
    async with running(*urls) as worker:
        await worker.take(TICKS, tick(100.0, START, 1))
        assert worker.stored("ohlc_bars") == []
    async with running(*urls, QUICK) as worker:
        await worker.take(QUOTES, quote(at_us=START + 20 * MINUTE))
        await until(lambda: len(worker.stored("ohlc_bars")) == 3, "the three bars")


async def test_old_ticks_are_folded_also_beside_newer_quotes_and_bad_messages(urls: Urls) -> None:
    """What came first for a product says nothing about how far back its ticks may begin."""
    for first_channel, first in (
        (QUOTES, quote(at_us=START + 1000 * MINUTE)),
        (TICKS, {"product": "NIFTY"}),
    ):
        async with running(*urls) as worker:
            worker.documents.client.drop_database(worker.documents.name)
            await worker.take(first_channel, first)
            await worker.take(TICKS, tick(100.0, START, 1), tick(101.0, START + MINUTE, 2))
        async with running(*urls) as worker:
            await worker.take(TICKS, tick(102.0, START + 2 * MINUTE + 2 * SECOND, 3))
            assert len(worker.stored("ohlc_bars", window_minutes=1)) == 2
            assert (await worker.cached("ohlc:NIFTY:15m"))["num_ticks"] == 3
            await worker.redis.flushdb()


@pytest.mark.parametrize(
    ("settings", "marked"),
    [({}, [0, 2, 5, 7, 8]), ({"streams.intake": {TICKS: "stream"}}, [2, 5])],
    ids=["pubsub", "stream"],
)
async def test_bars_that_touch_a_lost_connection_or_a_start_are_marked(
    redis_url: str, mongo_database_url: str, settings: dict[str, Any], marked: list[int]
) -> None:
    """A stream keeps what comes while a worker is away, but not what nobody appended to it."""

    def at(*seconds: int) -> list[dict[str, Any]]:
        return [tick(100.0, START + second * SECOND, second) for second in seconds]

    clock = Clock(START + 86_400 * SECOND)
    async with running(redis_url, mongo_database_url, {**NEVER_IDLE, **settings}, clock=clock) as worker:
        await worker.take(TICKS, *at(10, 70, 130))
        await worker.redis.client_kill_filter(_type="pubsub")
        await until(lambda: worker.stored("feed_gaps"), "the gap")
        await until(lambda: worker.enricher.ready, "a new subscription")
        await worker.listener.stop()
        await worker.listener.start()
        await worker.take(TICKS, *at(310, 370, 430))
        windows = [await worker.cached(f"ohlc:NIFTY:{minutes}m") for minutes in (1, 5)]
    assert [window.get("flags") for window in windows] == [None, {"gap": GAP}]
    async with running(redis_url, mongo_database_url, {**NEVER_IDLE, **settings}, clock=clock) as worker:
        await worker.take(TICKS, *at(490, 550, 610))
        bars = worker.stored("ohlc_bars", window_minutes=1)
    starts = {(bar["start"] - to_date(START)).seconds // 60: bar.get("flags", {}) for bar in bars}
    assert sorted(starts) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert sorted(start for start, flags in starts.items() if flags.get("gap") == GAP) == marked


OPEN = event_us("2025-06-16T09:15:00+05:30")[0]
SETTINGS = {"market.volume": "cumulative", "market.lateness": 0, "market.windows": (1,)}


async def volumes(
    redis_url: str, mongo_database_url: str, parts: list[list[tuple[int, dict[str, Any]]]]
) -> dict[int, Any]:
    """Volumes of the bars by minute, after ticks that come at a time of the clock, run by run."""
    clock = Clock(OPEN)
    for part in parts:
        async with running(redis_url, mongo_database_url, SETTINGS, clock=clock) as worker:
            for now_us, message in part:
                clock.now_us = now_us
                await worker.take(TICKS, message)
            rows = worker.documents["ohlc_bars"].find()
            found = {int(row["start"].timestamp()) * SECOND: row["volume"] for row in rows}
    return {(start - OPEN) // MINUTE: volume for start, volume in sorted(found.items())}


@pytest.mark.parametrize("restart", [False, True])
async def test_a_restart_counts_from_the_highest_volume_of_the_day(urls: Urls, restart: bool) -> None:
    """Also when it fell since, when many ticks had none, and whatever a tick ahead of the clock says."""
    first = [(OPEN, tick(100.0, OPEN, 0, volume=100)), (OPEN, tick(100.0, OPEN + SECOND, 1, volume=900))]
    at = OPEN + 2 * SECOND
    first += [(at, tick(100.0, at, 2, volume=300)), (at, tick(100.0, at + 30 * SECOND, 3, volume=50_000))]
    first += [(at, tick(100.0, at, 10 + n)) for n in range(60)]
    then = [OPEN + n * MINUTE for n in (4, 5, 6, 7)]
    told = zip(then, (350, 950, 980, 990), strict=True)
    late = [(us, tick(100.0, us, n, volume=volume)) for n, (us, volume) in enumerate(told)]
    parts = [first + late[:1], late[1:]] if restart else [first + late]
    assert await volumes(*urls, parts) == {0: 900, 4: 0, 5: 50, 6: 30}


async def test_ticks_of_one_moment_without_an_id_stand_as_they_came_also_after_a_restart(urls: Urls) -> None:
    settings = {"market.windows": (1,), "market.lateness": 0}
    clock = Clock(OPEN)
    sent = [3.0, 1.0, 4.0, 2.0]
    async with running(*urls, settings, clock=clock) as worker:
        for price in sent:
            clock.advance(0.25)
            await worker.take(TICKS, tick(price, OPEN, None))
    async with running(*urls, settings, clock=clock) as worker:
        clock.advance(60)
        await worker.take(TICKS, tick(9.0, OPEN + MINUTE, 1))
        (bar,) = worker.stored("ohlc_bars")
        assert (bar["open"], bar["close"], bar["num_ticks"], bar["revision"]) == (3.0, 2.0, 4, 0)
