"""Tapes of option trades: recognised, and refused, since nobody says what their columns are."""

from __future__ import annotations

from enricher.market.files.contract import Format
from enricher.market.files.source import Source

_COLUMNS = frozenset({"instrument_type", "strike", "trading_symbol", "traded_price"})


def _seen(source: Source) -> str | None:
    known = {*source.names} >= _COLUMNS
    return "the columns instrument_type, strike, trading_symbol, traded_price" if known else None


FORMAT = Format(
    "option-tape", "a tape of option trades", "messages", _seen, None,
    "it has trades of many contracts, no bids, asks and price of the underlying",
)  # fmt: skip
