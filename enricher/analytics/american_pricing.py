"""One American option on a stock: its price, its implied volatility and its Greeks, from spot.

``spot`` and ``strike`` share the unit of prices; ``years`` is the time to expiry, ACT/365; ``rate`` and
``dividend_yield`` are continuously compounded decimals a year, volatilities decimals a year. ``dividends``
are paid in cash: (years until the stock trades without it, amount); those after expiry do not count. Prices
are right to about 1e-6 of the strike, with dividends in cash to 2e-5 and at most 5e-4. ValueError where a
negative rate makes two boundaries of exercise (for puts: yield < rate < 0; for calls: rate < yield < 0).
Sources: see `exercise_boundary` and `dividend_lattice`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp

from enricher.analytics import black76
from enricher.analytics.american import Exercise, Terms
from enricher.analytics.arguments import (
    AMOUNT,
    POSITIVE,
    RATE,
    VOLATILITY,
    YEARS,
    call_or_put,
    number,
    number_or_none,
)
from enricher.analytics.black76 import Greeks
from enricher.analytics.dividend_lattice import present_value
from enricher.analytics.option_pricing import ImpliedVolatility


def american_price(
    *,
    spot: float,
    strike: float,
    years: float,
    volatility: float,
    rate: float = 0.0,
    dividend_yield: float = 0.0,
    dividends: Iterable[tuple[float, float]] = (),
    kind: str,
) -> float:
    """The price of an American call or put; at and after expiry its intrinsic value.

    >>> round(american_price(spot=100, strike=110, years=0.5, volatility=0.25, rate=0.05, kind="put"), 3)
    12.119
    """
    exercise = _exercise(spot, years, rate, dividend_yield, dividends, kind)
    at, sigma = number("strike", strike, POSITIVE), number("volatility", volatility, VOLATILITY)
    if isinstance(exercise, Terms):
        return max(0.0, call_or_put(kind) * (exercise.spot - at))
    return exercise.price(at, sigma)


def american_implied_volatility(
    *,
    price: float | None,
    spot: float,
    strike: float,
    years: float,
    rate: float = 0.0,
    dividend_yield: float = 0.0,
    dividends: Iterable[tuple[float, float]] = (),
    kind: str,
) -> ImpliedVolatility:
    """The volatility at which an American option has this price; without one, the reason.

    The reasons are those of `implied_volatility`. A price within 2e-5 of the strike of what exercise pays has
    ``no_time_value``: the model is not finer.

    >>> option = {"spot": 100, "strike": 110, "years": 0.5, "rate": 0.05, "kind": "put"}
    >>> round(american_implied_volatility(**option, price=12.119).value, 3)
    0.25
    >>> american_implied_volatility(**option, price=10).reason
    'no_time_value'
    """
    paid = number_or_none("price", price, AMOUNT)
    exercise = _exercise(spot, years, rate, dividend_yield, dividends, kind)
    at, sign = number("strike", strike, POSITIVE), call_or_put(kind)
    if isinstance(exercise, Terms):
        return ImpliedVolatility(None, "expired")
    terms = exercise.terms
    european = black76.implied_volatility(sign, paid, terms.forward, at, terms.years, terms.discount)
    return ImpliedVolatility(*exercise.implied_volatility(paid, at, european))


def american_greeks(
    *,
    spot: float,
    strike: float,
    years: float,
    volatility: float | None,
    rate: float = 0.0,
    dividend_yield: float = 0.0,
    dividends: Iterable[tuple[float, float]] = (),
    kind: str,
) -> Greeks | None:
    """The Greeks in the units of `greeks`; None from expiry on, and without a volatility.

    ``rho`` is a difference of two prices, right to about 1 %.

    >>> option = {"spot": 100, "strike": 110, "years": 0.5, "rate": 0.05, "kind": "put"}
    >>> round(american_greeks(**option, volatility=0.25).delta_spot, 3)
    -0.673
    """
    exercise = _exercise(spot, years, rate, dividend_yield, dividends, kind)
    at, sigma = number("strike", strike, POSITIVE), number_or_none("volatility", volatility, VOLATILITY)
    if isinstance(exercise, Terms):
        return None
    return black76.greeks_at(exercise.greeks([at], [sigma or 0.0], exercise.terms.rest), 0)


def _exercise(
    spot: float,
    years: float,
    rate: float,
    dividend_yield: float,
    dividends: Iterable[tuple[float, float]],
    kind: str,
) -> Exercise | Terms:
    """The option's terms alone once it is expired."""
    at, left = number("spot", spot, POSITIVE), number("years", years, YEARS)
    r, q = number("rate", rate, RATE), number("dividend_yield", dividend_yield, RATE)
    sign = call_or_put(kind)
    cash = sorted(
        (number("dividends", when, YEARS), number("dividends", amount, AMOUNT)) for when, amount in dividends
    )
    cash = [(when, amount) for when, amount in cash if 0 < when <= left and amount > 0]
    rest = at - present_value(cash, r)
    if not rest > 0:
        raise ValueError(f"dividends are worth {at - rest!r}: expected less than spot, which is {spot!r}")
    terms = Terms(at, rest, rest * exp((r - q) * left), left, r, q, cash)
    if left <= 0:
        return terms
    try:
        return Exercise(sign, terms)
    except ArithmeticError as error:
        order = "dividend_yield < rate" if sign < 0 else "rate < dividend_yield"
        raise ValueError(f"rate is {r!r}, dividend_yield {q!r}: there is no price for {order} < 0") from error
