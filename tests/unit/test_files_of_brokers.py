"""Files of brokers in India become chains, quotes and ticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enricher.errors import EnricherError
from enricher.market.files import BadRecord, Notes, OptionNeeded
from tests.vendor_files import legs, lines, messages, written

LEG = ("bid", "ask", "last", "iv", "open_interest", "volume")
CUMULATIVE = ['volumes are those of the day so far: market.volume = "cumulative" tells so']


def depth(bid: float, ask: float) -> dict[str, Any]:
    return {
        "buy": [{"price": bid, "quantity": 65, "orders": 1}] * 2,
        "sell": [{"price": ask, "quantity": 130, "orders": 1}] * 2,
    }


def kite_tick(token: int, price: float, **fields: Any) -> dict[str, Any]:
    """Fields: zerodha/pykiteconnect, kiteconnect/ticker.py (_parse_binary)."""
    ohlc = {"open": 24990, "high": 25020, "low": 0, "close": 24950}
    time = {"exchange_timestamp": "2026-08-13 09:15:01"}
    return {"mode": "full", "instrument_token": token, "last_price": price, "ohlc": ohlc} | time | fields


def test_ticks_of_kite_are_read_where_their_number_is_known(tmp_path: Path) -> None:
    notes = Notes()
    rows = (
        kite_tick(256265, 25010.5),
        kite_tick(408065, 1500),
        kite_tick(256265, 0),
        kite_tick(260105, 56000),
    )
    nifty, banknifty = messages(written(tmp_path, lines(list(rows[:2]), list(rows[2:]))), notes)
    assert nifty == {
        "type": "UNDERLYING", "product": "NIFTY", "price": 25010.5, "timestamp": "2026-08-13T09:15:01",
        "tick_id": 0, "open": 24990, "high": 25020,
    }  # fmt: skip
    assert (banknifty["product"], banknifty["tick_id"]) == ("BANKNIFTY", 0)
    assert notes.skipped == {"an instrument_token that is no index (--product names one)": 1, "no price": 1}


def test_an_instrument_that_is_only_a_number_can_be_named(tmp_path: Path) -> None:
    notes = Notes()
    infy = kite_tick(408065, 1500.5, volume_traded=1200)
    path = written(tmp_path, [infy, kite_tick(408065, 1501, volume_traded=1250, exchange_timestamp=None)])
    (tick,) = messages(path, notes, product="INFY")
    assert (tick["product"], tick["price"], tick["volume"]) == ("INFY", 1500.5, 1200)
    assert notes.doubts == CUMULATIVE
    assert notes.skipped == {"no exchange_timestamp (only the mode full has one)": 1}
    with pytest.raises(BadRecord, match=r"\$\[1\]\.instrument_token: expected 408065 again"):
        messages(written(tmp_path, [infy, kite_tick(11, 5)]), product="INFY")
    with pytest.raises(EnricherError, match=r"no message in it.*no index"):
        messages(path)


def kite_quote(price: float, **fields: Any) -> dict[str, Any]:
    """Fields: kite.trade/docs/connect/v3/market-quotes; -0.01 in kite.trade/forum/discussion/798."""
    time = {"timestamp": "2026-08-13 09:15:01", "last_trade_time": "2026-08-13 09:14:00"}
    more = {"instrument_token": 5, "last_price": price, "volume": 650, "oi": 6500, "depth": depth(0, -0.01)}
    return {**more, **time, **fields}


def test_quotes_of_kite_become_chains(tmp_path: Path) -> None:
    data = {
        "NSE:NIFTY 50": kite_quote(25010.5),
        "NFO:NIFTY2681825000CE": kite_quote(130.5, depth=depth(130, 131)),
        "NFO:NIFTY2681825000PE": kite_quote(0, timestamp="2026-08-13 09:15:02", oi=0),
        "NFO:NIFTY26AUGFUT": kite_quote(25065),
    }
    (chain,) = messages(written(tmp_path, {"status": "success", "data": data}))
    assert chain == messages(written(tmp_path, data))[0], "as the Python client hands it out"
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("NIFTY", "2026-08-18", 25010.5)
    assert (chain["timestamp"], chain["oi_unit"]) == ("2026-08-13T09:15:02", "units")
    assert legs(chain, *LEG) == {
        "C25000": [130, 131, 130.5, None, 6500, 650],
        "P25000": [None, None, None, None, 0, 650],
    }
    assert legs(chain, "bid_qty", "ask_qty", "timestamp", "last_trade_time")["C25000"] == [
        65, 130, "2026-08-13T09:15:01", "2026-08-13T09:14:00"
    ]  # fmt: skip


def test_a_monthly_name_needs_the_day_of_its_expiry(tmp_path: Path) -> None:
    data = {
        "NSE:ACC": kite_quote(1850),
        "NFO:ACC26AUG1800CE": kite_quote(60),
        "NFO:ACC26SEP1800CE": kite_quote(80),
    }
    path, notes = written(tmp_path, data), Notes()
    with pytest.raises(OptionNeeded, match=r"it has no expiry: give --expiry$"):
        messages(path)
    (chain,) = messages(path, notes, expiry="2026-08-25")
    assert (chain["expiry"], chain["spot_price"], legs(chain, "last")) == (
        "2026-08-25",
        1850,
        {"C1800": [60]},
    )
    assert notes.skipped == {"another expiry than --expiry": 1}


def test_a_chain_of_upstox(tmp_path: Path) -> None:
    """Layout: upstox.com/developer/api-documentation/get-pc-option-chain."""

    def side(key: str, ltp: float, iv: float) -> dict[str, Any]:
        data = {"ltp": ltp, "volume": 650, "oi": 6500.0, "close_price": 1, "bid_price": 0.0, "bid_qty": 65}
        greeks = {"vega": 5.5, "theta": -6.5, "gamma": 0.0, "delta": 0.5, "iv": iv, "pop": 40}
        return {
            "instrument_key": key,
            "market_data": data | {"ask_price": 131, "ask_qty": 130, "prev_oi": 1},
            "option_greeks": greeks,
        }

    row = {
        "expiry": "2026-08-18", "pcr": 1.2, "strike_price": 25000.0, "underlying_key": "NSE_INDEX|Nifty 50",
        "underlying_spot_price": 25010.5, "call_options": side("NSE_FO|1", 130.5, 11.5),
        "put_options": side("NSE_FO|2", 115, 0),
    }  # fmt: skip
    path = written(tmp_path, {"status": "success", "data": [row]})
    with pytest.raises(OptionNeeded, match=r"Upstox's option chain; it has no time: give --time$"):
        messages(path)
    (chain,) = messages(path, timestamp="2026-08-13T09:15:00+05:30")
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("NIFTY", "2026-08-18", 25010.5)
    assert (chain["timestamp"], chain["oi_unit"]) == ("2026-08-13T09:15:00+05:30", "units")
    assert legs(chain, *LEG, "delta", "symbol") == {
        "C25000": [None, 131, 130.5, 0.115, 6500, 650, 0.5, "NSE_FO|1"],
        "P25000": [None, 131, 115, None, 6500, 650, None, "NSE_FO|2"],
    }, "Greeks without a volatility are none"
    share = written(
        tmp_path, {"status": "success", "data": [row | {"underlying_key": "NSE_EQ|INE002A01018"}]}
    )
    assert messages(share, timestamp="2026-08-13T09:15:00", product="RELIANCE")[0]["product"] == "RELIANCE"


def test_the_feed_of_upstox_is_read_where_it_says_what_it_is_of(tmp_path: Path) -> None:
    """Layout: upstox.com/developer/api-documentation/v3/get-market-data-feed."""
    ltpc = {"ltp": 25010.5, "ltt": "1786592701123", "cp": 24950}
    feeds = {
        "NSE_INDEX|Nifty 50": {"fullFeed": {"indexFF": {"ltpc": ltpc}}},
        "NSE_FO|45450": {"fullFeed": {"marketFF": {"ltpc": ltpc}}},
    }
    start = {"type": "live_feed", "feeds": {"NSE_INDEX|Nifty Bank": {"ltpc": {"ltp": 56000}}}}
    notes = Notes()
    text = lines(
        start | {"currentTs": "1786592700000"}, {"type": "live_feed", "feeds": feeds, "currentTs": "1"}
    )
    bank, nifty = messages(written(tmp_path, text), notes)
    assert (bank["product"], bank["timestamp"]) == ("BANKNIFTY", "2026-08-13T03:45:00+00:00")
    assert (nifty["product"], nifty["price"]) == ("NIFTY", 25010.5)
    assert nifty["timestamp"] == "2026-08-13T03:45:01.123000+00:00"
    assert sum(notes.skipped.values()) == 1


def test_a_chain_of_dhan_as_it_comes_and_as_its_client_wraps_it(tmp_path: Path) -> None:
    """Layout: dhanhq.co/docs/v2/option-chain."""
    greeks = {"delta": 0.5, "theta": -15.2, "gamma": 0.00132, "vega": 12.2}
    call = {
        "greeks": greeks, "implied_volatility": 8.9452, "last_price": 134, "oi": 6500, "previous_oi": 1,
        "top_ask_price": 134.5, "top_ask_quantity": 65, "top_bid_price": 133.5, "top_bid_quantity": 130,
        "volume": 650,
    }  # fmt: skip
    answer = {
        "data": {"last_price": 24964.25, "oc": {"25000.000000": {"ce": call, "pe": None}}},
        "status": "success",
    }
    given = {"product": "NIFTY", "expiry": "2026-08-18", "timestamp": "2026-08-13T09:15:00"}
    path = written(tmp_path, answer)
    with pytest.raises(OptionNeeded, match=r"Dhan's option chain; .*give --product --expiry --time$"):
        messages(path)
    (chain,) = messages(path, **given)
    assert (
        chain == messages(written(tmp_path, {"status": "success", "remarks": "", "data": answer}), **given)[0]
    )
    assert (chain["spot_price"], chain["strikes"], chain["oi_unit"]) == (24964.25, [25000], "units")
    assert legs(chain, *LEG, "gamma") == {"C25000": [133.5, 134.5, 134, 0.089452, 6500, 650, 0.00132]}


def test_the_feed_of_dhan_is_named_and_not_read(tmp_path: Path) -> None:
    tick = {
        "type": "Ticker Data",
        "exchange_segment": 0,
        "security_id": 13,
        "LTP": "25010.50",
        "LTT": "15:29:59",
    }
    with pytest.raises(EnricherError, match=r"looks like the market feed of Dhan .*have no date"):
        messages(written(tmp_path, lines(tick, tick)))


def test_a_chain_of_fyers(tmp_path: Path) -> None:
    """Layout: the sample answer of Fyers' documentation of its API v3 (fyersModel.optionchain)."""

    def option(symbol: str, **fields: Any) -> dict[str, Any]:
        side = {
            "option_type": symbol[-2:],
            "strike_price": 3860,
            "oi": 99575,
            "oich": -3325,
            "volume": 202650,
        }
        return {"ask": 34.9, "bid": 34.35, "ltp": 34.8, "symbol": symbol} | side | fields

    rows = [
        {"ask": 1, "bid": 1, "ltp": 3880.15, "option_type": "", "strike_price": -1, "symbol": "NSE:TCS-EQ"},
        option("NSE:TCS26AUG3860CE"),
        option("NSE:TCS26AUG3860PE", bid=0, ltp=0),
    ]
    expiries = [{"date": "18-08-2026", "expiry": "1"}, {"date": "25-08-2026", "expiry": "2"}]
    path = written(tmp_path, {"code": 200, "data": {"expiryData": expiries, "optionsChain": rows}, "s": "ok"})
    (chain,) = messages(path, timestamp="2026-08-13T09:15:00")
    assert (chain["product"], chain["expiry"]) == ("TCS", "2026-08-25"), (
        "a monthly one expires last in its month"
    )
    assert (chain["spot_price"], chain["oi_unit"]) == (3880.15, "units")
    assert legs(chain, *LEG, "change_in_oi") == {
        "C3860": [34.35, 34.9, 34.8, None, 99575, 202650, -3325],
        "P3860": [None, 34.9, None, None, 99575, 202650, -3325],
    }


def test_messages_of_the_socket_of_fyers(tmp_path: Path) -> None:
    """Layout: the sample answer of Fyers' documentation of its API v3 (FyersDataSocket, SymbolUpdate)."""
    tick = {"ltp": 606.4, "vol_traded_today": 3045212, "exch_feed_time": 1786592700, "low_price": 605.85}
    rows = (
        tick | {"type": "sf", "symbol": "NSE:BAJAJ-AUTO-EQ"},
        {"type": "cn", "code": 200, "message": "Authentication done", "s": "ok"},
        tick | {"type": "if", "symbol": "NSE:NIFTY50-INDEX", "exch_feed_time": 1786592700500},
        tick | {"type": "sf", "symbol": "NSE:NIFTY2681825000CE", "bid_price": 606, "ask_price": 0},
        tick | {"type": "sf", "symbol": "NSE:NIFTY26AUGFUT"},
    )
    notes = Notes()
    share, index, option = messages(written(tmp_path, lines(*rows)), notes)
    assert (share["product"], share["volume"], share["low"]) == ("BAJAJ-AUTO", 3045212, 605.85)
    assert (share["timestamp"], index["timestamp"]) == (
        "2026-08-13T03:45:00+00:00",
        "2026-08-13T03:45:00.500000+00:00",
    )
    assert (index["product"], "volume" in index) == ("NIFTY", False)
    assert (option["symbol"], option["expiry"], option["strike"]) == (
        "NSE:NIFTY2681825000CE",
        "2026-08-18",
        25000,
    )
    assert (option["bid"], option["ask"], option["last"]) == (606, None, 606.4)
    assert sum(notes.skipped.values()) == 2
    assert notes.doubts == CUMULATIVE


def test_ticks_of_angel_one_are_in_paise(tmp_path: Path) -> None:
    """Fields: angel-one/smartapi-python, SmartApi/smartWebSocketV2.py (_parse_binary_data)."""
    tick = {
        "subscription_mode": 2, "exchange_type": 1, "token": "99926000", "sequence_number": 1,
        "exchange_timestamp": 1786592700500, "last_traded_price": 2501055, "volume_trade_for_the_day": 0,
        "high_price_of_the_day": 2502000, "open_price_of_the_day": 0,
    }  # fmt: skip
    share = tick | {"token": "2885", "last_traded_price": 150025, "volume_trade_for_the_day": 1200}
    path = written(tmp_path, lines(tick, share))
    (index,) = messages(path)
    assert (index["product"], index["price"], index["high"]) == ("NIFTY", 25010.55, 25020)
    assert (index["timestamp"], "volume" in index) == ("2026-08-13T03:45:00.500000+00:00", False)
    (reliance,) = messages(path, product="RELIANCE")
    assert (reliance["product"], reliance["price"], reliance["volume"]) == ("RELIANCE", 1500.25, 1200)


def angel_quote(name: str, ltp: float, **fields: Any) -> dict[str, Any]:
    """Layout: smartapi.angelbroking.com/docs/MarketData, mode FULL.

    That open interest is in units: HDFCBANK25JAN24FUT has 118861600 in its forum, topic 4256, lot 550.
    """
    times = {"exchFeedTime": "13-Aug-2026 09:15:02", "exchTradeTime": "13-Aug-2026 09:15:01"}
    sums = {"tradeVolume": 65000, "opnInterest": 130000}
    more = {"symbolToken": "1", "close": 1.0, "depth": depth(ltp - 0.5, ltp + 0.5)}
    return {"exchange": "NFO", "tradingSymbol": name, "ltp": ltp, **times, **sums, **more, **fields}


def test_quotes_of_angel_one_become_chains(tmp_path: Path) -> None:
    never = dict.fromkeys(("exchFeedTime", "exchTradeTime"), "01-Jan-1970 05:30:00")
    rows = [
        angel_quote("Nifty 50", 25010.5, exchange="NSE", exchFeedTime="13-Aug-2026 09:15:03"),
        angel_quote("NIFTY18AUG2625000CE", 120),
        angel_quote("NIFTY18AUG2625000PE", 0, depth={"buy": [], "sell": []}, **never),
        angel_quote("NIFTY25AUG26FUT", 25060),
        angel_quote("SENSEX26AUG81000CE", 100, exchange="BFO"),
        angel_quote("NIFTYNXT5029SEP2670000CE", 800),
    ]
    path = written(tmp_path, {"status": True, "data": {"fetched": rows, "unfetched": []}})
    notes = Notes()
    with pytest.raises(OptionNeeded, match=r"quotes of Angel One's SmartAPI; it has no price of .*--spot"):
        messages(path)
    (chain,) = messages(path, notes, product="NIFTY")
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("NIFTY", "2026-08-18", 25010.5)
    assert (chain["timestamp"], chain["oi_unit"]) == ("2026-08-13T09:15:03+05:30", "units")
    assert legs(chain, "bid", "ask", "last", "open_interest", "volume", "timestamp") == {
        "C25000": [119.5, 120.5, 120, 130000, 65000, "2026-08-13T09:15:02+05:30"],
        "P25000": [None, None, None, 130000, 65000, "2026-08-13T09:15:03+05:30"],
    }
    assert notes.skipped == {"no option of NSE": 2}
    (next_50,) = messages(path, product="NIFTYNXT50", spot=70000.0)
    assert (next_50["expiry"], next_50["strikes"]) == ("2026-09-29", [70000])
