"""Messages from the files that exchanges and data vendors hand out.

Every reader yields ``Recorded(at_us, topic, body)`` with bodies in the shape of the feed, ready for
replay or for a recording, and raises BadRecord (file, line, column) at the first thing it cannot
read. Files ending in ``.gz`` or ``.zst`` are unpacked on the way.

Time: a local time without an offset stays without one in the message, and ``at_us`` reads it as
UTC (only distances matter to a replay), unless ``zone`` says whose local time it is: the message
then carries the offset.

Values: the exchange writes 0 for "no price" and "no implied volatility", so a last, bid, ask or iv
of 0 becomes null, while open interest and volume of 0 are real. Volatilities come in percent and
leave as decimals (19.42 becomes 0.1942). A leg that is not listed stays missing. Open interest may
be fractional.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any

import orjson

from enricher.clock import event_us
from enricher.market.feed.channels import OPTION_CHAIN, UNDERLYING
from enricher.market.feed.recording import BadRecord, NoSuchColumn, Recorded, open_bytes
from enricher.market.feed.values import Cell, exchange_date, exchange_moment, integer_or_text, moment, number

ABSENT = ("", "NA", "-")

_NSE_LEG = {
    "bid": ("bidprice", "bidPrice"),
    "ask": ("askPrice", "askprice"),
    "last": ("lastPrice",),
    "volume": ("totalTradedVolume",),
    "open_interest": ("openInterest",),
    "iv": ("impliedVolatility",),
    "change_in_oi": ("changeinOpenInterest",),
    "bid_qty": ("bidQty",),
    "ask_qty": ("askQty",),
}
_CSV_LEG = {
    "bid": "BID",
    "ask": "ASK",
    "last": "LTP",
    "volume": "VOLUME",
    "open_interest": "OI",
    "iv": "IV",
    "change_in_oi": "CHGOI",
    "bid_qty": "BIDQTY",
    "ask_qty": "ASKQTY",
}
_ZERO_IS_NONE = frozenset({"bid", "ask", "last", "iv"})
_KINDS: Mapping[type, str] = {dict: "an object", list: "a list", str: "text"}
_SIDES = (("CE", "CALL"), ("PE", "PUT"))
_IN_FILE_NAME = re.compile(r"(\d{4}-\d\d-\d\d)[_T](\d\d)-(\d\d)-(\d\d)(?:Z|_UTC)(?![0-9A-Za-z])")


@dataclass(frozen=True, slots=True)
class TickColumns:
    """Where a CSV file of ticks has what: a column's name (with a header) or its index from 0.

    ``product``, ``tick_id`` and ``volume`` may be missing. ``header`` says whether the first line
    holds names. ``time_format`` is a ``strptime`` pattern; without it times are ISO 8601.
    """

    time: int | str = "time"
    price: int | str = "price"
    product: int | str | None = None
    tick_id: int | str | None = None
    volume: int | str | None = None
    header: bool = True
    time_format: str | None = None


def read_nse_chains(path: Path, *, zone: tzinfo | None = None) -> Iterator[Recorded]:
    """One chain per expiry from the JSON of the exchange's option-chain API, nearest first."""
    with open_bytes(path, "rb") as file:
        try:
            document = orjson.loads(file.read())
        except orjson.JSONDecodeError as error:
            raise BadRecord(path, error.lineno, f"column {error.colno}", "JSON", error.msg) from (error)
    records = _member(Cell(path, None, "$", document), "records", dict)
    text, at_us = exchange_moment(_member(records, "timestamp", str), zone)
    spot = number(_member(records, "underlyingValue", object))
    chains: dict[str, _Chain] = {}
    for row in _items(_member(records, "data", list)):
        expiry = exchange_date(_member(row, "expiryDate", str))
        strike = number(_member(row, "strikePrice", object))
        listed = [(kind, _member(row, side, dict)) for side, kind in _SIDES if side in row.value]
        for kind, leg in listed:
            product = str(_member(leg, "underlying", str).value)
            chain = chains.setdefault(expiry, _Chain(product, expiry, spot, text))
            chain.add(kind, strike, str(_member(leg, "identifier", str).value), _nse_leg(leg))
    yield from _recorded(chains.values(), at_us)


def read_csv_chains(
    path: Path, *, timestamp: str | None = None, zone: tzinfo | None = None
) -> Iterator[Recorded]:
    """One chain per expiry from a CSV snapshot, nearest first.

    Columns: symbol, expiryDate, strikePrice, underlying, and CE_ and PE_ with OI, CHGOI, IV, LTP,
    BID, ASK, BIDQTY, ASKQTY (VOLUME where there is one). A leg whose cells are all empty or NA is
    missing. The moment is ``timestamp`` (ISO 8601), else the ``YYYY-MM-DD_HH-MM-SSZ`` in the name
    of the file, which is UTC and is shown in ``zone`` if there is one.
    """
    text, at_us = _snapshot_moment(path, timestamp, zone)
    chains: dict[str, _Chain] = {}
    for cells in _rows(path, header=True):
        expiry = exchange_date(_column(cells, path, "expiryDate"))
        strike = number(_column(cells, path, "strikePrice"))
        product = str(_column(cells, path, "symbol").value)
        spot = number(_column(cells, path, "underlying"))
        chain = chains.setdefault(expiry, _Chain(product, expiry, spot, text))
        chain.strikes.add(strike)
        for side, kind in _SIDES:
            found = {
                name: cells[f"{side}_{column}"]
                for name, column in _CSV_LEG.items()
                if f"{side}_{column}" in cells
            }
            if any(cell.value not in ABSENT for cell in found.values()):
                symbol = f"{product}{date.fromisoformat(expiry):%y%m%d}{kind[0]}{strike:.10g}"
                chain.add(kind, strike, symbol, {name: _amount(name, found[name]) for name in found})
    yield from _recorded(chains.values(), at_us)


def read_csv_ticks(
    path: Path, columns: TickColumns, *, product: str | None = None, zone: tzinfo | None = None
) -> Iterator[Recorded]:
    """One tick per row. ``product`` names it where no column does.

    Rows without a tick_id are numbered from 0, for each product by itself.
    """
    if (product is None) == (columns.product is None):
        raise ValueError("give the product either by name or by a column")
    if not columns.header and any(isinstance(c, str) for c in (columns.time, columns.price)):
        raise ValueError("without a header line columns are given by index, from 0")
    rows_of: Counter[str] = Counter()
    for cells in _rows(path, header=columns.header):
        when = _column(cells, path, columns.time)
        text, at_us = moment(when, columns.time_format, zone)
        name = product or str(_column(cells, path, columns.product).value)
        tick: dict[str, Any] = {
            "type": "UNDERLYING",
            "product": name,
            "price": number(_column(cells, path, columns.price)),
            "timestamp": text,
            "tick_id": rows_of[name],
        }
        rows_of[name] += 1
        if columns.tick_id is not None:
            given = _column(cells, path, columns.tick_id)
            if given.value not in ABSENT:
                tick["tick_id"] = integer_or_text(given)
        if columns.volume is not None:
            volume = _column(cells, path, columns.volume)
            tick["volume"] = None if volume.value in ABSENT else number(volume)
        yield Recorded(at_us, UNDERLYING, orjson.dumps(tick))


class _Chain:
    """The legs of one expiry, gathered row by row."""

    def __init__(self, product: str, expiry: str, spot: float, timestamp: str) -> None:
        self.product = product
        self.expiry = expiry
        self.spot = spot
        self.timestamp = timestamp
        self.strikes: set[float] = set()
        self.legs: dict[str, list[dict[str, Any]]] = {"CALL": [], "PUT": []}

    def add(self, kind: str, strike: float, symbol: str, values: dict[str, Any]) -> None:
        self.strikes.add(strike)
        self.legs[kind].append(
            {
                "symbol": symbol,
                "product": self.product,
                "strike": strike,
                "expiry": self.expiry,
                "option_type": kind,
                **values,
                "timestamp": self.timestamp,
            }
        )

    def body(self) -> bytes:
        calls, puts = (sorted(self.legs[kind], key=lambda leg: float(leg["strike"])) for _, kind in _SIDES)
        return orjson.dumps(
            {
                "product": self.product,
                "expiry": self.expiry,
                "spot_price": self.spot,
                "strikes": sorted(self.strikes),
                "calls": calls,
                "puts": puts,
                "timestamp": self.timestamp,
            }
        )


def _recorded(chains: Iterable[_Chain], at_us: int) -> Iterator[Recorded]:
    for chain in sorted(chains, key=lambda chain: chain.expiry):
        yield Recorded(at_us, OPTION_CHAIN, chain.body())


def _nse_leg(leg: Cell) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, candidates in _NSE_LEG.items():
        key = next((key for key in candidates if key in leg.value), None)
        if key is not None:
            values[name] = _amount(name, leg.at(key, leg.value[key]))
    return values


def _amount(name: str, cell: Cell) -> float | None:
    if cell.value is None or cell.value in ABSENT:
        return None
    value = number(cell)
    if value == 0 and name in _ZERO_IS_NONE:
        return None
    # Rounded to what a percentage of six decimals can say: 19.42 / 100 is not quite 0.1942.
    return round(value / 100.0, 8) if name == "iv" else value


def _member(parent: Cell, name: str, kind: type) -> Cell:
    if not isinstance(parent.value, dict):
        raise parent.error("an object")
    if name not in parent.value:
        raise parent.at(name, None).error("a value")
    cell = parent.at(name, parent.value[name])
    if not isinstance(cell.value, kind):
        raise cell.error(_KINDS[kind])
    return cell


def _items(parent: Cell) -> Iterator[Cell]:
    for index, value in enumerate(parent.value):
        yield Cell(parent.path, None, f"{parent.column}[{index}]", value)


def _rows(path: Path, *, header: bool) -> Iterator[Mapping[int | str, Cell]]:
    """The rows of a CSV file; cells are found by index and, with a header, by name too."""
    with io.TextIOWrapper(open_bytes(path, "rb"), "utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        try:
            names = [name.strip() for name in next(reader, [])] if header else []
            for row in reader:
                if not row:
                    continue
                cells: dict[int | str, Cell] = {}
                for index, (name, value) in enumerate(itertools.zip_longest(names, row)):
                    column = f"column {index}" if name is None else f"column {name}"
                    cell = Cell(path, reader.line_num, column, (value or "").strip())
                    cells[index] = cell
                    if name is not None:
                        cells[name] = cell
                yield cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadRecord(path, reader.line_num + 1, "row", "CSV in UTF-8", str(error)) from error


def _column(cells: Mapping[int | str, Cell], path: Path, name: int | str | None) -> Cell:
    if name is not None and name in cells:
        return cells[name]
    line = next(iter(cells.values())).line
    known = ", ".join(str(key) for key in cells if isinstance(key, str)) or f"0 to {len(cells) - 1}"
    raise NoSuchColumn(path, line, f"column {name}", f"one of the columns {known}", name)


def _snapshot_moment(path: Path, timestamp: str | None, zone: tzinfo | None) -> tuple[str, int]:
    if timestamp is not None:
        return moment(Cell(path, None, "option timestamp", timestamp), None, zone)
    found = _IN_FILE_NAME.search(path.name)
    if found is None:
        raise BadRecord(
            path, None, "file name", "YYYY-MM-DD_HH-MM-SSZ in it, or a timestamp given", path.name
        )
    day, hours, minutes, seconds = found.groups()
    utc = datetime.fromisoformat(f"{day}T{hours}:{minutes}:{seconds}").replace(tzinfo=UTC)
    text = utc.astimezone(zone or UTC).isoformat()
    return text, event_us(text)[0]
