"""Kite Connect (Zerodha): ticks of its WebSocket and full quotes (``/quote``), as JSON.

Ticks call an instrument by a number, of which those of the indices are known. Quotes call it by its name
(``NFO:NIFTY2681825000CE``). Times are local to whoever recorded them; a depth without orders has prices of
0 or -0.01. Open interest and volume are in units of the underlying, volume that of the day so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import count, names, part, price, when
from enricher.market.files.vendors.india import KITE_TOKENS, best, index_of
from enricher.market.files.vendors.option_names import indian
from enricher.market.files.vendors.snapshot import Snapshot
from enricher.market.files.vendors.ticking import Ticks

_TICKS = "ticks of Kite Connect"
_QUOTES = "quotes of Kite Connect"


def _seen_ticks(source: Source) -> str | None:
    known = {"instrument_token", "last_price"} <= source.sample.keys()
    return "the keys instrument_token, last_price" if known else None


def _read_ticks(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    ticks = Ticks(options, notes)
    for value in source.objects():
        for row in value.items() if isinstance(value.value, list) else [value]:
            token = row.member("instrument_token")
            product = KITE_TOKENS.get(str(token.value)) or ticks.named(token)
            time = _time(row, "exchange_timestamp")
            if product is None:
                notes.skip("an instrument_token that is no index (--product names one)")
            elif time is None:
                notes.skip("no exchange_timestamp (only the mode full has one)")
            else:
                day = {name: price(part(row, f"ohlc.{name}")) for name in ("open", "high", "low")}
                last, volume = price(row.member("last_price")), count(part(row, "volume_traded"))
                yield from ticks.tick(product, last, when(time, options), volume, **day)


def _seen_quotes(source: Source) -> str | None:
    rows = _quotes(source.sample)
    first = next(iter(rows.values()), None)
    known = isinstance(first, dict) and {"instrument_token", "last_price", "depth"} <= first.keys()
    return "the keys instrument_token, last_price, depth by name" if known else None


def _read_quotes(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _QUOTES, "units")
    root = source.root()
    wrapped = isinstance(root.value, dict) and _quotes(root.value) is not root.value
    rows = root.member("data", dict) if wrapped else root
    for name in names(rows):
        row = rows.member(name)
        time = _time(row, "timestamp")
        moment = None if time is None else when(time, options)
        if moment is not None:
            snapshot.saw(moment)
        option = indian(name)
        if option is None:
            product = index_of(name.rpartition(":")[2]) or name.rpartition(":")[2]
            if name.startswith(("NSE:", "BSE:")):
                snapshot.spot(product, price(row.member("last_price")))
            else:
                notes.skip("no option")
            continue
        option = snapshot.dated(option)
        if option is None:
            notes.skip("another expiry than --expiry")
            continue
        snapshot.leg(option, _leg(row, None if moment is None else moment[0], options), name, row)
    yield from snapshot.recorded()


def _leg(row: Cell, at: str | None, options: Options) -> dict[str, Any]:
    leg = best(row) | {"last": price(row.member("last_price"))}
    leg |= {"volume": count(part(row, "volume")), "open_interest": count(part(row, "oi"))}
    traded = _time(row, "last_trade_time")
    if traded is not None:
        leg["last_trade_time"] = when(traded, options)[0]
    return leg if at is None else leg | {"timestamp": at}


def _time(row: Cell, name: str) -> Cell | None:
    time = part(row, name)
    return None if time.absent else time


def _quotes(document: dict[str, Any]) -> dict[str, Any]:
    data = document.get("data")
    return data if isinstance(data, dict) and "status" in document else document


TICKS = Format("kite-ticks", _TICKS, "ticks", _seen_ticks, _read_ticks)
QUOTES = Format("kite-quotes", _QUOTES, "chains", _seen_quotes, _read_quotes, whole=True)
