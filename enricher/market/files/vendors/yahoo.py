"""Option chains of Yahoo: a table of yfinance (calls, puts or both), and the answer of its API.

A table has no time, no price of the underlying and its expiries only in the names of the options.
Volatilities are decimals; without bid and ask Yahoo writes about 1e-05, which is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import count, part, price, when
from enricher.market.files.vendors.option_names import OptionName, occ
from enricher.market.files.vendors.snapshot import Snapshot

_TABLE = "an option chain of yfinance"
_ANSWER = "an option chain of Yahoo's API"
_COLUMNS = ("contractsymbol", "strike", "bid", "ask", "impliedvolatility")
_NO_VOLATILITY = 2e-5
_LEG = {
    "bid": (price, "bid"),
    "ask": (price, "ask"),
    "last": (price, "lastPrice"),
    "volume": (count, "volume"),
    "open_interest": (count, "openInterest"),
}


def _seen_table(source: Source) -> str | None:
    return "the columns contractSymbol, impliedVolatility" if {*_COLUMNS} <= {*source.names} else None


def _read_table(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _TABLE, "contracts", ("spot", "timestamp"))
    for row in source.rows():
        option, symbol = _option(row["contractSymbol"])
        leg = {name: read(cell) for name, (read, column) in _LEG.items() if (cell := row.get(column))}
        leg["iv"] = _volatility(row["impliedVolatility"])
        _add_trade(leg, row.get("lastTradeDate"), options)
        snapshot.leg(option, leg, symbol, row["contractSymbol"])
    yield from snapshot.recorded()


def _seen_answer(source: Source) -> str | None:
    chain = source.sample.get("optionChain")
    return "the key optionChain.result" if isinstance(chain, dict) and "result" in chain else None


def _read_answer(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    for result in part(source.root(), "optionChain.result").items():
        snapshot = Snapshot(source, options, notes, _ANSWER, "contracts")
        if not (time := part(result, "quote.regularMarketTime")).absent:
            snapshot.saw(when(time, options, "epoch"))
        for chain in result.member("options").items():
            for row in (*part(chain, "calls").items(), *part(chain, "puts").items()):
                option, symbol = _option(row.member("contractSymbol"))
                leg = {name: read(part(row, key)) for name, (read, key) in _LEG.items()}
                leg["iv"] = _volatility(part(row, "impliedVolatility"))
                _add_trade(leg, part(row, "lastTradeDate"), options, "epoch")
                snapshot.spot(option.root, price(part(result, "quote.regularMarketPrice")))
                snapshot.leg(option, leg, symbol, row)
        yield from snapshot.recorded()


def _option(cell: Cell) -> tuple[OptionName, str]:
    option = occ(str(cell.value))
    if option is None:
        raise cell.error("an option like SPY260814C00640000")
    return option, str(cell.value)


def _volatility(cell: Cell) -> float | None:
    value = price(cell)
    return None if value is None or value < _NO_VOLATILITY else value


def _add_trade(leg: dict[str, Any], cell: Cell | None, options: Options, pattern: str | None = None) -> None:
    if cell is not None and not cell.absent:
        leg["last_trade_time"] = when(cell, options, pattern)[0]


TABLE = Format("yfinance", _TABLE, "chains", _seen_table, _read_table)
ANSWER = Format("yahoo", _ANSWER, "chains", _seen_answer, _read_answer, whole=True)
