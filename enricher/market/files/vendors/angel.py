"""Angel One's SmartAPI: ticks (WebSocket 2.0) and full quotes (``/market/v1/quote``), as JSON.

Prices of ticks are in paise, times milliseconds since 1970. An instrument is a number, of which those of the
indices are known; volume is that of the day so far. Quotes are in rupees, by names of which those of NSE are
known; their times are those of India. Open interest and volume are in units of the underlying.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times
from enricher.market.files.values import Cell
from enricher.market.files.values import moment as time_of
from enricher.market.files.vendors.fields import count, part, price, when
from enricher.market.files.vendors.india import ANGEL_TOKENS, best, index_of
from enricher.market.files.vendors.option_names import angel
from enricher.market.files.vendors.snapshot import Snapshot
from enricher.market.files.vendors.ticking import Ticks

_TITLE = "ticks of Angel One's SmartAPI"
_QUOTES = "quotes of Angel One's SmartAPI"
_INDIA: Final = ZoneInfo("Asia/Kolkata")
_NEVER = "01-Jan-1970"
_DAY = {"open": "open_price_of_the_day", "high": "high_price_of_the_day", "low": "low_price_of_the_day"}


def _seen(source: Source) -> str | None:
    known = {"token", "last_traded_price", "exchange_timestamp"} <= source.sample.keys()
    return "the keys token, last_traded_price, exchange_timestamp" if known else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    ticks = Ticks(options, notes)
    for row in source.objects():
        token = row.member("token")
        product = ANGEL_TOKENS.get(str(token.value)) or ticks.named(token)
        if product is None:
            notes.skip("a token that is no index (--product names one)")
            continue
        moment = when(row.member("exchange_timestamp"), options, "epoch-ms")
        day = {name: _rupees(part(row, key)) for name, key in _DAY.items()}
        volume = None if str(token.value) in ANGEL_TOKENS else count(part(row, "volume_trade_for_the_day"))
        yield from ticks.tick(product, _rupees(row.member("last_traded_price")), moment, volume, **day)


def _rupees(cell: Cell) -> float | None:
    paise = price(cell)
    return None if paise is None else round(paise / 100, 4)


def _seen_quotes(source: Source) -> str | None:
    data = source.sample.get("data")
    rows = data.get("fetched") if isinstance(data, dict) else None
    first = next(iter(rows), None) if isinstance(rows, list) else None
    known = isinstance(first, dict) and {"tradingSymbol", "ltp"} <= first.keys()
    return "the keys data.fetched, tradingSymbol, ltp" if known else None


def _read_quotes(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _QUOTES, "units")
    for row in part(source.root(), "data.fetched").items():
        name, exchange = str(row.member("tradingSymbol").value), part(row, "exchange").value
        moment = _time(part(row, "exchFeedTime"), options)
        if moment is not None:
            snapshot.saw(moment)
        if exchange in ("NSE", "BSE"):
            snapshot.spot(index_of(name) or name.removesuffix("-EQ"), price(row.member("ltp")))
        elif exchange != "NFO" or (option := angel(name)) is None:
            notes.skip("no option of NSE")
        else:
            leg = best(row) | {"last": price(row.member("ltp"))}
            leg["volume"] = count(part(row, "tradeVolume"))
            leg["open_interest"] = count(part(row, "opnInterest"))
            traded = _time(part(row, "exchTradeTime"), options)
            leg |= {} if traded is None else {"last_trade_time": traded[0]}
            leg |= {} if moment is None else {"timestamp": moment[0]}
            snapshot.leg(option, leg, name, row)
    yield from snapshot.recorded()


def _time(cell: Cell, options: Options) -> tuple[str, int] | None:
    if cell.absent or str(cell.value).startswith(_NEVER):
        return None
    return time_of(cell, Times(zone=options.zone or _INDIA))


FORMAT = Format("angel", _TITLE, "ticks", _seen, _read)
QUOTES = Format("angel-quotes", _QUOTES, "chains", _seen_quotes, _read_quotes, whole=True)
