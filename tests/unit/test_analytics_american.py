"""American options, against QuantLib's engine of the same method and against its grids."""

from __future__ import annotations

import random
from math import exp, log, sqrt
from typing import Any

import pytest
import QuantLib as ql  # noqa: N813  (its usual name)
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics import (
    american_greeks,
    american_implied_volatility,
    american_price,
    analyse,
    greeks,
    price,
)
from enricher.analytics.american import Exercise, greeks_steps, parity_forward, terms_of
from enricher.analytics.contracts import Contract
from enricher.analytics.exercise_boundary import QUICK
from enricher.analytics.forward_price import Forward
from enricher.analytics.forward_price import parity_forward as european_forward
from enricher.analytics.steps import at_once

TODAY = ql.Date(1, 1, 2025)
COUNT = ql.Actual365Fixed()
KINDS = {1: ql.Option.Call, -1: ql.Option.Put}


class Theirs:
    """Options of one volatility and expiry, priced by QuantLib."""

    def __init__(self, spot: float, days: int, sigma: float, rate: float, q: float, grid: bool = False):
        ql.Settings.instance().evaluationDate = TODAY

        def flat(level: float) -> ql.YieldTermStructureHandle:
            return ql.YieldTermStructureHandle(ql.FlatForward(TODAY, level, COUNT))

        volatility = ql.BlackConstantVol(TODAY, ql.NullCalendar(), sigma, COUNT)
        process = ql.BlackScholesMertonProcess(
            ql.QuoteHandle(ql.SimpleQuote(spot)),
            flat(q),
            flat(rate),
            ql.BlackVolTermStructureHandle(volatility),
        )
        self.exercise = ql.AmericanExercise(TODAY, TODAY + days)
        self.engine = (
            ql.FdBlackScholesVanillaEngine(process, 400, 400)
            if grid
            else ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.accurateScheme())
        )

    def option(self, kind: int, strike: float) -> ql.VanillaOption:
        option = ql.VanillaOption(ql.PlainVanillaPayoff(KINDS[kind], strike), self.exercise)
        option.setPricingEngine(self.engine)
        return option

    def price(self, kind: int, strike: float) -> float:
        return float(self.option(kind, strike).NPV())


def test_prices_of_thousands_of_random_options_are_those_of_quantlib() -> None:
    chance = random.Random(20)
    apart: list[float] = []
    quick: list[float] = []
    for _ in range(100):
        days = chance.choice([1, 3, 7, 14, 30, 60, 90, 180, 365, 730])
        sigma, years = chance.uniform(0.08, 1.2), days / 365
        rate = chance.choice([0.001, 0.01, 0.03, 0.05, 0.1])
        q = chance.choice([-0.05, 0, 0.005, 0.02, 0.05, 0.08])
        theirs = Theirs(100, days, sigma, rate, q)
        terms = terms_of(100.0, 100 * exp((rate - q) * years), years, rate)
        for kind in (1, -1):
            fine, fast = Exercise(kind, terms), Exercise(kind, terms, QUICK)
            for _ in range(10):
                strike = 100 * exp(chance.uniform(-3, 3) * sigma * sqrt(years))
                expected = theirs.price(kind, strike)
                apart.append(abs(fine.price(strike, sigma) - expected) / max(strike, 100))
                quick.append(abs(fast.price(strike, sigma) - expected) / max(strike, 100))
    assert len(apart) == 2_000
    apart.sort()
    quick.sort()
    assert sum(apart) / len(apart) < 1e-6
    assert apart[-1] < 4e-5
    assert sum(quick) / len(quick) < 3e-6
    assert quick[int(0.99 * len(quick))] < 5e-5
    assert quick[-1] < 5e-4


@pytest.mark.parametrize(
    ("kind", "strike", "days", "sigma", "rate", "q"),
    [(-1, 110, 90, 0.3, 0.05, 0.0), (-1, 95, 365, 0.2, 0.04, 0.02), (-1, 120, 30, 0.6, 0.03, -0.02),
     (1, 90, 180, 0.25, 0.03, 0.06), (1, 105, 365, 0.4, 0.02, 0.05)],
)  # fmt: skip
def test_greeks_are_those_of_a_fine_grid(
    kind: int, strike: float, days: int, sigma: float, rate: float, q: float
) -> None:
    option: dict[str, Any] = {
        "spot": 100, "strike": strike, "years": days / 365, "rate": rate, "dividend_yield": q,
        "kind": "call" if kind > 0 else "put",
    }  # fmt: skip
    found = american_greeks(**option, volatility=sigma)
    assert found is not None
    grid = Theirs(100, days, sigma, rate, q, grid=True).option(kind, strike)
    growth = exp((rate - q) * days / 365)
    assert found.delta_spot == pytest.approx(grid.delta(), abs=2e-4)
    assert found.gamma * growth**2 == pytest.approx(grid.gamma(), rel=3e-3)
    held = grid.theta() + (rate - q) * 100 * grid.delta()  # of the forward, not of spot
    assert found.theta * 365 == pytest.approx(held, rel=0.02)

    def worth(sigma: float, rate: float) -> float:
        return Theirs(100, days, sigma, rate, q).price(kind, strike)

    by_sigma = worth(sigma + 1e-3, rate) - worth(sigma - 1e-3, rate)
    by_rate = worth(sigma, rate + 1e-4) - worth(sigma, rate - 1e-4)
    assert found.vega == pytest.approx(by_sigma / 0.2, rel=1e-3)
    assert found.rho == pytest.approx(by_rate / 0.02, rel=0.02)


options = st.fixed_dictionaries(
    {
        "strike": st.floats(60, 160), "years": st.floats(1 / 365, 2), "volatility": st.floats(0.05, 1.5),
        "rate": st.sampled_from([0.0, 0.01, 0.05, 0.12]),
        "dividend_yield": st.sampled_from([-0.03, 0.0, 0.02, 0.09]), "kind": st.sampled_from(["call", "put"]),
    }
)  # fmt: skip


@given(options)
def test_an_american_option_is_worth_no_less_than_a_european_one_and_than_exercise(
    option: dict[str, Any],
) -> None:
    found = american_price(spot=100, **option)
    carry = option["rate"] - option["dividend_yield"]
    terms = {name: value for name, value in option.items() if name != "dividend_yield"}
    european = price(forward=100 * exp(carry * option["years"]), **terms)
    paid = (100 - option["strike"]) * (1 if option["kind"] == "call" else -1)
    assert found >= max(european, paid) - 1e-12
    if option["kind"] == "call" and option["dividend_yield"] <= 0 <= option["rate"]:
        assert found == pytest.approx(max(european, paid), rel=1e-12)


@given(options)
def test_a_price_gives_back_its_volatility_unless_it_is_that_of_exercise(option: dict[str, Any]) -> None:
    sigma = option.pop("volatility")
    paid = american_price(spot=100, volatility=sigma, **option)
    found, reason = american_implied_volatility(spot=100, price=paid, **option)
    if found is None:
        intrinsic = (100 - option["strike"]) * (1 if option["kind"] == "call" else -1)
        assert reason == "no_time_value"
        certain = american_price(spot=100, volatility=0, **option)
        assert paid <= max(certain * (1 + 1e-12), intrinsic + 2.1e-5 * option["strike"])
    else:
        assert american_price(spot=100, volatility=found, **option) == pytest.approx(paid, rel=1e-8)


def test_what_has_no_volatility_says_why() -> None:
    put: dict[str, Any] = {"spot": 100, "strike": 110, "years": 0.5, "rate": 0.05, "kind": "put"}
    assert american_implied_volatility(**put, price=9.9).reason == "below_intrinsic"
    assert american_implied_volatility(**put, price=10).reason == "no_time_value"
    assert american_implied_volatility(**put, price=None).reason == "no_price"
    assert american_implied_volatility(**put | {"years": 0}, price=12).reason == "expired"
    assert american_price(**put | {"years": -1}, volatility=0.2) == 10
    assert american_greeks(**put, volatility=None) is None


def test_an_option_that_is_to_be_exercised_has_the_greeks_of_the_stock() -> None:
    found = american_greeks(spot=50, strike=100, years=1, volatility=0.2, rate=0.08, kind="put")
    assert found is not None
    assert (found.delta_spot, found.gamma, found.vega, found.theta) == (pytest.approx(-1), 0, 0, 0)


def test_two_boundaries_are_refused_and_in_a_chain_they_have_a_reason() -> None:
    with pytest.raises(ValueError, match="no price for dividend_yield < rate < 0"):
        american_price(
            spot=100, strike=100, years=1, volatility=0.2, rate=-0.01, dividend_yield=-0.03, kind="put"
        )
    forward = 100 * exp(0.02)
    calls, puts = at_once(greeks_steps([100.0], [9.0], [7.0], forward, 1.0, exp(0.01), -0.01, 100.0))
    assert (calls.reasons, puts.iv, puts.reasons) == ({}, [None], {0: "negative_rate"})
    assert calls.iv[0] is not None


STRIKES = [70.0 + 5 * step for step in range(14)]
SIGMA = {strike: 0.25 - 0.15 * log(strike / 100) for strike in STRIKES}


def quoted(kind: int, days: int, rate: float, q: float) -> list[float | None]:
    return [Theirs(100, days, SIGMA[strike], rate, q).price(kind, strike) for strike in STRIKES]


@pytest.mark.parametrize(("days", "rate", "q"), [(14, 0.04, 0.0), (90, 0.05, 0.02), (365, 0.06, 0.01)])
def test_a_chain_of_american_options_gives_back_its_forward_and_its_volatilities(
    days: int, rate: float, q: float
) -> None:
    years = days / 365
    true = 100 * exp((rate - q) * years)
    calls, puts = quoted(1, days, rate, q), quoted(-1, days, rate, q)
    at_first = european_forward(STRIKES, calls, puts, exp(-rate * years), 100)
    ahead = parity_forward(at_first, STRIKES, calls, puts, 100, years, rate)
    assert ahead.value == pytest.approx(true, rel=1e-5)
    assert at_first.value is not None
    assert true - at_first.value > abs(ahead.value - true) * 20
    terms = ahead.value, years, exp(-rate * years), rate, 100
    for side in at_once(greeks_steps(STRIKES, calls, puts, *terms)):
        # A leg that hardly depends on its volatility cannot tell it.
        told = [at for at, vega in enumerate(side.vega) if vega is not None and vega > 0.005]
        assert len(told) >= 4
        found = [side.iv[at] for at in told]
        assert found == pytest.approx([SIGMA[STRIKES[at]] for at in told], abs=5e-4)


def test_a_chain_can_stop_after_every_few_options() -> None:
    quotes = quoted(1, 90, 0.05, 0.02), quoted(-1, 90, 0.05, 0.02)
    steps = greeks_steps(STRIKES, *quotes, 100 * exp(0.03 * 90 / 365), 90 / 365, 0.99, 0.05, 100)
    assert len(list(steps)) >= len(STRIKES)


def test_the_forward_of_a_future_or_of_carry_stays() -> None:
    for known in (Forward(101.0, "future"), Forward(101.0, "carry"), Forward(None, reason="no_parity_pair")):
        assert parity_forward(known, [100.0], [5.0], [4.0], 100, 1, 0.05) == known


def test_a_spot_that_does_not_fit_the_forward_is_replaced_by_one_that_does() -> None:
    for spot in (0.0, 10.0, 1e9):
        terms = terms_of(spot, 100.0, 0.1, 0.05)
        assert abs(terms.dividend_yield) <= 0.5
        assert terms.spot == pytest.approx(100 * exp((terms.dividend_yield - 0.05) * 0.1))


def test_an_analysis_goes_by_the_exercise_of_its_contract() -> None:
    legs = [
        {"strike": strike, "kind": kind, "bid": worth, "ask": worth, "oi": 10}
        for sign, kind in ((1, "call"), (-1, "put"))
        for strike, worth in zip(STRIKES, quoted(sign, 90, 0.05, 0.02), strict=True)
    ]
    terms: dict[str, Any] = {"spot": 100, "expiry": "2025-04-01", "at": "2025-01-01T00:00:00"}
    found = {}
    for exercise in ("american", "european"):
        stock = Contract(name="A", rate=0.05, expiry_time="00:00", exercise=exercise)
        found[exercise] = analyse(legs, contract=stock, **terms)
    ours, plain = found["american"], found["european"]
    assert ours.puts.iv[4:10] == pytest.approx([SIGMA[strike] for strike in STRIKES[4:10]], abs=1e-4)
    assert ours.atm_iv != pytest.approx(plain.atm_iv, abs=1e-4)
    deep = STRIKES.index(120)
    assert plain.puts.iv[deep] > SIGMA[120] + 0.01
    single = greeks(
        forward=ours.forward.value or 0, strike=100, years=ours.years, volatility=0.25, rate=0.05, kind="put"
    )
    assert single is not None
    assert ours.puts.delta[6] < single.delta
