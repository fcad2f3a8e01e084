"""End-of-day files of Indian exchanges for futures and options: bhavcopies, as UDiFF and as before.

They become one chain for each product and expiry at 15:30 of the day, with closing prices as last ones and
the future of the same expiry as its forward. Open interest is in units of the underlying, volume in
contracts. There are no bids, asks and volatilities; before UDiFF (July 2024) there was no price of the
underlying either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from zoneinfo import ZoneInfo

from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times
from enricher.market.files.values import iso_date, moment
from enricher.market.files.vendors.fields import count, price, signed, strike, text
from enricher.market.files.vendors.option_names import OptionName
from enricher.market.files.vendors.snapshot import Snapshot

_UDIFF: Final = {
    "kind": "FinInstrmTp", "product": "TckrSymb", "expiry": "XpryDt", "strike": "StrkPric", "side": "OptnTp",
    "close": "ClsPric", "volume": "TtlTradgVol", "oi": "OpnIntrst", "change": "ChngInOpnIntrst",
    "day": "TradDt", "spot": "UndrlygPric", "symbol": "FinInstrmNm",
}  # fmt: skip
_OLD: Final = {
    "kind": "INSTRUMENT", "product": "SYMBOL", "expiry": "EXPIRY_DT", "strike": "STRIKE_PR",
    "side": "OPTION_TYP", "close": "CLOSE", "volume": "CONTRACTS", "oi": "OPEN_INT", "change": "CHG_IN_OI",
    "day": "TIMESTAMP",
}  # fmt: skip
_FUTURES: Final = frozenset({"IDF", "STF", "FUTIDX", "FUTSTK"})
_OPTIONS: Final = frozenset({"IDO", "STO", "OPTIDX", "OPTSTK"})
_SIDES: Final = {"CE": "CALL", "PE": "PUT", "CA": "CALL", "PA": "PUT"}
_INDIA: Final = ZoneInfo("Asia/Kolkata")
_CLOSE: Final = "15:30:00"


def _seen(columns: Mapping[str, str], source: Source) -> str | None:
    known = {columns[name].casefold() for name in ("kind", "strike", "side", "oi", "day")} <= {*source.names}
    return f"the columns {columns['kind']}, {columns['strike']}, {columns['oi']}" if known else None


def _read(
    columns: Mapping[str, str], title: str, source: Source, options: Options, notes: Notes
) -> Iterator[Recorded]:
    snapshot = Snapshot(source, options, notes, title, "units")
    notes.guess(f"the time is {_CLOSE[:5]}, the end of trading (--time)")
    day: str | None = None
    for row in source.rows():
        kind = str(row[columns["kind"]].value)
        if kind not in _FUTURES | _OPTIONS:
            notes.skip("no future and no option")
            continue
        of, before = row[columns["day"]], day
        day = iso_date(of)
        if before is None:
            snapshot.saw(moment(of.at("close", f"{day}T{_CLOSE}"), Times(zone=options.zone or _INDIA)))
        elif day != before:
            raise of.error(f"one day in a file, which was {before} before")
        product, expiry = text(row[columns["product"]]), iso_date(row[columns["expiry"]])
        closed = price(row[columns["close"]])
        if "spot" in columns:
            snapshot.spot(product, price(row[columns["spot"]]))
        if kind in _FUTURES:
            snapshot.add(product, expiry, future_price=closed)
            continue
        side = row[columns["side"]]
        if side.value not in _SIDES:
            raise side.error("CE or PE")
        option = OptionName(product, expiry, strike(row[columns["strike"]]), _SIDES[side.value])
        leg = {
            "last": closed,
            "volume": count(row[columns["volume"]]),
            "open_interest": count(row[columns["oi"]]),
            "change_in_oi": signed(row[columns["change"]]),
        }
        snapshot.leg(option, leg, str(row[columns["symbol"]].value) if "symbol" in columns else None, side)
    yield from snapshot.recorded()


def _format(name: str, title: str, columns: Mapping[str, str]) -> Format:
    def seen(source: Source) -> str | None:
        return _seen(columns, source)

    def read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
        return _read(columns, title, source, options, notes)

    return Format(name, title, "chains", seen, read)


UDIFF = _format("bhavcopy", "a bhavcopy (UDiFF)", _UDIFF)
OLD = _format("bhavcopy-old", "a bhavcopy of before July 2024", _OLD)
