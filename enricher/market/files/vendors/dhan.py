"""Dhan's option chain (``/v2/optionchain``), as it comes or as its Python client wraps it.

It has neither the name of the underlying nor the expiry nor a time. Open interest and volume are in units
of the underlying, volatilities percent. The ticks of its feed have a time of day without a date, and only a
number.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.vendors.fields import (
    Fields,
    count,
    names,
    part,
    percent,
    price,
    read_fields,
    signed,
    strike,
)
from enricher.market.files.vendors.option_names import OptionName
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "Dhan's option chain"
_LEG: Fields = {
    "bid": (price, "top_bid_price"),
    "ask": (price, "top_ask_price"),
    "last": (price, "last_price"),
    "volume": (count, "volume"),
    "open_interest": (count, "oi"),
    "iv": (percent, "implied_volatility"),
    "bid_qty": (count, "top_bid_quantity"),
    "ask_qty": (count, "top_ask_quantity"),
    "delta": (signed, "greeks.delta"),
    "gamma": (signed, "greeks.gamma"),
    "vega": (signed, "greeks.vega"),
    "theta": (signed, "greeks.theta"),
}
_SIDES = (("ce", "CALL"), ("pe", "PUT"))


def _seen(source: Source) -> str | None:
    data = source.sample.get("data")
    data = data.get("data", data) if isinstance(data, dict) else None
    known = isinstance(data, dict) and {"oc", "last_price"} <= data.keys()
    return "the keys data.oc, last_price" if known else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _TITLE, "units", ("product", "expiry", "timestamp"))
    data = source.root().member("data", dict)
    data = data.member("data", dict) if "data" in data.value else data
    product, expiry = snapshot.product(), snapshot.expiry()
    snapshot.spot(product, price(data.member("last_price")))
    strikes = data.member("oc", dict)
    for name in names(strikes):
        row = strikes.member(name)
        at = strike(row.at("strike", name))
        for side, kind in _SIDES:
            leg = part(row, side)
            if leg.value:
                snapshot.leg(OptionName(product, expiry, at, kind), read_fields(leg, _LEG), None, leg)
    yield from snapshot.recorded()


def _seen_feed(source: Source) -> str | None:
    known = {"security_id", "exchange_segment", "LTP"} <= source.sample.keys()
    return "the keys security_id, LTP, LTT" if known else None


CHAIN = Format("dhan", _TITLE, "chains", _seen, _read, whole=True)
FEED = Format(
    "dhan-feed", "the market feed of Dhan", "ticks", _seen_feed, None,
    "its times (LTT) have no date, and a security_id does not say what was traded",
)  # fmt: skip
