"""India VIX's variance: worked by hand, with scipy's spline, and beside the Cboe's where both agree."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813  (its usual name)
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from enricher.analytics.india_vix import IndiaStrip, india_variance, natural_spline
from enricher.analytics.variance import constant_maturity, variance_strip

Quotes = list[float | None]


@given(st.integers(2, 12), st.randoms(use_true_random=False), st.lists(st.floats(0, 1), min_size=1))
def test_the_spline_is_the_natural_one_of_scipy(count: int, chance: object, shares: list[float]) -> None:
    draw = getattr(chance, "uniform")  # noqa: B009
    xs = np.cumsum([draw(0.1, 3) for _ in range(count)])
    ys = [draw(-5, 5) for _ in range(count)]
    places = [float(xs[0] + share * (xs[-1] - xs[0])) for share in shares]
    theirs = CubicSpline(xs, ys, bc_type="natural")(places)
    assert natural_spline(xs.tolist(), ys, places) == pytest.approx(theirs.tolist(), rel=1e-9, abs=1e-9)


def quoted(mids: Quotes, spread: float = 0.1) -> tuple[Quotes, Quotes]:
    """Bids and asks with a spread of so much of the mid."""
    bids = [None if mid is None else mid * (1 - spread / 2) for mid in mids]
    return bids, [None if mid is None else mid * (1 + spread / 2) for mid in mids]


STRIKES = [90.0, 95.0, 100.0, 105.0, 110.0]
CALLS: Quotes = [11.4, None, 3.4, 1.2, 0.4]
PUTS: Quotes = [0.5, None, 2.5, None, 9.5]


def strip(calls: Quotes = CALLS, puts: Quotes = PUTS, spread: float = 0.1, **said: Any) -> IndiaStrip:
    terms: dict[str, Any] = {"years": 0.1, "rate": 0.0, "future": 101.0} | said
    return india_variance(STRIKES, *quoted(calls, spread), *quoted(puts, spread), **terms)


def test_an_example_worked_by_hand() -> None:
    # Puts at 90, 100, 110 are 0.5, 2.5, 9.5: slopes 0.2 and 0.7, curvature at 100 6 (0.7 - 0.2) / 40 = 0.075,
    # and at 95 the price is (0.5 + 2.5) / 2 - 0.075 * 10^2 / 16 = 1.03125. Every strike is 5 apart, so
    # 5 (0.5/90^2 + 1.03125/95^2 + 2.95/100^2 + 1.2/105^2 + 0.4/110^2) = 0.0030644786,
    # and (2 * 0.0030644786 - (101/100 - 1)^2) / 0.1 = 0.06028957.
    found = strip()
    assert (found.k0, found.lowest, found.highest, found.count) == (100, 90, 110, 5)
    assert found.contributions == pytest.approx(0.0030644786, abs=1e-10)
    assert found.variance == pytest.approx(0.06028957, abs=1e-8)
    assert found.volatility == pytest.approx(0.245539, abs=1e-6)
    assert found.splined == (95,)
    assert (found.put_wing, found.call_wing, found.truncated) == ("end_of_data", "end_of_data", True)


def test_a_quote_whose_spread_is_above_thirty_per_cent_of_its_mid_is_as_good_as_none() -> None:
    assert strip(spread=0.30).variance == pytest.approx(0.06028957, abs=1e-8)
    assert strip(spread=0.31).reason == "one_sided"


def test_a_wing_ends_at_its_farthest_appropriate_quote() -> None:
    found = strip(calls=[11.4, 6.9, 3.4, 1.2, None])
    assert (found.highest, found.call_wing, found.put_wing) == (105, "wide_quotes", "end_of_data")
    assert strip(calls=[11.4, None, 3.4, 1.2, None], puts=[None, 1.0, 2.5, None, 9.5]).truncated is False


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (strip(years=0.0), "expired"),
        (strip(future=None), "no_future"),
        (strip(future=80.0), "no_strike_below_forward"),
        (strip(puts=[None, None, 2.5, 5.0, 9.5]), "one_sided"),
        (strip(future=111.0), "one_sided"),
        (strip(calls=[None, None, None, 1.2, 0.4]), "no_quote_at_the_money"),
        (strip([1e-6] * 5, [1e-6] * 5, future=104.9), "not_positive"),
    ],
)
def test_a_variance_that_cannot_be_had_has_its_reason(found: IndiaStrip, reason: str) -> None:
    assert (found.variance, found.volatility, found.reason) == (None, None, reason)


def black(kind: int, strikes: list[float], sigma: float, years: float, rate: float) -> Quotes:
    return [
        ql.blackFormula(kind, strike, 100.0, sigma * sqrt(years), exp(-rate * years)) for strike in strikes
    ]


DENSE = [float(strike) for strike in np.exp(np.linspace(log(30), log(300), 160))]


def test_where_all_quotes_are_appropriate_it_is_the_strip_of_the_cboe_with_the_future() -> None:
    sides = [black(kind, DENSE, 0.3, 0.2, 0.05) for kind in (ql.Option.Call, ql.Option.Put)]
    quotes = DENSE, sides[0], sides[0], sides[1], sides[1]
    ours = india_variance(*quotes, years=0.2, rate=0.05, future=100.0)
    theirs = variance_strip(*quotes, years=0.2, rate=0.05, forward=100.0)
    assert ours.variance == pytest.approx(theirs.variance, rel=1e-12)
    assert (ours.splined, ours.k0, ours.count) == ((), theirs.k0, theirs.count)


def test_quotes_that_are_missing_here_and_there_hardly_change_it() -> None:
    calls, puts = (black(kind, DENSE, 0.3, 0.2, 0.05) for kind in (ql.Option.Call, ql.Option.Put))
    terms = {"years": 0.2, "rate": 0.05, "future": 100.0}
    whole = india_variance(DENSE, calls, calls, puts, puts, **terms)
    holes = [None if at % 7 in (2, 3) else price for at, price in enumerate(puts)]
    few = india_variance(DENSE, calls, calls, holes, holes, **terms)
    assert len(few.splined) > 10
    assert few.variance == pytest.approx(whole.variance, rel=1e-5)


def test_two_expiries_make_the_index_of_thirty_days() -> None:
    near, far = (strip(years=days / 365) for days in (16, 44))
    found = constant_maturity([near, far])
    assert found.volatility is not None
    assert near.variance is not None
    assert far.variance is not None
    total = (16 * near.variance + 44 * far.variance) / 2
    assert found.volatility == pytest.approx(sqrt(total / 30))
