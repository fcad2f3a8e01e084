"""Variance by a strip of options, against distributions whose variance is known exactly."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log, sqrt

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813  (its usual name)

from enricher.analytics.variance import (
    THIRTY_DAYS,
    ConstantMaturity,
    Strip,
    constant_maturity,
    variance_strip,
)

DENSE = [float(strike) for strike in np.exp(np.linspace(log(10), log(1000), 1200))]


def strip_of(
    mixture: list[tuple[float, float]],
    years: float,
    rate: float,
    strikes: list[float],
    forward: float = 100.0,
) -> Strip:
    """The strip of a mixture of lognormals with one forward: (weight, volatility) each; no spread."""
    discount = exp(-rate * years)
    calls, puts = [], []
    for strike in strikes:
        for kind, column in ((ql.Option.Call, calls), (ql.Option.Put, puts)):
            parts = (
                weight * ql.blackFormula(kind, strike, forward, sigma * sqrt(years), discount)
                for weight, sigma in mixture
            )
            column.append(sum(parts))
    return variance_strip(strikes, calls, calls, puts, puts, years=years, rate=rate)


@pytest.mark.parametrize(
    ("one", "other", "weight", "years", "rate"),
    [
        (0.2, 0.2, 0.5, 0.1, 0.0),
        (0.2, 0.5, 0.7, 0.25, 0.05),
        (0.4, 0.3, 0.1, 0.5, 0.1),
        (0.3, 0.6, 0.4, 0.2, -0.01),
    ],
)
def test_a_dense_strip_has_the_variance_of_its_distribution(
    one: float, other: float, weight: float, years: float, rate: float
) -> None:
    found = strip_of([(weight, one), (1 - weight, other)], years, rate, DENSE, forward=100.3)
    assert found.forward == pytest.approx(100.3, rel=1e-9)
    # A log contract on a mixture of lognormals is worth the mixture of their variances.
    assert found.variance == pytest.approx(weight * one**2 + (1 - weight) * other**2, rel=2e-3)


def test_a_chain_of_a_few_strikes_is_truncated_and_reads_low() -> None:
    few = [float(strike) for strike in range(90, 111)]
    found = strip_of([(1.0, 0.3)], 0.25, 0.05, few)
    assert (found.put_wing, found.call_wing, found.truncated) == ("end_of_data", "end_of_data", True)
    assert found.volatility is not None
    assert found.volatility < 0.27


#          80   85   90   95  100  105  110  115  120
STRIKES = [80.0, 85.0, 90.0, 95.0, 100.0, 105.0, 110.0, 115.0, 120.0]
CALL_BIDS = [19.9, 15.0, 10.4, 6.3, 3.0, 1.2, 0.4, 0.0, 0.0]
PUT_BIDS = [0.0, 0.0, 0.3, 1.1, 2.8, 5.9, 10.1, 14.8, 19.7]


def asked(bids: list[float | None]) -> list[float | None]:
    return [None if bid is None else bid + 0.2 for bid in bids]


def strip(
    call_bids: list[float | None],
    put_bids: list[float | None],
    strikes: list[float] | None = None,
    **terms: float,
) -> Strip:
    known = {"years": 0.1, "rate": 0.02} | terms
    return variance_strip(
        strikes or STRIKES, call_bids, asked(call_bids), put_bids, asked(put_bids), **known
    )


def test_two_zero_bids_in_a_row_end_a_wing() -> None:
    found = strip([*CALL_BIDS], [*PUT_BIDS])
    assert (found.lowest, found.k0, found.highest, found.count) == (90, 100, 110, 5)
    assert (found.put_wing, found.call_wing, found.truncated) == ("zero_bids", "zero_bids", False)


def test_a_single_zero_bid_is_left_out_and_ends_nothing() -> None:
    found = strip([*CALL_BIDS], [0.0, 0.1, 0.0, 1.1, *PUT_BIDS[4:]])
    assert (found.lowest, found.count, found.put_wing) == (85, 5, "end_of_data")


def test_beyond_two_zero_bids_nothing_counts() -> None:
    found = strip([*CALL_BIDS], [0.5, 0.0, 0.0, 1.1, *PUT_BIDS[4:]])
    assert (found.lowest, found.put_wing) == (95, "zero_bids")


def test_an_unknown_leg_is_left_out_and_is_no_zero_bid() -> None:
    found = strip([*CALL_BIDS], [0.1, None, None, 1.1, *PUT_BIDS[4:]])
    assert (found.lowest, found.count, found.put_wing) == (80, 5, "end_of_data")


def test_a_crossed_quote_does_not_count() -> None:
    asks = asked([*PUT_BIDS])
    asks[3] = 1.0
    calls = asked([*CALL_BIDS])
    found = variance_strip(STRIKES, CALL_BIDS, calls, PUT_BIDS, asks, years=0.1, rate=0.02)
    assert (found.lowest, found.count) == (90, 4)


@pytest.mark.parametrize("ask", [0.05, None])
def test_a_bid_between_two_zero_bids_parts_them_though_it_does_not_count(ask: float | None) -> None:
    strikes = [70.0, 75.0, *STRIKES]
    puts = [0.2, 0.0, 0.1, 0.0, *PUT_BIDS[2:]]
    asks: list[float | None] = [bid + 0.2 for bid in puts]
    asks[2] = ask
    calls = [30.0, 25.0, *CALL_BIDS]
    call_asks = [bid + 0.2 for bid in calls]
    found = variance_strip(strikes, calls, call_asks, puts, asks, years=0.1, rate=0.02)
    assert (found.lowest, found.put_wing) == (70, "end_of_data")


def test_the_middle_strike_is_the_highest_at_or_below_the_forward() -> None:
    assert strip([*CALL_BIDS], [*PUT_BIDS], forward=104.9).k0 == 100
    assert strip([*CALL_BIDS], [*PUT_BIDS], forward=105.0).k0 == 105
    assert strip([*CALL_BIDS], [*PUT_BIDS], forward=104.9).forward == 104.9


def test_uneven_gaps_weigh_each_strike_by_half_of_what_lies_around_it() -> None:
    strikes = [50.0, 80.0, 95.0, 100.0, 103.0, 120.0, 190.0]
    price = 1.0  # of every option out of the money, so the sum is a sum of weights alone
    level: list[float | None] = [price] * len(strikes)
    found = variance_strip(strikes, level, level, level, level, years=1, rate=0, forward=100.0)
    edges = [50.0, *((a + b) / 2 for a, b in pairwise(strikes)), 190.0]
    widths = np.diff(edges)
    widths[0], widths[-1] = 30, 70
    assert found.contributions == pytest.approx(float(np.sum(widths / np.square(strikes))), rel=1e-12)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (strip([*CALL_BIDS], [*PUT_BIDS], years=0.0), "expired"),
        (strip([None] * 9, [*PUT_BIDS]), "no_parity_pair"),
        (strip([*CALL_BIDS], [*PUT_BIDS], forward=70.0), "no_strike_below_forward"),
        (strip([None, None, None, None, 3.0, 0.0, 0.0, 0.0, 0.0], [*PUT_BIDS]), "one_sided"),
        (strip([3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [80.0, 100.0, 120.0], forward=10_000.0), "one_sided"),
        (strip([0.01] * 9, [0.01] * 9, forward=119.0), "not_positive"),
        (variance_strip([], [], [], [], [], years=0.1, rate=0.0), "no_parity_pair"),
    ],
)
def test_a_variance_that_cannot_be_had_has_its_reason(found: Strip, reason: str) -> None:
    assert (found.variance, found.volatility, found.reason) == (None, None, reason)


def test_a_strike_of_zero_is_left_out() -> None:
    found = strip([99.0, *CALL_BIDS], [0.1, *PUT_BIDS], [0.0, *STRIKES])
    assert found.variance is not None
    assert found.lowest == 90


def known(days: float, volatility: float, truncated: bool = False) -> Strip:
    years = days / 365
    return Strip(years, variance=volatility**2, volatility=volatility, truncated=truncated)


def test_one_volatility_at_both_ends_is_the_volatility_between() -> None:
    found = constant_maturity([known(23, 0.2), known(37, 0.2)])
    assert found.volatility == pytest.approx(0.2, rel=1e-14)
    assert (found.near, found.far) == (23 / 365, 37 / 365)


def test_total_variance_is_linear_in_time_between_the_nearest_around() -> None:
    strips = [known(90, 0.5), known(20, 0.1), known(40, 0.2), known(5, 0.9)]
    total = np.interp(30, [20, 40], [20 * 0.01, 40 * 0.04])
    assert constant_maturity(strips).volatility == pytest.approx(sqrt(total / 30), rel=1e-14)


def test_strips_that_contradict_each_other_have_a_volatility_and_say_so() -> None:
    near, far = 20 / 365, 40 / 365
    falling = [Strip(near, variance=0.09), Strip(far, variance=0.04)]
    found = constant_maturity(falling)
    assert found.volatility == pytest.approx(sqrt((0.09 * near + 0.04 * far) / 2 / THIRTY_DAYS))
    assert found.reason == "calendar_violation"
    level = constant_maturity([Strip(near, variance=0.08), Strip(far, variance=0.04)])
    assert level.reason is None


def test_a_strip_right_at_the_maturity_speaks_alone() -> None:
    exact = Strip(THIRTY_DAYS, variance=0.04, truncated=True)
    found = constant_maturity([known(10, 0.4), exact, known(60, 0.1)])
    assert found == ConstantMaturity(pytest.approx(0.2), THIRTY_DAYS, THIRTY_DAYS, True)


def test_there_is_no_extrapolation() -> None:
    missing = Strip(40 / 365, reason="one_sided")
    assert constant_maturity([known(10, 0.2), known(20, 0.2), missing]).reason == "not_bracketed"
    assert constant_maturity([known(31, 0.2)]) == ConstantMaturity(None, reason="not_bracketed")


def test_what_is_truncated_at_one_end_is_truncated() -> None:
    assert constant_maturity([known(20, 0.2), known(40, 0.2, truncated=True)]).truncated is True
