"""Black's formula and its inverse, against QuantLib, vollib and fifty-digit arithmetic."""

from __future__ import annotations

import math
import random
import sys
from math import exp, isfinite, log, sqrt

import mpmath as mp
import pytest
import QuantLib as ql  # noqa: N813  as its own documentation writes it
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from vollib.black.implied_volatility import implied_volatility as vollib_volatility

from enricher.analytics.black76 import (
    MOST_SIGMA,
    NEAR_EXPIRY_YEARS,
    chain_greeks,
    expiry_flag,
    greeks,
    greeks_side,
    implied_volatility,
    price,
    solve_side,
)
from enricher.analytics.normalised_black import time_value, total_volatility

EPS = sys.float_info.epsilon
WEEK = 7 / 365
untimed = settings(deadline=None)
kinds = st.sampled_from([1, -1])
forwards = st.floats(0.01, 1e6)
years = st.floats(2e-6, 5.0)  # from a minute
sigmas = st.floats(0.01, 3.0)
deviations = st.floats(-6, 6)


def strike_at(forward: float, deviation: float, sigma: float, years: float) -> float:
    return forward * exp(max(-5.0, min(5.0, deviation * sigma * sqrt(years))))


def exact(kind: int, forward: float, strike: float, years: float, sigma: float) -> mp.mpf:
    """The undiscounted price to fifty digits."""
    with mp.workdps(60):
        f, k, s = mp.mpf(forward), mp.mpf(strike), mp.mpf(sigma) * mp.sqrt(mp.mpf(years))
        d1 = mp.log(f / k) / s + s / 2
        return kind * (f * mp.ncdf(kind * d1) - k * mp.ncdf(kind * (d1 - s)))


def quantlib(kind: int, forward: float, strike: float, total: float, discount: float) -> ql.BlackCalculator:
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if kind > 0 else ql.Option.Put, strike)
    return ql.BlackCalculator(payoff, forward, total, discount)


@untimed
@given(kinds, forwards, deviations, years, sigmas, st.floats(0.5, 1.1))
def test_prices_are_those_of_quantlib(
    kind: int, forward: float, deviation: float, years: float, sigma: float, discount: float
) -> None:
    strike = strike_at(forward, deviation, sigma, years)
    theirs = quantlib(kind, forward, strike, sigma * sqrt(years), discount).value()
    ours = price(kind, forward, strike, years, sigma, discount)
    assert ours == pytest.approx(theirs, rel=1e-11, abs=1e-14 * max(forward, strike))


@untimed
@given(kinds, forwards, st.floats(-30, 30), years, sigmas)
def test_a_time_value_has_its_digits_however_small(
    kind: int, forward: float, deviation: float, years: float, sigma: float
) -> None:
    strike = strike_at(forward, deviation, sigma, years)
    kind = 1 if strike >= forward else -1
    true = exact(kind, forward, strike, years, sigma)
    assume(true > 1e-290)
    assert abs(price(kind, forward, strike, years, sigma, 1.0) / true - 1) < 2e-11


@untimed
@given(forwards, deviations, years, sigmas, st.floats(0.5, 1.1))
def test_call_less_put_is_the_discounted_distance_of_forward_and_strike(
    forward: float, deviation: float, years: float, sigma: float, discount: float
) -> None:
    strike = strike_at(forward, deviation, sigma, years)
    call = price(1, forward, strike, years, sigma, discount)
    put = price(-1, forward, strike, years, sigma, discount)
    assert call - put == pytest.approx(discount * (forward - strike), abs=8 * EPS * (call + put + forward))


def test_published_prices_come_out() -> None:
    # Hull, Black's model for futures options; Haug, Black-76.
    assert price(-1, 20, 20, 4 / 12, 0.25, exp(-0.09 / 3)) == pytest.approx(1.12, abs=0.005)
    assert price(1, 19, 19, 0.75, 0.28, exp(-0.075)) == pytest.approx(1.7011, abs=5e-5)
    assert price(-1, 19, 19, 0.75, 0.28, exp(-0.075)) == pytest.approx(1.7011, abs=5e-5)


@pytest.mark.parametrize(("kind", "worth"), [(1, 4.5), (-1, 0.0)])
def test_an_expired_option_is_its_intrinsic_value(kind: int, worth: float) -> None:
    assert price(kind, 105, 100, 0.0, 0.2, 0.9) == pytest.approx(worth)
    assert price(kind, 105, 100, -1.0, 0.2, 0.9) == pytest.approx(worth)
    assert price(kind, 105, 100, 1.0, 0.0, 0.9) == pytest.approx(worth)


def test_volatility_without_end_makes_a_call_the_forward_and_a_put_the_strike() -> None:
    assert price(1, 105, 100, 1.0, 500.0, 1.0) == pytest.approx(105)
    assert price(-1, 105, 100, 1.0, 500.0, 1.0) == pytest.approx(100)


@untimed
@given(kinds, forwards, st.floats(-12, 12), years, sigmas, st.floats(0.5, 1.1))
def test_a_volatility_comes_back_as_exactly_as_its_price_can_tell(
    kind: int, forward: float, deviation: float, years: float, sigma: float, discount: float
) -> None:
    strike = strike_at(forward, deviation, sigma, years)
    true = exact(kind, forward, strike, years, sigma)
    paid = float(true * discount)
    assume(paid > 1e-280)
    found, reason = implied_volatility(kind, paid, forward, strike, years, discount)
    s = sigma * sqrt(years)
    vega = forward * float(mp.npdf(log(forward / strike) / s + s / 2)) * sqrt(years)
    attainable = EPS * float(true) / vega if vega else math.inf
    if found is None:
        assert reason in {"no_time_value", "above_maximum", "below_intrinsic"}
        assert float(true - max(0, kind * (mp.mpf(forward) - strike))) < 1e-12 * float(true)
    else:
        # The money is where F and K part, so ln(F/K) bears the rounding of small s.
        assert abs(found - sigma) < 8 * attainable + sigma * (1e-13 + 8 * EPS / s)


def test_out_of_the_money_the_error_stays_below_a_trillionth() -> None:
    dice = random.Random(20)
    worst = 0.0
    for _ in range(1500):
        years = exp(dice.uniform(log(2e-6), log(5)))
        sigma = exp(dice.uniform(log(0.01), log(3)))
        strike = strike_at(100.0, dice.uniform(-9, 9), sigma, years)
        kind = 1 if strike > 100 else -1
        paid = float(exact(kind, 100.0, strike, years, sigma))
        if paid < 1e-290:
            continue
        found, _ = implied_volatility(kind, paid, 100.0, strike, years, 1.0)
        assert found is not None
        worst = max(worst, abs(found / sigma - 1))
    assert worst < 1e-12


@untimed
@given(st.floats(0, 3), st.floats(0.01, 6))
def test_the_normalised_function_and_its_inverse_undo_each_other(a: float, s: float) -> None:
    share = time_value(a, s)
    assume(1e-280 < share < 0.999)
    top = exp(-a / 2)
    assert total_volatility(share * top, a, 1 / top, 0.0) == pytest.approx(s, rel=1e-11)


@pytest.mark.parametrize(
    ("a", "s", "guess"),
    [
        (0.8235948026176745, 0.2915635962788811, 53.12036178607634),
        (0.0018571562267749682, 0.5537639911546565, 53.104398829471),
        (0.0, 0.6094650804033296, 53.14138426757),
        (0.15608940502680352, 4.238604779775728, 53.38148),
        (0.002404503926570093, 0.08901462002527769, 9.161188e-05),
        (0.33629048230138076, 3.152370612858066, 0.01281345971),
        (8.377729196883023e-07, 0.00010495968710697559, 0.02061860832),
    ],
)
def test_a_guess_that_is_far_off_is_not_taken_for_the_answer(a: float, s: float, guess: float) -> None:
    """Places where a step of high order happens to be 0, and one that sets out where two terms cancel."""
    top = exp(-a / 2)
    beta = time_value(a, s) * top
    for near in (1 - 1e-9, 1.0, 1 + 1e-9):
        assert total_volatility(beta, a, 1 / top, guess * near) == pytest.approx(s, rel=1e-12)


@untimed
@given(kinds, st.floats(-4, 4), st.floats(0.003, 1.0), st.floats(0.03, 2.0))
def test_volatilities_are_those_of_lets_be_rational(
    kind: int, deviation: float, years: float, sigma: float
) -> None:
    strike = strike_at(100.0, deviation, sigma, years)
    kind = 1 if strike >= 100 else -1
    rate = 0.05
    paid = price(kind, 100.0, strike, years, sigma, exp(-rate * years))
    assume(paid > 1e-12)
    theirs = vollib_volatility(paid, 100.0, strike, rate, years, "c" if kind > 0 else "p")
    ours, reason = implied_volatility(kind, paid, 100.0, strike, years, exp(-rate * years))
    assert (ours, reason) == (pytest.approx(theirs, rel=1e-10), None)


@untimed
@given(kinds, deviations, years, sigmas, st.one_of(st.none(), st.floats(), st.floats(0.001, 10)))
def test_a_guess_changes_the_way_and_not_the_answer(
    kind: int, deviation: float, years: float, sigma: float, guess: float | None
) -> None:
    strike = strike_at(100.0, deviation, sigma, years)
    kind = 1 if strike >= 100 else -1
    paid = price(kind, 100.0, strike, years, sigma, 1.0)
    assume(paid > 1e-280)
    without, _ = implied_volatility(kind, paid, 100.0, strike, years, 1.0)
    found, _ = implied_volatility(kind, paid, 100.0, strike, years, 1.0, guess)
    assert found == pytest.approx(without, rel=1e-11)


@pytest.mark.parametrize(
    ("kind", "paid", "forward", "strike", "years", "discount", "reason"),
    [
        (1, None, 100, 100, 1, 1, "no_price"),
        (1, math.nan, 100, 100, 1, 1, "no_price"),
        (1, math.inf, 100, 100, 1, 1, "no_price"),
        (1, -1.0, 100, 110, 1, 1, "below_intrinsic"),
        (1, 4.99, 105, 100, 1, 1, "below_intrinsic"),
        (-1, 4.99, 95, 100, 1, 1, "below_intrinsic"),
        (1, 4.6, 105, 100, 1, 0.9, None),
        (1, 4.4, 105, 100, 1, 0.9, "below_intrinsic"),
        (1, 5.0, 105, 100, 1, 1, "no_time_value"),
        (1, 5.0 + 1e-15, 105, 100, 1, 1, "no_time_value"),
        (-1, 0.0, 105, 100, 1, 1, "no_time_value"),
        (1, 105.0, 105, 100, 1, 1, "above_maximum"),
        (-1, 100.0, 105, 100, 1, 1, "above_maximum"),
        (-1, 90.0, 105, 100, 1, 0.9, "above_maximum"),
        (1, 5.0, 105, 100, 0, 1, "expired"),
        (1, 5.0, 105, 100, -0.1, 1, "expired"),
        (1, 5.0, 0, 100, 1, 1, "no_forward"),
        (1, 5.0, math.nan, 100, 1, 1, "no_forward"),
        (1, 5.0, 100, 100, 1, 0, "no_discount"),
        (-1, 1e-160, 1e90, 1e-150, 1, 1, "far_strike"),
        (1, 1e-20, 1e-19, 1e300, 1, 1, "far_strike"),
    ],
)
def test_what_has_no_volatility_says_why(
    kind: int,
    paid: float | None,
    forward: float,
    strike: float,
    years: float,
    discount: float,
    reason: str | None,
) -> None:
    found, why = implied_volatility(kind, paid, forward, strike, years, discount)
    assert why == reason
    assert (found is None) == (reason is not None)


def test_a_volatility_outside_a_tenth_of_a_per_cent_to_a_thousand_is_kept_and_flagged() -> None:
    for sigma in (0.0005, 12.0):
        paid = price(1, 100, 100, 0.01, sigma, 1.0)
        assert implied_volatility(1, paid, 100, 100, 0.01, 1.0) == (pytest.approx(sigma), "out_of_range")
    paid = price(1, 100, 100, 0.01, MOST_SIGMA * 0.999, 1.0)
    assert implied_volatility(1, paid, 100, 100, 0.01, 1.0)[1] is None


@untimed
@given(kinds, *[st.floats(allow_nan=True, allow_infinity=True)] * 4)
def test_no_number_whatsoever_raises_or_comes_back_as_nan(
    kind: int, paid: float, forward: float, strike: float, years: float
) -> None:
    found, reason = implied_volatility(kind, paid, forward, strike, years, 1.0)
    assert (found is None and reason) or (found is not None and isfinite(found) and found > 0)
    side = greeks_side(kind, [strike], [paid], forward, years, 1.0, 0.05, forward)
    for column in (side.delta, side.gamma, side.vega, side.theta, side.rho):
        assert column[0] is None or isfinite(column[0])


@pytest.mark.parametrize(
    ("left", "flag"),
    [
        (-1.0, "expired"),
        (0.0, "expired"),
        (NEAR_EXPIRY_YEARS * 0.99, "near_expiry"),
        (NEAR_EXPIRY_YEARS, None),
    ],
)
def test_expiry_and_its_last_five_minutes_are_flagged(left: float, flag: str | None) -> None:
    assert expiry_flag(left) == flag


@untimed
@given(kinds, forwards, st.floats(-4, 4), st.floats(0.003, 3), st.floats(0.03, 1.5), st.floats(-0.02, 0.15))
def test_greeks_are_those_of_quantlib(
    kind: int, forward: float, deviation: float, years: float, sigma: float, rate: float
) -> None:
    strike = strike_at(forward, deviation, sigma, years)
    discount, spot = exp(-rate * years), forward * 0.99
    theirs = quantlib(kind, forward, strike, sigma * sqrt(years), discount)
    ours = greeks(kind, forward, strike, years, sigma, discount, rate, spot)
    assert ours is not None
    size = max(forward, strike)
    assert ours.delta == pytest.approx(theirs.deltaForward(), rel=1e-9, abs=1e-12)
    assert ours.delta_spot == pytest.approx(theirs.delta(spot), rel=1e-9, abs=1e-12)
    assert ours.gamma == pytest.approx(theirs.gammaForward(), rel=1e-9, abs=1e-12 / size)
    assert ours.vega * 100 == pytest.approx(theirs.vega(years), rel=1e-9, abs=1e-12 * size)
    assert ours.rho * 100 == pytest.approx(theirs.rho(years), rel=1e-9, abs=1e-12 * size)
    # With spot put in the forward's place QuantLib's theta has no drift: the forward is held. There a
    # day may cost more than the time value, here it does not.
    day = theirs.theta(forward, years) / 365
    remaining = theirs.value() - discount * max(0.0, kind * (forward - strike))
    assert ours.theta == pytest.approx(max(day, -remaining), rel=1e-8, abs=1e-12 * size)


def test_hulls_example_of_the_greek_letters_comes_out() -> None:
    # Hull: S = 49, K = 50, r = 5 %, sigma = 20 %, T = 0.3846; theta there holds spot.
    rate, years, spot = 0.05, 0.3846, 49.0
    forward = spot * exp(rate * years)
    call = greeks(1, forward, 50, years, 0.2, exp(-rate * years), rate, spot)
    assert call is not None
    assert call.delta_spot == pytest.approx(0.522, abs=5e-4)
    assert call.gamma * (forward / spot) ** 2 == pytest.approx(0.066, abs=5e-4)
    assert call.vega * 100 == pytest.approx(12.1, abs=0.05)
    assert call.rho * 100 == pytest.approx(8.91, abs=0.005)
    assert call.theta * 365 - rate * spot * call.delta_spot == pytest.approx(-4.31, abs=0.005)


@untimed
@given(kinds, deviations, st.floats(1e-6, 0.02), st.floats(0.05, 2), st.floats(0, 0.1))
def test_a_day_never_costs_more_than_the_time_value(
    kind: int, deviation: float, years: float, sigma: float, rate: float
) -> None:
    strike, discount = strike_at(100.0, deviation, sigma, years), exp(-rate * years)
    found = greeks(kind, 100.0, strike, years, sigma, discount, rate)
    assert found is not None
    remaining = price(kind, 100.0, strike, years, sigma, discount) - discount * max(0, kind * (100 - strike))
    assert -found.theta <= remaining + 1e-12


@pytest.mark.parametrize(
    ("years", "sigma", "reason"),
    [(0.0, 0.2, "expired"), (1.0, None, "no_volatility"), (1.0, 0.0, "no_volatility")],
)
def test_without_time_or_volatility_there_are_no_greeks(
    years: float, sigma: float | None, reason: str
) -> None:
    side = greeks_side(1, [100.0], [sigma], 100.0, years, 1.0, 0.05, 100.0)
    assert (side.delta, side.delta_spot, side.theta) == ([None], [None], [None])
    assert side.reasons == {0: reason}
    if sigma is not None:
        assert greeks(1, 100, 100, years, sigma, 1.0, 0.05) is None


STRIKES = [24000.0 + 50 * step for step in range(41)]


def test_a_chain_has_of_every_leg_what_the_leg_has_alone() -> None:
    forward, rate = 25012.3, 0.065
    discount = exp(-rate * WEEK)
    smile = [0.12 + 2 * log(strike / forward) ** 2 for strike in STRIKES]
    calls: list[float | None] = []
    puts: list[float | None] = []
    for strike, sigma in zip(STRIKES, smile, strict=True):
        calls.append(price(1, forward, strike, WEEK, sigma, discount))
        puts.append(price(-1, forward, strike, WEEK, sigma, discount))
    calls[3], puts[5] = None, 0.0
    sides = chain_greeks(STRIKES, calls, puts, forward, WEEK, discount, rate, 25000.0)
    for side, kind, prices in zip(sides, (1, -1), (calls, puts), strict=True):
        for at, strike in enumerate(STRIKES):
            value, reason = implied_volatility(kind, prices[at], forward, strike, WEEK, discount)
            assert (side.iv[at], side.reasons.get(at)) == (value, reason)
            if value is None:
                assert side.delta[at] is None
                continue
            alone = greeks(kind, forward, strike, WEEK, value, discount, rate, 25000.0)
            assert alone is not None
            row = (side.delta[at], side.delta_spot[at], side.gamma[at])
            assert row == (alone.delta, alone.delta_spot, alone.gamma)
            assert (side.vega[at], side.theta[at], side.rho[at]) == (alone.vega, alone.theta, alone.rho)
    assert (sides[0].reasons[3], sides[1].reasons[5]) == ("no_price", "no_time_value")


def test_the_volatilities_of_the_last_chain_serve_as_guesses() -> None:
    smile = [0.12 + 2 * log(strike / 25000) ** 2 for strike in STRIKES]
    prices = [price(1, 25000, strike, WEEK, sigma, 1.0) for strike, sigma in zip(STRIKES, smile, strict=True)]
    cold, _ = solve_side(1, STRIKES, prices, 25000, WEEK, 1.0)
    guesses = [None if at % 3 else 1.1 * sigma for at, sigma in enumerate(smile)]
    warm, reasons = solve_side(1, STRIKES, prices, 25000, WEEK, 1.0, guesses)
    assert warm == pytest.approx(cold, rel=1e-11)
    assert not reasons


def test_of_an_expired_chain_every_leg_is_expired() -> None:
    calls, puts = chain_greeks([100.0, 110.0], [5.0, 1.0], [1.0, None], 104.0, 0.0, 1.0, 0.05)
    assert calls.iv == calls.delta == puts.iv == [None, None]
    assert calls.reasons == puts.reasons == {0: "expired", 1: "expired"}
