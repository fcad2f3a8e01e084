"""What a chain's prices say, from the channel to document, cache and channel, against other programs."""

from __future__ import annotations

from math import erf, exp, log, pi, sqrt
from typing import Any

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813  as its own documentation writes it

from enricher.clock import event_us
from tests.integration.test_market_contract import SECOND, chain, leg, tick
from tests.integration.worker import CHAINS, TICKS, iso, running
from tests.rig import Clock, until
from tests.servers import Urls

AT = event_us("2025-06-16T10:00:00+05:30")[0]
DAY = 86_400 * SECOND
RATE, LOT = 0.065, 75.0
STRIKES = [21000 + 100 * n for n in range(13)]
SPOT = 21537.0
QUIET = {"market.svi_interval": 0}


def years(expiry: str, at_us: int) -> float:
    return (event_us(f"{expiry}T15:30:00+05:30")[0] - at_us) / (365 * DAY)


def volatility(strike: float, forward: float) -> float:
    k = log(strike / forward)
    return 0.12 - 0.1 * k + 1.5 * k * k


def black(kind: int, forward: float, strike: float, sigma: float, t: float) -> float:
    option = ql.Option.Call if kind > 0 else ql.Option.Put
    return float(ql.blackFormula(option, strike, forward, sigma * sqrt(t), exp(-RATE * t)))


def smiling(at_us: int = AT, expiry: str = "2025-06-26", bump: float = 0.0, **fields: Any) -> dict[str, Any]:
    """A chain whose prices are those of a known smile on a known forward."""
    t = years(expiry, at_us)
    forward = SPOT * exp(0.053 * t)
    sides: dict[str, list[dict[str, Any]]] = {"CALL": [], "PUT": []}
    for strike in STRIKES:
        for kind, name in ((1, "CALL"), (-1, "PUT")):
            sigma = volatility(strike, forward) + bump
            value = black(kind, forward, strike, sigma, t)
            oi = 1000 * (strike % 700 + 100) if kind > 0 else 900 * (strike % 500 + 200)
            sides[name].append(
                leg(strike, name, oi, 10, value, bid=value - 0.01, ask=value + 0.01, iv=100 * sigma)
            )
    whole = {"calls": sides["CALL"], "puts": sides["PUT"], "strikes": STRIKES, "spot_price": SPOT}
    return chain(at_us, **{"expiry": expiry, **whole, **fields})


async def test_a_chain_carries_the_volatilities_and_greeks_of_every_leg(urls: Urls) -> None:
    async with running(*urls, QUIET, clock=Clock(AT + SECOND)) as worker:
        await worker.take(CHAINS, smiling())
        (document,), (message,) = worker.stored("option_chains"), worker.published("option_chain")
        for name in ("analytics", "smile", "gex", "forward", "standing", "conventions"):
            assert document[name] == message[name]
    t = years("2025-06-26", AT)
    forward = SPOT * exp(0.053 * t)
    assert message["years"] == pytest.approx(t, abs=1e-10)
    assert message["forward"]["price"] == pytest.approx(forward, abs=1e-5)
    assert (message["forward"]["source"], len(message["forward"]["strikes"])) == ("parity", 5)
    assert message["conventions"]["contract"] == "NIFTY"
    assert (message["conventions"]["rate"], message["conventions"]["units"]) == (RATE, LOT)
    assert message["conventions"]["vendor_iv"] == "percent"
    found = message["analytics"]
    for kind, side, cumulative in ((1, found["calls"], 1.0), (-1, found["puts"], -1.0)):
        for at, strike in enumerate(STRIKES):
            sigma = volatility(strike, forward)
            root = sigma * sqrt(t)
            d1 = log(forward / strike) / root + root / 2
            delta = exp(-RATE * t) * cumulative * (0.5 + 0.5 * erf(kind * d1 / sqrt(2)))
            density = exp(-RATE * t - d1 * d1 / 2) / sqrt(2 * pi)
            assert side["iv"][at] == pytest.approx(sigma, abs=2e-6)
            assert side["feed_iv"][at] == pytest.approx(sigma, abs=1e-6)
            assert side["delta"][at] == pytest.approx(delta, abs=2e-5)
            assert side["gamma"][at] == pytest.approx(density / (forward * root), rel=1e-3)
            assert side["vega"][at] == pytest.approx(density * forward * sqrt(t) / 100, rel=1e-3)
    assert found["reasons"] == {"calls": {}, "puts": {}}
    assert message["atm_iv"] == pytest.approx(0.12, abs=2e-4)
    assert message["expected_move"]["one_sigma"] == pytest.approx(forward * 0.12 * sqrt(t), rel=2e-3)
    assert message["smile"]["nodes"] == len(STRIKES)


async def test_exposures_follow_from_the_published_greeks_and_open_interest(urls: Urls) -> None:
    async with running(*urls, QUIET, clock=Clock(AT + SECOND)) as worker:
        await worker.take(CHAINS, smiling())
        (found,) = worker.published("option_chain")
    columns, forward = found["analytics"], found["forward"]["price"]
    oi = [np.array([one["open_interest"] for one in found[side]]) for side in ("calls", "puts")]
    gammas = [np.array(columns[side]["gamma"]) for side in ("calls", "puts")]
    by_strike = (gammas[0] * oi[0] - gammas[1] * oi[1]) * LOT * forward**2 * 0.01
    assert columns["gex"] == pytest.approx(by_strike.tolist(), rel=1e-4)
    assert found["gex"]["net"] == pytest.approx(by_strike.sum(), rel=1e-4)
    assert found["gex"]["call_wall"] == STRIKES[int(by_strike.argmax())]
    assert found["gex"]["put_wall"] == STRIKES[int(by_strike.argmin())]
    deltas = [np.array(columns[side]["delta"]) for side in ("calls", "puts")]
    total = sum((delta * held * LOT).sum() for delta, held in zip(deltas, oi, strict=True))
    assert found["exposure"]["delta"]["total"] == pytest.approx(total, rel=1e-3)
    assert columns["pcr"] == pytest.approx((oi[1] / oi[0]).tolist(), abs=1e-4)


async def test_two_expiries_around_thirty_days_give_volatilities_to_thirty_days(urls: Urls) -> None:
    clock = Clock(AT + 10 * SECOND)
    async with running(*urls, QUIET, clock=clock) as worker:
        await worker.take(CHAINS, smiling(AT))
        clock.advance(1)
        await worker.take(CHAINS, smiling(AT + SECOND, "2025-07-31", bump=0.02))
        near, far = worker.published("option_chain")
        surface = await worker.cached("volatility_surface:NIFTY")
        (stored,) = worker.stored("volatility_surfaces")
        product, said = await worker.cached("latest:product:NIFTY"), worker.published("product")
    assert [(one["expiries"], one["expected"]) for one in said] == [(1, 1), (2, 2)]
    assert said[-1] == product
    assert product["iv_30d"] == far["all_expiries"]["iv_30d"]
    assert (product["timestamp"], product["term"]) == (far["timestamp"], surface["term"])
    assert near["all_expiries"]["iv_30d"] is None
    assert near["all_expiries"]["iv_30d_reason"] == "not_bracketed"
    swap = far["all_expiries"]["variance_swap_30d"]
    both = (near, far)
    for shown, variances in (
        (far["all_expiries"]["iv_30d"], [one["atm_iv"] ** 2 for one in both]),
        (swap["volatility"], [one["variance_swap"]["variance"] for one in both]),
    ):
        ws = [v * one["years"] for v, one in zip(variances, both, strict=True)]
        w = float(np.interp(30 / 365, [one["years"] for one in both], ws))
        assert shown == pytest.approx(sqrt(w * 365 / 30), abs=2e-6)
    assert swap["truncated"] is True
    calls, puts = (2 * sum(one["open_interest"] for one in near[side]) for side in ("calls", "puts"))
    assert far["all_expiries"]["pcr_oi"] == round(puts / calls, 4)
    assert [row["expiry"] for row in surface["smiles"]] == ["2025-06-26", "2025-07-31"]
    thirty = next(row for row in surface["term"]["maturities"] if row["days"] == 30)
    assert thirty["iv"] == far["all_expiries"]["iv_30d"]
    assert surface["calendar"] == {
        "violations": [], "violation_count": 0, "executable": [], "executable_count": 0
    }  # fmt: skip
    (forwards,) = surface["term"]["forwards"]
    gained = far["atm_iv"] ** 2 * far["years"] - near["atm_iv"] ** 2 * near["years"]
    assert forwards["variance"] == pytest.approx(gained / (far["years"] - near["years"]), abs=2e-6)
    assert stored["smiles"] == [surface["smiles"][0]]
    assert (stored["event_us"], stored["product"]) == (AT, "NIFTY")


async def test_a_curve_is_fitted_to_the_last_smile_soon_after_its_chain(urls: Urls) -> None:
    async with running(*urls, clock=Clock(AT + SECOND)) as worker:
        await worker.take(CHAINS, smiling())
        shown: list[Any] = []

        async def fitted() -> bool:
            shown.append(await worker.cached("volatility_surface:NIFTY"))
            return shown[-1]["smiles"][0]["svi"] is not None

        while not await fitted():
            await worker.settled()
        svi = shown[-1]["smiles"][0]["svi"]
        assert svi["as_of_us"] == AT
        assert svi["rmse"] < 0.05
        row = shown[-1]["smiles"][0]
        k = np.log(np.array(row["smile"]["strikes"]) / row["forward"])
        x = k - svi["m"]
        w = svi["a"] + svi["b"] * (svi["rho"] * x + np.sqrt(x * x + svi["sigma"] ** 2))
        assert np.sqrt(w / row["years"]) == pytest.approx(np.array(row["smile"]["ivs"]), abs=2e-3)


async def test_the_build_up_of_the_day_starts_from_its_first_chain_also_after_a_restart(urls: Urls) -> None:
    first, second, third = (smiling(AT + hours * 3600 * SECOND) for hours in (0, 1, 2))
    second["calls"][0]["open_interest"] += 40
    third["calls"][0] |= {"open_interest": third["calls"][0]["open_interest"] + 100, "last": 900}
    clock = Clock(AT + 3 * 3600 * SECOND)
    for sent in (first, second):
        async with running(*urls, QUIET, clock=clock) as worker:
            await worker.take(CHAINS, sent)
            assert (worker.published("option_chain")[0]["buildup_day"] is None) == (sent is first)
    async with running(*urls, QUIET, clock=clock) as worker:
        await worker.take(CHAINS, third)
        (found,) = worker.published("option_chain")
    assert found["buildup_day"]["since_us"] == AT
    assert found["buildup_day"]["call_oi_change"] == 100
    assert found["buildup_day"]["strikes"][0]["call"] == "long_buildup"
    assert found["buildup"]["since_us"] == AT + 3600 * SECOND
    assert found["buildup"]["call_oi_change"] == 60


async def test_a_number_stands_in_the_stored_history_of_its_product(urls: Urls) -> None:
    settings = {**QUIET, "market.history_least": 3}
    levels = [0.0, 0.03, 0.01, 0.02]
    at = [AT + day * DAY for day in range(4)]
    for moment, bump in zip(at, levels, strict=True):
        # A process for every day: what stands is what was stored.
        async with running(*urls, settings, clock=Clock(moment + SECOND)) as worker:
            await worker.take(CHAINS, smiling(moment, bump=bump))
            (found,) = worker.published("option_chain")
            days = list(worker.documents["market_history"].find().sort("day", 1))
    standing = found["standing"]["atm_iv"]
    assert (standing["days"], standing["expiry"]) == (3, "2025-06-26")
    assert standing["percentile"] == pytest.approx(100 * 2 / 3, abs=0.01)
    low, high = (day["values"]["atm_iv"][1] for day in (days[0], days[1]))
    assert standing["rank"] == pytest.approx(100 * (standing["value"] - low) / (high - low), abs=0.01)
    assert [day["day"] for day in days] == [f"2025-06-{16 + n}" for n in range(4)]


async def test_prices_that_cannot_be_used_are_named_by_reason_and_strike(urls: Urls) -> None:
    sent = smiling()
    sent["calls"][0] |= {"bid": 700, "ask": 600, "last": None}
    sent["calls"][1] |= {"bid": 0, "last": 0}
    sent["puts"][2] |= {"bid": 60, "ask": 60}
    sent["puts"][3] |= {"timestamp": iso(AT - 400 * SECOND)}
    sent["puts"][4] |= {"bid": 5, "ask": 90}
    async with running(*urls, QUIET, clock=Clock(AT + SECOND)) as worker:
        await worker.take(CHAINS, sent)
        (found,) = worker.published("option_chain")
    calls, puts = (found["analytics"]["reasons"][side] for side in ("calls", "puts"))
    assert (calls["crossed"], calls["no_bid"], calls["no_price"]) == ([21000], [21100], [21000, 21100])
    assert (puts["locked"], puts["stale"], puts["wide"]) == ([21200], [21300], [21400])
    assert found["analytics"]["calls"]["iv"][:2] == [None, None]
    assert found["smile"]["nodes"] == len(STRIKES) - 2


async def test_without_analytics_a_chain_has_the_contract_s_fields_and_no_more(urls: Urls) -> None:
    plain = {"market.analytics": False}
    async with running(*urls, plain, clock=Clock(AT + SECOND)) as worker:
        await worker.send(TICKS, tick(SPOT, AT))
        await worker.take(CHAINS, smiling())
        (found,) = worker.published("option_chain")
        surface = await worker.cached("volatility_surface:NIFTY")
        assert await worker.cached("feed:health:NIFTY") is None
        assert worker.stored("volatility_surfaces") == []
    assert found["max_pain_strike"] is not None
    assert not {"analytics", "forward", "gex", "smile", "standing", "conventions"} & found.keys()
    assert surface.keys() == {"product", "timestamp", "expiries"}


async def test_terms_of_a_product_come_from_its_table_and_are_echoed(urls: Urls) -> None:
    given = {**QUIET, "market.products": '{"HOUSE": {"like": "NIFTY", "rate": 0.01, "lot": 3}}'}
    async with running(*urls, given, clock=Clock(AT + SECOND)) as worker:
        await worker.take(CHAINS, smiling(product="HOUSE"), smiling(product="NOBODY"))
        found = {chain["product"]: chain for chain in worker.published("option_chain")}
    terms, nobody = found["HOUSE"]["conventions"], found["NOBODY"]
    assert (terms["contract"], terms["rate"], terms["lot"], terms["assumed"]) == ("HOUSE", 0.01, 3.0, False)
    assert (nobody["conventions"]["contract"], nobody["conventions"]["assumed"]) == ("default", True)


async def test_the_health_of_a_feed_is_shown_and_its_silence_noticed(urls: Urls) -> None:
    clock = Clock(AT)
    async with running(*urls, clock=clock) as worker:
        await worker.take(TICKS, tick(SPOT, AT, 1), tick(SPOT, AT + SECOND, 5), tick(SPOT, AT + SECOND, 5))
        shown = await worker.cached("feed:health:NIFTY")
        assert (shown["status"], shown["missing"], shown["ticks"]) == ("ok", 3, 3)
        assert shown["counts"] == {"gap": 1, "repeated": 1}
        clock.advance(90)
        said: list[str] = []

        async def stale() -> bool:
            said.append((await worker.cached("feed:health:NIFTY"))["status"])
            return said[-1] == "stale"

        while not await stale():
            await worker.settled()
        await worker.take(TICKS, tick(SPOT, AT + 90 * SECOND, 6))
        assert (await worker.cached("feed:health:NIFTY"))["status"] == "ok"


async def test_cumulative_volumes_become_those_of_the_bars_also_after_a_restart(urls: Urls) -> None:
    settings = {"market.volume": "cumulative", "market.lateness": 0, "market.windows": (1, 1440)}
    begin = event_us("2025-06-16T09:15:00+05:30")[0]
    rows = [tick(100.0 + n, begin + n * 20 * SECOND, n, volume=1000 + 10 * n) for n in range(13)]
    clock = Clock(begin + 600 * SECOND)
    for part in (rows[:5], rows[5:]):
        async with running(*urls, settings, clock=clock) as worker:
            await worker.take(TICKS, *part)
            found = worker.documents["ohlc_bars"].find({"window_minutes": 1}).sort("start", 1)
            volumes = [bar["volume"] for bar in found]
    assert volumes == [1020, 30, 30, 30]


async def test_long_windows_are_restored_and_count_from_the_opening(urls: Urls) -> None:
    settings = {"market.windows": (60, 1440), "market.idle_close": 0.2, "market.lateness": 0}
    begin = event_us("2025-06-16T09:15:00+05:30")[0]
    rows = [tick(100.0 + n, begin + n * 20 * 60 * SECOND, n) for n in range(12)]
    for at, part in ((begin + 100 * 60 * SECOND, rows[:5]), (begin + 2 * DAY, rows[5:])):
        clock = Clock(at)
        async with running(*urls, settings, clock=clock) as worker:
            await worker.take(TICKS, *part)
            if part[-1] is rows[-1]:
                clock.advance(1)
                await until(lambda: worker.documents["ohlc_bars"].count_documents({}) == 5, "five bars")
            bars = list(worker.documents["ohlc_bars"].find().sort([("window_minutes", 1), ("start", 1)]))
    starts = [(int(bar["start"].timestamp()) * SECOND - begin) // (60 * SECOND) for bar in bars]
    assert starts == [0, 60, 120, 180, 0]
    assert [bar["num_ticks"] for bar in bars] == [3, 3, 3, 3, 12]
    assert (bars[-1]["open"], bars[-1]["close"]) == (100.0, 111.0)
