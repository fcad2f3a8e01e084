"""The forward by parity, its fallbacks, and the move that a straddle prices in."""

from __future__ import annotations

from math import exp, pi, sqrt

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813  (its usual name)
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.forward_price import (
    Forward,
    expected_move,
    forward,
    one_sigma,
    parity_forward,
    straddle,
)

Columns = tuple[list[float], list[float]]

STRIKES = [float(strike) for strike in range(90, 111, 2)]


def prices(true_forward: float, sigma: float, years: float, discount: float) -> Columns:
    deviation = sigma * sqrt(years)
    calls = [ql.blackFormula(ql.Option.Call, k, true_forward, deviation, discount) for k in STRIKES]
    puts = [ql.blackFormula(ql.Option.Put, k, true_forward, deviation, discount) for k in STRIKES]
    return calls, puts


@given(st.floats(91, 109), st.floats(0.05, 1.5), st.floats(0.01, 2), st.floats(-0.05, 0.15))
def test_prices_of_one_forward_give_it_back_with_any_volatility_time_and_rate(
    true_forward: float, sigma: float, years: float, rate: float
) -> None:
    calls, puts = prices(true_forward, sigma, years, exp(-rate * years))
    found = parity_forward(STRIKES, calls, puts, exp(-rate * years), 100)
    assert found.source == "parity"
    assert len(found.strikes) == 5
    assert found.value == pytest.approx(true_forward, rel=1e-11)


def test_the_strikes_used_are_the_five_around_the_least_difference() -> None:
    calls, puts = prices(103.1, 0.2, 0.1, 1.0)
    assert parity_forward(STRIKES, calls, puts, 1.0, 100).strikes == (100, 102, 104, 106, 108)


def test_one_bad_quote_does_not_move_the_forward() -> None:
    calls, puts = prices(100.5, 0.2, 0.1, 1.0)
    calls[STRIKES.index(100)] += 0.3
    found = parity_forward(STRIKES, calls, puts, 1.0, 100)
    assert 100 in found.strikes
    assert found.value == pytest.approx(100.5, abs=1e-12)


def test_strikes_without_both_mids_are_passed_over() -> None:
    calls: list[float | None] = [None, 5.0, 3.0, None, 1.0]
    puts: list[float | None] = [1.0, None, 2.5, 3.0, 4.0]
    found = parity_forward([90, 95, 100, 105, 110], calls, puts, 1.0, 100)
    assert found == Forward(100.5, "parity", (100,))


def test_three_pairs_are_enough_for_a_median() -> None:
    found = parity_forward([90, 100, 110], [11, 4, 1], [1, 4, 12.5], 1.0, 100)
    assert found == Forward(100, "parity", (90, 100, 110))


def test_at_the_end_of_the_strikes_the_neighbours_are_on_one_side() -> None:
    calls, puts = prices(109.7, 0.2, 0.1, 1.0)
    assert parity_forward(STRIKES, calls, puts, 1.0, 100).strikes == (102, 104, 106, 108, 110)


@pytest.mark.parametrize(("spot", "strike"), [(99.0, 100.0), (106.0, 110.0), (105.0, 100.0)])
def test_of_equal_differences_the_nearest_to_spot_counts_then_the_lower(spot: float, strike: float) -> None:
    assert parity_forward([100, 110], [4, 1], [1, 4], 1.0, spot).strikes == (strike,)


def test_without_a_pair_there_is_no_parity() -> None:
    assert parity_forward([100], [None], [3], 1.0, 100) == Forward(None, reason="no_parity_pair")
    assert parity_forward([], [], [], 1.0, 100).value is None


def best(**given_terms: float | None) -> Forward:
    terms: dict[str, float | None] = {"spot": 100, "years": 0.5, "rate": 0.06, "dividend_yield": 0.01}
    calls = [given_terms.pop("call", None)]
    return forward([100], calls, [2.0], **(terms | given_terms))  # type: ignore[arg-type]


def test_a_future_comes_before_parity_and_parity_before_carry() -> None:
    assert best(call=3.0, future=104.0) == Forward(104.0, "future")
    assert best(call=3.0).source == "parity"
    assert best().source == "carry"


def test_a_future_without_a_price_does_not_count() -> None:
    assert best(call=3.0, future=0.0).source == "parity"
    assert best(call=3.0, future=float("nan")).source == "parity"


def test_carry_is_the_forward_of_a_process_with_these_rates() -> None:
    today = ql.Date(2, 1, 2025)
    ql.Settings.instance().evaluationDate = today
    day_count = ql.Actual365Fixed()
    rate = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.06, day_count))
    dividends = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.01, day_count))
    expiry = today + 73
    expected = 100 * dividends.discount(expiry) / rate.discount(expiry)
    assert best(years=0.2).value == pytest.approx(expected, rel=1e-13)


def test_what_cannot_be_held_has_no_forward_by_carry() -> None:
    assert best(dividend_yield=None) == Forward(None, reason="no_parity_pair")


def test_nothing_is_carried_from_a_spot_of_zero() -> None:
    assert best(spot=0) == Forward(None, reason="no_parity_pair")


def test_an_expired_forward_is_spot() -> None:
    assert best(years=-0.1).value == 100


def test_a_straddle_needs_both_mids() -> None:
    assert straddle([100, 110], [4, 1], [3, None], 100) == 7
    assert straddle([100, 110], [4, 1], [3, None], 110) is None


def test_the_straddle_at_the_money_is_the_mean_absolute_move() -> None:
    calls, puts = prices(100, 0.2, 0.25, 1.0)
    move = expected_move(STRIKES, calls, puts, spot=100.3, forward=100, atm_iv=0.2, years=0.25)
    normal = np.random.default_rng(7).standard_normal(400_000)
    at_expiry = 100 * np.exp(0.1 * normal - 0.005)
    assert move.expected_move == pytest.approx(np.abs(at_expiry - 100).mean(), rel=5e-3)
    assert (move.strike, move.reason) == (100, None)
    assert move.low is not None
    assert move.high is not None
    assert move.high - 100 == pytest.approx(100 - move.low)


def test_one_sigma_is_about_what_the_straddle_says() -> None:
    calls, puts = prices(100, 0.2, 0.04, 1.0)
    cost = straddle(STRIKES, calls, puts, 100)
    assert cost is not None
    assert cost * sqrt(pi / 2) == pytest.approx(one_sigma(100, 0.2, 0.04), rel=1e-3)


def test_an_unknown_move_has_its_reason() -> None:
    def reason(call: float | None, **terms: float | None) -> str | None:
        known: dict[str, float | None] = {"forward": 100, "atm_iv": 0.2, "years": 0.1}
        return expected_move([100], [call], [2], spot=100, **(known | terms)).reason  # type: ignore[arg-type]

    assert reason(None) == "no_straddle"
    assert reason(2, years=0) == "expired"
    assert reason(2, forward=None) == "no_forward"
    assert reason(2, atm_iv=None) == "no_atm_iv"
    assert reason(2) is None


def test_once_expired_no_move_is_expected_whatever_the_straddle_is_quoted_at() -> None:
    found = expected_move([100], [3.0], [2.0], spot=100, forward=101, atm_iv=0.2, years=0.0)
    assert (found.straddle, found.expected_move, found.low, found.high) == (5.0, None, None, None)
    assert found.reason == "expired"
