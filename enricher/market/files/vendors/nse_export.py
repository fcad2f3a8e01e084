"""The table that the option-chain page of the National Stock Exchange of India lets one download.

Two header lines, the calls to the left of STRIKE and the puts to the right of it under the same names;
numbers as India groups them, ``-`` for none, volatilities in percent. Product and expiry stand in the name
of the file only (``option-chain-ED-NIFTY-15-Sep-2026.csv``), spot and time nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from enricher.errors import EnricherError
from enricher.market.feed.recording import BadRecord, Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.numbers import Marks
from enricher.market.files.source import Source
from enricher.market.files.times import date_of
from enricher.market.files.values import Cell, number
from enricher.market.files.vendors.fields import count, percent, price, signed, strike
from enricher.market.files.vendors.option_names import OptionName
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "the table of NSE's option-chain page"
_NAMED: Final = re.compile(r"option-chain-[A-Z]+-(.+)-(\d{1,2}-[A-Za-z]{3}-\d{4})")
_GROUPED: Final = Marks(".")
_LEG: Final = {
    "OI": ("open_interest", count),
    "CHNG IN OI": ("change_in_oi", signed),
    "VOLUME": ("volume", count),
    "IV": ("iv", percent),
    "LTP": ("last", price),
    "BID QTY": ("bid_qty", count),
    "BID": ("bid", price),
    "ASK": ("ask", price),
    "ASK QTY": ("ask_qty", count),
}


def _seen(source: Source) -> str | None:
    lines = [line.strip().upper() for line in source.head.splitlines()[:3] if line.strip()]
    if len(lines) < 2 or not {"CALLS", "PUTS"} <= {*re.split(r"[,;\t]", lines[0].replace('"', ""))}:
        return None
    names = {*re.split(r"[,;\t]", lines[1].replace('"', ""))}
    return "the header lines CALLS, PUTS and OI, STRIKE" if {"OI", "STRIKE", "LTP"} <= names else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    options = _with_name(source, options, notes)
    lacks = ("product", "expiry", "spot", "timestamp")
    snapshot = Snapshot(source, options, notes, _TITLE, "contracts", lacks)
    rows = source.cells()
    names = next(([name.upper() for name in cells] for _, cells in rows if "STRIKE" in cells), None)
    if names is None:
        raise EnricherError(f"{source.path}: expected a column STRIKE")
    middle = names.index("STRIKE")
    for line, cells in rows:
        if len(cells) != len(names):
            expected = f"{len(names)} cells, as the header has"
            raise BadRecord(source.path, line, "row", expected, f"{len(cells)}: {cells}")
        product, expiry = snapshot.product(), snapshot.expiry()
        at = strike(_ungrouped(Cell(source.path, line, "column STRIKE", cells[middle])))
        for kind, columns in (("CALL", range(middle)), ("PUT", range(middle + 1, len(names)))):
            leg: dict[str, Any] = {}
            for index in columns:
                if names[index] in _LEG:
                    name, read = _LEG[names[index]]
                    cell = Cell(source.path, line, f"column {names[index]}", cells[index])
                    leg[name] = read(_ungrouped(cell))
            if any(value is not None for value in leg.values()):
                snapshot.leg(
                    OptionName(product, expiry, at, kind), leg, None, Cell(source.path, line, "row", at)
                )
    yield from snapshot.recorded()


def _ungrouped(cell: Cell) -> Cell:
    return cell if cell.absent else replace(cell, value=number(cell, _GROUPED))


def _with_name(source: Source, options: Options, notes: Notes) -> Options:
    """The options with product and expiry by the name of the file, where it has them and nobody gave them."""
    found = _NAMED.search(source.name)
    if found is None:
        return options
    product, expiry = options.product or found[1], options.expiry or date_of(found[2])
    notes.guess(f"{product}, expiry {expiry} (name of the file)")
    return replace(options, product=product, expiry=expiry)


FORMAT = Format("nse-export", _TITLE, "chains", _seen, _read)
