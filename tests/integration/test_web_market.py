"""The market's screens: what they say is what the channels said, also when the caches have run out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from enricher.analytics import ohlc
from enricher.clock import MINUTE
from tests.integration.test_market_analytics import AT, QUIET, SPOT, smiling, volatility
from tests.integration.test_market_contract import SECOND, tick
from tests.integration.test_market_contract import quote as option_quote
from tests.integration.worker import CHAINS, QUOTES, TICKS, Worker, iso, running
from tests.rig import Clock, until
from tests.servers import Urls

HOSTILE = '<img src=x onerror="alert(1)">/a"'
START = AT - AT % (15 * MINUTE)


@asynccontextmanager
async def screens(urls: Urls, clock: Clock, **given: Any) -> AsyncIterator[tuple[Worker, httpx.AsyncClient]]:
    """A worker and its web app; the clock goes on with every request, so that nothing is read from memory."""

    async def go_on(_: httpx.Request) -> None:
        clock.now_us += SECOND

    hooks = {"request": [go_on]}
    async with running(*urls, QUIET | given, clock=clock) as worker:
        transport = httpx.ASGITransport(app=worker.enricher.asgi())
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", event_hooks=hooks
        ) as client:
            yield worker, client


async def told(client: httpx.AsyncClient, path: str) -> Any:
    """An answer of the API."""
    answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def shown(client: httpx.AsyncClient, path: str) -> str:
    """A screen."""
    answer = await client.get(f"/ui/{path}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def forget(worker: Worker) -> None:
    """The caches run out."""
    await worker.redis.flushdb()


@pytest.mark.parametrize("volume", ["trade", "cumulative"])
async def test_candles_are_the_bars_of_all_ticks_also_while_they_move(urls: Urls, volume: str) -> None:
    clock = Clock(START + 20 * MINUTE)
    moments = [START + 7 * SECOND + at * 19 * SECOND for at in range(40)]
    prices = [21500.0 + (at * 37 % 23) - at % 5 for at in range(40)]
    sizes = [10 * at for at in range(40)]
    said = sizes if volume == "trade" else [sum(sizes[: at + 1]) for at in range(40)]
    ticks = list(zip(moments, prices, said, strict=True))

    async def taken(worker: Worker, some: list[tuple[int, float, int]]) -> None:
        await worker.take(TICKS, *(tick(price, us, tick_id=us, volume=size) for us, price, size in some))

    async with screens(urls, clock, **{"market.volume": volume}) as (worker, client):
        for known in (25, 40):
            await taken(worker, ticks[:25] if known == 25 else ticks[25:])
            rows = [(iso(us), price, size) for us, price, size in zip(moments, prices, sizes, strict=True)]
            for minutes in (1, 5, 15):
                right = [
                    [int(b.start.timestamp()), b.open, b.high, b.low, b.close, b.volume]
                    for b in ohlc(rows[:known], minutes)
                ]
                whole = await told(client, f"market/NIFTY/candles?minutes={minutes}")
                assert whole["closed"] + whole["moving"] == right
                assert len(whole["moving"]) == 1
                since = right[-2 if len(right) > 1 else 0][0]
                later = await told(client, f"market/NIFTY/candles?minutes={minutes}&since={since}")
                assert later["closed"] + later["moving"] == right[-5:]
            assert whole["last"]["price"] == prices[known - 1]
        (first, *_, last) = (await told(client, "market/NIFTY/candles"))["closed"]
        earlier = await told(client, f"market/NIFTY/candles?before={last[0]}")
        assert earlier["closed"][0] == first
        assert earlier["closed"][-1][0] == last[0] - 60
        (row,) = (await told(client, "market"))["products"]
        assert (row["name"], row["last"]["price"], row["last"]["base"]) == ("NIFTY", prices[-1], prices[0])
        closed = (await told(client, "market/NIFTY/candles"))["closed"]
        assert row["line"] == [*(bar[4] for bar in closed), prices[-1]]
        await forget(worker)
        assert 'id="candles"' in await shown(client, "market/NIFTY")


async def test_a_chain_is_shown_strike_by_strike_with_what_changed_since_the_morning(urls: Urls) -> None:
    clock = Clock(AT + SECOND)
    async with screens(urls, clock) as (worker, client):
        await worker.take(CHAINS, smiling())
        clock.now_us += 10 * MINUTE
        later = smiling(AT + 10 * MINUTE)
        for leg in later["calls"]:
            leg["open_interest"] += 500
        await worker.take(CHAINS, later)
        (stored,) = [d for d in worker.stored("option_chains") if d["event_us"] == AT + 10 * MINUTE]
        for cached in (True, False):
            answer = await told(client, "market/NIFTY/chain?strikes=0")
            figures = answer["head"]["figures"]
            names = {"atm_iv": "atm_iv", "max_pain": "max_pain_strike", "spot": "spot_price"}
            assert {name: figures[name] for name in names} == {a: stored[b] for a, b in names.items()}
            assert figures["zero_gamma"] == stored["gex"]["zero_gamma"]
            assert [row["strike"] for row in answer["rows"]] == stored["strikes"]
            assert {row["call"]["oi_change"] for row in answer["rows"]} == {500}
            assert {row["put"]["oi_change"] for row in answer["rows"]} == {0}
            assert [row["call"]["delta"] for row in answer["rows"]] == stored["analytics"]["calls"]["delta"]
            assert answer["since"].startswith("2025-06-16T04:30:00")
            near = await told(client, "market/NIFTY/chain?strikes=2")
            assert [row["strike"] for row in near["rows"]] == [21300, 21400, 21500, 21600, 21700]
            page = await shown(client, "market/NIFTY/chain")
            assert 'id="atm"' in page
            assert "+500" in page
            assert "max pain" in await shown(client, "market/NIFTY/interest")
            if cached:
                await forget(worker)
        day = await told(client, "market/NIFTY/intraday")
        assert [m[0] for m in day["moments"]] == [AT // SECOND, AT // SECOND + 600]
        said = ("pcr_oi", "atm_straddle_mid", "max_pain_strike", "atm_iv", "spot_price")
        assert day["moments"][-1][1:] == [stored[name] for name in said]


async def test_smiles_are_drawn_with_their_curves_and_the_surface(urls: Urls) -> None:
    clock = Clock(AT + SECOND)
    async with screens(urls, clock, **{"market.svi_interval": 1}) as (worker, client):
        for expiry in ("2025-06-26", "2025-07-31"):
            await worker.take(CHAINS, smiling(expiry=expiry))
        answer: Any = {}

        async def fitted() -> bool:
            nonlocal answer
            answer = await told(client, "market/NIFTY/volatility")
            return len(answer["smiles"]) == 2 and all(smile["curve"] for smile in answer["smiles"])

        await until(fitted, "both curves")
        for smile in answer["smiles"]:
            for strike, iv in (*smile["nodes"], *smile["curve"]):
                assert iv == pytest.approx(volatility(strike, smile["forward"]), abs=0.003)
        middle = answer["moneyness"].index(0)
        at_the_money = [row["ivs"][middle] for row in answer["surface"]]
        assert at_the_money == pytest.approx([volatility(SPOT, SPOT)] * 2, abs=0.001)
        page = await shown(client, "market/NIFTY/volatility?expiry=2025-07-31")
        assert page.count("<polyline") >= 2
        assert page.count("<circle") == 2 * len(smile["nodes"])


async def test_the_feed_says_what_came_and_what_is_wrong_with_it(urls: Urls) -> None:
    async with screens(urls, Clock(AT + 2 * SECOND)) as (worker, client):
        good = [tick(21500.0 + at, AT + at * 1000, tick_id=at) for at in (1, 2, 5)]
        await worker.take(TICKS, *good, good[0], {"product": "NIFTY"})
        answer = await told(client, "feed")
        ticks, quotes, _ = answer["channels"]
        counts = {name: ticks[name] for name in ("received", "duplicates", "rejected", "gaps")}
        assert counts == {"received": 5, "duplicates": 1, "rejected": 1, "gaps": 0}
        assert ticks["last"].startswith("2025-06-16T04:30:0")
        assert (quotes["received"], quotes["last"]) == (0, None)
        (product,) = answer["products"]
        assert (product["product"], product["missing"], product["counts"]["gap"]) == ("NIFTY", 2, 1)
        assert "nothing yet" in await shown(client, "feed")


async def test_names_from_the_feed_are_text_and_what_is_not_there_is_refused(urls: Urls) -> None:
    async with screens(urls, Clock(AT + SECOND)) as (worker, client):
        assert "No tick, quote or chain has come yet" in await shown(client, "market")
        await worker.take(TICKS, {**tick(100.5, AT), "product": HOSTILE})
        await worker.take(CHAINS, smiling(product=HOSTILE))
        for path in ("", "/chain", "/interest", "/volatility"):
            page = await shown(client, f"market/{quote(HOSTILE)}{path}")
            assert "&lt;img" in page
            assert "<img" not in page
        await worker.take(QUOTES, {**option_quote(at_us=AT), "product": "QUOTED"})
        assert "No option chain of this product has come yet" in await shown(client, "market/QUOTED")
        assert "<img" not in await shown(client, "market?q=IMG")
        assert "<img" not in await shown(client, "feed")
        refused = {
            "market/NOTHING": 404,
            "market/NOTHING/chain": 404,
            f"market/{quote(HOSTILE)}/chain?expiry=2025-01-01": 404,
            f"market/{quote(HOSTILE)}/candles?minutes=7": 422,
            f"market/{quote(HOSTILE)}/candles?before=99999999999": 422,
            "market?nonsense=1": 422,
        }
        found = {path: (await client.get(f"/api/v1/{path}")).status_code for path in refused}
        assert found == refused
