"""Vanna, charm and volga under Black's formula on the forward, of every leg and of the open interest.

With s = sigma sqrt(T), d1 = ln(F/K)/s + s/2 and d2 = d1 - s, the forward held where time passes:

    vanna = d delta / d sigma = -D phi(d1) d2 / sigma            per volatility point: / 100
    charm = -d delta / d T = r delta + D phi(d1) d2 / (2 T)      per calendar day: / 365
    volga = d vega / d sigma = D F phi(d1) sqrt(T) d1 d2 / sigma per point and point: / 10,000

Call and put of one strike have the same vanna and volga. Units of arguments are those of
`enricher.analytics.black76`. Source: E. G. Haug, The Complete Guide to Option Pricing Formulas, 2007
(DdeltaDvol, DdeltaDtime, DvegaDvol), on the forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, exp, fsum, log, pi, sqrt
from typing import Final

import msgspec

from enricher.analytics.columns import Column

_C: Final = 1 / sqrt(2 * pi)
_EQUAL: Final = 1e-9  # share by which what is computed of a call and a put may differ and be equal


class SecondOrder(msgspec.Struct, frozen=True, gc=False):
    """Calls or puts as columns beside the strikes, None where there is no volatility.

    ``vanna`` is the change of delta per volatility point, ``charm`` that of delta per calendar day with the
    forward held, ``volga`` the change of vega (per point) per volatility point.
    """

    vanna: list[float | None]
    charm: list[float | None]
    volga: list[float | None]


class StrikeExposure(msgspec.Struct, frozen=True, gc=False):
    """A Greek over the open interest, by strike and in all; calls count positive, puts negative.

    ``by_strike`` stands beside the chain's strikes, None where neither leg is known. ``gross`` adds up the
    magnitudes of all ``legs`` that count. Without any, ``reason`` is ``no_greek`` and the sums are None.
    """

    net: float | None
    gross: float | None
    by_strike: list[float | None]
    legs: int
    reason: str | None = None


class SecondOrderAnalysis(msgspec.Struct, frozen=True, gc=False):
    """Second-order Greeks of a chain, and what its open interest makes of them, in currency.

    ``vanna_exposure``: value of the delta that dealers gain per volatility point; ``charm_exposure``: per
    calendar day; ``volga_exposure``: vega gained per volatility point. Dealers are taken to be long every
    call and short every put, as for gamma exposure.
    """

    calls: SecondOrder
    puts: SecondOrder
    vanna_exposure: StrikeExposure
    charm_exposure: StrikeExposure
    volga_exposure: StrikeExposure


def second_order_side(
    kind: int,
    strikes: Sequence[float],
    sigmas: Column,
    forward: float,
    years: float,
    discount: float,
    rate: float,
) -> SecondOrder:
    """The three of every leg that has a volatility; ``kind`` is +1 for calls and -1 for puts."""
    vanna: list[float | None] = [None] * len(strikes)
    charm, volga = vanna[:], vanna[:]
    root = sqrt(years) if years > 0 else 0.0
    for at, (strike, sigma) in enumerate(zip(strikes, sigmas, strict=True)):
        if sigma is None or not 1e-9 < sigma < 1e3 or not root:
            continue
        s = sigma * root
        d1 = log(forward / strike) / s + 0.5 * s
        d2 = d1 - s
        bell = discount * _C * exp(-0.5 * d1 * d1)
        delta = kind * 0.5 * discount * erfc(-kind * sqrt(0.5) * d1)
        vanna[at] = -0.01 * bell * d2 / sigma
        charm[at] = (rate * delta + bell * d2 / (2 * years)) / 365
        volga[at] = 1e-4 * forward * root * bell * d1 * d2 / sigma
    return SecondOrder(vanna, charm, volga)


def signed_exposure(
    calls: Column, puts: Column, call_oi: Column, put_oi: Column, scale: float = 1.0
) -> StrikeExposure:
    """value * open interest * ``scale`` by strike, calls positive and puts negative.

    What a call and a put leave of each other by rounding (1e-9) is 0.
    """
    by_strike: list[float | None] = []
    gross = 0.0
    legs = 0
    for call, held, put, held_put in zip(calls, call_oi, puts, put_oi, strict=True):
        here = None
        if call is not None and held is not None:
            here = call * held * scale
            gross += abs(here)
            legs += 1
        if put is not None and held_put is not None:
            other = put * held_put * scale
            gross += abs(other)
            legs += 1
            net = -other if here is None else here - other
            here = 0.0 if abs(net) <= _EQUAL * abs(other) else net
        by_strike.append(here)
    if not legs:
        return StrikeExposure(None, None, by_strike, 0, "no_greek")
    return StrikeExposure(fsum([x for x in by_strike if x is not None]), gross, by_strike, legs)


def second_order_analysis(
    strikes: Sequence[float],
    call_ivs: Column,
    put_ivs: Column,
    call_oi: Column,
    put_oi: Column,
    *,
    forward: float,
    years: float,
    discount: float,
    rate: float,
    units: float = 1.0,
) -> SecondOrderAnalysis:
    """All of a chain; ``units`` is that of `Contract.units`."""
    terms = (forward, years, discount, rate)
    calls = second_order_side(1, strikes, call_ivs, *terms)
    puts = second_order_side(-1, strikes, put_ivs, *terms)
    return SecondOrderAnalysis(
        calls,
        puts,
        signed_exposure(calls.vanna, puts.vanna, call_oi, put_oi, units * forward),
        signed_exposure(calls.charm, puts.charm, call_oi, put_oi, units * forward),
        signed_exposure(calls.volga, puts.volga, call_oi, put_oi, units),
    )
