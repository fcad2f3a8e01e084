"""The volatility of a variance swap by a strip of options, as the Cboe Volatility Index does it.

``variance_strip`` measures one expiry, ``constant_maturity`` interpolates two to 30 days. Source: Cboe,
Volatility Index Methodology, whose worked example it reproduces. Bids and asks are columns beside ascending
strikes; years are ACT/365, rates continuously compounded decimals, volatilities decimals a year.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import exp, fsum, inf, sqrt
from operator import attrgetter
from typing import Final, Literal

import msgspec

from enricher.analytics.columns import Column

Wing = Literal["zero_bids", "end_of_data", "wide_quotes"]

THIRTY_DAYS: Final = 30 / 365
_STOP_AFTER = 2  # zero bids in a row
_FALLS = 1 - 1e-12  # what is above this share of a total variance has not fallen


class Strip(msgspec.Struct, frozen=True, gc=False):
    """The variance of one expiry and what it rests on.

    ``variance`` is sigma^2 a year, ``volatility`` its root; None for a ``reason``: ``expired``,
    ``no_parity_pair`` (no forward), ``no_strike_below_forward``, ``one_sided`` (no put below or no call
    above ``k0``) or ``not_positive``. ``contributions`` is the sum of dK / K^2 exp(RT) Q. Strikes counted
    run from ``lowest`` to ``highest``, ``count`` in all. A wing ends at ``zero_bids``, as it should, or at
    the ``end_of_data``; then the strip is ``truncated`` and reads low, as every chain of a few strikes
    around the money does.
    """

    years: float
    forward: float | None = None
    k0: float | None = None
    contributions: float | None = None
    variance: float | None = None
    volatility: float | None = None
    lowest: float | None = None
    highest: float | None = None
    count: int = 0
    put_wing: Wing | None = None
    call_wing: Wing | None = None
    truncated: bool | None = None
    reason: str | None = None


class ConstantMaturity(msgspec.Struct, frozen=True, gc=False):
    """Volatility (a decimal a year) at a constant time to expiry, from strips at ``near`` and ``far`` years.

    ``volatility`` is None for the ``reason`` ``not_bracketed``; beside one, ``calendar_violation`` says that
    the strips contradict each other: total variance falls. ``truncated`` when either strip is. The index as
    published is 100 times the volatility.
    """

    volatility: float | None
    near: float | None = None
    far: float | None = None
    truncated: bool | None = None
    reason: str | None = None


def variance_strip(
    strikes: Sequence[float],
    call_bids: Column,
    call_asks: Column,
    put_bids: Column,
    put_asks: Column,
    *,
    years: float,
    rate: float = 0.0,
    forward: float | None = None,
) -> Strip:
    """sigma^2 = (2/T) sum dK/K^2 exp(RT) Q(K) - (F/K0 - 1)^2 / T over the options out of the money.

    F comes from parity at the strike of least |C - P| by mid (else hand it in). K0 is
    the highest strike at or below F where both legs have a mid; there Q is the mean of both. From K0 outwards
    puts below and calls above count by mid; a zero bid is left out, and two in a row end the wing. A leg that
    is unknown or crossed is left out and ends nothing. dK is half the gap between the neighbours that count,
    at both ends the one gap there is.
    """
    mids = _mids(call_bids, call_asks), _mids(put_bids, put_asks)
    return strip_by_mids(strikes, call_bids, put_bids, *mids, years, rate, forward)


def strip_by_mids(
    strikes: Sequence[float],
    call_bids: Column,
    put_bids: Column,
    calls: Column,
    puts: Column,
    years: float,
    rate: float,
    forward: float | None,
) -> Strip:
    """`variance_strip` where the mids are known already."""
    if years <= 0:
        return Strip(years, reason="expired")
    growth = exp(rate * years)
    if strikes and strikes[0] <= 0:  # the strip divides by strikes
        calls, puts = [None, *calls[1:]], [None, *puts[1:]]
    if forward is None:
        forward = parity_forward(strikes, calls, puts, growth)
        if forward is None:
            return Strip(years, reason="no_parity_pair")
    middle = bisect_right(strikes, forward) - 1
    while middle >= 0 and (calls[middle] is None or puts[middle] is None):
        middle -= 1
    if middle < 0:
        return Strip(years, forward, reason="no_strike_below_forward")
    k0 = strikes[middle]
    down, put_wing = _wing(range(middle - 1, -1, -1), put_bids, puts)
    up, call_wing = _wing(range(middle + 1, len(strikes)), call_bids, calls)
    if not down or not up:
        return Strip(years, forward, k0, reason="one_sided")
    counted = [*reversed(down), middle, *up]
    prices = [puts[at] for at in reversed(down)]
    prices.append(((calls[middle] or 0.0) + (puts[middle] or 0.0)) / 2)
    prices.extend(calls[at] for at in up)
    contributions = weighted_prices([strikes[at] for at in counted], prices, growth)
    variance = (2 * contributions - (forward / k0 - 1) ** 2) / years
    positive = variance > 0
    return Strip(
        years,
        forward,
        k0,
        contributions,
        variance if positive else None,
        sqrt(variance) if positive else None,
        strikes[counted[0]],
        strikes[counted[-1]],
        len(counted),
        put_wing,
        call_wing,
        "end_of_data" in {put_wing, call_wing},
        None if positive else "not_positive",
    )


def parity_forward(
    strikes: Sequence[float], call_mids: Column, put_mids: Column, growth: float
) -> float | None:
    """The forward at the strike of least |C - P|, K + exp(RT) (C - P); None without a pair of mids."""
    forward, least = None, inf
    for strike, call, put in zip(strikes, call_mids, put_mids, strict=True):
        if call is not None and put is not None and abs(call - put) < least:
            least = abs(call - put)
            forward = strike + growth * (call - put)
    return forward


def constant_maturity(strips: Sequence[Strip], years: float = THIRTY_DAYS) -> ConstantMaturity:
    """The volatility at ``years`` to expiry, total variance linear in time between the strips around it.

    Strips without a variance are passed over; the nearest on each side bracket, one that lies right on it
    counts alone. There is no extrapolation.
    """
    known = [strip for strip in strips if strip.variance is not None]
    years_of = attrgetter("years")
    before = max((s for s in known if s.years <= years), key=years_of, default=None)
    after = min((s for s in known if s.years >= years), key=years_of, default=None)
    if before is None or after is None:
        return ConstantMaturity(None, reason="not_bracketed")
    span = after.years - before.years
    share = (years - before.years) / span if span else 0.0
    near, far = before.years * (before.variance or 0.0), after.years * (after.variance or 0.0)
    variance = (near + share * (far - near)) / years
    truncated = bool(before.truncated or after.truncated)
    reason = "calendar_violation" if far < near * _FALLS else None
    return ConstantMaturity(sqrt(variance), before.years, after.years, truncated, reason)


def _mids(bids: Column, asks: Column) -> list[float | None]:
    return [
        None if bid is None or ask is None or not 0 < bid <= ask else (bid + ask) / 2
        for bid, ask in zip(bids, asks, strict=True)
    ]


def _wing(outwards: range, bids: Column, mids: Sequence[float | None]) -> tuple[list[int], Wing]:
    """The places that count from the money outwards, and what ended them."""
    places: list[int] = []
    zeros = 0
    for at in outwards:
        if mids[at] is not None:
            places.append(at)
            zeros = 0
        elif bids[at] == 0:
            zeros += 1
            if zeros == _STOP_AFTER:
                return places, "zero_bids"
        elif bids[at] is not None:  # crossed, or without an ask: somebody bids all the same
            zeros = 0
    return places, "end_of_data"


def weighted_prices(strikes: Sequence[float], prices: Sequence[float | None], growth: float) -> float:
    """The sum of dK / K^2 exp(RT) Q over options with these prices Q."""
    inner = [(upper - lower) / 2 for lower, upper in zip(strikes, strikes[2:], strict=False)]
    gaps = [strikes[1] - strikes[0], *inner, strikes[-1] - strikes[-2]]
    return fsum([
        gap / (strike * strike) * growth * (price or 0.0)
        for gap, strike, price in zip(gaps, strikes, prices, strict=True)
    ])  # fmt: skip
