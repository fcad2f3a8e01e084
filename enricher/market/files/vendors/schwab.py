"""Option chains of TD Ameritrade and of Schwab (``marketdata/v1/chains``), whose layout is the same.

The chain is as old as its newest quote. Volatilities are percent, and text ("NaN") or -999 where there is
none; an expiry is a key such as ``2026-08-21:8``, its strikes the keys within.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell, iso_date
from enricher.market.files.vendors.fields import (
    GREEKS,
    Fields,
    count,
    names,
    part,
    percent,
    price,
    read_fields,
    signed,
    strike,
    text,
    when,
)
from enricher.market.files.vendors.option_names import OptionName
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "an option chain of Schwab or TD Ameritrade"
_NO_GREEK = -999
_LEG: Fields = {
    "bid": (price, "bid"),
    "ask": (price, "ask"),
    "last": (price, "last"),
    "volume": (count, "totalVolume"),
    "open_interest": (count, "openInterest"),
    "iv": (percent, "volatility"),
    "bid_qty": (count, "bidSize"),
    "ask_qty": (count, "askSize"),
    **{name: (signed, name) for name in GREEKS},
}
_SIDES = (("callExpDateMap", "CALL"), ("putExpDateMap", "PUT"))


def _seen(source: Source) -> str | None:
    found = next((key for key, _ in _SIDES if isinstance(source.sample.get(key), dict)), None)
    return found and f"the key {found}"


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _TITLE, "contracts")
    root = source.root()
    product = text(root.member("symbol"))
    snapshot.spot(product, price(part(root, "underlyingPrice")))
    for key, kind in _SIDES:
        for expiry, row in _rows(part(root, key)):
            option = OptionName(product, expiry, strike(row.member("strikePrice")), kind)
            if part(row, "nonStandard").value is True:
                notes.skip("an option on something else than 100 shares (nonStandard)")
                continue
            leg = read_fields(row, _LEG)
            leg |= {name: None for name in GREEKS if leg.get(name) == _NO_GREEK}
            for name in ("quoteTimeInLong", "tradeTimeInLong"):
                if price(time := part(row, name)) is None:
                    continue
                moment = when(time, options, "epoch-ms")
                snapshot.saw(moment)
                if name == "tradeTimeInLong":
                    leg["last_trade_time"] = moment[0]
            snapshot.leg(option, leg, text(row.member("symbol")), row)
    yield from snapshot.recorded()


def _rows(side: Cell) -> Iterator[tuple[str, Cell]]:
    """The options of one side with their expiry."""
    if side.value is None:
        return
    for key in names(side):
        day = Cell(side.path, side.line, f"{side.column}.{key}", key.partition(":")[0])
        strikes = side.at(key, side.value[key])
        for at in names(strikes):
            for row in strikes.member(at).items():
                yield iso_date(day), row


FORMAT = Format("schwab", _TITLE, "chains", _seen, _read, whole=True)
