"""A chain as columns: one list a field, beside the ascending strikes, for everything that computes with it.

A missing leg is None in every column. Prices are as sent; `analytics.chain_prices` has them in currency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Final

import msgspec

from enricher.messages.models import Chain, Leg, Number

Cells = list[Number | None]
Column = Sequence[Number | None]

INT64: Final = 2**63
"""From here on MongoDB takes no whole number."""


class Side(msgspec.Struct, frozen=True, gc=False):
    """Calls or puts: prices, sizes, the volatility as sent, and the exchange's change of open interest.

    ``stale_quotes`` and ``stale_trades`` are the places where `analytics.staleness` took a price out.
    """

    bid: Cells
    ask: Cells
    last: Cells
    oi: Cells
    volume: Cells
    iv: Cells
    oi_change: Cells
    stale_quotes: frozenset[int] = frozenset()
    stale_trades: frozenset[int] = frozenset()


class Columns(msgspec.Struct, frozen=True, gc=False):
    """A whole chain; ``strikes`` ascend."""

    strikes: list[Number]
    calls: Side
    puts: Side


def columns(chain: Chain) -> Columns:
    """The columns of a chain, prices as sent."""
    strikes = list(chain.strikes)
    return Columns(strikes, _side(strikes, chain.call_at), _side(strikes, chain.put_at))


def total(values: Column) -> Number | None:
    """The sum of what is known, correctly rounded; None when nothing is. Whole numbers of 64 bits stay so."""
    known: Sequence[Number] = values  # type: ignore[assignment]
    try:
        amount = sum(known)
    except TypeError:  # some are not
        known = [value for value in values if value is not None]
        amount = sum(known)
    if not known:
        return None
    return amount if type(amount) is int and -INT64 <= amount < INT64 else fsum(known)


_NO_LEG = Leg(0)


def _side(strikes: list[Number], at: Mapping[Number, Leg]) -> Side:
    # A comprehension a field: attribute getters and mapped functions take twice the time.
    legs = [at.get(strike, _NO_LEG) for strike in strikes]
    return Side(
        [leg.bid for leg in legs],
        [leg.ask for leg in legs],
        [leg.last for leg in legs],
        [leg.open_interest for leg in legs],
        [leg.volume for leg in legs],
        [leg.iv for leg in legs],
        [
            # The exchange's own change on the day, whichever name it came under.
            leg.change_in_oi
            if leg.change_in_oi is not None
            else leg.oi_change
            if leg.oi_change is not None
            else leg.nse_oi_change
            for leg in legs
        ],
    )
