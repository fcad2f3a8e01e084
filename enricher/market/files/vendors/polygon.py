"""Polygon's (now Massive's) snapshot of an option chain (``/v3/snapshot/options/SYMBOL``).

Volatilities are decimals, times nanoseconds since 1970. Plans without quotes leave ``last_quote`` out.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.vendors.fields import Fields, count, part, price, read_fields, signed, when
from enricher.market.files.vendors.option_names import occ
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "Polygon's option chain snapshot"
_LEG: Fields = {
    "bid": (price, "last_quote.bid"),
    "ask": (price, "last_quote.ask"),
    "last": (price, "day.close"),
    "volume": (count, "day.volume"),
    "open_interest": (count, "open_interest"),
    "iv": (price, "implied_volatility"),
    "bid_qty": (count, "last_quote.bid_size"),
    "ask_qty": (count, "last_quote.ask_size"),
    "delta": (signed, "greeks.delta"),
    "gamma": (signed, "greeks.gamma"),
    "vega": (signed, "greeks.vega"),
    "theta": (signed, "greeks.theta"),
}
_TRADE: Fields = {"last": (price, "last_trade.price")}
_TIMES = ("underlying_asset.last_updated", "last_trade.sip_timestamp", "last_quote.last_updated")


def _seen(source: Source) -> str | None:
    rows = source.sample.get("results")
    first = next(iter(rows), None) if isinstance(rows, list) else rows
    details = first.get("details") if isinstance(first, dict) else None
    known = isinstance(details, dict) and "contract_type" in details
    return "the keys results, details.contract_type" if known else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    rows = source.root().member("results")
    snapshot = Snapshot(source, options, notes, _TITLE, "contracts")
    for row in [rows] if isinstance(rows.value, dict) else rows.items():
        name = part(row, "details.ticker")
        option = occ(str(name.value))
        if option is None:
            raise name.error("an option like O:SPY260814C00640000")
        leg = read_fields(row, _LEG) | read_fields(row, _TRADE)
        for key in _TIMES:
            if price(part(row, key)) is not None:
                moment = when(part(row, key), options, "epoch-ns")
                snapshot.saw(moment)
                if key.startswith("last_quote"):
                    leg["timestamp"] = moment[0]
                if key.startswith("last_trade"):
                    leg["last_trade_time"] = moment[0]
        for key in ("price", "value"):  # of a share, of an index
            snapshot.spot(option.root, price(part(row, f"underlying_asset.{key}")))
        snapshot.leg(option, leg, str(name.value), row)
    yield from snapshot.recorded()


FORMAT = Format("polygon", _TITLE, "chains", _seen, _read, whole=True)
