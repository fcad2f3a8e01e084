"""Tables of option chains: a row for each strike of an expiry, calls and puts side by side.

Columns, in any case: symbol, expiryDate, strikePrice, underlying, and CE_ and PE_ with OI, CHGOI, IV, LTP,
BID, ASK, BIDQTY, ASKQTY, VOLUME where there is one. Volatilities are percent, and 0 is no price and no
volatility. A leg whose cells are all empty or NA is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from enricher.clock import event_us
from enricher.market.feed.recording import BadRecord, Recorded
from enricher.market.files.chains import CALL, PUT, Chains
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times
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
_ZERO_IS_NONE = frozenset({"bid", "ask", "last", "iv"})
_SIDES = (("CE", CALL), ("PE", PUT))
_IN_FILE_NAME = re.compile(r"(\d{4}-\d\d-\d\d)[_T](\d\d)-(\d\d)-(\d\d)(?:Z|_UTC)(?![0-9A-Za-z])")


def _seen(source: Source) -> str | None:
    known = {"expirydate", "strikeprice"} <= {*source.names}
    return "the columns expiryDate and strikePrice" if known else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    when = file_moment(source, options)
    marks = source.dialect.marks
    chains = Chains()
    for row in source.rows():
        expiry = iso_date(row["expiryDate"])
        strike = number(row["strikePrice"], marks)
        spot = row["underlying"]
        chain = chains.of(str(row["symbol"].value), expiry, when, number(spot, marks), spot)
        chain.list_strike(strike)
        for side, kind in _SIDES:
            columns = {name: f"{side}_{column}" for name, column in _LEG.items()}
            cells = {name: row[column] for name, column in columns.items() if column in row}
            if not all(cell.absent for cell in cells.values()):
                values = {
                    name: amount(cell, marks, zero=name not in _ZERO_IS_NONE, percent=name == "iv")
                    for name, cell in cells.items()
                }
                chain.add(kind, strike, values)
    yield from chains.recorded()


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
