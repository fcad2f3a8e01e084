"""Files with options on coins become chains and quotes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enricher.market.files import BadRecord, Notes, OptionNeeded
from tests.vendor_files import legs, lines, messages, written

LEG = ("bid", "ask", "last", "iv", "open_interest", "volume")
NO_SPOT = ["no price of the underlying, only its forward: spot_price is 0, which is unknown (--spot)"]


def summary(name: str, **fields: Any) -> dict[str, Any]:
    """Layout: docs.deribit.com, public-get_book_summary_by_currency; nautechsystems/nautilus_trader,
    crates/adapters/deribit/test_data/http_get_book_summary_by_currency.json.
    """
    prices = {"bid_price": 0.061, "ask_price": 0.0625, "mark_price": 0.06168, "last": 0.0615, "mark_iv": 52.1}
    sums = {
        "open_interest": 120.4,
        "volume": 12.5,
        "underlying_index": "BTC-25SEP26",
        "underlying_price": 101800.0,
    }
    return {"instrument_name": name, **prices, **sums, "creation_timestamp": 1786591500123, **fields}


def test_summaries_of_deribit_are_priced_in_coins_with_their_forward(tmp_path: Path) -> None:
    rows = [
        summary("BTC-25SEP26-100000-C"),
        summary("BTC-25SEP26-100000-P", bid_price=None, ask_price=0.045, last=None, mark_iv=0),
        summary("XRP_USDC-21SEP26-1d25-P", underlying_price=1.3991, estimated_delivery_price=1.3987),
        summary("BTC-PERPETUAL"),
    ]
    notes = Notes()
    path = written(tmp_path, {"jsonrpc": "2.0", "result": rows, "usIn": 1, "usOut": 2})
    xrp, btc = messages(path, notes)
    assert (btc["product"], btc["expiry"], btc["timestamp"]) == (
        "BTC", "2026-09-25", "2026-08-13T03:25:00.123000+00:00"
    )  # fmt: skip
    assert (btc["price_unit"], btc["future_price"], btc["spot_price"]) == ("underlying", 101800, 0)
    assert btc["oi_unit"] == "units"
    assert (notes.doubts, notes.skipped) == (NO_SPOT, {"no option": 1})
    assert legs(btc, *LEG) == {
        "C100000": [0.061, 0.0625, 0.0615, 0.521, 120.4, 12.5],
        "P100000": [None, 0.045, None, None, 120.4, 12.5],
    }
    assert (xrp["product"], xrp["price_unit"], xrp["strikes"]) == ("XRP_USDC", "quote", [1.25])
    assert (xrp["spot_price"], xrp["future_price"]) == (1.3987, 1.3991)
    assert messages(path, product="BTC", spot=101500.0)[0]["spot_price"] == 101500


def ticker(name: str, **fields: Any) -> dict[str, Any]:
    """Layout: OpenBB-finance/OpenBB, openbb_platform/providers/deribit/tests/data/option_tickers.json."""
    greeks = {"delta": 0.5, "gamma": 0.00001, "vega": 120.5, "theta": -80.5, "rho": 0.8}
    prices = {"best_bid_price": 0.061, "best_ask_price": 0.0, "last_price": 0.0615, "mark_iv": 52.1}
    sizes = {
        "best_bid_amount": 5.0,
        "best_ask_amount": 0.0,
        "open_interest": 120.4,
        "stats": {"volume": 12.5},
    }
    index = {"index_price": 101500.0, "underlying_price": 101800.0, "underlying_index": "BTC-25SEP26"}
    time = {"timestamp": 1786591500123, "state": "open", "greeks": greeks}
    return {"instrument_name": name, **prices, **sizes, **index, **time, **fields}


def test_tickers_of_deribit_by_name_become_a_chain(tmp_path: Path) -> None:
    names = ("BTC-25SEP26-100000-C", "BTC-25SEP26-100000-P")
    rows = {name: ticker(name, timestamp=1786591500123 + at) for at, name in enumerate(names)}
    (chain,) = messages(written(tmp_path, rows))
    assert (chain["spot_price"], chain["future_price"], chain["price_unit"]) == (101500, 101800, "underlying")
    assert chain["timestamp"] == "2026-08-13T03:25:00.124000+00:00", "the newest"
    assert legs(chain, *LEG, "delta", "timestamp")["C100000"] == [
        0.061, None, 0.0615, 0.521, 120.4, 12.5, 0.5, "2026-08-13T03:25:00.123000+00:00"
    ]  # fmt: skip
    assert chain == messages(written(tmp_path, list(rows.values())))[0]


def test_a_table_of_tickers_has_a_snapshot_for_each_time_that_a_name_comes(tmp_path: Path) -> None:
    """Layout: bottama/Deribit-Option-Data, csv_files/btc_option_data.csv."""
    head = (
        "underlying_price,underlying_index,timestamp,open_interest,mark_iv,last_price,instrument_name,"
        "index_price,best_bid_price,best_ask_price,asks,stats.volume,greeks.vega,greeks.delta\n"
    )
    row = '101800,BTC-25SEP26,{},120.4,52.1,0.0615,BTC-25SEP26-{},101500,0.061,0,"[[0.2, 3]]",12.5,80,0.5\n'
    index = row.replace("BTC-25SEP26,", "index_price,")
    rows = [row.format(1786591500123, "100000-C"), index.format(1786591500124, "100000-P")]
    later = rows[0].replace("500123", "560123")
    first, second = messages(written(tmp_path, head + rows[0] + rows[1] + later))
    assert (first["spot_price"], first["future_price"], first["price_unit"]) == (101500, 101800, "underlying")
    assert (first["timestamp"], len(first["puts"])) == ("2026-08-13T03:25:00.124000+00:00", 1)
    assert legs(first, *LEG, "delta")["C100000"] == [0.061, None, 0.0615, 0.521, 120.4, 12.5, 0.5]
    assert (second["timestamp"], second["puts"]) == ("2026-08-13T03:26:00.123000+00:00", [])
    (alone,) = messages(written(tmp_path, head.replace("asks", "greeks") + rows[1]))
    assert "future_price" not in alone, "the index is no forward"


def test_a_stream_of_tickers_becomes_quotes(tmp_path: Path) -> None:
    def notification(data: dict[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "ticker.x", "data": data}}

    notes = Notes()
    stream = [
        ticker("BTC-25SEP26-100000-C"),
        ticker("BTC-PERPETUAL"),
        ticker("ETH-25SEP26-3000-P", mark_iv=0),
    ]
    btc, eth = messages(written(tmp_path, lines(*map(notification, stream))), notes)
    assert (btc["symbol"], btc["product"], btc["strike"]) == ("BTC-25SEP26-100000-C", "BTC", 100000)
    assert (btc["option_type"], btc["bid"], btc["ask"], btc["iv"]) == ("CALL", 0.061, None, 0.521)
    assert (btc["timestamp"], btc["price_unit"]) == ("2026-08-13T03:25:00.123000+00:00", "underlying")
    assert (eth["option_type"], eth["iv"], eth["vega"]) == ("PUT", None, None)
    assert notes.skipped == {"no option": 1}
    (alone,) = messages(written(tmp_path, {"jsonrpc": "2.0", "result": stream[0]}))
    assert alone == btc


def test_mark_prices_of_binance_lack_spot_and_time(tmp_path: Path) -> None:
    """Layout: developers.binance.com/docs/derivatives/option/market-data/Option-Mark-Price."""
    row = {
        "symbol": "BTC-260925-100000-C", "markPrice": "6280.5", "bidIV": "-1.0", "askIV": "0.524",
        "markIV": "0.521", "delta": "0.55", "theta": "-80.1", "gamma": "0.00001", "vega": "130.2",
    }  # fmt: skip
    path = written(tmp_path, [row])
    with pytest.raises(OptionNeeded, match=r"no price of the underlying and no time: give --spot --time$"):
        messages(path)
    (chain,) = messages(path, spot=101500.0, timestamp="2026-08-13T03:25:00Z")
    assert (chain["product"], chain["expiry"], chain["price_unit"]) == ("BTCUSDT", "2026-09-25", "quote")
    assert legs(chain, "iv", "mark_price", "delta", "bid") == {"C100000": [0.521, 6280.5, 0.55, None]}
    with pytest.raises(BadRecord, match=r"\$\[1\]\.symbol: expected an option like BTC-260925"):
        messages(written(tmp_path, [row, row | {"symbol": "BTCUSDT"}]))


def test_tickers_of_binance_have_the_index_and_the_times_of_trades(tmp_path: Path) -> None:
    """Layout: developers.binance.com/docs, option/market-data/24hr-Ticker-Price-Change-Statistics."""
    row = {
        "symbol": "BTC-260925-100000-C", "lastPrice": "6300", "volume": "5", "bidPrice": "6200.5",
        "askPrice": "0", "closeTime": 1786591500123, "strikePrice": "100000", "exercisePrice": "101500.5",
    }  # fmt: skip
    put = row | {"symbol": "BTC-260925-100000-P", "closeTime": 0}
    (chain,) = messages(written(tmp_path, [row, put]))
    assert (chain["spot_price"], chain["timestamp"]) == (101500.5, "2026-08-13T03:25:00.123000+00:00")
    assert legs(chain, *LEG, "last_trade_time") == {
        "C100000": [6200.5, None, 6300, None, None, 5, "2026-08-13T03:25:00.123000+00:00"],
        "P100000": [6200.5, None, 6300, None, None, 5, None],
    }


def test_the_stream_of_mark_prices_of_binance(tmp_path: Path) -> None:
    """Layout: developers.binance.com/docs/derivatives/options-trading/websocket-market-streams/Mark-Price."""
    row = {
        "s": "BTC-260925-126000-C", "mp": "770.543", "E": 1786591500123, "e": "markPrice", "i": "104334.6",
        "P": "0.000", "bo": "0.000", "ao": "900.000", "bq": "0.0000", "aq": "0.2000", "b": "-1.0",
        "a": "0.98161161", "vo": "0.9408058", "d": "0.11", "t": "-164.2", "g": "0.00001", "v": "30.6",
    }  # fmt: skip
    path = written(tmp_path, lines([row], [row | {"E": 1786591501123}]))
    first, second = messages(path)
    assert (first["spot_price"], first["timestamp"]) == (104334.6, "2026-08-13T03:25:00.123000+00:00")
    assert second["timestamp"] == "2026-08-13T03:25:01.123000+00:00"
    assert legs(first, "bid", "ask", "ask_qty", "iv", "vega") == {
        "C126000": [None, 900, 0.2, 0.9408058, 30.6]
    }


def test_market_data_of_okx_has_volatilities_and_the_forward(tmp_path: Path) -> None:
    """Layout: okx.com/docs-v5, get-option-market-data; nautechsystems/nautilus_trader,
    crates/adapters/okx/test_data/http_get_option_summary.json.
    """
    row = {
        "instType": "OPTION", "instId": "BTC-USD-260925-100000-C", "uly": "BTC-USD", "bidVol": "0",
        "askVol": "3.7", "markVol": "0.521", "delta": "0.83", "deltaBS": "0.55", "fwdPx": "101800.5",
        "ts": "1786591500123",
    }  # fmt: skip
    notes = Notes()
    put = row | {"instId": "BTC-USD-260925-100000-P", "markVol": "0", "deltaBS": "-0.4"}
    (chain,) = messages(written(tmp_path, {"code": "0", "msg": "", "data": [row, put]}), notes)
    assert (chain["product"], chain["expiry"], chain["price_unit"]) == ("BTC-USD", "2026-09-25", "underlying")
    assert (chain["future_price"], chain["spot_price"], notes.doubts) == (101800.5, 0, NO_SPOT)
    assert legs(chain, "iv", "delta") == {"C100000": [0.521, 0.55], "P100000": [None, None]}


def test_tickers_of_okx_lack_the_price_of_the_underlying(tmp_path: Path) -> None:
    """Fields: nautechsystems/nautilus_trader, crates/adapters/okx/test_data/ws_tickers.json."""
    row = {
        "instType": "OPTION", "instId": "BTC-USD-260925-100000-C", "last": "0.0615", "askPx": "",
        "askSz": "", "bidPx": "0.061", "bidSz": "5", "vol24h": "12", "ts": "1786591500123",
    }  # fmt: skip
    path = written(
        tmp_path, lines({"arg": {"channel": "tickers"}, "data": [row]}, {"arg": {}, "data": [row]})
    )
    with pytest.raises(
        OptionNeeded, match=r"options of OKX; it has no price of the underlying: give --spot$"
    ):
        messages(path)
    chain, _ = messages(path, spot=101500.0)
    assert (chain["spot_price"], chain["price_unit"], chain["strikes"]) == (101500, "underlying", [100000])
    assert legs(chain, *LEG, "bid_qty") == {"C100000": [0.061, None, 0.0615, None, None, 12, 5]}
    notes = Notes()
    spot = row | {"instType": "SPOT", "instId": "BTC-USDT"}
    assert len(messages(written(tmp_path, {"code": "0", "data": [row, spot]}), notes, spot=101500.0)) == 1
    assert notes.skipped == {"no option": 1}
