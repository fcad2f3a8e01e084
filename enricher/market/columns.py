"""A chain as columns: one list a field, beside the ascending strikes, for everything that computes with it.

A missing leg is None in every column. Prices are in the currency of the underlying: those of a contract that
is quoted in the underlying itself (Deribit) are multiplied by spot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from enricher.market.models import Chain, Leg, Number
from enricher.market.prices import age_seconds

Cells = list[Number | None]
Ages = list[float | None]
ReadTime = Callable[[str], int | None]


class Side(msgspec.Struct, frozen=True, gc=False):
    """Calls or puts: prices, sizes, the volatility as sent, and the exchange's change of open interest."""

    bid: Cells
    ask: Cells
    last: Cells
    oi: Cells
    volume: Cells
    iv: Cells
    oi_change: Cells


class Columns(msgspec.Struct, frozen=True, gc=False):
    """A whole chain; ``strikes`` ascend."""

    strikes: list[Number]
    calls: Side
    puts: Side


def columns(chain: Chain, price_scale: float = 1.0) -> Columns:
    """The columns of a chain, prices times ``price_scale``."""
    strikes = list(chain.strikes)
    return Columns(
        strikes, _side(strikes, chain.call_at, price_scale), _side(strikes, chain.put_at, price_scale)
    )


def leg_ages(
    chain: Chain, sent: Sequence[Mapping[str, Any]], strikes: Sequence[Number], read: ReadTime
) -> tuple[Ages | None, Ages | None]:
    """How much older than the chain (seconds) the last trades and the quotes of one side are.

    A leg may carry ``timestamp``, when it was quoted, and ``last_trade_time``; without the latter its last
    trade is as old as the quote. None for a leg without a time of its own, and for a side without any.
    """
    quoted: dict[Number, float | None] = {}
    traded: dict[Number, float | None] = {}
    known: dict[str, float | None] = {chain.timestamp: None}
    for leg in sent:
        text = leg.get("timestamp")
        if type(text) is str and text != chain.timestamp:
            if text not in known:
                known[text] = age_seconds(chain.event_us, read(text))
            quoted[leg["strike"]] = traded[leg["strike"]] = known[text]
        text = leg.get("last_trade_time")
        if type(text) is str:
            if text not in known:
                known[text] = age_seconds(chain.event_us, read(text))
            if known[text] is not None:  # a time that cannot be read says less than that of the quote
                traded[leg["strike"]] = known[text]
    return (
        [traded.get(strike) for strike in strikes] if traded else None,
        [quoted.get(strike) for strike in strikes] if quoted else None,
    )


_NO_LEG = Leg(0)
_BID, _ASK, _LAST = attrgetter("bid"), attrgetter("ask"), attrgetter("last")
_OI, _VOLUME, _IV = attrgetter("open_interest"), attrgetter("volume"), attrgetter("iv")
# The exchange's own change of open interest on the day, whichever name it came under.
_CHANGES = attrgetter("change_in_oi", "oi_change", "nse_oi_change")


def _side(strikes: list[Number], at: Mapping[Number, Leg], scale: float) -> Side:
    legs = [at.get(strike, _NO_LEG) for strike in strikes]
    bid: Cells = list(map(_BID, legs))
    ask: Cells = list(map(_ASK, legs))
    last: Cells = list(map(_LAST, legs))
    if scale != 1.0:
        bid, ask, last = ([None if x is None else x * scale for x in cells] for cells in (bid, ask, last))
    changes = [
        one if one is not None else other if other is not None else third
        for one, other, third in map(_CHANGES, legs)
    ]
    return Side(
        bid,
        ask,
        last,
        list(map(_OI, legs)),
        list(map(_VOLUME, legs)),
        list(map(_IV, legs)),
        changes,
    )
