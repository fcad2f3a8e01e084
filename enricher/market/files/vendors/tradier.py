"""Tradier's option chains (``/v1/markets/options/chains``).

The price of the underlying is not in it. Times of bid, ask and trade are milliseconds since 1970;
volatilities are decimals, 0 where there is none. An answer with one option holds it without a list.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import iso_date
from enricher.market.files.vendors.fields import (
    Fields,
    count,
    part,
    price,
    read_fields,
    signed,
    strike,
    text,
    when,
)
from enricher.market.files.vendors.option_names import OptionName
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "Tradier's option chain"
_LEG: Fields = {
    "bid": (price, "bid"),
    "ask": (price, "ask"),
    "last": (price, "last"),
    "volume": (count, "volume"),
    "open_interest": (count, "open_interest"),
    "iv": (price, "greeks.mid_iv"),
    "bid_qty": (count, "bidsize"),
    "ask_qty": (count, "asksize"),
    "delta": (signed, "greeks.delta"),
    "gamma": (signed, "greeks.gamma"),
    "vega": (signed, "greeks.vega"),
    "theta": (signed, "greeks.theta"),
}
_SIDES = {"call": "CALL", "put": "PUT"}


def _seen(source: Source) -> str | None:
    options = source.sample.get("options")
    return "the key options.option" if isinstance(options, dict) and "option" in options else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    rows = part(source.root(), "options.option")
    snapshot = Snapshot(source, options, notes, _TITLE, "contracts", ("spot",))
    for row in [rows] if isinstance(rows.value, dict) else rows.items():
        side = row.member("option_type")
        kind = _SIDES.get(str(side.value))
        if kind is None:
            raise side.error("call or put")
        root = text(
            row.member("underlying") if part(row, "root_symbol").absent else row.member("root_symbol")
        )
        expiry = iso_date(row.member("expiration_date"))
        option = OptionName(root, expiry, strike(row.member("strike")), kind)
        leg = read_fields(row, _LEG)
        for key in ("bid_date", "ask_date", "trade_date"):
            if price(part(row, key)) is not None:
                moment = when(part(row, key), options, "epoch-ms")
                snapshot.saw(moment)
                if key == "trade_date":
                    leg["last_trade_time"] = moment[0]
        snapshot.leg(option, leg, text(row.member("symbol")), row)
    yield from snapshot.recorded()


FORMAT = Format("tradier", _TITLE, "chains", _seen, _read, whole=True)
