"""Upstox: option chains (``/v2/option/chain``) and messages of the market data feed, as JSON.

A chain has no time; open interest and volume are in units of the underlying, volatilities percent. The feed
names shares and options by numbers that say nothing about them: only its indices are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell, iso_date
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
    text,
    when,
)
from enricher.market.files.vendors.india import index_of
from enricher.market.files.vendors.option_names import OptionName
from enricher.market.files.vendors.snapshot import Snapshot
from enricher.market.files.vendors.ticking import Ticks

_CHAIN = "Upstox's option chain"
_FEED = "Upstox's market data feed"
_LEG: Fields = {
    "bid": (price, "market_data.bid_price"),
    "ask": (price, "market_data.ask_price"),
    "last": (price, "market_data.ltp"),
    "volume": (count, "market_data.volume"),
    "open_interest": (count, "market_data.oi"),
    "iv": (percent, "option_greeks.iv"),
    "bid_qty": (count, "market_data.bid_qty"),
    "ask_qty": (count, "market_data.ask_qty"),
    "delta": (signed, "option_greeks.delta"),
    "gamma": (signed, "option_greeks.gamma"),
    "vega": (signed, "option_greeks.vega"),
    "theta": (signed, "option_greeks.theta"),
}
_SIDES = (("call_options", "CALL"), ("put_options", "PUT"))


def _seen_chain(source: Source) -> str | None:
    rows = source.sample.get("data")
    first = next(iter(rows), None) if isinstance(rows, list) else None
    known = isinstance(first, dict) and {"underlying_key", "strike_price"} <= first.keys()
    return "the keys data, underlying_key, call_options" if known else None


def _read_chain(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _CHAIN, "units", ("timestamp",))
    for row in source.root().member("data", list).items():
        key = str(row.member("underlying_key").value).rpartition("|")[2]
        product = index_of(key) or snapshot.product()  # a share is called by its ISIN
        expiry = iso_date(row.member("expiry"))
        at = strike(row.member("strike_price"))
        snapshot.spot(product, price(part(row, "underlying_spot_price")))
        for side, kind in _SIDES:
            leg = part(row, side)
            symbol = part(leg, "instrument_key")
            if not symbol.absent:
                option = OptionName(product, expiry, at, kind)
                snapshot.leg(option, read_fields(leg, _LEG), text(symbol), leg)
    yield from snapshot.recorded()


def _seen_feed(source: Source) -> str | None:
    return "the keys feeds, currentTs" if {"feeds", "currentTs"} <= source.sample.keys() else None


def _read_feed(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    ticks = Ticks(options, notes)
    for message in source.objects():
        feeds = part(message, "feeds")
        for key in () if feeds.value is None else names(feeds):
            product = index_of(key.rpartition("|")[2]) if "INDEX|" in key else None
            if product is None:
                notes.skip("no index: the feed does not say what else its numbers mean")
                continue
            last = _last(feeds.member(key))
            time = part(last, "ltt")
            moment = when(message.member("currentTs") if time.absent else time, options)
            yield from ticks.tick(product, price(part(last, "ltp")), moment)


def _last(feed: Cell) -> Cell:
    """The last trade of a feed of version 2 or 3, whatever was subscribed to."""
    for path in ("ltpc", "fullFeed.indexFF.ltpc", "ff.indexFF.ltpc"):
        if part(feed, path).value is not None:
            return part(feed, path)
    raise feed.error("a price (ltpc)")


CHAIN = Format("upstox-chain", _CHAIN, "chains", _seen_chain, _read_chain, whole=True)
FEED = Format("upstox-feed", _FEED, "ticks", _seen_feed, _read_feed)
