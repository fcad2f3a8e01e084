"""The JSON of the option-chain API of the National Stock Exchange of India, version 3 and before.

The exchange writes 0 for "no price" and "no implied volatility", so a last, bid, ask or iv of 0 becomes null,
while open interest and volume of 0 are real. Volatilities are percent. Open interest may be fractional. A leg
without an identifier stands for one that is not listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell, iso_date
from enricher.market.files.vendors.fields import count, part, percent, price, signed, strike, text, when
from enricher.market.files.vendors.option_names import OptionName
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "NSE's option-chain JSON"
_LEG = {
    "bid": (price, ("buyPrice1", "bidprice", "bidPrice")),
    "ask": (price, ("sellPrice1", "askPrice", "askprice")),
    "last": (price, ("lastPrice",)),
    "volume": (count, ("totalTradedVolume",)),
    "open_interest": (count, ("openInterest",)),
    "iv": (percent, ("impliedVolatility",)),
    "change_in_oi": (signed, ("changeinOpenInterest",)),
    "bid_qty": (count, ("buyQuantity1", "bidQty")),
    "ask_qty": (count, ("sellQuantity1", "askQty")),
}
_SIDES = (("CE", "CALL"), ("PE", "PUT"))


def _seen(source: Source) -> str | None:
    records = source.sample.get("records")
    return "the key records.data" if isinstance(records, dict) and "data" in records else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _TITLE, "contracts")
    records = source.root().member("records", dict)
    if not (time := part(records, "timestamp")).absent:
        snapshot.saw(when(time, options))
    for row in records.member("data", list).items():
        newer = part(row, "expiryDates")
        expiry = iso_date(row.member("expiryDate", str) if newer.absent else newer)
        at = strike(row.member("strikePrice"))
        for side, kind in _SIDES:
            leg = part(row, side)
            if leg.value is None:
                continue
            if part(leg, "identifier").absent:
                notes.skip("a leg that is not listed (no identifier)")
                continue
            product = text(leg.member("underlying"))
            for holder in (leg, records):
                snapshot.spot(product, price(part(holder, "underlyingValue")))
            snapshot.leg(
                OptionName(product, expiry, at, kind), _values(leg), text(leg.member("identifier")), leg
            )
    yield from snapshot.recorded()


def _values(leg: Cell) -> dict[str, Any]:
    keys = {name: next((key for key in keys if key in leg.value), None) for name, (_, keys) in _LEG.items()}
    return {name: _LEG[name][0](leg.member(key)) for name, key in keys.items() if key is not None}


FORMAT = Format("nse", _TITLE, "chains", _seen, _read, whole=True)
