"""What open interest is exposed to, against a book of options that is really revalued."""

from __future__ import annotations

from math import exp, sqrt

import pytest
import QuantLib as ql  # noqa: N813  (its usual name)
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.exposure import Exposure, exposure, gamma_exposure, weighted_iv, zero_gamma
from enricher.analytics.gamma_flip import ZeroGamma

FORWARD, YEARS, DISCOUNT = 100.0, 0.05, 0.99
STRIKES = [float(strike) for strike in range(80, 121, 5)]
IVS = [0.2 + 0.002 * abs(strike - 100) for strike in STRIKES]


def value(price: float, calls: list[float], puts: list[float]) -> float:
    """What dealers' options are worth at a forward: long the calls, short the puts."""
    book = 0.0
    for strike, iv, call, put in zip(STRIKES, IVS, calls, puts, strict=True):
        deviation = iv * sqrt(YEARS)
        book += call * ql.blackFormula(ql.Option.Call, strike, price, deviation, DISCOUNT)
        book -= put * ql.blackFormula(ql.Option.Put, strike, price, deviation, DISCOUNT)
    return book


def curvature(price: float, calls: list[float], puts: list[float], step: float = 0.02) -> float:
    """The book's second derivative in the price, from three revaluations."""
    up, here, down = (value(price + shift, calls, puts) for shift in (step, 0, -step))
    return (up - 2 * here + down) / step**2


def gammas() -> list[float]:
    """Black-76 gammas, the same for call and put."""
    found = []
    for strike, iv in zip(STRIKES, IVS, strict=True):
        payoff = ql.PlainVanillaPayoff(ql.Option.Call, strike)
        found.append(ql.BlackCalculator(payoff, FORWARD, iv * sqrt(YEARS), DISCOUNT).gammaForward())
    return found


CALLS = [10.0, 20, 60, 100, 500, 700, 900, 400, 100]
PUTS = [100.0, 400, 900, 700, 300, 100, 60, 20, 10]
GAMMAS = gammas()


def test_net_gamma_is_the_change_of_delta_for_one_per_cent_in_currency() -> None:
    found = gamma_exposure(STRIKES, GAMMAS, GAMMAS, CALLS, PUTS, price=FORWARD, units=50)
    expected = curvature(FORWARD, CALLS, PUTS) * FORWARD * FORWARD * 0.01 * 50
    assert found.net == pytest.approx(expected, rel=1e-4)
    assert found.legs == 2 * len(STRIKES)


def test_the_strikes_add_up_to_the_net_and_their_extremes_are_the_walls() -> None:
    found = gamma_exposure(STRIKES, GAMMAS, GAMMAS, CALLS, PUTS, price=FORWARD, units=1)
    by_strike = {k: v for k, v in zip(STRIKES, found.by_strike, strict=True) if v is not None}
    assert sum(by_strike.values()) == pytest.approx(found.net, rel=1e-12)
    assert found.call_wall == max(by_strike, key=by_strike.__getitem__)
    assert found.put_wall == min(by_strike, key=by_strike.__getitem__)
    assert found.gross is not None
    assert found.net is not None
    assert found.gross > abs(found.net)


def test_a_leg_without_gamma_or_open_interest_contributes_nothing() -> None:
    found = gamma_exposure([90, 100], [None, 0.1], [0.1, 0.1], [5, 10], [None, 4], price=10, units=1)
    assert found.by_strike == [None, pytest.approx(0.6)]
    assert (found.legs, found.call_wall, found.put_wall) == (2, 100, None)


def test_without_gamma_everything_is_unknown() -> None:
    found = gamma_exposure([90], [None], [0.1], [5], [None], price=10, units=1)
    assert (found.net, found.gross, found.by_strike, found.reason) == (None, None, [None], "no_gamma")


def test_a_call_and_a_put_that_cancel_but_for_rounding_are_no_wall() -> None:
    gammas = [0.1, 0.2, 0.3]
    nearly = [gamma * (1 + 1e-12) for gamma in gammas]
    found = gamma_exposure([90, 100, 110], gammas, nearly, [5, 5, 5], [5, 5, 5], price=100.0, units=1.0)
    assert (found.net, found.by_strike) == (0, [0, 0, 0])
    assert (found.call_wall, found.put_wall) == (None, None)


def test_calls_and_puts_that_cancel_but_for_rounding_have_no_zero_gamma() -> None:
    strikes, oi = [90.0, 95.0, 100.0, 105.0, 110.0], [5.0, 7.0, 3.0, 8.0, 2.0]
    calls = [0.2, 0.19, 0.18, 0.18, 0.19]
    puts = [iv * (1 + (-1) ** at * 1e-12) for at, iv in enumerate(calls)]
    found = zero_gamma(strikes, calls, puts, oi, oi, price=100.0, forward=100.0, years=0.02)
    assert (found.price, found.legs, found.reason) == (None, 10, "no_sign_change")
    now = {"price": 100.0, "forward": 100.0, "years": 0.02}
    uneven = zero_gamma(strikes, calls, puts, [5, 7, 3, 9, 2], [6, 7, 3, 8, 2], **now)
    alone = zero_gamma([90.0, 105.0], [0.2, 0.18], [0.2, 0.18], [5, 9], [6, 8], **now)
    assert uneven.price == pytest.approx(alone.price, rel=1e-9)


def test_of_equal_walls_the_nearest_to_the_price_counts() -> None:
    same = [0.1, 0.1, 0.1]
    found = gamma_exposure([90, 100, 110], same, same, [5, 5, 5], [0, 0, 0], price=101, units=1)
    assert found.call_wall == 100


def test_gamma_vanishes_and_turns_at_zero_gamma() -> None:
    found = zero_gamma(STRIKES, IVS, IVS, CALLS, PUTS, price=FORWARD, forward=FORWARD, years=YEARS)
    assert found.price is not None
    scale = max(abs(curvature(price, CALLS, PUTS)) for price in (90, 95, 100, 105, 110))
    assert curvature(found.price, CALLS, PUTS) == pytest.approx(0, abs=scale * 1e-4)
    below, above = (curvature(found.price * shift, CALLS, PUTS) for shift in (0.99, 1.01))
    assert found.rising == (below < 0 < above)


held = st.lists(st.integers(0, 1000).map(float), min_size=len(STRIKES), max_size=len(STRIKES))


@given(held, held)
def test_up_to_zero_gamma_the_book_bends_one_way(calls: list[float], puts: list[float]) -> None:
    found = zero_gamma(STRIKES, IVS, IVS, calls, puts, price=FORWARD, forward=FORWARD, years=YEARS)
    reach = max(0.0, (0.1 if found.price is None else abs(found.price / FORWARD - 1)) - 0.0005)
    net = [curvature(FORWARD * (1 + reach * step / 20), calls, puts) for step in range(-20, 21)]
    # Two roots within half a per cent may go unseen: the book bends by next to nothing between them. And
    # what three revaluations say is not exact.
    least = max(1e-5, max(map(abs, net)) * 5e-3)
    assert len({bend > 0 for bend in net if abs(bend) > least}) <= 1


@given(st.integers(9500, 10500), st.integers(1, 500), st.sampled_from([0.1, 0.15, 0.2, 0.3]), st.booleans())
def test_one_call_and_one_put_balance_where_both_are_as_far_from_the_money(
    low: int, gap: int, iv: float, call_below: bool
) -> None:
    """Of equal open interest and volatility, that is where d1 of one is -d1 of the other."""
    years = 7 / 365
    balance = sqrt(low * (low + gap)) * exp(-iv * iv * years / 2)
    call, put = ([1000.0, None], [None, 1000.0]) if call_below else ([None, 1000.0], [1000.0, None])
    found = zero_gamma(
        [low, low + gap], [iv, iv], [iv, iv], call, put, price=10_000.0, forward=10_000.0, years=years
    )
    if abs(balance / 10_000 - 1) < 0.0999:
        assert found.price == pytest.approx(balance, rel=1e-8)


@pytest.mark.parametrize(
    ("strikes", "iv", "days"),
    [((98.76096718071004, 107.49921385635108), 0.15, 2), ((97, 107), 0.1, 7), ((17301, 18185), 0.1, 2)],
)
def test_a_step_that_meets_the_balance_exactly_stays_there(
    strikes: tuple[float, float], iv: float, days: int
) -> None:
    years, at = days / 365, 17222.75 if strikes[0] > 1000 else 100.0
    balance = sqrt(strikes[0] * strikes[1]) * exp(-iv * iv * years / 2)
    for call, put in (([10, None], [None, 10]), ([None, 10], [10, None])):
        found = zero_gamma(strikes, [iv] * 2, [iv] * 2, call, put, price=at, forward=at, years=years)
        assert found.price == pytest.approx(balance, rel=1e-8)


def test_the_forward_moves_in_proportion_to_spot() -> None:
    at_forward = zero_gamma(STRIKES, IVS, IVS, CALLS, PUTS, price=FORWARD, forward=FORWARD, years=YEARS)
    at_spot = zero_gamma(STRIKES, IVS, IVS, CALLS, PUTS, price=98.0, forward=FORWARD, years=YEARS)
    assert at_forward.price is not None
    assert at_spot.price == pytest.approx(at_forward.price * 0.98, rel=1e-12)


def test_a_book_of_one_sign_has_no_zero_gamma() -> None:
    none = [0.0] * len(STRIKES)
    found = zero_gamma(STRIKES, IVS, IVS, CALLS, none, price=FORWARD, forward=FORWARD, years=YEARS)
    assert found == ZeroGamma(None, None, 2 * len(STRIKES), "no_sign_change")


def test_calls_and_puts_that_cancel_leave_no_zero_gamma() -> None:
    found = zero_gamma(STRIKES, IVS, IVS, CALLS, CALLS, price=FORWARD, forward=FORWARD, years=YEARS)
    assert found.reason == "no_sign_change"


def test_a_book_in_balance_at_the_price_turns_there() -> None:
    strikes = [100 * exp(-0.05), 100 * exp(0.05)]
    ivs = [0.2, 0.2]
    # At x = -s^2 / 2 the two bells, of equal s, have equal height.
    price = 100 * exp(-0.2 * 0.2 * 0.04 / 2)
    found = zero_gamma(strikes, ivs, ivs, [0, 5], [5, 0], price=price, forward=price, years=0.04)
    assert found.price == pytest.approx(price, rel=1e-8)
    assert found.rising is True


def test_on_the_day_of_expiry_the_search_is_finer_than_the_strikes() -> None:
    strikes = [24_400.0 + 50 * at for at in range(9)]
    calls = [0.0, 0, 0, 0, 0, 900, 0, 0, 0]
    puts = [0.0, 0, 0, 0, 0, 0, 900, 0, 0]
    ivs = [0.12] * 9
    price, years = 24_500.0, 2 / 24 / 365
    found = zero_gamma(strikes, ivs, ivs, calls, puts, price=price, forward=price, years=years)
    assert found.price == pytest.approx(24_675, rel=1e-4)
    assert found.rising is False


def test_a_gap_between_strikes_where_no_gamma_is_left_is_stepped_over() -> None:
    found = zero_gamma([95, 105], [0.1] * 2, [0.1] * 2, [0, 5], [5, 0], price=100, forward=100, years=1e-5)
    assert found.price == pytest.approx(100, abs=5)
    assert found.rising is True
    calls = zero_gamma([95, 105], [0.1] * 2, [0.1] * 2, [5, 5], [0, 0], price=100, forward=100, years=1e-5)
    assert calls.reason == "no_sign_change"


def test_expired_or_unknown_options_have_no_zero_gamma() -> None:
    assert zero_gamma([100], [0.2], [0.2], [1], [2], price=100, forward=100, years=0).reason == "expired"
    assert zero_gamma([100], [None], [0.2], [1], [None], price=1, forward=1, years=1).reason == "no_gamma"


def test_an_exposure_is_the_sum_over_what_is_known() -> None:
    assert exposure([0.5, None], [-0.5, -0.25], [10, 10], [4, None], 2) == Exposure(6.0, 10.0, -4.0, 2)
    assert exposure([None], [-0.5], [10], [4], 1) == Exposure(-2.0, None, -2.0, 1)
    assert exposure([None], [None], [10], [4], 1) == Exposure(None, None, None, 0)


def test_the_delta_exposure_is_what_the_book_gains_when_the_price_moves() -> None:
    deltas = {ql.Option.Call: [], ql.Option.Put: []}
    for kind, column in deltas.items():
        for strike, iv in zip(STRIKES, IVS, strict=True):
            payoff = ql.PlainVanillaPayoff(kind, strike)
            column.append(ql.BlackCalculator(payoff, FORWARD, iv * sqrt(YEARS), DISCOUNT).deltaForward())
    found = exposure(deltas[ql.Option.Call], deltas[ql.Option.Put], CALLS, PUTS, 1)
    holders = [-put for put in PUTS]  # `value` is short the puts
    gain = (value(FORWARD + 0.01, CALLS, holders) - value(FORWARD - 0.01, CALLS, holders)) / 0.02
    assert found.total == pytest.approx(gain, rel=1e-5)


def test_the_weighted_volatility_leaves_out_what_has_no_weight() -> None:
    assert weighted_iv([0.1, 0.2], [0.3, None], [1, 0], [3, 5]) == pytest.approx(0.25)
    assert weighted_iv([0.1], [None], [0], [4]) is None
