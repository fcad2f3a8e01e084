"""Open-interest walls, the price range between them, and which of them are being taken down.

A wall is a strike with much open interest: resistance among the calls from spot upwards, support among the
puts from spot downwards. Strikes and spot are in price units, open interest in the feed's own, shares of a
total from 0 to 1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Literal

import msgspec

from enricher.analytics.columns import Column, total
from enricher.messages.models import Number

WallSide = Literal["resistance", "support"]


class Wall(msgspec.Struct, frozen=True):
    """A strike where much open interest (or its change) sits; ``share`` of the side's total."""

    strike: Number
    amount: Number
    share: float


class TradingRange(msgspec.Struct, frozen=True, gc=False):
    """The range between the largest support and the largest resistance.

    ``width_pct`` in percent of spot; ``position`` is where spot stands in it, 0 on the support, 1 on the
    resistance, None when both are one strike; ``balance`` the support's open interest over that of both,
    above 0.5 when support is the stronger.
    """

    support: Number
    resistance: Number
    width_pct: float
    position: float | None
    balance: float


def walls(
    strikes: Sequence[Number], amounts: Column, spot: Number | None, side: WallSide, count: int = 3
) -> tuple[Wall, ...]:
    """The ``count`` strikes with most, largest first; of equals the one nearest to spot.

    ``resistance`` looks at strikes from spot upwards (give it calls), ``support`` at those from
    spot downwards (puts). Only positive amounts make a wall; the share is of all positive ones. Without a
    ``spot`` there is none.
    """
    if spot is None:
        return ()
    whole = total([amount for amount in amounts if amount and amount > 0])
    if not whole:
        return ()
    if side == "resistance":
        first = bisect_left(strikes, spot)
        outward = zip(strikes[first:], amounts[first:], strict=True)
    else:
        end = bisect_right(strikes, spot)
        outward = zip(strikes[:end][::-1], amounts[:end][::-1], strict=True)
    held = [(strike, amount) for strike, amount in outward if amount and amount > 0]
    # The sort is stable and either list walks away from spot, so the nearer of equals stays ahead.
    held.sort(key=itemgetter(1), reverse=True)
    return tuple([Wall(strike, amount, amount / whole) for strike, amount in held[:count]])


def trading_range(
    support: Sequence[Wall], resistance: Sequence[Wall], spot: Number | None
) -> TradingRange | None:
    """The range between the first wall of each side; None when a side has no wall, or without a spot."""
    if not support or not resistance or not spot:
        return None
    below, above = support[0], resistance[0]
    width = above.strike - below.strike
    return TradingRange(
        below.strike,
        above.strike,
        width / spot * 100,
        (spot - below.strike) / width if width else None,
        below.amount / (below.amount + above.amount),
    )


def losses(
    strikes: Sequence[Number], changes: Column, spot: Number | None, side: WallSide, count: int = 3
) -> tuple[Wall, ...]:
    """The walls that lose most: the ``count`` largest falls of open interest, as positive amounts.

    Sides, ties and shares (of all that was lost on the whole side) are those of `walls`.
    """
    fallen = [-change if change is not None and change < 0 else None for change in changes]
    return walls(strikes, fallen, spot, side, count)
