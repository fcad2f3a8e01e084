"""What the open interest of a chain is exposed to: gamma, delta, vega, premium, and where gamma changes sign.

Columns stand beside ascending ``strikes``; None is unknown and contributes nothing, and the number of legs
that do contribute is in every result. Open interest is times ``units`` (`Contract.units`) before anything
else, so results are in currency. Gamma exposure assumes that dealers are long every call and short every put:
a convention and no observation (calls count positive, puts negative). Delta, vega and premium carry no such
sign: they are those of the holders of all open options.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from operator import mul
from typing import Final

import msgspec

from enricher.analytics.columns import Column
from enricher.analytics.gamma_flip import ZeroGamma, zero_gamma_steps
from enricher.analytics.steps import at_once

ASSUMPTION: Final = "dealers long calls, short puts"

_EQUAL: Final = 1e-9  # share by which what is computed of a call and a put may differ and be equal


class GammaExposure(msgspec.Struct, frozen=True, gc=False):
    """Gamma exposure in currency per 1 % move of the underlying, by strike and in all.

    ``by_strike`` stands beside the chain's strikes, None where neither leg is known. ``call_wall`` is the
    strike of the largest positive, ``put_wall`` of the largest negative exposure (ties: nearest to the
    price), None when no strike has that sign. ``gross`` adds up the magnitudes of all legs. ``reason`` is
    ``no_gamma`` when no leg has gamma and open interest; then all is None.
    """

    net: float | None
    gross: float | None
    by_strike: list[float | None]
    call_wall: float | None
    put_wall: float | None
    legs: int
    reason: str | None = None


class Exposure(msgspec.Struct, frozen=True, gc=False):
    """One Greek or the premium over all open interest: of the calls, of the puts, and together.

    A side is None when none of its legs is known, ``total`` when neither side is.
    """

    total: float | None
    calls: float | None
    puts: float | None
    legs: int


def gamma_exposure(
    strikes: Sequence[float],
    call_gammas: Column,
    put_gammas: Column,
    call_oi: Column,
    put_oi: Column,
    *,
    price: float,
    units: float = 1.0,
) -> GammaExposure:
    """gamma * open interest * units * price^2 * 0.01 by strike, calls positive and puts negative.

    ``price`` is what the gammas are taken to: the forward for Black-76 gammas, spot for spot gammas; the
    product is the same. Signs and scale as in SqueezeMetrics, Gamma Exposure (2016).
    """
    scale = units * price * price * 0.01
    by_strike: list[float | None] = []
    known: list[float] = []
    gross = 0.0
    legs = 0
    top = bottom = 0.0
    call_wall = put_wall = None
    rows = zip(strikes, call_gammas, call_oi, put_gammas, put_oi, strict=True)
    for strike, gamma, held, gamma_put, held_put in rows:
        here = None
        if gamma is not None and held is not None:
            here = gamma * held * scale
            gross += here
            legs += 1
        if gamma_put is not None and held_put is not None:
            down = gamma_put * held_put * scale
            net = -down if here is None else here - down
            # What rounding leaves where both cancel must not make a wall.
            here = 0.0 if abs(net) <= _EQUAL * down else net
            gross += down
            legs += 1
        by_strike.append(here)
        if here is None:
            continue
        known.append(here)
        if here > top or (here == top and _nearer(strike, call_wall, price)):
            top, call_wall = here, strike
        if here < bottom or (here == bottom and _nearer(strike, put_wall, price)):
            bottom, put_wall = here, strike
    if not known:
        return GammaExposure(None, None, by_strike, None, None, 0, "no_gamma")
    return GammaExposure(fsum(known), gross, by_strike, call_wall, put_wall, legs)


def zero_gamma(
    strikes: Sequence[float],
    call_ivs: Column,
    put_ivs: Column,
    call_oi: Column,
    put_oi: Column,
    *,
    price: float | None,
    forward: float,
    years: float,
) -> ZeroGamma:
    """The root of net gamma exposure nearest to ``price``; `zero_gamma_steps` says how it is found."""
    return at_once(
        zero_gamma_steps(
            strikes, call_ivs, put_ivs, call_oi, put_oi, price=price, forward=forward, years=years
        )
    )


def exposure(calls: Column, puts: Column, call_oi: Column, put_oi: Column, units: float) -> Exposure:
    """The sum of value * open interest * units.

    Given deltas: units of the underlying. Given vegas per volatility point: currency per point. Given prices
    in currency: the premium in currency.
    """
    of_calls, call_legs = _weighed(calls, call_oi)
    of_puts, put_legs = _weighed(puts, put_oi)
    known = [side * units for side in (of_calls, of_puts) if side is not None]
    return Exposure(
        fsum(known) if known else None,
        None if of_calls is None else of_calls * units,
        None if of_puts is None else of_puts * units,
        call_legs + put_legs,
    )


def weighted_iv(call_iv: Column, put_iv: Column, call_weights: Column, put_weights: Column) -> float | None:
    """The mean volatility of all legs by weight (open interest, or vega), in the unit of the volatilities.

    Legs without volatility or with a weight that is not positive are left out; None when none is left.
    """
    ivs: Sequence[float] = [*call_iv, *put_iv]  # type: ignore[list-item]
    weights: Sequence[float] = [*call_weights, *put_weights]  # type: ignore[list-item]
    try:
        products, least = list(map(mul, ivs, weights)), min(weights, default=0)
    except TypeError:  # some are unknown
        least = -1
    if least < 0:
        legs = zip(ivs, weights, strict=True)
        known = [(iv, weight) for iv, weight in legs if iv is not None and weight is not None and weight > 0]
        products, weights = [iv * weight for iv, weight in known], [weight for _, weight in known]
    whole = fsum(weights)
    return fsum(products) / whole if whole else None


def _nearer(strike: float, than: float | None, price: float) -> bool:
    return than is not None and abs(strike - price) < abs(than - price)


def _weighed(values: Column, held: Column) -> tuple[float | None, int]:
    try:
        products = list(map(mul, values, held))
    except TypeError:  # some are unknown
        products = [
            value * amount
            for value, amount in zip(values, held, strict=True)
            if value is not None and amount is not None
        ]
    return (fsum(products) if products else None), len(products)
