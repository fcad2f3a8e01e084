"""Which prices of a chain still count: what is too old is blank before anything computes with it.

`fresh` is the one gate between the columns of a chain and whatever reads prices: it takes out quotes and
trades older than the chain by more than the greatest age, and last prices that were not traded. Open
interest, volume and volatilities as sent stay, for they are true for as long as nobody says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Any, Final, TypeVar

import msgspec

from enricher.analytics.columns import Columns, Side
from enricher.clock import MINUTE, SECOND, event_us
from enricher.messages.models import Chain, Number

T = TypeVar("T")
Seconds = Sequence[float | None]
ReadTime = Callable[[str], int | None]


class Ages(msgspec.Struct, frozen=True, gc=False):
    """How much older than the chain the quotes and the last trades of one side are, in seconds.

    They stand beside the strikes. None, for a leg or a whole column, is not known: a quote is then as old as
    the chain, a trade as old as the quote.
    ``odd`` are the (field, what is odd, strike) of times that cannot be read or are those of a later chain.
    """

    quotes: Seconds | None = None
    trades: Seconds | None = None
    odd: tuple[tuple[str, str, Number], ...] = ()


class ChainAges(msgspec.Struct, frozen=True, gc=False):
    """The ages of both sides."""

    calls: Ages
    puts: Ages


class Fresh(Columns, frozen=True, gc=False):
    """Columns without a stale price, and the ages they were judged by; only `fresh` makes them."""

    ages: ChainAges


NO_AGES: Final = ChainAges(Ages(), Ages())
_UNREAD: Final = "cannot be read"
_LATER: Final = "later than the chain by more than a minute"


def reader(zone: tzinfo) -> ReadTime:
    """What turns the text of a leg's own time into microseconds; None for what is no moment."""

    def read(text: str) -> int | None:
        try:
            return event_us(text, zone)[0]
        except ValueError:
            return None

    return read


def leg_ages(chain: Chain, read: ReadTime) -> ChainAges:
    """The ages of a chain's legs by the times they carry: ``timestamp`` when quoted, ``last_trade_time``.

    A time that cannot be read is none. One later than the chain's is an age of 0: a clock was set back
    between them, or the leg is younger than the chain's own time.
    """
    calls = _ages(chain, chain.calls, read)
    puts = _ages(chain, chain.puts, read)
    return NO_AGES if calls is None and puts is None else ChainAges(calls or Ages(), puts or Ages())


def fresh(cells: Columns, ages: ChainAges, max_age: float) -> Fresh:
    """The columns without the quotes and trades older than ``max_age`` seconds.

    A last price counts by the time of its trade. Untold, it is as old as the quote, but a volume of 0 says
    that it was not traded in this session at all. `Side.stale_quotes` and `Side.stale_trades` are the places
    at which a price was taken out.
    """
    return Fresh(
        cells.strikes,
        _fresh_side(cells.calls, ages.calls, max_age),
        _fresh_side(cells.puts, ages.puts, max_age),
        ages,
    )


def _ages(chain: Chain, sent: Sequence[Mapping[str, Any]], read: ReadTime) -> Ages | None:
    moment = chain.timestamp
    # A list, not any() of a generator, which takes twice the time where no leg has a time of its own.
    if not [1 for leg in sent if leg.get("timestamp", moment) != moment or "last_trade_time" in leg]:
        return None
    quoted: dict[Number, float | None] = {}
    traded: dict[Number, float | None] = {}
    known: dict[str, tuple[float | None, str | None]] = {moment: (0.0, None)}
    odd: list[tuple[str, str, Number]] = []
    for leg in sent:
        for name, times in (("timestamp", quoted), ("last_trade_time", traded)):
            text = leg.get(name)
            if text is None or text == "":
                continue
            what: str | None = _UNREAD
            if type(text) is str:
                if text not in known:
                    known[text] = _aged(chain.event_us, read(text))
                times[leg["strike"]], what = known[text]
            if what is not None:
                odd.append((name, what, leg["strike"]))
    return Ages(
        list(map(quoted.get, chain.strikes)) if quoted else None,
        list(map(traded.get, chain.strikes)) if traded else None,
        tuple(odd),
    )


def _aged(chain_us: int, leg_us: int | None) -> tuple[float | None, str | None]:
    """The age of a leg's time, and what is odd about it."""
    if leg_us is None:
        return None, _UNREAD
    age = max(0.0, (chain_us - leg_us) / SECOND)
    return age, _LATER if leg_us - chain_us > MINUTE else None


def _fresh_side(side: Side, ages: Ages, max_age: float) -> Side:
    quotes, trades = ages.quotes, ages.trades
    if quotes is None and trades is None and 0 not in side.volume:
        return side
    if quotes is None and trades is None:
        untraded = [at for at, volume in enumerate(side.volume) if volume == 0]
        return _last_without(side, untraded)
    old_quotes = [at for at, age in enumerate(quotes or ()) if age is not None and age > max_age]
    old_trades = []
    for at, volume in enumerate(side.volume):
        age = None if trades is None else trades[at]
        if age is None and volume != 0 and quotes is not None:
            age = quotes[at]
        if age is None:
            if volume == 0:
                old_trades.append(at)
        elif age > max_age:
            old_trades.append(at)
    left = _last_without(side, old_trades)
    if not old_quotes:
        return left
    return msgspec.structs.replace(
        left,
        bid=without(side.bid, old_quotes),
        ask=without(side.ask, old_quotes),
        stale_quotes=frozenset([at for at in old_quotes if (side.bid[at] or side.ask[at] or 0) > 0]),
    )


def _last_without(side: Side, places: Sequence[int]) -> Side:
    last = side.last
    stale = [at for at in places if (last[at] or 0) > 0]
    if not stale:
        return side
    return msgspec.structs.replace(side, last=without(last, stale), stale_trades=frozenset(stale))


def without(cells: Sequence[T | None], places: Iterable[int]) -> list[T | None]:
    """A copy of a column with nothing at these places."""
    copy = list(cells)
    for at in places:
        copy[at] = None
    return copy
