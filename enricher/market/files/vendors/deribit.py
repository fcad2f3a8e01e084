"""Deribit: book summaries (``get_book_summary_by_currency``) and tickers (``public/ticker``, ``ticker.*``).

Prices of options on coins are in coins, those on ``_USDC`` pairs in dollars; volatilities are percent. What
is priced as the future of an expiry is ``underlying_price``; the index is ``index_price``, which summaries
call ``estimated_delivery_price``. A table of tickers has their members as columns (``greeks.delta``); where a
name comes again, the next snapshot begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.row import Row
from enricher.market.files.source import Source
from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import (
    Fields,
    count,
    part,
    percent,
    price,
    read_fields,
    signed,
    when,
)
from enricher.market.files.vendors.option_names import deribit
from enricher.market.files.vendors.quotes import quote
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "Deribit's book summary or ticker"
_LEG: Fields = {
    "bid": (price, "bid_price"),
    "ask": (price, "ask_price"),
    "last": (price, "last"),
    "volume": (count, "volume"),
    "open_interest": (count, "open_interest"),
    "iv": (percent, "mark_iv"),
}
_TICKER: Fields = {
    **_LEG,
    "bid": (price, "best_bid_price"),
    "ask": (price, "best_ask_price"),
    "last": (price, "last_price"),
    "volume": (count, "stats.volume"),
    "bid_qty": (count, "best_bid_amount"),
    "ask_qty": (count, "best_ask_amount"),
    "delta": (signed, "greeks.delta"),
    "gamma": (signed, "greeks.gamma"),
    "vega": (signed, "greeks.vega"),
    "theta": (signed, "greeks.theta"),
}


def _seen(source: Source) -> str | None:
    row: Any = source.sample
    if isinstance(row.get("params"), dict):
        row = row["params"].get("data")
    elif "result" in row:
        row = row["result"]
    if isinstance(row, list):
        row = next(iter(row), None)
    elif isinstance(row, dict) and "instrument_name" not in row:
        row = next(iter(row.values()), None)
    if not isinstance(row, dict) or not isinstance(row.get("instrument_name"), str):
        return None
    found = next((name for name in ("bid_price", "best_bid_price", "mark_price") if name in row), None)
    return None if found is None else f"the keys instrument_name, {found}"


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    if source.is_json_lines:
        for value in source.objects():
            yield from _chains(source, list(_rows(value)), options, notes)
    else:
        yield from _chains(source, list(_rows(source.root())), options, notes)


def _chains(
    source: Source, rows: list[Cell], options: Options, notes: Notes, table: bool = False
) -> Iterator[Recorded]:
    """The chains of some summaries or tickers; a ticker alone, but for one of a table, is a quote."""
    snapshot = Snapshot(source, options, notes, _TITLE, "units")
    for row in rows:
        name = str(part(row, "instrument_name").value)
        option = deribit(name)
        if option is None:
            notes.skip("no option")
            continue
        ticker = "stats" in row.value
        leg = read_fields(row, _TICKER if ticker else _LEG)
        moment = when(part(row, "timestamp" if ticker else "creation_timestamp"), options, "epoch-ms")
        no_future = part(row, "underlying_index").value == "index_price"  # the price is that of the index
        future = None if no_future else price(part(row, "underlying_price"))
        coin = "underlying" if "_" not in option.root else "quote"
        spot = price(part(row, "index_price" if ticker else "estimated_delivery_price"))
        if ticker and len(rows) == 1 and not table:
            yield quote(option, name, leg | {"price_unit": coin}, moment)
            return
        snapshot.saw(moment)
        snapshot.spot(option.root, spot)
        snapshot.add(option.root, option.expiry, future_price=future, price_unit=coin)
        snapshot.leg(option, leg | {"timestamp": moment[0]}, name, row)
    yield from snapshot.recorded()


def _rows(value: Cell) -> Iterator[Cell]:
    """The summaries or tickers of an answer, a notification, a list, or an object of them by name."""
    if isinstance(value.value, list):
        yield from value.items()
    elif not isinstance(value.value, dict):
        raise value.error("an object or a list")
    elif "instrument_name" in value.value:
        yield value
    elif "params" in value.value:
        yield part(value, "params.data")
    elif "result" in value.value:
        yield from _rows(value.member("result"))
    else:
        yield from map(value.member, value.value)


def _seen_table(source: Source) -> str | None:
    columns = {"instrument_name", "best_bid_price", "mark_iv", "stats.volume"}
    return "the columns instrument_name, best_bid_price" if columns <= {*source.names} else None


def _read_table(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    rows: dict[str, Cell] = {}
    for row in source.rows():
        name = str(row["instrument_name"].value)
        if name in rows:  # the next snapshot begins
            yield from _chains(source, list(rows.values()), options, notes, table=True)
            rows = {}
        rows[name] = _nested(row, source.names)
    yield from _chains(source, list(rows.values()), options, notes, table=True)


def _nested(row: Row, names: Sequence[str]) -> Cell:
    """A row as the JSON that it was made of; members count before a column of their object's name."""
    cells = dict(zip(names, row.values, strict=True))
    ticker: dict[str, Any] = {name: value for name, value in cells.items() if "." not in name}
    for name in cells.keys() - ticker.keys():
        holder, _, last = name.rpartition(".")
        if not isinstance(ticker.get(holder), dict):
            ticker[holder] = {}
        ticker[holder][last] = cells[name]
    return Cell(row.path, row.line, "row", ticker)


FORMAT = Format("deribit", _TITLE, "messages", _seen, _read)
TABLE = Format("deribit-table", "a table of Deribit's tickers", "chains", _seen_table, _read_table)
