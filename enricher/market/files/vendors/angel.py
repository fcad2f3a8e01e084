"""Ticks of Angel One's SmartAPI (WebSocket 2.0), as JSON.

Prices are in paise, times milliseconds since 1970. An instrument is a number, of which those of the indices
are known; volume is that of the day so far.
"""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import count, part, price, when
from enricher.market.files.vendors.india import ANGEL_TOKENS
from enricher.market.files.vendors.ticking import Ticks

_TITLE = "ticks of Angel One's SmartAPI"
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


FORMAT = Format("angel", _TITLE, "ticks", _seen, _read)
