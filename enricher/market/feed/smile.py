"""Prices, Greeks and the volatility smile of the synthetic market.

Written apart from the pricing that the enrichments use, on purpose: a feed that shared their code
would agree with them even where both are wrong.
"""

from __future__ import annotations

import math
from typing import NamedTuple

YEAR_DAYS = 365.0
LOWEST_VOLATILITY, HIGHEST_VOLATILITY = 0.03, 3.0


class Priced(NamedTuple):
    """An option's value and Greeks: vega per volatility point, theta per calendar day."""

    price: float
    delta: float
    gamma: float
    vega: float
    theta: float


def smile(atm: float, strike: float, forward: float, years: float) -> float:
    """The volatility (decimal, 0.15 = 15 %) at a strike, around ``atm`` at the forward.

    A skew towards low strikes and a convex smile, both in ln(K/F)/sqrt(T), so that short expiries
    are steeper, as in listed equity indices.
    """
    k = math.log(strike / forward) / math.sqrt(years)
    k = max(-1.5, min(1.5, k))
    raw = atm * (1.0 - 0.45 * k + 0.55 * k * k)
    return max(LOWEST_VOLATILITY, min(HIGHEST_VOLATILITY, raw))


def price(call: bool, forward: float, strike: float, years: float, volatility: float) -> Priced:
    """Black (1976) with a rate of zero: the value is undiscounted."""
    root = math.sqrt(years)
    deviation = volatility * root
    d1 = math.log(forward / strike) / deviation + deviation / 2.0
    d2 = d1 - deviation
    sign = 1.0 if call else -1.0
    delta = sign * _cumulative(sign * d1)
    value = forward * delta - sign * strike * _cumulative(sign * d2)
    density = math.exp(-d1 * d1 / 2.0) / math.sqrt(2.0 * math.pi)
    return Priced(
        price=max(value, 0.0),
        delta=delta,
        gamma=density / (forward * deviation),
        vega=forward * density * root / 100.0,
        theta=-forward * density * volatility / (2.0 * root) / YEAR_DAYS,
    )


def _cumulative(x: float) -> float:
    return math.erfc(-x / math.sqrt(2.0)) / 2.0
