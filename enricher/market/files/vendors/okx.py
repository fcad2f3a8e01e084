"""Options of OKX: market data (``/public/opt-summary``) and tickers (``/market/tickers``), or their channels.

Market data has volatilities (decimals, 0 where there is none) and the forward, tickers have prices; neither
has open interest or the index. Options on ``-USD`` pairs are priced in coins.
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

_TITLE = "options of OKX"
_LEG: Fields = {
    "bid": (price, "bidPx"),
    "ask": (price, "askPx"),
    "last": (price, "last"),
    "volume": (count, "vol24h"),
    "bid_qty": (count, "bidSz"),
    "ask_qty": (count, "askSz"),
    "iv": (price, "markVol"),
    "delta": (signed, "deltaBS"),
    "gamma": (signed, "gammaBS"),
    "vega": (signed, "vegaBS"),
    "theta": (signed, "thetaBS"),
}


def _seen(source: Source) -> str | None:
    rows = source.sample.get("data")
    first = next(iter(rows), None) if isinstance(rows, list) else None
    if not isinstance(first, dict) or dated(str(first.get("instId"))) is None:
        return None
    found = next((name for name in ("markVol", "bidPx") if name in first), None)
    return None if found is None else f"the keys data, instId, {found}"


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    for answer in source.objects():
        yield from _answer(source, answer, options, notes)


def _answer(source: Source, answer: Cell, options: Options, notes: Notes) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, _TITLE, None)
    for row in answer.member("data", list).items():
        name = row.member("instId")
        option = dated(str(name.value))
        if option is None:
            notes.skip("no option")
            continue
        snapshot.saw(when(row.member("ts"), options, "epoch-ms"))
        unit = "underlying" if option.root.endswith("-USD") else "quote"
        snapshot.add(option.root, option.expiry, future_price=price(part(row, "fwdPx")), price_unit=unit)
        snapshot.leg(option, read_fields(row, _LEG), str(name.value), row)
    yield from snapshot.recorded()


FORMAT = Format("okx", _TITLE, "chains", _seen, _read)
