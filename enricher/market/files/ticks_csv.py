"""Tables of ticks: a row for each, with a time, a price, and maybe a product, an id and a volume.

Columns are found by the names that vendors give them, in any case. Without a header, the first column of
times is the time (or a date with the clock time beside it), and the first numbers after it are the price.
Rows without a tick_id are numbered from 0, for each product by itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from enricher.market.feed.channels import UNDERLYING
from enricher.market.feed.recording import Recorded
from enricher.market.files import columns
from enricher.market.files.columns import (
    TimeColumns,
    column_of,
    explain_dialect,
    needed,
    spelt,
    time_columns,
    values,
)
from enricher.market.files.contract import Column, Format, Notes, OptionNeeded, Options
from enricher.market.files.numbers import Marks, is_number
from enricher.market.files.row import Row
from enricher.market.files.source import Source
from enricher.market.files.values import Cell, integer_or_text, number

_OF_OPTIONS = (
    "strike", "strikeprice", "optiontype", "expiry", "expirydate", "expirationdate", "impliedvolatility",
    "iv", "markiv", "bidiv", "askiv", "delta", "gamma", "greeksdelta", "contractsymbol", "underlyingprice",
)  # fmt: skip
# The name of an option: NIFTY26AUG25000CE, BTC-13FEB21-37500-C.
_OPTION = re.compile(r".*\d(?:CE|PE|-?[CP])(?:\.[A-Z]+)?", re.ASCII | re.DOTALL)
_OF_BARS = ("open", "high", "low")
_NONE = "-1"  # what some vendors write for no price


def _seen(source: Source) -> str | None:
    if source.is_json or source.dialect.width < 2:
        return None
    return "a table, and of no other layout"


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    strange = spelt(source, _OF_OPTIONS) if options.kind is None and options.price_column is None else None
    if strange:
        raise OptionNeeded(
            f"{source.path}: this looks like options (column {strange}) in a layout that is not known; ticks "
            "of an underlying are read with --kind csv-ticks"
        )
    times = time_columns(source, options)
    if times is None:
        raise needed(source, "time", "--time-column")
    price = _price(source, options, times)
    product = _Product(source, options)
    tick_id = column_of(source, options.tick_id_column, columns.TICK_IDS)
    volume = column_of(source, options.volume_column, columns.VOLUMES)
    found = {"prices": price, "products": product.column, "ids": tick_id, "volumes": volume}
    explain_dialect(source, notes)
    others = "".join(f", {what} in {at}" for what, at in found.items() if at is not None)
    notes.guess(times.described() + others)
    rows_of: Counter[str] = Counter()
    marks = source.dialect.marks
    for row in source.rows():
        if row[price].absent or row[price].value == _NONE:
            source.skip("a row without a price")
            continue
        text, at_us = times.of(row)
        name = product.of(row)
        tick: dict[str, Any] = {
            "type": "UNDERLYING",
            "product": name,
            "price": _of(row[price], marks),
            "timestamp": text,
            "tick_id": rows_of[name],
        }
        rows_of[name] += 1
        if tick_id is not None and not (given := row[tick_id]).absent:
            tick["tick_id"] = integer_or_text(given)
        if volume is not None:
            size = row[volume]
            tick["volume"] = None if size.absent else number(size, marks)
        yield Recorded(at_us, UNDERLYING, orjson.dumps(tick))


def _of(cell: Cell, marks: Marks) -> int | float:
    """A price, which the feed refuses below 0."""
    value = number(cell, marks)
    if value < 0:
        raise cell.error("a price that is not negative")
    return value


def _price(source: Source, options: Options, times: TimeColumns) -> Column:
    if options.price_column is not None:
        return options.price_column
    if not source.dialect.has_header:
        first = max(at for at in (times.time, times.date, -1) if isinstance(at, int)) + 1
        for index in range(first, source.dialect.width):
            if columns.all_are(is_number, values(source, index)):
                return index
        return first
    found = spelt(source, columns.PRICES)
    if found is None:
        raise needed(source, "price", "--price-column")
    if found.casefold() == "close" and all(spelt(source, [name]) for name in _OF_BARS):
        raise OptionNeeded(
            f"{source.path}: this looks like bars (columns open, high, low, close), not ticks; give "
            "--price-column to take one of them for the price"
        )
    return found


class _Product:
    """The product of a row: as given for all, else by its column."""

    def __init__(self, source: Source, options: Options) -> None:
        self._name = options.product
        if self._name is not None and options.product_column is not None:
            raise OptionNeeded(f"{source.path}: give --product or --product-column, not both")
        column = column_of(source, options.product_column, columns.PRODUCTS)
        if self._name is None and column is None:
            raise OptionNeeded(
                f"{source.path}: give the product either by name or by a column (--product, --product-column)"
            )
        self.column = column if self._name is None else None
        self._other = column if self._name is not None else None
        self._only: Cell | None = None

    def of(self, row: Row) -> str:
        if self._name is None:
            cell = row[self.column or 0]
            if cell.absent:
                raise cell.error("a product")
            return str(cell.value)
        if self._other is not None:
            cell = row[self._other]
            if self._only is None and _OPTION.fullmatch(str(cell.value)):
                raise cell.error(f"the name of {self._name}, not of an option on it")
            self._only = self._only or cell
            if cell.value != self._only.value:
                raise cell.error(
                    f"{self._only.value} as before, for --product makes one of all rows (else give "
                    f"--product-column {self._other})"
                )
        return self._name


FORMAT = Format("csv-ticks", "a table of ticks", "ticks", _seen, _read)
