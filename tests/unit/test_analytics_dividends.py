"""Dividends in cash: in forwards, in deltas, and in American options, against QuantLib's escrowed model."""

from __future__ import annotations

import random
from math import exp, log, sqrt
from typing import Any

import pytest
import QuantLib as ql  # noqa: N813  (its usual name)

from enricher.analytics import Contract, american_greeks, american_implied_volatility, american_price, analyse
from enricher.analytics.american import greeks_steps, parity_forward
from enricher.analytics.dividend_lattice import present_value
from enricher.analytics.forward_price import forward
from enricher.analytics.steps import at_once
from enricher.clock import event_us

TODAY = ql.Date(1, 1, 2025)
COUNT = ql.Actual365Fixed()
Cash = list[tuple[int, float]]


def theirs(kind: str, strike: float, days: int, sigma: float, rate: float, cash: Cash) -> ql.VanillaOption:
    """An American option on a stock of 100, on a grid; dividends by days from now."""
    ql.Settings.instance().evaluationDate = TODAY

    def flat(level: float) -> ql.YieldTermStructureHandle:
        return ql.YieldTermStructureHandle(ql.FlatForward(TODAY, level, COUNT))

    volatility = ql.BlackVolTermStructureHandle(ql.BlackConstantVol(TODAY, ql.NullCalendar(), sigma, COUNT))
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(100.0)), flat(0.0), flat(rate), volatility
    )
    schedule = [ql.FixedDividend(amount, TODAY + day) for day, amount in cash]
    side = ql.Option.Call if kind == "call" else ql.Option.Put
    option = ql.VanillaOption(ql.PlainVanillaPayoff(side, strike), ql.AmericanExercise(TODAY, TODAY + days))
    option.setPricingEngine(
        ql.FdBlackScholesVanillaEngine(
            process, schedule, 200, 300, 0, ql.FdmSchemeDesc.Douglas(), False, -1e300,
            ql.FdBlackScholesVanillaEngine.Escrowed,
        )
    )  # fmt: skip
    return option


def terms(days: int, rate: float, cash: Cash) -> dict[str, Any]:
    return {
        "spot": 100, "years": days / 365, "rate": rate,
        "dividends": [(day / 365, amount) for day, amount in cash],
    }  # fmt: skip


def test_prices_of_random_options_are_those_of_quantlib() -> None:
    chance = random.Random(4)
    apart = []
    for _ in range(40):
        days = chance.choice([14, 30, 60, 120, 250, 365])
        count = chance.choice([1, 1, 2, 3])
        cash = sorted((chance.randint(1, days - 1), chance.uniform(0.2, 2.5)) for _ in range(count))
        sigma, rate = chance.uniform(0.12, 0.7), chance.choice([0.01, 0.03, 0.05, 0.08])
        strike = 100 * exp(chance.uniform(-1.5, 1.5) * sigma * sqrt(days / 365))
        kind = chance.choice(["call", "put"])
        found = american_price(strike=strike, volatility=sigma, kind=kind, **terms(days, rate, cash))
        apart.append(abs(found - theirs(kind, strike, days, sigma, rate, cash).NPV()))
    assert sum(apart) / len(apart) < 4e-3
    assert max(apart) < 5e-2


@pytest.mark.parametrize(
    ("kind", "strike", "days", "sigma", "rate", "cash"),
    [("put", 110, 120, 0.3, 0.05, [(40, 1.0)]), ("call", 95, 60, 0.25, 0.03, [(50, 2.0)])],
)
def test_greeks_and_volatilities_are_those_of_a_grid(
    kind: str, strike: float, days: int, sigma: float, rate: float, cash: Cash
) -> None:
    known, grid = terms(days, rate, cash), theirs(kind, strike, days, sigma, rate, cash)
    found = american_greeks(strike=strike, volatility=sigma, kind=kind, **known)
    assert found is not None
    assert found.delta_spot == pytest.approx(grid.delta(), abs=3e-3)
    growth = exp(rate * days / 365)
    assert found.gamma * growth**2 == pytest.approx(grid.gamma(), rel=0.03)
    worth = [theirs(kind, strike, days, sigma + step, rate, cash).NPV() for step in (1e-2, -1e-2)]
    assert found.vega == pytest.approx((worth[0] - worth[1]) / 2, rel=0.02)
    solved = american_implied_volatility(price=grid.NPV(), strike=strike, kind=kind, **known)
    assert solved.value == pytest.approx(sigma, abs=5e-4)


@pytest.mark.parametrize(
    ("days", "rate", "cash", "apart"),
    [
        (60, 0.04, [(45, 1.0)], 1e-3),
        (20, 0.02, [(3, 0.6)], 1e-3),
        (250, 0.03, [(40, 0.6), (130, 0.6), (220, 0.6)], 5e-3),
    ],
)
def test_a_chain_gives_back_the_volatilities_of_a_grid_with_its_dividends(
    days: int, rate: float, cash: Cash, apart: float
) -> None:
    strikes = [80.0, 90.0, 95.0, 100.0, 105.0, 110.0, 125.0]
    years, paid = days / 365, tuple((day / 365, amount) for day, amount in cash)
    ahead = (100 - present_value(paid, rate)) * exp(rate * years)
    quotes = [[theirs(kind, k, days, 0.25, rate, cash).NPV() for k in strikes] for kind in ("call", "put")]
    worth = present_value(paid, rate)
    at_first = forward(strikes, *quotes, spot=100, years=years, rate=rate, dividends=worth)
    found = parity_forward(at_first, strikes, *quotes, 100, years, rate, paid)
    assert found.value == pytest.approx(ahead, rel=2e-4)
    for side in at_once(greeks_steps(strikes, *quotes, ahead, years, exp(-rate * years), rate, 100, paid)):
        told = [iv for iv, vega in zip(side.iv, side.vega, strict=True) if iv and vega and vega > 0.02]
        assert len(told) >= 4
        assert told == pytest.approx([0.25] * len(told), abs=apart)


def test_a_call_is_exercised_early_for_a_dividend_that_outweighs_the_interest() -> None:
    call: dict[str, Any] = {"spot": 100, "strike": 80, "years": 0.25, "rate": 0.04}
    call |= {"volatility": 0.2, "kind": "call"}
    small, large = ([(0.2, amount)] for amount in (0.1, 3.0))
    for dividends, early in ((small, False), (large, True)):
        rest = 100 - present_value(dividends, 0.04)
        european = american_price(**call | {"spot": rest})  # without dividends it is not exercised early
        assert (american_price(**call, dividends=dividends) > european + 0.01) is early


def test_dividends_after_expiry_and_of_nothing_do_not_count() -> None:
    put: dict[str, Any] = {"spot": 100, "strike": 105, "years": 0.5, "rate": 0.05}
    put |= {"volatility": 0.3, "kind": "put"}
    assert american_price(**put, dividends=[(0.6, 2.0), (0.1, 0.0)]) == american_price(**put)
    with pytest.raises(ValueError, match="expected less than spot"):
        american_price(**put, dividends=[(0.1, 200.0)])


def test_the_forward_by_carry_is_that_of_spot_without_the_dividends() -> None:
    found = forward([100.0], [None], [None], spot=100, years=0.5, rate=0.05, dividends=1.5)
    assert found.value == pytest.approx(98.5 * exp(0.025))
    assert forward([100.0], [None], [None], spot=1, years=0.5, dividends=1.5).reason == "no_parity_pair"


STOCK = Contract(
    name="A", zone="America/New_York", expiry_time="16:00", rate=0.05, session_open="09:30",
    session_close="16:00", dividends=(("2025-08-11", 0.5), ("2025-05-12", 0.25), ("2025-11-10", 0.5)),
)  # fmt: skip


def test_a_dividend_counts_until_the_opening_of_its_day() -> None:
    expires = STOCK.expiry_us("2025-09-19")
    before, after = (event_us(f"2025-05-12T09:{minute}:00-04:00")[0] for minute in (29, 30))
    assert [amount for _, amount in STOCK.cash_dividends(before, expires)] == [0.25, 0.5]
    ((years, amount),) = STOCK.cash_dividends(after, expires)
    assert (years * 365, amount) == (pytest.approx(91), 0.5)
    with pytest.raises(ValueError, match="dividends has '11 August'"):
        Contract(name="A", dividends=(("11 August", 0.5),))


def test_an_analysis_takes_them_off_spot() -> None:
    at = "2025-05-12T10:00:00-04:00"
    legs = [{"strike": 100, "kind": "call", "last": 7.0}]
    found = analyse(legs, contract=STOCK, spot=101.0, at=at, expiry="2025-09-19")
    worth = present_value(found.dividends, 0.05)
    assert worth == pytest.approx(0.5 * exp(-0.05 * 91 / 365), rel=1e-4)
    assert (found.forward.source, found.forward.value) == (
        "carry", pytest.approx((101 - worth) * exp(0.05 * found.years))
    )  # fmt: skip
    delta, of_spot = found.calls.delta[0], found.calls.delta_spot[0]
    assert delta is not None
    assert of_spot is not None
    assert log(of_spot / delta) == pytest.approx(0.05 * found.years)
