"""Cboe's delayed quotes (``cdn.cboe.com/api/global/delayed_quotes/options/SYMBOL.json``).

Quotes are 15 minutes old. ``timestamp`` says in UTC when the file was made, ``last_trade_time`` in New York
when the underlying or an option was last traded: the newest of them is the time of the quotes. Volatilities
are decimals, 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Final
from zoneinfo import ZoneInfo

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times
from enricher.market.files.values import Cell, moment
from enricher.market.files.vendors.fields import Fields, count, part, price, read_fields, signed
from enricher.market.files.vendors.option_names import occ
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "Cboe's delayed quotes"
_NEW_YORK: Final = ZoneInfo("America/New_York")
_LEG: Fields = {
    "bid": (price, "bid"),
    "ask": (price, "ask"),
    "last": (price, "last_trade_price"),
    "volume": (count, "volume"),
    "open_interest": (count, "open_interest"),
    "iv": (price, "iv"),
    "bid_qty": (count, "bid_size"),
    "ask_qty": (count, "ask_size"),
    "delta": (signed, "delta"),
    "gamma": (signed, "gamma"),
    "vega": (signed, "vega"),
    "theta": (signed, "theta"),
}


def _seen(source: Source) -> str | None:
    data = source.sample.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("options"), list):
        return None
    first = next(iter(data["options"]), None)
    known = isinstance(first, dict) and {"option", "last_trade_price"} <= first.keys()
    return "the keys data.options, option, last_trade_price" if known else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    root = source.root()
    snapshot = Snapshot(source, options, notes, _TITLE, "contracts")
    underlying = price(part(root, "data.current_price"))
    traded = [_traded(part(root, "data.last_trade_time"))]
    for row in part(root, "data.options").items():
        name = str(row.member("option").value)
        option = occ(name)
        if option is None:
            raise row.member("option").error("an option like SPXW260814C06400000")
        leg = read_fields(row, _LEG)
        last = _traded(part(row, "last_trade_time"))
        if last is not None:
            leg["last_trade_time"] = last[0]
            traded.append(last)
        snapshot.spot(option.root, underlying)
        snapshot.leg(option, leg, name, row)
    known = [one for one in traded if one is not None]
    if known:
        newest = max(known, key=lambda one: one[1])
        notes.guess(f"time of the newest trade, {newest[0]}, since quotes are delayed")
        snapshot.saw(newest)
    else:
        snapshot.saw(moment(root.member("timestamp"), Times(zone=UTC)))
    yield from snapshot.recorded()


def _traded(cell: Cell) -> tuple[str, int] | None:
    return None if cell.absent else moment(cell, Times(zone=_NEW_YORK))


FORMAT = Format("cboe", _TITLE, "chains", _seen, _read, whole=True)
