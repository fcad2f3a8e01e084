"""One European option: its price, its implied volatility and its Greeks, by Black's formula on the forward.

``forward`` is the forward price of the underlying for the expiry (`enricher.analytics.forward` finds it), in
the unit of strike and price; ``years`` is the time to expiry, ACT/365; ``rate`` a continuously compounded
decimal a year; volatilities are decimals a year (0.25 is 25 %). Sources: F. Black, The pricing of commodity
contracts, 1976; J. Hull, Options, Futures, and Other Derivatives.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

from enricher.analytics import black76
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
from enricher.analytics.second_order import second_order_side


class SecondOrderGreeks(NamedTuple):
    """``vanna``: change of delta per volatility point; ``charm``: of delta per calendar day, with the forward
    held; ``volga``: of vega (per point) per point.
    """

    vanna: float
    charm: float
    volga: float


class ImpliedVolatility(NamedTuple):
    """A volatility, a decimal a year; None for a ``reason``, which may also stand beside a doubtful one."""

    value: float | None
    reason: str | None


def price(
    *, forward: float, strike: float, years: float, volatility: float, rate: float = 0.0, kind: str
) -> float:
    """The price of a call or a put, discounted; at and after expiry its intrinsic value.

    >>> round(price(forward=19, strike=19, years=0.75, volatility=0.28, rate=0.10, kind="call"), 4)
    1.7011
    """
    left = max(number("years", years, YEARS), 0.0)
    return black76.price(
        call_or_put(kind),
        number("forward", forward, POSITIVE),
        number("strike", strike, POSITIVE),
        left,
        number("volatility", volatility, VOLATILITY),
        exp(-number("rate", rate, RATE) * left),
    )


def implied_volatility(
    *, price: float | None, forward: float | None, strike: float, years: float, rate: float = 0.0, kind: str
) -> ImpliedVolatility:
    """The volatility at which Black's formula gives this price; without one, the reason.

    A ``price`` or a ``forward`` of None or NaN is not known: ``no_price``, ``no_forward``. Other reasons are
    ``expired``, ``below_intrinsic`` and ``above_maximum`` (no volatility gives such a price: it could be
    traded against), ``no_time_value`` (it is the intrinsic value, which says nothing), ``far_strike`` and
    ``no_discount``. Beside a volatility outside 0.1 % to 1000 % stands ``out_of_range``.

    >>> implied_volatility(price=1.7011, forward=19, strike=19, years=0.75, rate=0.10, kind="call")
    ImpliedVolatility(value=0.28000..., reason=None)
    >>> implied_volatility(price=4, forward=105, strike=100, years=0.1, kind="call")
    ImpliedVolatility(value=None, reason='below_intrinsic')
    """
    left = number("years", years, YEARS)
    value, reason = black76.implied_volatility(
        call_or_put(kind),
        number_or_none("price", price, AMOUNT),
        number_or_none("forward", forward, POSITIVE) or 0.0,
        number("strike", strike, POSITIVE),
        left,
        exp(-number("rate", rate, RATE) * max(left, 0.0)),
    )
    return ImpliedVolatility(value, reason)


def greeks(
    *,
    forward: float,
    strike: float,
    years: float,
    volatility: float | None,
    rate: float = 0.0,
    kind: str,
    spot: float | None = None,
) -> Greeks | None:
    """The Greeks in traders' units; None from expiry on, and without a volatility (None, NaN or 0).

    ``delta`` and ``gamma`` are per unit of the forward, ``delta_spot`` per unit of spot where ``spot`` is
    given; ``vega`` is per volatility point, ``theta`` per calendar day, ``rho`` per 1 % of rate.
    """
    left, rate = number("years", years, YEARS), number("rate", rate, RATE)
    return black76.greeks(
        call_or_put(kind),
        number("forward", forward, POSITIVE),
        number("strike", strike, POSITIVE),
        left,
        number_or_none("volatility", volatility, VOLATILITY) or 0.0,
        exp(-rate * max(left, 0.0)),
        rate,
        number_or_none("spot", spot, POSITIVE),
    )


def second_order_greeks(
    *, forward: float, strike: float, years: float, volatility: float | None, rate: float = 0.0, kind: str
) -> SecondOrderGreeks | None:
    """Vanna, charm and volga in traders' units, per unit of the forward; None where `greeks` is.

    >>> terms = {"forward": 100, "strike": 105, "years": 0.25, "volatility": 0.2, "kind": "call"}
    >>> round(second_order_greeks(**terms).vanna, 5)
    0.00975
    """
    ahead, at = number("forward", forward, POSITIVE), number("strike", strike, POSITIVE)
    left, rate = number("years", years, YEARS), number("rate", rate, RATE)
    sigma = number_or_none("volatility", volatility, VOLATILITY)
    discount = exp(-rate * max(left, 0.0))
    side = second_order_side(call_or_put(kind), [at], [sigma], ahead, left, discount, rate)
    vanna, charm, volga = side.vanna[0], side.charm[0], side.volga[0]
    return None if vanna is None or charm is None or volga is None else SecondOrderGreeks(vanna, charm, volga)
