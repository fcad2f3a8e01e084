"""Fyers: option chains (``/data/options-chain-v3``) and messages of its data socket, as JSON.

A chain has no time. Its row with the strike -1 is the underlying; weekly options name their day, monthly
ones expire on the last listed day of their month. Open interest and volume are in units of the underlying.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import iso_date
from enricher.market.files.vendors.fields import Fields, count, part, price, read_fields, signed, when
from enricher.market.files.vendors.india import index_of
from enricher.market.files.vendors.option_names import indian
from enricher.market.files.vendors.quotes import quote
from enricher.market.files.vendors.snapshot import Snapshot
from enricher.market.files.vendors.ticking import Ticks

_CHAIN = "Fyers' option chain"
_SOCKET = "the data socket of Fyers"
_LEG: Fields = {
    "bid": (price, "bid"),
    "ask": (price, "ask"),
    "last": (price, "ltp"),
    "volume": (count, "volume"),
    "open_interest": (count, "oi"),
    "change_in_oi": (signed, "oich"),
}
_TICK: Fields = {
    "bid": (price, "bid_price"),
    "ask": (price, "ask_price"),
    "last": (price, "ltp"),
    "volume": (count, "vol_traded_today"),
    "bid_qty": (count, "bid_size"),
    "ask_qty": (count, "ask_size"),
}
_DAY = {"open": "open_price", "high": "high_price", "low": "low_price"}


def _seen_chain(source: Source) -> str | None:
    data = source.sample.get("data")
    return "the key data.optionsChain" if isinstance(data, dict) and "optionsChain" in data else None


def _read_chain(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _CHAIN, "units", ("timestamp",))
    data = source.root().member("data", dict)
    listed = {iso_date(part(row, "date"), day_first=True) for row in part(data, "expiryData").items()}
    rows = data.member("optionsChain", list).items()
    for row in rows:
        symbol = str(row.member("symbol").value)
        if part(row, "option_type").value == "":
            snapshot.spot(_product(symbol), price(part(row, "ltp")))
            continue
        named = indian(symbol)
        if named is None:
            raise row.member("symbol").error("an option like NSE:NIFTY2681825000CE")
        option = snapshot.dated(named, listed)
        if option is None:
            notes.skip("another expiry than --expiry")
            continue
        snapshot.leg(option, read_fields(row, _LEG), symbol, row)
    yield from snapshot.recorded()


def _seen_socket(source: Source) -> str | None:
    known = {"symbol", "ltp", "exch_feed_time"} <= source.sample.keys()
    return "the keys symbol, ltp, exch_feed_time" if known else None


def _read_socket(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    ticks = Ticks(options, notes)
    snapshot = Snapshot(source, options, notes, _SOCKET, None)
    for row in source.objects():
        if part(row, "symbol").absent or part(row, "ltp").absent:
            notes.skip("no price (a message about the connection)")
            continue
        symbol = str(row.member("symbol").value)
        moment = when(row.member("exch_feed_time"), options)
        if symbol.endswith("FUT"):
            notes.skip("a future")
        elif (named := indian(symbol)) is None:
            day = {name: price(part(row, key)) for name, key in _DAY.items()}
            volume = None if symbol.endswith("-INDEX") else count(part(row, "vol_traded_today"))
            yield from ticks.tick(_product(symbol), price(row.member("ltp")), moment, volume, **day)
        elif (option := snapshot.dated(named)) is None:
            notes.skip("another expiry than --expiry")
        elif options.product is not None and options.product.upper() != option.root:
            notes.skip("another product")
        else:
            yield quote(option, symbol, read_fields(row, _TICK), moment)


def _product(symbol: str) -> str:
    """``NSE:NIFTY50-INDEX`` is NIFTY, ``NSE:SBIN-EQ`` is SBIN, ``NSE:BAJAJ-AUTO-EQ`` is BAJAJ-AUTO."""
    name = symbol.rpartition(":")[2]
    return index_of(name.removesuffix("-INDEX")) or name.rpartition("-")[0] or name


CHAIN = Format("fyers-chain", _CHAIN, "chains", _seen_chain, _read_chain, whole=True)
SOCKET = Format("fyers-socket", _SOCKET, "messages", _seen_socket, _read_socket)
