"""What open-interest walls mean for the price between them, and which of them are being taken down.

`walls` of `enricher.analytics.chain_numbers` finds the walls themselves: resistance among the calls from spot
upwards, support among the puts from spot downwards. Strikes and spot are in price units, open interest in the
feed's own, shares of a total from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from enricher.analytics.chain_numbers import Column, Side, Wall, walls
from enricher.messages.models import Number


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


def trading_range(support: Sequence[Wall], resistance: Sequence[Wall], spot: Number) -> TradingRange | None:
    """The range between the first wall of each side; None when a side has no wall or spot is not positive."""
    if not support or not resistance or spot <= 0:
        return None
    below, above = support[0], resistance[0]
    width = above.strike - below.strike
    return TradingRange(
        below.strike,
        above.strike,
        round(width / spot * 100, 2),
        round((spot - below.strike) / width, 4) if width else None,
        round(below.amount / (below.amount + above.amount), 4),
    )


def losses(
    strikes: Sequence[Number], changes: Column, spot: Number, side: Side, count: int = 3
) -> tuple[Wall, ...]:
    """The walls that lose most: the ``count`` largest falls of open interest, as positive amounts.

    Sides, ties and shares (of all that was lost on the whole side) are those of `chain.walls`.
    """
    fallen = [-change if change is not None and change < 0 else None for change in changes]
    return walls(strikes, fallen, spot, side, count)
