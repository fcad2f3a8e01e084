"""The price to compute a leg with, and the unit of the volatilities a vendor sends.

``choose`` takes the columns of one side of a chain to one price a leg: the middle of the quote, else the
last trade while it is fresh, else None. ``volatility_unit`` tells percent from decimals, chain by chain.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from math import inf
from statistics import median
from typing import Final, Literal

import msgspec

from enricher.analytics.columns import Column

Source = Literal["mid", "last"]
Unit = Literal["percent", "decimal"]
Values = Sequence[float | None]

MAX_AGE: Final = 300.0
"""Seconds after which a quote or a trade is stale."""
WIDE_SHARE: Final = 0.5
WIDE_TICKS: Final = 5
PERCENT_FROM: Final = 5.0
"""A median volatility above this is percent: as a decimal it would be 500 %."""
DECIMAL_BELOW: Final = 1.5
"""A median volatility below this is a decimal: as percent hardly any market is so calm."""
_LARGEST = 1e100  # of prices; beyond it sums would not stay finite
_EVIDENCE = 3  # volatilities of our own that outvote the size of the vendor's
_APART = 10.0  # geometric middle between the same unit (1) and percent of a decimal (100)
_NEAR_UNIT = 10**0.5
_LEAST_IV, _MOST_IV = 0.001, 10.0
_LEAST_OWN, _MOST_OWN = 0.01, 3.0  # beyond them it is rather the price that is odd


def choose(
    bids: Column, asks: Column, lasts: Column, tick_size: float, stale: Set[int] = frozenset()
) -> tuple[list[float | None], list[Source | None], dict[int, str]]:
    """The price of every leg, where it is from, and {index: reason} where there is something to say.

    The columns are those of `analytics.staleness`, which has taken out what is too old; ``stale`` are the
    places where it did. A field that is NaN, infinite or negative does not count, nor does a last of 0 (no
    trade). The mid needs 0 < bid <= ask; bid = ask is fine. ``tick_size`` is the least price step, in the
    unit of prices.

    Reasons with a price: ``wide`` (spread above half the mid and above 5 ticks: good for sums, not for the
    surface), ``crossed`` (bid > ask, so the last), ``beyond_quote`` (the last, though it lies below the only
    bid or above the only ask). Without one: ``crossed``, ``stale`` (there was one, too old or not traded),
    ``no_bid`` (an ask, which is but a bound), ``no_price``.
    """
    prices: list[float | None] = [None] * len(bids)
    sources: list[Source | None] = [None] * len(bids)
    flags: dict[int, str] = {}
    wide = WIDE_TICKS * tick_size * (1 + 1e-9)
    for at, (bid, ask, last) in enumerate(zip(bids, asks, lasts, strict=True)):
        if bid is not None and ask is not None and 0 < bid <= ask < _LARGEST:
            mid = 0.5 * (bid + ask)
            spread = ask - bid
            if spread > wide and spread > WIDE_SHARE * mid:
                flags[at] = "wide"
            prices[at], sources[at] = mid, "mid"
            continue
        bound = None if bid is None or not 0 < bid < _LARGEST else bid
        limit = None if ask is None or not 0 < ask < _LARGEST else ask
        crossed = bound is not None and limit is not None
        if last is not None and 0 < last < _LARGEST:
            prices[at], sources[at] = last, "last"
            if crossed:
                flags[at] = "crossed"
            elif _beyond(last, bound, limit):
                flags[at] = "beyond_quote"
            continue
        if crossed:
            flags[at] = "crossed"
        elif at in stale:
            flags[at] = "stale"
        else:
            flags[at] = "no_bid" if limit is not None else "no_price"
    return prices, sources, flags


def volatility_unit(vendor: Values, own: Values | None = None, before: Unit | None = None) -> Unit | None:
    """Whether the volatilities a vendor sent in one chain are percent or decimals; None if it sent none.

    ``own`` are the decimals computed here at the same places: from three of them on their ratio decides
    (nearer to 1 or to 100). Without them the median does: above 5 percent, below 1.5 decimal, and in between
    the unit the product had ``before``, at first percent from 3 on. So a unit once known changes only on
    clear evidence.
    """
    if own is not None:
        ratios = [
            value / ours
            for value, ours in zip(vendor, own, strict=True)
            if value and ours and 0 < value < inf and ours > 0
        ]
        if len(ratios) >= _EVIDENCE:
            return "percent" if median(ratios) > _APART else "decimal"
    usable = [value for value in vendor if value is not None and 0 < value < inf]
    if not usable:
        return None
    middle = median(usable)
    if middle > PERCENT_FROM:
        return "percent"
    if middle < DECIMAL_BELOW:
        return "decimal"
    return before or ("percent" if middle >= 3 else "decimal")


class Decimals(msgspec.Struct, frozen=True, gc=False):
    """A side's volatilities as decimals; ``odd`` are the places that were sent in the other unit.

    ``unclear`` are those of which nothing tells the unit, on a side that has both: they are None. So are
    those ``beyond`` what a volatility can be: 0.1 to 1000 %.
    """

    values: list[float | None]
    odd: Sequence[int] = ()
    unclear: Sequence[int] = ()
    beyond: Sequence[int] = ()


def as_decimals(vendor: Values, unit: Unit, own: Values | None = None) -> Decimals:
    """The vendor's volatilities as decimals; None for what is 0, negative or beyond 0.1 to 1000 %.

    ``own`` are those computed here at the same places. Where one of 1 to 300 % says that a value in the
    chain's unit would be a hundred times too large or too small (to half a power of ten), it is taken in the
    other unit. On a side without a value in the chain's unit, what was not computed is in the other one, too.
    """
    scale = 100.0 if unit == "percent" else 1.0
    values = [value / scale if value is not None and 0 < value < inf else None for value in vendor]
    if own is None:
        return _in_range(values)
    wrong = 0.01 if unit == "percent" else 100.0
    low, high = wrong / _NEAR_UNIT, wrong * _NEAR_UNIT
    odd = [
        at
        for at, (value, ours) in enumerate(zip(values, own, strict=True))
        if value and ours and low < value / ours < high and _LEAST_OWN < ours < _MOST_OWN
    ]
    if not odd:
        return _in_range(values)
    not_computed = [at for at, value in enumerate(values) if value and not own[at]]
    both = len(odd) + len(not_computed) < len(values) - values.count(None)
    for at in odd if both else (*odd, *not_computed):
        values[at] = (values[at] or 0.0) / wrong
    if not both:
        return _in_range(values, sorted((*odd, *not_computed)))
    for at in not_computed:
        values[at] = None
    return _in_range(values, odd, not_computed)


def _in_range(values: list[float | None], odd: Sequence[int] = (), unclear: Sequence[int] = ()) -> Decimals:
    beyond = [at for at, value in enumerate(values) if value and not _LEAST_IV <= value <= _MOST_IV]
    for at in beyond:
        values[at] = None
    return Decimals(values, odd, unclear, beyond)


def _beyond(last: float, bid: float | None, ask: float | None) -> bool:
    return (bid is not None and last < bid) or (ask is not None and last > ask)
