"""The JSON of the option-chain API of the National Stock Exchange of India.

The exchange writes 0 for "no price" and "no implied volatility", so a last, bid, ask or iv of 0 becomes null,
while open interest and volume of 0 are real. Volatilities are percent. Open interest may be fractional.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from enricher.market.feed.recording import Recorded
from enricher.market.files.chains import CALL, PUT, Chains
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times
from enricher.market.files.values import Cell, amount, iso_date, moment, number

_LEG = {
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
_ZERO_IS_NONE = frozenset({"bid", "ask", "last", "iv"})
_SIDES = (("CE", CALL), ("PE", PUT))


def _seen(source: Source) -> str | None:
    records = source.document.get("records") if isinstance(source.document, dict) else None
    return "the key records.data" if isinstance(records, dict) and "data" in records else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    records = source.root().member("records", dict)
    when = moment(records.member("timestamp", str), Times(zone=options.zone))
    spot_cell = records.member("underlyingValue")
    spot = number(spot_cell)
    chains = Chains()
    for row in records.member("data", list).items():
        expiry = iso_date(row.member("expiryDate", str))
        strike = number(row.member("strikePrice"))
        listed = [(kind, row.member(side, dict)) for side, kind in _SIDES if side in row.value]
        for kind, leg in listed:
            product = str(leg.member("underlying", str).value)
            chain = chains.of(product, expiry, when, spot, spot_cell)
            chain.add(kind, strike, _values(leg), str(leg.member("identifier", str).value))
    yield from chains.recorded()


def _values(leg: Cell) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, keys in _LEG.items():
        key = next((key for key in keys if key in leg.value), None)
        if key is not None:
            cell = leg.at(key, leg.value[key])
            values[name] = amount(cell, zero=name not in _ZERO_IS_NONE, percent=name == "iv")
    return values


FORMAT = Format("nse", "NSE's option-chain JSON", "chains", _seen, _read)
