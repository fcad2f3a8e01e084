"""The variance of one expiry as India VIX has it, beside that of the Cboe (`enricher.analytics.variance`).

What differs: the forward is the price of the future; a quote is appropriate when its spread is at most 30 %
of its mid; a wing goes to its farthest appropriate quote, and a strike on the way without one gets its price
from the natural cubic spline through the appropriate mids of its side. Units are those of `variance`; two
strips make the index by `variance.constant_maturity`, times 100. Source: NSE, India VIX, computation
methodology (white paper).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import exp, sqrt
from typing import Final

from enricher.analytics.columns import Column
from enricher.analytics.variance import Strip, weighted_prices

WIDEST: Final = 0.30
"""Spread of an appropriate quote, at most, as a share of its mid."""

Prices = dict[int, float]


class IndiaStrip(Strip, frozen=True, gc=False):
    """As `Strip`, with the strikes that have a price from the spline, ascending.

    Further reasons: ``no_future``, and ``no_quote_at_the_money`` (no appropriate quotes on both sides of K0,
    of calls or of puts). A wing ends at ``wide_quotes``, or, where the outermost strike of the chain has an
    appropriate quote still, at the ``end_of_data``: then it is ``truncated``.
    """

    splined: tuple[float, ...] = ()


def india_variance(
    strikes: Sequence[float],
    call_bids: Column,
    call_asks: Column,
    put_bids: Column,
    put_asks: Column,
    *,
    years: float,
    rate: float = 0.0,
    future: float | None = None,
) -> IndiaStrip:
    """The strip of one expiry: F is its ``future``, K0 the highest strike at or below F.

    Puts count below K0, calls above, at K0 the mean of both, each by its appropriate mid or by the spline.
    """
    if years <= 0:
        return IndiaStrip(years, reason="expired")
    if future is None:
        return IndiaStrip(years, reason="no_future")
    lowest, middle = bisect_right(strikes, 0), bisect_right(strikes, future) - 1  # a strip divides by strikes
    if middle < lowest:
        return IndiaStrip(years, future, reason="no_strike_below_forward")
    k0 = strikes[middle]
    put_mids, call_mids = _mids(put_bids, put_asks), _mids(call_bids, call_asks)
    first = next((at for at in range(lowest, middle) if at in put_mids), None)
    last = next((at for at in range(len(strikes) - 1, middle, -1) if at in call_mids), None)
    if first is None or last is None:
        return IndiaStrip(years, future, k0, reason="one_sided")
    puts = _filled(strikes, put_mids, range(first, middle + 1))
    calls = _filled(strikes, call_mids, range(middle, last + 1))
    if puts is None or calls is None:
        return IndiaStrip(years, future, k0, reason="no_quote_at_the_money")
    counted = strikes[first : last + 1]
    prices = [*puts[:-1], (puts[-1] + calls[0]) / 2, *calls[1:]]
    total = weighted_prices(counted, prices, exp(rate * years))
    variance = (2 * total - (future / k0 - 1) ** 2) / years
    positive = variance > 0
    put_wing, call_wing = first == lowest, last == len(strikes) - 1
    return IndiaStrip(
        years, future, k0, total,
        variance if positive else None,
        sqrt(variance) if positive else None,
        counted[0], counted[-1], len(counted),
        "end_of_data" if put_wing else "wide_quotes",
        "end_of_data" if call_wing else "wide_quotes",
        put_wing or call_wing,
        None if positive else "not_positive",
        tuple(
            strikes[at]
            for at in range(first, last + 1)
            if (at <= middle and at not in put_mids) or (at >= middle and at not in call_mids)
        ),
    )  # fmt: skip


def natural_spline(xs: Sequence[float], ys: Sequence[float], places: Sequence[float]) -> list[float]:
    """The cubic spline through two or more points, without curvature at its ends, at places between them.

    ``xs`` ascend. Source: C. de Boor, A Practical Guide to Splines, 1978.
    """
    gaps = [right - left for left, right in pairwise(xs)]
    slopes = [(right - left) / gap for (left, right), gap in zip(pairwise(ys), gaps, strict=True)]
    # Curvatures at the inner points: a tridiagonal system, solved by elimination and substitution.
    share, part = [0.0], [0.0]
    for at in range(1, len(gaps)):
        pivot = 2 * (gaps[at - 1] + gaps[at]) - gaps[at - 1] * share[-1]
        share.append(gaps[at] / pivot)
        part.append((6 * (slopes[at] - slopes[at - 1]) - gaps[at - 1] * part[-1]) / pivot)
    bends = [0.0]
    for ratio, constant in zip(reversed(share), reversed(part), strict=True):
        bends.append(constant - ratio * bends[-1])
    bends.reverse()
    values = []
    for place in places:
        at = min(max(bisect_right(xs, place) - 1, 0), len(gaps) - 1)
        gap, after, before = gaps[at], xs[at + 1] - place, place - xs[at]
        curved = (bends[at] * after**3 + bends[at + 1] * before**3) / (6 * gap)
        left = (ys[at] / gap - bends[at] * gap / 6) * after
        values.append(curved + left + (ys[at + 1] / gap - bends[at + 1] * gap / 6) * before)
    return values


def _mids(bids: Column, asks: Column) -> Prices:
    """The mids of appropriate quotes by place."""
    mids: Prices = {}
    for at, (bid, ask) in enumerate(zip(bids, asks, strict=True)):
        if bid is not None and ask is not None and 0 < bid <= ask:
            mid = (bid + ask) / 2
            if ask - bid <= WIDEST * mid * (1 + 1e-9):
                mids[at] = mid
    return mids


def _filled(strikes: Sequence[float], mids: Prices, places: range) -> list[float] | None:
    """A price for each place; None where one lies beyond all appropriate quotes. A spline may dip below 0."""
    missing = [at for at in places if at not in mids]
    found = dict(mids)
    if missing:
        known = sorted(mids)
        if missing[0] < known[0] or missing[-1] > known[-1]:
            return None
        xs, ys = [strikes[at] for at in known], [mids[at] for at in known]
        splined = natural_spline(xs, ys, [strikes[at] for at in missing])
        found.update(zip(missing, (max(price, 0.0) for price in splined), strict=True))
    return [found[at] for at in places]
