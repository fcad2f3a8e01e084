"""The nodes of a smile and what they come down to, against QuantLib, numpy and a root finder."""

from __future__ import annotations

from math import exp, isclose, log, sqrt

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813  as its own documentation writes it
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from enricher.analytics.volatility_smile import (
    Smile,
    smile,
    smile_measures,
    total_variance,
    volatility,
)

MONTH = 30 / 365
FORWARD = 100.0


def bent(k: float) -> float:
    return 0.2 - 0.15 * k + 0.4 * k * k


def dense(low: float = 0.5, high: float = 1.8, count: int = 4001) -> Smile:
    strikes = [FORWARD * (low + (high - low) * at / (count - 1)) for at in range(count)]
    ivs = [bent(log(strike / FORWARD)) for strike in strikes]
    return smile(strikes, ivs, ivs, FORWARD, MONTH)


def forward_delta(k: float) -> float:
    total = bent(k) * sqrt(MONTH)
    calculator = ql.BlackDeltaCalculator(ql.Option.Call, ql.DeltaVolQuote.Fwd, FORWARD, 1.0, 1.0, total)
    return float(calculator.deltaFromStrike(FORWARD * exp(k)))


columns = st.lists(
    st.tuples(st.floats(0.6, 1.6).map(lambda share: round(share, 3)), st.floats(0.05, 1.5)),
    min_size=1,
    max_size=30,
    unique_by=lambda node: node[0],
).map(sorted)


def smile_of(nodes: list[tuple[float, float]], years: float = MONTH) -> Smile:
    ivs = [iv for _, iv in nodes]
    return smile([FORWARD * share for share, _ in nodes], ivs, ivs, FORWARD, years)


def test_puts_speak_below_the_forward_calls_above_it_and_both_on_it() -> None:
    found = smile([90, 100, 110], [0.5, 0.2, 0.15], [0.3, 0.24, 0.5], 100, 1.0)
    assert found.iv == [0.3, 0.22, 0.15]
    assert found.k == pytest.approx([log(0.9), 0, log(1.1)])
    assert found.w == pytest.approx([0.09, 0.0484, 0.0225])
    assert found.reason is None


def test_on_the_forward_one_option_is_enough() -> None:
    assert smile([100], [None], [0.24], 100, 1.0).iv == [0.24]
    assert smile([100], [0.2], [None], 100, 1.0).iv == [0.2]
    assert smile([100], [0.2], [0.24], 100, 1.0, {0: "wide"}).iv == [0.24]
    assert smile([100], [0.2], [0.24], 100, 1.0, {}, {0: "wide"}).iv == [0.2]
    assert smile([100], [0.2], [0.24], 100, 1.0, {0: "stale"}, {0: "wide"}).reason == "no_nodes"


def test_a_strike_without_a_usable_option_out_of_the_money_is_left_out_with_the_reason() -> None:
    ivs = [0.3, None, 0.2, float("nan"), 0.2]
    found = smile([80, 90, 110, 120, 130], ivs, ivs, 100, 1.0, {0: "wide", 4: "wide"}, {4: "wide"})
    assert found.strikes == [80, 110]
    assert found.left_out == {90: "no_iv", 120: "no_iv", 130: "wide"}


def test_an_option_in_the_money_does_not_stand_in_for_the_one_out_of_it() -> None:
    assert smile([90, 110], [0.2, None], [None, 0.2], 100, 1.0).left_out == {90: "no_iv", 110: "no_iv"}


@pytest.mark.parametrize(
    ("forward", "years", "reason"),
    [(100, 0.0, "expired"), (100, -1, "expired"), (None, 1, "no_forward"), (0.0, 1, "no_forward")],
)
def test_without_time_or_forward_there_is_no_smile_and_every_measure_says_so(
    forward: float | None, years: float, reason: str
) -> None:
    found = smile([90, 110], [0.2, 0.2], [0.2, 0.2], forward, years)
    told = smile_measures(found)
    assert (found.reason, told.nodes) == (reason, 0)
    assert set(told.reasons.values()) == {reason}
    assert len(told.reasons) == 8


@given(columns, st.floats(-0.6, 0.6))
def test_between_nodes_variance_is_linear_and_beyond_them_unknown(
    nodes: list[tuple[float, float]], k: float
) -> None:
    found = smile_of(nodes)
    w = total_variance(found, k)
    if found.k[0] <= k <= found.k[-1]:
        assert w == pytest.approx(np.interp(k, found.k, found.w), rel=1e-9)
    else:
        assert w is None
        assert volatility(found, k) == (None, "not_bracketed")


def test_a_forward_beyond_the_strikes_has_no_volatility_at_the_money() -> None:
    assert volatility(smile([110, 120], [0.2, 0.2], [None, None], 100, 1.0), 0.0) == (None, "not_bracketed")


@given(st.floats(0.05, 2.0), st.floats(0.01, 2.0))
def test_a_flat_smile_has_neither_reversal_nor_butterfly_nor_skew(sigma: float, years: float) -> None:
    nodes = [(exp(at * 0.2 * sigma * sqrt(years) + 0.01 * at), sigma) for at in range(-12, 25)]
    told = smile_measures(smile_of(nodes, years))
    assert told.atm_iv == pytest.approx(sigma)
    assert told.average_iv == pytest.approx(sigma)
    for none in (told.risk_reversal, told.butterfly, told.slope, told.skew):
        assert none == pytest.approx(0, abs=1e-9)
    assert told.reasons == {}


def test_the_measures_of_a_dense_smile_are_those_of_the_curve_itself() -> None:
    told = smile_measures(dense())
    call = bent(brentq(lambda k: forward_delta(k) - 0.25, 0.0, 0.5))
    put = bent(brentq(lambda k: forward_delta(k) - 0.75, -0.5, 0.0))
    assert told.call_25_iv == pytest.approx(call, rel=1e-6)
    assert told.put_25_iv == pytest.approx(put, rel=1e-6)
    assert told.risk_reversal == pytest.approx(call - put, rel=1e-5)
    assert told.butterfly == pytest.approx((call + put) / 2 - bent(0), rel=1e-4)
    assert told.slope == pytest.approx(-0.15, rel=1e-6)
    assert told.skew == pytest.approx(bent(log(0.9)) - bent(log(1.1)), rel=1e-6)


def test_between_two_nodes_volatility_is_linear_in_delta() -> None:
    found = smile([95, 100, 120], [None, 0.2, 0.3], [0.2, 0.2, None], 100, 0.25)
    deltas = []
    for k, iv in zip(found.k, found.iv, strict=True):
        total = iv * sqrt(0.25)
        black = ql.BlackDeltaCalculator(ql.Option.Call, ql.DeltaVolQuote.Fwd, 100.0, 1.0, 1.0, total)
        deltas.append(black.deltaFromStrike(100 * exp(k)))
    assert deltas[1] > 0.25 > deltas[2]
    expected = np.interp(0.25, deltas[::-1], found.iv[::-1])
    assert smile_measures(found).call_25_iv == pytest.approx(expected)


def test_deltas_beyond_the_nodes_are_unknown() -> None:
    told = smile_measures(dense(0.99, 1.01, 5))
    assert (told.call_25_iv, told.put_25_iv, told.risk_reversal, told.butterfly) == (None,) * 4
    assert told.reasons["risk_reversal"] == told.reasons["butterfly"] == "not_bracketed"
    assert told.reasons["skew"] == "not_bracketed"
    assert told.atm_iv is not None


def test_a_delta_that_is_passed_more_than_once_is_ambiguous() -> None:
    ivs = [0.2, 0.2, 0.2, 2.0, 0.1]
    told = smile_measures(smile([90, 100, 110, 111, 112], ivs, ivs, 100, MONTH))
    assert told.call_25_iv is None
    assert told.reasons["call_25_iv"] == "ambiguous"


@given(columns)
def test_the_slope_is_that_of_a_parabola_through_the_nearest_three_nodes_either_side(
    nodes: list[tuple[float, float]],
) -> None:
    found = smile_of(nodes)
    told = smile_measures(found)
    below = [at for at, k in enumerate(found.k) if k < 0][-3:]
    above = [at for at, k in enumerate(found.k) if k > 0][:3]
    if not below or not above:
        assert (told.slope, told.reasons["slope"]) == (None, "not_bracketed")
        return
    used = slice(below[0], above[-1] + 1)
    ks, ivs = np.array(found.k[used]), np.array(found.iv[used])
    scale = np.abs(ks).max()
    linear = np.polyfit(ks / scale, ivs, min(2, len(ks) - 1))[-2] / scale
    assert told.slope == pytest.approx(linear, rel=1e-4, abs=1e-6)


@given(columns)
def test_the_average_weighs_by_vega(nodes: list[tuple[float, float]]) -> None:
    found = smile_of(nodes)
    vegas = []
    for strike, iv in zip(found.strikes, found.iv, strict=True):
        payoff = ql.PlainVanillaPayoff(ql.Option.Call, strike)
        vegas.append(ql.BlackCalculator(payoff, FORWARD, iv * sqrt(MONTH), 1.0).vega(MONTH))
    told = smile_measures(found).average_iv
    assert told is not None
    assert min(found.iv) - 1e-12 <= told <= max(found.iv) + 1e-12
    if sum(vegas) > 1e-100:
        assert isclose(told, np.average(found.iv, weights=vegas), rel_tol=1e-9)
