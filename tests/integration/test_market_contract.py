"""Every row of the market contract: what a tick, a quote and a chain leave behind, field by field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from enricher.market.folds.gaps import GAP
from tests.integration.worker import CHAINS, QUOTES, TICKS, database, iso, running
from tests.rig import Clock
from tests.servers import Urls

SECOND = 1_000_000
MINUTE = 60 * SECOND
AT = 1_750_000_200_123_456  # 2025-06-15T15:10:00.123456Z
NOW = AT + 250_000
NOW_TEXT = "2025-06-15T15:10:00.373000"


def tick(price: float, at_us: int = AT, tick_id: object = 1, **fields: Any) -> dict[str, Any]:
    """An underlying tick of NIFTY."""
    found = {"type": "UNDERLYING", "product": "NIFTY", "price": price, "timestamp": iso(at_us)}
    return {**found, "tick_id": tick_id, **fields}


def quote(strike: float = 21500, kind: str = "CALL", at_us: int = AT, **fields: Any) -> dict[str, Any]:
    """An option quote of NIFTY with every field of the feed and one that nobody knows."""
    return {
        "symbol": f"NIFTY{kind}{strike}",
        "product": "NIFTY",
        "strike": strike,
        "expiry": "2025-06-26",
        "option_type": kind,
        "bid": 125.5,
        "ask": 126.5,
        "last": 126,
        "volume": 15000,
        "open_interest": 50000,
        "delta": 0.55,
        "gamma": 0.0012,
        "vega": 0.18,
        "theta": -0.05,
        "iv": 0.1985,
        "timestamp": iso(at_us),
        "exchange": {"code": "NSE", "lot": 75},
        **fields,
    }


def leg(strike: float, kind: str, oi: float, volume: float, last: float, **fields: Any) -> dict[str, Any]:
    """One leg of a chain."""
    found = {"strike": strike, "option_type": kind, "open_interest": oi, "volume": volume, "last": last}
    return {**found, "seen_by": "nobody", **fields}


def chain(at_us: int = AT, **fields: Any) -> dict[str, Any]:
    """Three strikes whose numbers can be worked out on paper."""
    return {
        "product": "NIFTY",
        "expiry": "2025-06-26",
        "spot_price": 21537,
        "strikes": [21000, 21500, 22000],
        "calls": [
            leg(21000, "CALL", 50000, 10, 560.25, iv=0.2),
            leg(21500, "CALL", 40000, 20, 126.5, iv=0.21),
            leg(22000, "CALL", 30000, 30, 20.05, iv=0.22),
        ],
        "puts": [
            leg(21000, "PUT", 20000, 40, 15, iv=0.25),
            leg(21500, "PUT", 30000, 50, 90.1, iv=0.26),
            leg(22000, "PUT", 40000, 60, 480, iv=0.27),
        ],
        "timestamp": iso(at_us),
        **fields,
    }


def utc(us: int) -> datetime:
    """A moment cut to milliseconds, as a BSON date is."""
    return datetime.fromtimestamp(us // 1000 / 1000, UTC)


async def test_a_tick_is_stored_cached_claimed_and_published(urls: Urls) -> None:
    async with running(*urls, clock=Clock(NOW)) as worker:
        await worker.take(TICKS, tick(21543.25, tick_id=12345, volume=1000, open=21500))
        (document,) = worker.stored("underlying_ticks")
        identity = document.pop("_id")
        assert "12345" in identity
        assert document == {
            "product": "NIFTY",
            "price": 21543.25,
            "timestamp": utc(AT),
            "tick_id": 12345,
            "processed_at": utc(NOW),
            "event_us": AT,
            "volume": 1000,
            "open": 21500,
        }
        assert await worker.cached("latest:underlying:NIFTY") == {
            "price": 21543.25,
            "timestamp": "2025-06-15T15:10:00.123456+00:00",
        }
        assert worker.published("underlying") == [
            {
                "type": "UNDERLYING_ENRICHED",
                "product": "NIFTY",
                "price": 21543.25,
                "timestamp": "2025-06-15T15:10:00.123456+00:00",
                "processed_at": f"{NOW_TEXT}+00:00",
            }
        ]
        assert await worker.redis.get("processed:underlying:NIFTY:12345") == str(AT).encode()
        lifetimes = {
            "latest:underlying:NIFTY": 300,
            "processed:underlying:NIFTY:12345": 3600,
            "ohlc:NIFTY:1m": 60,
            "ohlc:NIFTY:5m": 300,
            "ohlc:NIFTY:15m": 900,
        }
        for key, seconds in lifetimes.items():
            left = await worker.redis.pttl(key)
            assert (seconds - 20) * 1000 < left <= seconds * 1000, key


@pytest.mark.parametrize(
    ("sent", "event_us", "processed_at"),
    [
        ("2025-06-15T15:10:00.123456", AT, NOW_TEXT),
        ("2025-06-15T15:10:00.123456Z", AT, f"{NOW_TEXT}+00:00"),
        ("2025-06-15T20:40:00.123456+05:30", AT, f"{NOW_TEXT}+00:00"),
        ("2025-06-15 15:10:00", AT - 123_456, NOW_TEXT),
    ],
    ids=["naive", "Z", "offset", "whole seconds"],
)
async def test_the_timestamp_stays_as_sent_and_processed_at_has_its_style(
    redis_url: str, mongo_database_url: str, sent: str, event_us: int, processed_at: str
) -> None:
    async with running(redis_url, mongo_database_url, clock=Clock(NOW)) as worker:
        await worker.send(TICKS, {**tick(1), "timestamp": sent})
        await worker.take(CHAINS, chain(timestamp=sent))
        for channel in ("underlying", "option_chain"):
            (message,) = worker.published(channel)
            assert (message["timestamp"], message["processed_at"]) == (sent, processed_at)
        for collection in ("underlying_ticks", "option_chains"):
            (document,) = worker.stored(collection)
            assert document["event_us"] == event_us
            assert document["timestamp"] == utc(event_us)
        assert (await worker.cached("latest:pcr:NIFTY:2025-06-26"))["timestamp"] == sent
        assert (await worker.cached("volatility_surface:NIFTY"))["timestamp"] == sent


async def test_naive_times_are_read_and_written_in_the_zone_of_the_feed(urls: Urls) -> None:
    zone = {"feed.timezone": "Asia/Kolkata"}
    async with running(*urls, zone, clock=Clock(NOW)) as worker:
        await worker.take(TICKS, {**tick(1), "timestamp": "2025-06-15T20:40:00.123456"})
        assert worker.stored("underlying_ticks")[0]["event_us"] == AT
        assert worker.published("underlying")[0]["processed_at"] == "2025-06-15T20:40:00.373000"
        assert (await worker.cached("ohlc:NIFTY:1m"))["end_time"] == "2025-06-15T20:40:00.123456"
    async with running(*urls, zone, clock=Clock(NOW)) as worker:
        await worker.take(TICKS, {**tick(2), "timestamp": "2025-06-15T20:39:59"})
        window = await worker.cached("ohlc:NIFTY:1m")
        assert (window["start_time"], window["num_ticks"]) == ("2025-06-15T20:39:59", 2)


async def test_a_quote_is_stored_and_cached_as_sent(urls: Urls) -> None:
    async with running(*urls, clock=Clock(NOW)) as worker:
        body = json.dumps(quote(), indent=1).encode()
        await worker.take(QUOTES, body)
        (document,) = worker.stored("option_quotes")
        document.pop("_id")
        assert document == {
            **quote(),
            "timestamp": utc(AT),
            "processed_at": utc(NOW),
            "event_us": AT,
        }
        assert await worker.redis.get("latest:option:NIFTYCALL21500") == body
        assert 280_000 < await worker.redis.pttl("latest:option:NIFTYCALL21500") <= 300_000
        assert worker.heard == []


async def test_a_chain_is_stored_cached_and_published_with_its_numbers(urls: Urls) -> None:
    async with running(*urls, clock=Clock(NOW)) as worker:
        sent = chain()
        await worker.take(CHAINS, sent)
        promised = {
            "product": "NIFTY",
            "expiry": "2025-06-26",
            "spot_price": 21537,
            "pcr_oi": 0.75,  # 90,000 / 120,000
            "pcr_volume": 2.5,  # 150 / 60
            "atm_strike": 21500,
            "atm_straddle_price": 216.6,
            "max_pain_strike": 21500,
            "total_call_oi": 120_000,
            "total_put_oi": 90_000,
            "call_buildup_otm": 30_000,
            "put_buildup_otm": 50_000,
            "calls": sent["calls"],
            "puts": sent["puts"],
        }
        (document,) = worker.stored("option_chains")
        assert {name: document[name] for name in promised} == promised
        assert (document["timestamp"], document["processed_at"]) == (utc(AT), utc(NOW))
        assert document["event_us"] == AT
        (message,) = worker.published("option_chain")
        assert {name: message[name] for name in promised} == promised
        assert (message["timestamp"], message["processed_at"]) == (sent["timestamp"], f"{NOW_TEXT}+00:00")
        assert await worker.cached("latest:chain:NIFTY:2025-06-26") == message
        assert await worker.cached("latest:pcr:NIFTY:2025-06-26") == {
            "pcr_oi": 0.75,
            "pcr_volume": 2.5,
            "timestamp": sent["timestamp"],
        }
        for key in ("latest:chain:NIFTY:2025-06-26", "latest:pcr:NIFTY:2025-06-26"):
            assert 280_000 < await worker.redis.pttl(key) <= 300_000, key
        # All that is stored is published, but for what only MongoDB needs.
        assert document.keys() - message.keys() == {"_id", "event_us"}


@pytest.mark.parametrize(
    ("calls", "puts", "field", "expected"),
    [
        ([0, 0, 0], [10, 20, 30], "pcr_oi", None),
        ([30_000, 30_000, 30_000], [27_000, 27_000, 27_000], "pcr_oi", 0.9),
        ([50_000, 40_000, 30_000], [20_000, 30_000, 40_000], "max_pain_strike", 21500),
        ([0, 0, 0], [0, 0, 0], "max_pain_strike", None),
    ],
)
async def test_an_unknown_number_of_a_chain_is_null_and_flagged(
    redis_url: str,
    mongo_database_url: str,
    calls: list[int],
    puts: list[int],
    field: str,
    expected: float | None,
) -> None:
    sent = chain()
    for legs, interest in ((sent["calls"], calls), (sent["puts"], puts)):
        for one, oi in zip(legs, interest, strict=True):
            one["open_interest"] = oi
    async with running(redis_url, mongo_database_url, clock=Clock(NOW)) as worker:
        await worker.take(CHAINS, sent)
        (document,) = worker.stored("option_chains")
        assert document[field] == expected
        assert (field in document["flags"]) == (expected is None)
        assert worker.published("option_chain")[0][field] == expected


async def test_the_volatility_surface_is_made_of_quotes_and_the_last_chain(urls: Urls) -> None:
    async with running(*urls, clock=Clock(NOW + 10 * MINUTE)) as worker:
        await worker.send(QUOTES, quote(22500, "CALL", AT - 4 * MINUTE, iv=0.3, expiry="2025-07-31"))
        await worker.send(QUOTES, quote(20000, "PUT", AT - 6 * MINUTE, iv=0.4, expiry="2025-07-31"))
        await worker.send(QUOTES, quote(20500, "PUT", AT - MINUTE, iv=0.35, expiry="2025-05-29"))
        await worker.take(CHAINS, chain())
        found = await worker.cached("volatility_surface:NIFTY")
        assert {name: found[name] for name in ("product", "timestamp", "expiries")} == {
            "product": "NIFTY",
            "timestamp": iso(AT),
            # Below the spot the puts speak, above it the calls.
            "expiries": [
                {
                    "expiry": "2025-06-26",
                    "strikes": [21000, 21500, 22000],
                    "ivs": [0.25, 0.26, 0.22],
                    "avg_iv": 0.243333,
                },
                {"expiry": "2025-07-31", "strikes": [22500], "ivs": [0.3], "avg_iv": 0.3},
            ],
        }
        assert 280_000 < await worker.redis.pttl("volatility_surface:NIFTY") <= 300_000
        await worker.take(CHAINS, chain(AT + MINUTE, calls=[leg(21000, "CALL", 1, 1, 1, iv=0.5)], puts=[]))
        found = await worker.cached("volatility_surface:NIFTY")
        assert [e["strikes"] for e in found["expiries"]] == [[21000]]


async def members(worker: Any) -> list[tuple[dict[str, Any], float]]:
    """The sorted set of NIFTY as (member, score)."""
    found = await worker.redis.zrange("iv_surface:NIFTY", 0, -1, withscores=True)
    return [(json.loads(text), score) for text, score in found]


async def test_the_sorted_set_holds_one_member_per_expiry_strike_and_type(urls: Urls) -> None:
    async with running(*urls, clock=Clock(NOW + MINUTE)) as worker:

        def member(strike: float, iv: float, expiry: str = "2025-06-26") -> tuple[dict[str, Any], float]:
            return ({"strike": strike, "iv": iv, "expiry": expiry}, strike)

        await worker.take(QUOTES, quote(21500, "CALL", iv=0.2), quote(21500, "PUT", iv=0.2))
        assert await members(worker) == [member(21500, 0.2)]
        await worker.take(QUOTES, quote(21500, "PUT", AT + 1, iv=0.25))
        assert await members(worker) == [member(21500, 0.2), member(21500, 0.25)]
        await worker.take(QUOTES, quote(21500, "CALL", AT + 2, iv=0.3), quote(21500, "CALL", AT - 9, iv=0.9))
        assert await members(worker) == [member(21500, 0.25), member(21500, 0.3)]
        await worker.take(QUOTES, quote(21500, "PUT", AT + 3, iv=None), quote(21000, "PUT", iv=0.4))
        assert await members(worker) == [member(21000, 0.4), member(21500, 0.3)]


async def test_members_of_expired_expiries_leave_the_sorted_set(urls: Urls) -> None:
    day = 86_400 * SECOND
    async with running(*urls, clock=Clock(NOW + 20 * day)) as worker:
        await worker.take(QUOTES, quote(21500, iv=0.2), quote(21500, iv=0.3, expiry="2025-07-31"))
        assert len(await members(worker)) == 2
        later = quote(22000, "CALL", AT + 15 * day, iv=0.4, expiry="2025-07-31")
        await worker.take(QUOTES, later)
        assert [m["expiry"] for m, _ in await members(worker)] == ["2025-07-31"] * 2


async def test_windows_reach_from_their_edge_exclusively_to_the_newest_tick(urls: Urls) -> None:
    offsets = [-15 * MINUTE, -15 * MINUTE + 1, -5 * MINUTE, -MINUTE, -MINUTE + 1, -1, 0]
    prices = [100.0, 90.0, 300.0, 50.0, 70.0, 60.0, 65.0]
    ticks = [tick(p, AT + o, n) for n, (p, o) in enumerate(zip(prices, offsets, strict=True))]
    async with running(*urls, clock=Clock(NOW)) as worker:
        await worker.take(TICKS, *ticks[1:3], ticks[0], *ticks[3:])
        for minutes in (1, 5, 15):
            inside = [n for n, o in enumerate(offsets) if -minutes * MINUTE < o <= 0]
            chosen = [prices[n] for n in inside]
            assert await worker.cached(f"ohlc:NIFTY:{minutes}m") == {
                "product": "NIFTY",
                "window_minutes": minutes,
                "open": chosen[0],
                "high": max(chosen),
                "low": min(chosen),
                "close": chosen[-1],
                "start_time": iso(AT + offsets[inside[0]]),
                "end_time": iso(AT),
                "num_ticks": len(inside),
                # The longest begins before the worker listened.
                **({"flags": {"gap": GAP}} if minutes == 15 else {}),
            }


async def test_caches_do_not_go_back_to_an_older_message(urls: Urls) -> None:
    keys = (
        "latest:underlying:NIFTY",
        "latest:option:NIFTYCALL21500",
        "latest:chain:NIFTY:2025-06-26",
        "latest:pcr:NIFTY:2025-06-26",
        "volatility_surface:NIFTY",
    )
    still = {"market.svi_interval": 0}
    async with running(*urls, still, clock=Clock(NOW)) as worker:
        await worker.send(TICKS, tick(2.0, AT, 2))
        await worker.send(QUOTES, quote(iv=0.2))
        await worker.take(CHAINS, chain())
        before = [await worker.redis.get(key) for key in keys]
        assert None not in before
        await worker.send(TICKS, tick(1.0, AT - SECOND, 1))
        await worker.send(QUOTES, quote(at_us=AT - SECOND, iv=0.9))
        late = chain(AT - SECOND, spot_price=1)
        late["calls"][0]["open_interest"] = 7
        await worker.take(CHAINS, late)
        assert [await worker.redis.get(key) for key in keys] == before
        assert (await worker.cached("ohlc:NIFTY:1m"))["num_ticks"] == 2
        # All the same they were stored and published.
        assert len(worker.stored("option_quotes")) == len(worker.stored("option_chains")) == 2
        assert [m["price"] for m in worker.published("underlying")] == [2.0, 1.0]
        assert [m["total_call_oi"] for m in worker.published("option_chain")] == [120_000, 70_007]


async def test_the_indexes_of_the_contract_are_there(urls: Urls) -> None:
    wanted = {
        "underlying_ticks": [[("product", 1), ("timestamp", -1)], [("timestamp", -1)]],
        "option_quotes": [[("symbol", 1), ("timestamp", -1)], [("product", 1), ("timestamp", -1)]],
        "option_chains": [[("product", 1), ("expiry", 1), ("timestamp", -1)]],
    }
    async with running(*urls):
        documents = database(urls.mongo)
        with documents.client:
            for collection, expected in wanted.items():
                held = [index["key"] for index in documents[collection].index_information().values()]
                assert all(keys in held for keys in expected), collection
