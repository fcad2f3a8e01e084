"""Options of Binance: mark prices (``eapi/v1/mark``, ``@optionMarkPrice``) and tickers (``eapi/v1/ticker``).

Prices are in USDT, volatilities decimals; -1 stands for none. Tickers have the index as ``exercisePrice``,
and of times only those of trades: the newest one of the file is taken. ``/mark`` has neither index nor
time.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import Fields, count, part, price, read_fields, signed, when
from enricher.market.files.vendors.option_names import dated
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "options of Binance"
_LEG: Fields = {
    "bid": (price, "bidPrice"),
    "ask": (price, "askPrice"),
    "last": (price, "lastPrice"),
    "volume": (count, "volume"),
    "iv": (price, "markIV"),
    "mark_price": (price, "markPrice"),
    "delta": (signed, "delta"),
    "gamma": (signed, "gamma"),
    "vega": (signed, "vega"),
    "theta": (signed, "theta"),
}
_STREAM: Fields = {
    "bid": (price, "bo"),
    "ask": (price, "ao"),
    "bid_qty": (count, "bq"),
    "ask_qty": (count, "aq"),
    "iv": (price, "vo"),
    "mark_price": (price, "mp"),
    "delta": (signed, "d"),
    "gamma": (signed, "g"),
    "vega": (signed, "v"),
    "theta": (signed, "t"),
}


def _seen(source: Source) -> str | None:
    row = source.sample
    for name, others in (("symbol", ("markIV", "exercisePrice")), ("s", ("mp",))):
        found = next((other for other in others if other in row), None)
        if found is not None and dated(str(row.get(name))) is not None:
            return f"the keys {name}, {found}"
    return None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    if source.is_json_lines:
        for value in source.objects():
            rows = value.items() if isinstance(value.value, list) else [value]
            yield from _rows(source, rows, options, notes)
    else:
        yield from _rows(source, list(source.objects()), options, notes)


def _rows(source: Source, rows: list[Cell], options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _TITLE, None)
    for row in rows:
        stream = not part(row, "mp").absent
        name = row.member("s" if stream else "symbol")
        option = dated(str(name.value))
        if option is None:
            raise name.error("an option like BTC-260925-100000-C")
        option = option._replace(root=f"{option.root}USDT")
        leg = read_fields(row, _STREAM if stream else _LEG)
        time = part(row, "E" if stream else "closeTime")
        if price(time) is not None:
            moment = when(time, options, "epoch-ms")
            snapshot.saw(moment)
            if not stream:
                leg["last_trade_time"] = moment[0]
        snapshot.spot(option.root, price(part(row, "i" if stream else "exercisePrice")))
        snapshot.add(option.root, option.expiry, price_unit="quote")
        snapshot.leg(option, leg, str(name.value), row)
    yield from snapshot.recorded()


FORMAT = Format("binance", _TITLE, "chains", _seen, _read)
