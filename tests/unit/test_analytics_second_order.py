"""Vanna, charm and volga, against changes of QuantLib's Greeks and of a book of options."""

from __future__ import annotations

from math import exp, sqrt
from typing import Any

import pytest
import QuantLib as ql  # noqa: N813  (its usual name)
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics import analyse, greeks, second_order_greeks
from enricher.analytics.second_order import StrikeExposure, second_order_analysis, signed_exposure

KINDS = {"call": ql.Option.Call, "put": ql.Option.Put}
RATE = 0.04


def theirs(kind: str, strike: float, years: float, sigma: float) -> ql.BlackCalculator:
    """An option on a forward of 100."""
    payoff = ql.PlainVanillaPayoff(KINDS[kind], strike)
    return ql.BlackCalculator(payoff, 100.0, sigma * sqrt(years), exp(-RATE * years))


@given(
    st.sampled_from(["call", "put"]), st.floats(-3, 3), st.floats(3 / 365, 3), st.floats(0.05, 1.5)
)
def test_they_are_the_changes_of_delta_and_vega(
    kind: str, deviations: float, years: float, sigma: float
) -> None:
    strike = 100 * exp(deviations * sigma * sqrt(years))
    found = second_order_greeks(
        forward=100, strike=strike, years=years, volatility=sigma, rate=RATE, kind=kind
    )
    assert found is not None
    h, day = 1e-4 * sigma, 1e-4 * years
    up, down = (theirs(kind, strike, years, sigma + step) for step in (h, -h))
    sooner, later = (theirs(kind, strike, years + step, sigma) for step in (day, -day))
    points, days = 200 * h, 730 * day
    by_sigma = (up.deltaForward() - down.deltaForward()) / points
    by_time = (later.deltaForward() - sooner.deltaForward()) / days
    assert found.vanna == pytest.approx(by_sigma, rel=1e-4, abs=1e-8)
    assert found.charm == pytest.approx(by_time, rel=1e-4, abs=1e-8)
    vegas = (up.vega(years) - down.vega(years)) / 100
    assert found.volga == pytest.approx(vegas / points, rel=1e-4, abs=1e-7)


def test_where_there_are_no_greeks_there_are_none_of_second_order() -> None:
    terms: dict[str, Any] = {"forward": 100, "strike": 100, "kind": "put"}
    assert second_order_greeks(**terms, years=0, volatility=0.2) is None
    assert second_order_greeks(**terms, years=1, volatility=None) is None
    assert second_order_greeks(**terms, years=1, volatility=float("nan")) is None


STRIKES = [90.0, 95.0, 100.0, 105.0, 110.0]
IVS = [0.24, 0.22, 0.2, 0.19, 0.185]
CALLS, PUTS = [5.0, 20.0, 60.0, 300.0, 200.0], [90.0, 400.0, 70.0, 20.0, 5.0]


def book_delta(years: float, shift: float) -> float:
    """The delta of dealers long the calls and short the puts, with all volatilities shifted."""
    delta = 0.0
    for kind, held in (("call", CALLS), ("put", PUTS)):
        for strike, iv, amount in zip(STRIKES, IVS, held, strict=True):
            one = greeks(
                forward=100, strike=strike, years=years, volatility=iv + shift, rate=RATE, kind=kind
            )
            assert one is not None
            delta += (1 if kind == "call" else -1) * amount * one.delta
    return delta


def test_the_exposures_are_what_the_dealers_book_gains_per_point_and_per_day() -> None:
    years, discount = 0.1, exp(-RATE * 0.1)
    found = second_order_analysis(
        STRIKES, IVS, IVS, CALLS, PUTS, forward=100.0, years=years, discount=discount, rate=RATE, units=50
    )
    per_point = (book_delta(years, 1e-5) - book_delta(years, -1e-5)) / 2e-3 * 100 * 50
    per_day = (book_delta(years - 1e-5, 0) - book_delta(years + 1e-5, 0)) / (2e-5 * 365) * 100 * 50
    assert found.vanna_exposure.net == pytest.approx(per_point, rel=1e-6)
    assert found.charm_exposure.net == pytest.approx(per_day, rel=1e-6)
    assert found.volga_exposure.legs == 10


def test_a_leg_that_is_unknown_contributes_nothing_and_rounding_leaves_nothing() -> None:
    found = signed_exposure([None, 2.0, 0.1], [1.0, None, 0.1 * (1 + 1e-12)], [5, 10, 7], [3, 4, 7], 2.0)
    assert found.by_strike == [-6.0, 40.0, 0.0]
    assert (found.net, found.legs) == (34.0, 4)
    assert found.gross == pytest.approx(48.8)
    assert signed_exposure([None], [1.0], [5], [None]) == StrikeExposure(None, None, [None], 0, "no_greek")


def test_an_analysis_has_them_when_it_is_asked_for_them() -> None:
    legs = [
        {"strike": strike, "kind": kind, "bid": bid, "ask": bid + 0.1, "oi": 10}
        for kind, bids in (("call", (10.6, 2.4, 0.1)), ("put", (0.1, 2.3, 10.2)))
        for strike, bid in zip((90, 100, 110), bids, strict=True)
    ]
    terms: dict[str, Any] = {"spot": 100, "expiry": "2025-06-20", "at": "2025-06-10T12:00:00"}
    assert analyse(legs, **terms).second_order is None
    found = analyse(legs, **terms, extras=["second_order"])
    assert found.second_order is not None
    forward, iv = found.forward.value, found.puts.iv[1]
    assert forward is not None
    single = second_order_greeks(forward=forward, strike=100, years=found.years, volatility=iv, kind="put")
    assert single is not None
    assert found.second_order.puts.vanna[1] == pytest.approx(single.vanna, rel=1e-12)
