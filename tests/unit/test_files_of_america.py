"""Files with options of the United States become chains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from enricher.errors import EnricherError
from enricher.market.cli.reading import all_records
from enricher.market.files import BadRecord, Notes, OptionNeeded, Options
from tests.vendor_files import legs, messages, written

LEG = ("bid", "ask", "last", "iv", "open_interest", "volume")


def cboe(option: str, **fields: Any) -> dict[str, Any]:
    more = {"bid": 21.3, "bid_size": 5.0, "ask": 21.8, "ask_size": 7.0, "iv": 0.121, "open_interest": 1200.0}
    traded = {"volume": 5300.0, "delta": 0.51, "gamma": 0.01, "last_trade_price": 21.5}
    return {"option": option, **more, **traded, "last_trade_time": "2026-08-13T15:29:59", **fields}


def cboe_answer(*rows: dict[str, Any], **data: Any) -> dict[str, Any]:
    """Layout and values: OpenBB-finance/OpenBB, openbb_platform/providers/cboe/tests/data/options_clx.json.

    That timestamp is UTC and last_trade_time New York: the answer of .../delayed_quotes/quotes/AAPL.json in
    record/http/test_cboe_fetchers beside it, 15:28:49 and 10:13:46 of a file modified at 15:28:52 GMT.
    """
    head = {"symbol": "^SPX", "security_type": "index", "current_price": 6400.5, "close": 6400.5}
    return {"timestamp": "2026-08-13 19:45:01", "data": {"options": list(rows), **head, **data}}


def test_delayed_quotes_of_cboe_are_as_old_as_their_newest_trade(tmp_path: Path) -> None:
    untraded = {"last_trade_time": None, "last_trade_price": 0.0, "iv": 0.0, "bid": 0.0, "volume": 0.0}
    put = cboe("SPXW260814P06400500", **untraded)
    answer = cboe_answer(cboe("SPXW260814C06400000"), put, last_trade_time="2026-08-13T15:30:00")
    notes = Notes()
    (chain,) = messages(written(tmp_path, answer), notes)
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("SPXW", "2026-08-14", 6400.5)
    assert (chain["timestamp"], chain["oi_unit"]) == ("2026-08-13T15:30:00-04:00", "contracts")
    assert "time of the newest trade, 2026-08-13T15:30:00-04:00, since quotes are delayed" in notes.guesses
    assert legs(chain, *LEG, "delta", "last_trade_time") == {
        "C6400": [21.3, 21.8, 21.5, 0.121, 1200, 5300, 0.51, "2026-08-13T15:29:59-04:00"],
        "P6400.5": [None, 21.8, None, None, 1200, 0, None, None],
    }
    (untimed,) = messages(written(tmp_path, cboe_answer(put)))
    assert untimed["timestamp"] == "2026-08-13T19:45:01+00:00", "that of the file, where nothing was traded"


def test_options_that_settle_in_the_morning_and_in_the_evening_are_two_chains(tmp_path: Path) -> None:
    path = written(tmp_path, cboe_answer(cboe("SPXW260821C06400000"), cboe("SPX260821C06400000")))
    assert [(chain["product"], chain["expiry"]) for chain in messages(path)] == [
        ("SPX", "2026-08-21"), ("SPXW", "2026-08-21")
    ]  # fmt: skip
    assert [chain["product"] for chain in messages(path, product="SPX")] == ["SPX"]


def test_an_option_that_has_no_such_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"\$\.data\.options\[0\]\.option: expected an option like SPXW"):
        messages(written(tmp_path, cboe_answer(cboe("SPXW261314C06400000"))))


# Layout: Gex-Rider/Gex-Repository, spx_quotedata.csv; the time as an English browser writes it, as in
# DorelRoata/Option-Gamma-Exposure--zero-gamma-level, spx_quotedata.csv.
CBOE_TABLE = """
S&P 500 INDEX,Last: 6400.5,Change:  9.1199
"Date: August 13, 2026 at 8:57 PM EDT",Bid: 6399.1001,Ask: 6401.8301,Size: 1*1,Volume: 0
Expiration Date,Calls,Last Sale,Net,Bid,Ask,Volume,IV,Delta,Gamma,Open Interest,Strike,Puts,Last Sale,Net,\
Bid,Ask,Volume,IV,Delta,Gamma,Open Interest
Fri Aug 14 2026,SPXW260814C06400000,21.5,-4.25,21.3,21.8,5300,0.121,0.51,0.0053,1200,6400.00,\
SPXW260814P06400000,0,0,0,0.05,0,0,-0.49,0,8
Fri Aug 21 2026,SPX260821C06400000,0,0,60.5,61.5,0,0.131,0.52,0.004,20,6400.00,\
SPX260821P06400000,51,0.5,50.9,51.6,3,0.132,-0.48,0.004,7
"""


def test_the_table_of_cboe_has_only_the_time_of_its_download(tmp_path: Path) -> None:
    path = written(tmp_path, CBOE_TABLE)
    with pytest.raises(OptionNeeded, match=r"downloaded on August 13, 2026 at 8:57 PM EDT; .* give --time"):
        messages(path)
    evening, morning = messages(path, timestamp="2026-08-13T16:15:00-04:00")
    assert (evening["product"], evening["expiry"], evening["spot_price"]) == ("SPXW", "2026-08-14", 6400.5)
    assert (evening["timestamp"], evening["oi_unit"]) == ("2026-08-13T16:15:00-04:00", "contracts")
    assert legs(evening, *LEG, "delta") == {
        "C6400": [21.3, 21.8, 21.5, 0.121, 1200, 5300, 0.51],
        "P6400": [None, 0.05, None, None, 8, 0, None],
    }
    assert (morning["product"], morning["expiry"]) == ("SPX", "2026-08-21")
    with pytest.raises(BadRecord, match="line 5, row: expected 22 cells, as the header has, got \"7: "):
        messages(written(tmp_path, CBOE_TABLE.replace(",0.121", "\n0.121")), timestamp="2026-08-13T20:15Z")


# Columns: ranaroussi/yfinance, Ticker.option_chain; the first column is the index that pandas writes.
YFINANCE = """,contractSymbol,lastTradeDate,strike,lastPrice,bid,ask,change,percentChange,volume,\
openInterest,impliedVolatility,inTheMoney,contractSize,currency
0,SPY260814C00640000,2026-08-13 19:59:58+00:00,640.0,2.15,0.0,0.0,0.1,4.8,1200.0,\
900,1.0000000000000003e-05,True,REGULAR,USD
1,SPY260814P00645500,2026-08-13 19:59:51+00:00,645.5,0.42,0.41,0.43,-0.1,-19.2,,1500,0.0913,False,REGULAR,USD
"""


def test_a_table_of_yfinance_is_read_with_what_it_does_not_say(tmp_path: Path) -> None:
    path, notes = written(tmp_path, YFINANCE), Notes()
    with pytest.raises(OptionNeeded, match=r"no price of the underlying and no time: give --spot --time$"):
        messages(path)
    (chain,) = messages(
        path, notes, spot=641.0, timestamp="2026-08-13T16:00", zone=ZoneInfo("America/New_York")
    )
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("SPY", "2026-08-14", 641)
    assert chain["timestamp"] == "2026-08-13T16:00:00-04:00"
    assert legs(chain, *LEG, "last_trade_time") == {
        "C640": [None, None, 2.15, None, 900, 1200, "2026-08-13T19:59:58+00:00"],
        "P645.5": [0.41, 0.43, 0.42, 0.0913, 1500, None, "2026-08-13T19:59:51+00:00"],
    }
    assert notes.doubts == []


def test_tables_of_calls_and_puts_are_one_chain_and_one_alone_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, call, put = YFINANCE.splitlines(keepends=True)
    calls, puts = (written(tmp_path, head + row, f"{at}.csv") for at, row in enumerate((call, put)))
    told = Options(spot=641.0, timestamp="2026-08-13T20:00:00Z")
    ((path, record),) = all_records((calls, puts), told)
    chain = json.loads(record.body)
    assert (path, chain["strikes"]) == (puts, [640, 645.5])
    assert (len(chain["calls"]), len(chain["puts"])) == (1, 1)
    assert capsys.readouterr().err == ""
    assert [at for at, _ in all_records((calls, calls), told)] == [calls, calls]
    assert "only calls are in it: the other table goes beside it" in capsys.readouterr().err


def schwab(side: str, **fields: Any) -> dict[str, Any]:
    """Layout: duncanmcdonald/Dealing-With-TDA-API-Options-Data, option_chain.json; -999 as in public reports
    on the same answer of Schwab."""
    row = {
        "putCall": side, "symbol": f"MSFT_082126{side[0]}400", "bid": 9.9, "ask": 10.1, "last": 10.0,
        "bidSize": 47, "askSize": 28, "totalVolume": 3860, "tradeTimeInLong": 1786651128405,
        "quoteTimeInLong": 1786651199412, "volatility": 21.745,
        "delta": 0.53, "gamma": 0.02, "theta": -0.2, "vega": 0.25, "openInterest": 7959,
        "strikePrice": 400.0, "expirationDate": 1787342400000, "multiplier": 100.0, "nonStandard": False,
    }  # fmt: skip
    return row | fields


def test_a_chain_of_schwab_is_as_old_as_its_newest_quote(tmp_path: Path) -> None:
    none = {"volatility": "NaN", "delta": -999.0, "last": 0.0, "tradeTimeInLong": 0, "openInterest": 0}
    other = schwab("CALL", nonStandard=True)
    answer = {
        "symbol": "MSFT", "status": "SUCCESS", "underlying": None, "underlyingPrice": 401.5,
        "callExpDateMap": {"2026-08-21:8": {"400.0": [schwab("CALL"), other]}},
        "putExpDateMap": {"2026-08-21:8": {"400.0": [schwab("PUT", **none)]}},
    }  # fmt: skip
    notes = Notes()
    (chain,) = messages(written(tmp_path, answer), notes)
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("MSFT", "2026-08-21", 401.5)
    assert chain["timestamp"] == "2026-08-13T19:59:59.412000+00:00"
    assert legs(chain, *LEG, "delta", "last_trade_time") == {
        "C400": [9.9, 10.1, 10, 0.21745, 7959, 3860, 0.53, "2026-08-13T19:58:48.405000+00:00"],
        "P400": [9.9, 10.1, None, None, 0, 3860, None, None],
    }
    assert notes.skipped == {"an option on something else than 100 shares (nonStandard)": 1}
    with pytest.raises(EnricherError, match="there is no message in it, read as an option chain of Schwab"):
        messages(written(tmp_path, answer | {"callExpDateMap": {}, "putExpDateMap": {}}))


def test_the_answer_of_yahoo_has_spot_and_time(tmp_path: Path) -> None:
    """Layout: query1.finance.yahoo.com/v7/finance/options, as in public tests of its readers."""
    call = {
        "contractSymbol": "AAPL260821C00310000", "strike": 310.0, "lastPrice": 1.81, "volume": 145858,
        "openInterest": 9533, "bid": 1.83, "ask": 1.9, "expiration": 1785888000, "lastTradeDate": 1786651198,
        "impliedVolatility": 0.3396, "inTheMoney": False,
    }  # fmt: skip
    result = {
        "underlyingSymbol": "AAPL", "expirationDates": [1785888000],
        "quote": {"symbol": "AAPL", "regularMarketPrice": 308.5, "regularMarketTime": 1786651200},
        "options": [{"expirationDate": 1785888000, "calls": [call], "puts": []}],
    }  # fmt: skip
    (chain,) = messages(written(tmp_path, {"optionChain": {"result": [result], "error": None}}))
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("AAPL", "2026-08-21", 308.5)
    assert chain["timestamp"] == "2026-08-13T20:00:00+00:00"
    assert legs(chain, *LEG) == {"C310": [1.83, 1.9, 1.81, 0.3396, 9533, 145858]}
    with pytest.raises(EnricherError, match="no message in it, read as an option chain of Yahoo's API"):
        messages(written(tmp_path, {"optionChain": {"result": [], "error": None}}))


def test_a_chain_of_tradier_lacks_the_price_of_the_underlying(tmp_path: Path) -> None:
    """Layout and values: OpenBB-finance/OpenBB, openbb_platform/providers/tradier/tests/record/http."""
    greeks = {
        "delta": -0.09,
        "gamma": 0.007,
        "theta": -0.003,
        "vega": 0.06,
        "bid_iv": 0.0,
        "mid_iv": 0.590685,
    }
    option = {
        "symbol": "PLTR260618P00013000", "type": "option", "last": 1.31, "volume": 1, "bid": 0.0, "ask": 1.41,
        "underlying": "PLTR", "strike": 13.0, "greeks": greeks, "trade_date": 1719581457957, "bidsize": 0,
        "bid_date": 1719589843000, "asksize": 44, "ask_date": 1719589844000, "open_interest": 10,
        "contract_size": 100, "expiration_date": "2026-06-18", "option_type": "put", "root_symbol": "PLTR",
    }  # fmt: skip
    call = option | {"symbol": "PLTR260618C00013000", "option_type": "call", "last": None, "trade_date": 0}
    path = written(tmp_path, {"options": {"option": [option, call | {"greeks": None}]}})
    with pytest.raises(OptionNeeded, match=r"Tradier's option chain; .*give --spot$"):
        messages(path)
    (chain,) = messages(path, spot=25.5)
    assert (chain["product"], chain["expiry"], chain["timestamp"]) == (
        "PLTR", "2026-06-18", "2024-06-28T15:50:44+00:00"
    )  # fmt: skip
    assert legs(chain, *LEG, "delta", "last_trade_time") == {
        "C13": [None, 1.41, None, None, 10, 1, None, None],
        "P13": [None, 1.41, 1.31, 0.590685, 10, 1, -0.09, "2024-06-28T13:30:57.957000+00:00"],
    }
    (alone,) = messages(written(tmp_path, {"options": {"option": option}}), spot=25.5)
    assert (alone["calls"], len(alone["puts"])) == ([], 1)


def test_a_snapshot_of_polygon(tmp_path: Path) -> None:
    """Layout and values: polygon-io/client-python, test_rest/mocks/v3/snapshot/options/AAPL.json."""
    quote = {"ask": 29.25, "ask_size": 209, "bid": 28.9, "bid_size": 294, "last_updated": 1651254260800059648}
    call = {
        "day": {"close": 29, "volume": 8, "last_updated": 1651204800000000000},
        "details": {
            "contract_type": "call", "expiration_date": "2023-06-16", "shares_per_contract": 100,
            "strike_price": 150, "ticker": "O:AAPL230616C00150000",
        },
        "greeks": {"delta": 0.64, "gamma": 0.006, "theta": -0.028, "vega": 0.638},
        "implied_volatility": 0.357, "last_quote": quote, "open_interest": 8133,
        "underlying_asset": {"last_updated": 1651254263172073152, "price": 159.9606, "ticker": "AAPL"},
    }  # fmt: skip
    put = {"details": call["details"] | {"ticker": "O:AAPL230616P00150000"}, "day": {}, "greeks": {}}
    (chain,) = messages(written(tmp_path, {"request_id": "1", "results": [call, put], "status": "OK"}))
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("AAPL", "2023-06-16", 159.9606)
    assert chain["timestamp"] == "2022-04-29T17:44:23.172073+00:00"
    assert legs(chain, *LEG, "vega", "timestamp") == {
        "C150": [28.9, 29.25, 29, 0.357, 8133, 8, 0.638, "2022-04-29T17:44:20.800059+00:00"],
        "P150": [None, None, None, None, None, None, None, chain["timestamp"]],
    }
    index = {"ticker": "I:SPX", "value": 6400.5}
    spx = call | {
        "details": {"contract_type": "call", "ticker": "O:SPXW260814C06400000"},
        "underlying_asset": index,
    }
    (other,) = messages(written(tmp_path, {"results": [spx], "status": "OK"}))
    assert (other["product"], other["spot_price"]) == ("SPXW", 6400.5)
