"""What the open interest of a chain is exposed to: gamma, delta, vega, premium, and where gamma changes sign.

Columns stand beside ascending ``strikes``; None is unknown and contributes nothing, and the number of legs
that do contribute is in every result. Open interest is times ``units`` (`Contract.units`) before anything
else, so results are in currency. Gamma exposure assumes that dealers are long every call and short every put:
a convention and no observation (calls count positive, puts negative). Delta, vega and premium carry no such
sign: they are those of the holders of all open options.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, expm1, fsum, inf, log, log1p, sqrt
from operator import mul
from typing import Final

import msgspec

from enricher.analytics.columns import Column
from enricher.analytics.steps import Steps, at_once

ASSUMPTION: Final = "dealers long calls, short puts"

_REACH = 0.10
_FINEST, _COARSEST = 0.002, 0.005  # steps of the search, as shares of the price
_ARRIVED = 1e-13  # in ln(price)
_LEAST_S = 1e-100  # total volatility; its square is no 0
_NOISE = 1e-14  # of all weights: what rounding leaves where calls and puts cancel
_TRIES = 40
_EQUAL = 1e-9  # share by which what is computed of a call and a put may differ and be equal

_Term = tuple[float, float, float]  # ln(F/K), -1/(2 s^2), signed weight: see `_net`


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


class ZeroGamma(msgspec.Struct, frozen=True, gc=False):
    """The price where net gamma exposure changes sign, nearest to the present price; in price units.

    ``rising`` says that exposure is negative below it and positive above. ``price`` is None for a ``reason``:
    ``no_spot``, ``expired``, ``no_gamma`` (no leg has volatility and open interest), ``no_sign_change``
    (within 10 %).
    """

    price: float | None
    rising: bool | None
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


def zero_gamma_steps(
    strikes: Sequence[float],
    call_ivs: Column,
    put_ivs: Column,
    call_oi: Column,
    put_oi: Column,
    *,
    price: float | None,
    forward: float,
    years: float,
) -> Steps[ZeroGamma]:
    """The root of net gamma exposure nearest to ``price``, with gammas repriced and volatilities kept.

    Each option keeps its volatility (a decimal a year, sticky by strike) while the price moves to 10 % below
    and above; the forward moves in proportion. Net exposure is looked at from the price outwards, in steps of
    half the narrowest sigma sqrt(T), between 0.2 % and 0.5 %; where it changes sign the root is found to 1e-9
    of the price, so that two roots within one step go unseen. Black-76 gamma is D phi(d1) / (F s), so that
    price^2 times the sum of the signed gammas has the sign of the sum of OI phi(d1) / s: all computed here.
    """
    if price is None or years <= 0:
        return ZeroGamma(None, None, 0, "no_spot" if price is None else "expired")
    if forward <= 0:
        return ZeroGamma(None, None, 0, "no_gamma")
    even = {
        at
        for at, (held, held_put) in enumerate(zip(call_oi, put_oi, strict=True))
        if held and held == held_put and _alike(call_ivs[at], put_ivs[at])
    }
    if even:  # what rounding leaves of call and put would have roots of its own
        call_oi = [None if at in even else held for at, held in enumerate(call_oi)]
        put_oi = [None if at in even else held for at, held in enumerate(put_oi)]
    ks = [log(forward / strike) if strike > 0 else None for strike in strikes]
    terms: list[_Term] = []
    legs = _add_terms(terms, ks, call_ivs, call_oi, 1.0, sqrt(years))
    legs += _add_terms(terms, ks, put_ivs, put_oi, -1.0, sqrt(years))
    legs += 2 * len(even)
    if not terms:
        return ZeroGamma(None, None, legs if even else 0, "no_sign_change" if even else "no_gamma")
    root = yield from _nearest_root(terms)
    if root is None:
        return ZeroGamma(None, None, legs, "no_sign_change")
    moved, rising = root
    return ZeroGamma(price * exp(moved), rising, legs)


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


def _alike(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one > 0 and abs(one - other) <= _EQUAL * one


def _add_terms(terms: list[_Term], ks: Column, ivs: Column, held: Column, sign: float, root: float) -> int:
    """Adds the legs that have volatility and open interest; the number of those that could have."""
    count = 0
    for k, iv, amount in zip(ks, ivs, held, strict=True):
        if k is None or iv is None or amount is None or iv <= 0:
            continue
        count += 1
        s = iv * root
        if amount > 0 and s > _LEAST_S:
            terms.append((k, -0.5 / (s * s), sign * amount / s * exp(-0.5 * k - 0.125 * s * s)))
    return count


def _net(terms: list[_Term], x: float) -> float:
    """Net gamma exposure at ln(price) + x but for a positive factor; x = 0 is the present forward.

    With y = ln(F/K) + x, d1^2/2 is y^2/(2 s^2) + y/2 + s^2/8. The exponential of x/2 is common to all terms
    and left out, what else does not depend on x is in the weights.
    """
    net = 0.0
    for k, g, weight in terms:
        y = x + k
        net += weight * exp(g * y * y)
    return net


def _net_and_rate(terms: list[_Term], x: float) -> tuple[float, float]:
    """As `_net`, and its derivative."""
    net = rate = 0.0
    for k, g, weight in terms:
        y = x + k
        part = weight * exp(g * y * y)
        net += part
        rate += part * g * y
    return net, 2 * rate


def _nearest_root(terms: list[_Term]) -> Steps[tuple[float, bool] | None]:
    """The root nearest to x = 0 and whether the function rises there; None without a change of sign.

    Points where it is 0 but for rounding (between far strikes, where calls and puts cancel) are stepped over.
    """
    noise = _NOISE * sum([abs(weight) for _, _, weight in terms])
    left = right = (0.0, _clean(_net(terms, 0.0), noise))
    undecided = right[1] == 0
    narrowest = sqrt(-0.5 / min([g for _, g, _ in terms]))
    steps = ceil(_REACH / min(max(narrowest / 2, _FINEST), _COARSEST))
    for step in range(1, steps + 1):
        yield
        roots = []
        low, high = log1p(-step * _REACH / steps), log1p(step * _REACH / steps)
        lower = (low, _clean(_net(terms, low), noise))
        if _unlike(lower[1], left[1]):
            roots.append((_root(terms, lower, left), lower[1] < 0))
        upper = (high, _clean(_net(terms, high), noise))
        if _unlike(upper[1], right[1]):
            roots.append((_root(terms, right, upper), upper[1] > 0))
        if roots:
            return min(roots, key=lambda root: abs(expm1(root[0])))
        left, right = lower if lower[1] else left, upper if upper[1] else right
        if undecided and left[1] and right[1]:
            if _unlike(left[1], right[1]):
                return 0.0, right[1] > 0
            undecided = False
    return None


def _clean(net: float, noise: float) -> float:
    return net if abs(net) > noise else 0.0


def _unlike(one: float, other: float) -> bool:
    """Whether one is negative and the other positive; their product could underflow."""
    return one < 0 < other or other < 0 < one


def _root(terms: list[_Term], left: tuple[float, float], right: tuple[float, float]) -> float:
    """The root between two points of unlike sign: Newton's steps from the secant, halves where they leave."""
    (low, at_low), (high, at_high) = left, right
    x = (low * at_high - high * at_low) / (at_high - at_low)
    last = 0.0
    for _ in range(_TRIES):
        value, rate = _net_and_rate(terms, x)
        if value == 0:
            return x
        if _unlike(value, at_low):
            high = x
        else:
            low = x
        step = value / rate if rate else inf
        if not low <= x - step <= high:
            x, last = (low + high) / 2, 0.0
            continue
        x -= step  # which is an end where the step is too small to move it
        # Each of Newton's steps is as the square of the one before, so the size of the next is known.
        step = abs(step)
        if step < _ARRIVED or (step < 1e-3 * last and step**3 < _ARRIVED * last * last):
            return x
        last = step
    return x
