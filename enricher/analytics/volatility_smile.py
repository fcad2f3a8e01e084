"""The smile of one expiry: a volatility at every strike, and the few numbers that sum it up.

A smile has one node a strike, from the option out of the money there: k = ln(K/F) and total variance
w = sigma^2 T, with sigma a decimal a year (0.25 is 25 %) and T in years of 365 days. Between nodes w is
linear in k, beyond them nothing is known. What cannot be known is None, with its reason in snake_case.
Source of the coordinates: J. Gatheral, The Volatility Surface, 2006; of the measures at 25 delta: U. Wystup,
FX Options and Structured Products, 2006.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import erfc, exp, inf, log, sqrt
from operator import mul
from typing import Final

import msgspec

from enricher.analytics.columns import Column

Reasoned = tuple[float | None, str | None]

_D1_OF_25_DELTA: Final = 0.6744897501960817  # N(0.674...) = 0.75
_LOW, _HIGH = log(0.9), log(1.1)
_NEAREST = 3  # nodes on either side that the slope at the money rests on
_NO_FLAGS: Final[Mapping[int, str]] = {}


class Smile(msgspec.Struct, frozen=True, gc=False):
    """The nodes of one expiry as columns, ascending in ``k``; ``iv`` is sqrt(w/T).

    ``left_out`` says of the other strikes why they are no node: ``no_iv``, or the flag that their option
    came with. ``reason`` is None, or why there is no node at all: ``expired``, ``no_forward``, ``no_nodes``.
    """

    forward: float | None
    years: float
    strikes: list[float]
    k: list[float]
    w: list[float]
    iv: list[float]
    left_out: dict[float, str]
    reason: str | None


class SmileMeasures(msgspec.Struct, frozen=True, gc=False):
    """What a smile comes down to; volatilities are decimals, ``reasons`` says of each None why.

    ``risk_reversal`` is call minus put and ``butterfly`` their mean minus ``atm_iv``, at a forward delta
    N(d1) of 0.25 for the call and 0.75 for the put. ``slope`` is d sigma/dk at the money, ``skew`` is
    sigma(0.9 F) - sigma(1.1 F). ``average_iv`` is the mean over the nodes weighted by vega.
    """

    nodes: int
    atm_iv: float | None
    call_25_iv: float | None
    put_25_iv: float | None
    risk_reversal: float | None
    butterfly: float | None
    slope: float | None
    skew: float | None
    average_iv: float | None
    reasons: dict[str, str]


def smile(
    strikes: Sequence[float],
    call_ivs: Column,
    put_ivs: Column,
    forward: float | None,
    years: float,
    call_flags: Mapping[int, str] = _NO_FLAGS,
    put_flags: Mapping[int, str] = _NO_FLAGS,
) -> Smile:
    """The nodes of one expiry: puts below the forward, calls above it, on it the mean of both.

    ``strikes`` ascend, and the volatilities stand beside them. Flags are {index: reason}: an option that has
    one (``wide``, say) is left out. A strike without a usable option out of the money is no node, for the one
    in the money is traded least and its volatility rests on a sliver of its price. On the forward one option
    alone will do.
    """
    if years <= 0:
        return Smile(forward, years, [], [], [], [], {}, "expired")
    if forward is None or not 0 < forward < inf:
        return Smile(None, years, [], [], [], [], {}, "no_forward")
    kept: list[float] = []
    ks: list[float] = []
    ws: list[float] = []
    ivs: list[float] = []
    left_out: dict[float, str] = {}
    for at, strike in enumerate(strikes):
        if strike < forward:
            iv, flag = put_ivs[at], put_flags.get(at)
        elif strike > forward:
            iv, flag = call_ivs[at], call_flags.get(at)
        else:
            iv, flag = _mean(call_ivs[at], call_flags.get(at), put_ivs[at], put_flags.get(at))
        w = iv * iv * years if iv is not None and iv > 0 else 0.0
        if iv is None or not 0 < w < inf or strike <= 0:
            left_out[strike] = "no_iv"
        elif flag is not None:
            left_out[strike] = flag
        else:
            kept.append(strike)
            ks.append(log(strike / forward))
            ws.append(w)
            ivs.append(iv)
    return Smile(forward, years, kept, ks, ws, ivs, left_out, None if kept else "no_nodes")


def total_variance(smile: Smile, k: float) -> float | None:
    """w at k = ln(K/F), linear between the two nodes around it; None beyond the nodes."""
    ks, ws = smile.k, smile.w
    at = bisect_left(ks, k)
    if at == len(ks):
        return None
    if ks[at] == k:
        return ws[at]
    if at == 0:
        return None
    share = (k - ks[at - 1]) / (ks[at] - ks[at - 1])
    return ws[at - 1] + share * (ws[at] - ws[at - 1])


def volatility(smile: Smile, k: float) -> Reasoned:
    """The volatility at k = ln(K/F), and why there is none (``not_bracketed``, or the smile's own reason)."""
    if smile.reason is not None:
        return None, smile.reason
    w = total_variance(smile, k)
    return (None, "not_bracketed") if w is None else (sqrt(w / smile.years), None)


def smile_measures(smile: Smile) -> SmileMeasures:
    """All there is to say about a smile; a reason stands beside everything that cannot be said."""
    atm, no_atm = volatility(smile, 0.0)
    d1s = _d1s(smile)
    call, no_call = _iv_at_delta(smile, d1s, -_D1_OF_25_DELTA)
    put, no_put = _iv_at_delta(smile, d1s, _D1_OF_25_DELTA)
    slope, no_slope = _slope(smile)
    low, no_low = volatility(smile, _LOW)
    high, no_high = volatility(smile, _HIGH)
    reversal = None if call is None or put is None else call - put
    no_wings = no_call or no_put
    fly = None if call is None or put is None or atm is None else (call + put) / 2 - atm
    skew = None if low is None or high is None else low - high
    by_name = (
        ("atm_iv", no_atm),
        ("call_25_iv", no_call),
        ("put_25_iv", no_put),
        ("risk_reversal", no_wings),
        ("butterfly", no_wings or no_atm),
        ("slope", no_slope),
        ("skew", no_low or no_high),
        ("average_iv", smile.reason),
    )
    reasons = {name: why for name, why in by_name if why is not None}
    average = _average(smile, d1s)
    return SmileMeasures(len(smile.k), atm, call, put, reversal, fly, slope, skew, average, reasons)


def _mean(
    call: float | None, call_flag: str | None, put: float | None, put_flag: str | None
) -> tuple[float | None, str | None]:
    """On the forward neither option is in the money: the mean, or the one that is usable."""
    if call is None or call_flag is not None:
        return (put, put_flag) if put is not None else (call, call_flag)
    if put is None or put_flag is not None:
        return call, None
    return (call + put) / 2, None


def _d1s(smile: Smile) -> list[float]:
    roots = map(sqrt, smile.w)
    return [0.5 * root - k / root for k, root in zip(smile.k, roots, strict=True)]


def _iv_at_delta(smile: Smile, d1s: Sequence[float], d1: float) -> Reasoned:
    """The volatility where N(d1) has its value at ``d1``, linear in N(d1) between the nodes around it.

    ``ambiguous`` where deltas that do not fall with the strike pass the value more than once.
    """
    if smile.reason is not None:
        return None, smile.reason
    sides = [at_node >= d1 for at_node in d1s]
    at = sides.count(sides[0])
    if at == len(sides):
        return (smile.iv[-1], None) if d1s[-1] == d1 else (None, "not_bracketed")
    if sides[0] in sides[at:]:
        return None, "ambiguous"
    before, here = _normal(d1s[at - 1]), _normal(d1s[at])
    share = (_normal(d1) - before) / (here - before)
    return smile.iv[at - 1] + share * (smile.iv[at] - smile.iv[at - 1]), None


def _normal(x: float) -> float:
    return 0.5 * erfc(-x * 0.7071067811865476)


def _average(smile: Smile, d1s: Sequence[float]) -> float | None:
    """F, D and sqrt(T) are common to all vegas of an expiry, so phi(d1) alone weighs."""
    if not d1s:
        return None
    squares = list(map(mul, d1s, d1s))
    largest = min(squares)  # divided out, so that not all vegas of a far wing are 0
    vegas = [exp(0.5 * (largest - square)) for square in squares]
    whole: float = sum(map(mul, vegas, smile.iv))
    return whole / sum(vegas)


def _slope(smile: Smile) -> Reasoned:
    """d sigma/dk at 0 of the least-squares parabola through the nearest three nodes either side.

    Not of the two nodes around 0 alone: there puts give way to calls, and a small error of the forward, which
    moves the ones up and the others down, would be all that their difference shows.
    """
    if smile.reason is not None:
        return None, smile.reason
    ks = smile.k
    below = bisect_left(ks, 0.0)
    above = below + 1 if below < len(ks) and ks[below] == 0 else below
    if below == 0 or above == len(ks):
        return None, "not_bracketed"
    first, end = max(0, below - _NEAREST), min(len(ks), above + _NEAREST)
    scale = max(-ks[first], ks[end - 1])
    xs, ys = [k / scale for k in ks[first:end]], smile.iv[first:end]
    if len(xs) == 2:
        return (ys[1] - ys[0]) / ((xs[1] - xs[0]) * scale), None
    n = float(len(xs))
    s1 = s2 = s3 = s4 = t0 = t1 = t2 = 0.0
    for x, y in zip(xs, ys, strict=True):
        xx = x * x
        s1 += x
        s2 += xx
        s3 += xx * x
        s4 += xx * xx
        t0 += y
        t1 += x * y
        t2 += xx * y
    whole = n * (s2 * s4 - s3 * s3) - s1 * (s1 * s4 - s2 * s3) + s2 * (s1 * s3 - s2 * s2)
    linear = n * (t1 * s4 - s3 * t2) - t0 * (s1 * s4 - s3 * s2) + s2 * (s1 * t2 - t1 * s2)
    return linear / (whole * scale), None
