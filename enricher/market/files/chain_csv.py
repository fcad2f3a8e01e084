"""Tables of option chains: a row for each strike of an expiry, calls and puts side by side.

Columns, in any case: symbol, expiryDate, strikePrice, underlying, and CE_ and PE_ with OI, CHGOI, IV, LTP,
BID, ASK, BIDQTY, ASKQTY, VOLUME where there is one. 0 is no price and no volatility. Volatilities are
percent, unless all are below 1.5. A leg whose cells are all empty or NA is missing. A column of times, where
there is one, tells snapshots apart; rows of one time stand together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from enricher.clock import event_us
from enricher.errors import EnricherError
from enricher.market.feed.recording import BadRecord, Recorded
from enricher.market.files.chains import CALL, PUT, Chains
from enricher.market.files.columns import (
    PRODUCTS,
    explain_dialect,
    needed,
    spelling,
    spelt,
    time_columns,
    values,
)
from enricher.market.files.contract import Format, Notes, OptionNeeded, Options
from enricher.market.files.row import Row
from enricher.market.files.source import Source
from enricher.market.files.times import Times, day_first, order_in
from enricher.market.files.values import Cell, amount, iso_date, moment, number

_LEG = {
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
_TELLING = ("bid", "ask", "last", "open_interest")  # without any of them a leg says nothing
_ZERO_IS_NONE = frozenset({"bid", "ask", "last", "iv"})
_SIDES = (("CE", CALL), ("PE", PUT))
_EXPIRIES, _STRIKES = ("expirydate", "expiry"), ("strikeprice", "strike")
_SPOTS = ("underlying", "underlyingvalue", "spot", "spotprice")
_TIMES = ("timestamp", "time", "datetime", "snapshottime", "date")
_LEAST_PERCENT = 1.5
_IN_FILE_NAME = re.compile(r"(\d{4}-\d\d-\d\d)[_T](\d\d)-(\d\d)-(\d\d)(?:Z|_UTC)(?![0-9A-Za-z])")


def _seen(source: Source) -> str | None:
    names = {spelling(name) for name in source.names}
    if not names.isdisjoint(_STRIKES) and any(name.startswith(("ce_", "pe_")) for name in source.names):
        return "columns of strikes, CE_ and PE_"
    return "the columns expiryDate and strikePrice" if {"expirydate", "strikeprice"} <= names else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    columns = _Columns(source, options, notes)
    found = time_columns(source, options, _TIMES) if options.timestamp is None else None
    whole = None if found else file_moment(source, options)
    explain_dialect(source, notes)
    notes.guess(found.described() if found else f"all of {whole and whole[0]}")
    chains, rows, at, gone = Chains(), dict[tuple[str, str, float], list[str]](), None, set[int]()
    for row in source.rows():
        when = found.of(row) if found else whole
        if when is None:
            raise row[columns.strike].error("a row with a time")
        if at is not None and when[1] != at:
            yield from chains.recorded()
            gone.add(at)
            chains, rows = Chains(), {}
        at = when[1]
        if at in gone:
            raise row[columns.strike].error(f"the rows of {when[0]} one after another, sorted by time")
        key = columns.key(row)
        if rows.setdefault(key, row.values) is not row.values:
            if rows[key] != row.values:
                raise row[columns.strike].error(f"one row for the strike {key[2]:.10g} of {key[0]} {key[1]}")
            notes.skip("a row that was there before")
            continue
        columns.add(chains, key, row, when)
    yield from chains.recorded()


class _Columns:
    """Where a table has what; raises where a column is missing that no option replaces."""

    def __init__(self, source: Source, options: Options, notes: Notes) -> None:
        self._expiry, strike = spelt(source, _EXPIRIES), spelt(source, _STRIKES)
        if strike is None:
            raise needed(source, "strike", "it the name strikePrice")
        self.strike = strike
        if self._expiry is None and options.expiry is None:
            raise needed(source, "expiry", "--expiry")
        self._product, self._spot = spelt(source, PRODUCTS), spelt(source, _SPOTS)
        self._options, self._path = options, source.path
        if self._product is None and options.product is None:
            raise needed(source, "product", "--product")
        if self._spot is None and options.spot is None:
            raise needed(source, "price of the underlying", "--spot")
        self._marks = source.dialect.marks
        self._day_first = None if self._expiry is None else day_first(values(source, self._expiry))
        if self._day_first is None:
            self._day_first = order_in(options.time_format)
        self._legs = {side: _leg_columns(source, side, notes) for side, _ in _SIDES}
        given = list(_volatilities(source, self._legs))
        self._percent = not any(given) or max(given) >= _LEAST_PERCENT
        if not self._percent:
            notes.guess("volatilities are decimals, for all are below 1.5")

    def key(self, row: Row) -> tuple[str, str, float]:
        """Product, expiry and strike of a row."""
        product = self._options.product or ""
        if self._product is not None:
            cell = row[self._product]
            if cell.absent:
                raise cell.error("a product")
            product = str(cell.value)
        expiry = self._options.expiry or ""
        if self._expiry is not None:
            expiry = iso_date(row[self._expiry], self._day_first)
        strike = number(row[self.strike], self._marks)
        if strike <= 0:
            raise row[self.strike].error("a strike above 0")
        return product, expiry, strike

    def add(self, chains: Chains, key: tuple[str, str, float], row: Row, when: tuple[str, int]) -> None:
        """The legs of a row to the chain of its product and expiry."""
        product, expiry, strike = key
        place = row[self.strike if self._spot is None else self._spot]
        spot = None if self._spot is None else amount(place, self._marks, zero=False)
        spot = spot or self._options.spot
        if spot is None:
            raise OptionNeeded(f"{place.error('a price of the underlying')}: give --spot")
        chain = chains.of(product, expiry, when, spot, place)
        chain.list_strike(strike)
        for side, kind in _SIDES:
            cells = {name: row[column] for name, column in self._legs[side].items()}
            if not all(cell.absent for cell in cells.values()):
                chain.add(kind, strike, self._values(cells))

    def _values(self, cells: Mapping[str, Cell]) -> dict[str, float | None]:
        marks, percent = self._marks, self._percent
        return {
            name: amount(cell, marks, zero=name not in _ZERO_IS_NONE, percent=percent and name == "iv")
            for name, cell in cells.items()
        }


def _leg_columns(source: Source, side: str, notes: Notes) -> dict[str, str]:
    """The column of each field of a side; BadRecord where none is known that tells anything."""
    mine = [name for name in source.dialect.header if name.casefold().startswith(f"{side.casefold()}_")]
    known = {
        field: column for field, name in _LEG.items() if (column := spelt(source, [f"{side}{name}".lower()]))
    }
    if not any(field in known for field in _TELLING):
        usual = ", ".join(f"{side}_{name}" for name in _LEG.values())
        raise EnricherError(
            f"{source.path}: no column {side}_ is known that has prices or open interest: found "
            f"{', '.join(mine or source.dialect.header)}; known are {usual}"
        )
    if strange := [name for name in mine if name not in known.values()]:
        notes.doubt(f"{source.path}: the columns {', '.join(strange)} are not known, and were not read")
    return known


def _volatilities(source: Source, legs: Mapping[str, Mapping[str, str]]) -> Iterator[float]:
    for found in legs.values():
        for text in values(source, found["iv"]) if "iv" in found else ():
            with suppress(ValueError):  # absent, or wrong, which reading says
                yield source.dialect.marks.number(text)


def file_moment(source: Source, options: Options) -> tuple[str, int]:
    """The moment of a whole file: as given, else the ``YYYY-MM-DD_HH-MM-SSZ`` in its name, which is UTC."""
    if options.timestamp is not None:
        return moment(Cell(source.path, None, "option --time", options.timestamp), Times(zone=options.zone))
    found = _IN_FILE_NAME.search(source.name) or _IN_FILE_NAME.search(source.path.name)
    if found is None:
        expected = "YYYY-MM-DD_HH-MM-SSZ in it, or a time given (--time)"
        raise BadRecord(source.path, None, "file name", expected, source.name)
    day, hours, minutes, seconds = found.groups()
    utc = datetime.fromisoformat(f"{day}T{hours}:{minutes}:{seconds}").replace(tzinfo=UTC)
    text = utc.astimezone(options.zone or UTC).isoformat()
    return text, event_us(text)[0]


FORMAT = Format("csv-chains", "a table of option chains", "chains", _seen, _read)
