"""Where the gamma exposure of a chain changes sign, sought from the present price outwards."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, expm1, log, log1p, sqrt
from typing import Final

import msgspec

from enricher.analytics.steps import Steps

Values = Sequence[float | None]
_Term = tuple[float, float, float]  # ln(F/K), -1/(2 s^2), signed weight: see `_net`

_REACH: Final = 0.10
_FINEST: Final = 0.002  # steps of the search, as shares of the price
_COARSEST: Final = 0.005
_ARRIVED: Final = 1e-13  # in ln(price)
_LEAST_S: Final = 1e-100  # total volatility; its square is no 0
_NOISE: Final = 1e-14  # of all weights: what rounding leaves where calls and puts cancel
_TRIES: Final = 40
_EQUAL: Final = 1e-9  # share by which what is computed of a call and a put may differ and be equal


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


def zero_gamma_steps(
    strikes: Sequence[float],
    call_ivs: Values,
    put_ivs: Values,
    call_oi: Values,
    put_oi: Values,
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


def _alike(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one > 0 and abs(one - other) <= _EQUAL * one


def _add_terms(terms: list[_Term], ks: Values, ivs: Values, held: Values, sign: float, root: float) -> int:
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
        step = value / rate if rate else _REACH
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
