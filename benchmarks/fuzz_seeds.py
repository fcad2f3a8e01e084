# ruff: noqa: E501, ISC004  (bytes as they stand in files)
"""Small files that a desk might have, for `benchmarks.fuzz` to spoil; layouts as the readers know them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _nse_leg(price: float, strike: float) -> dict[str, object]:
    return {
        "strikePrice": strike, "expiryDate": "18-Aug-2026", "underlying": "NIFTY", "openInterest": 1200,
        "changeinOpenInterest": 20, "totalTradedVolume": 5400, "impliedVolatility": 11.5, "lastPrice": price,
        "buyPrice1": price - 0.5, "buyQuantity1": 75, "sellPrice1": price + 0.5, "sellQuantity1": 150,
        "bidprice": price - 0.5, "askPrice": price + 0.5, "underlyingValue": 25010.5,
        "identifier": "OPTIDXNIFTY18-08-2026CE25000.00",
    }  # fmt: skip


_ROWS = [
    {"expiryDates": "18-Aug-2026", "expiryDate": "18-Aug-2026", "strikePrice": strike,
     "CE": _nse_leg(190 - at * 50, strike), "PE": _nse_leg(60 + at * 50, strike)}
    for at, strike in enumerate((24900, 25000, 25100))
]  # fmt: skip
_NSE = {
    "records": {"timestamp": "13-Aug-2026 10:00:00", "underlyingValue": 25010.5, "data": _ROWS,
                "expiryDates": ["18-Aug-2026"], "strikePrices": [24900, 25000, 25100]},
    "filtered": {"data": _ROWS},
}  # fmt: skip
_TICK = {"type": "UNDERLYING", "product": "NIFTY", "price": 25010.5, "timestamp": "2026-08-13T09:15:00+05:30", "tick_id": 1}
_BOOK = {
    "jsonrpc": "2.0", "usOut": 1786600000000000,
    "result": [
        {"instrument_name": f"BTC-28AUG26-{strike}-{kind}", "bid_price": 0.05, "ask_price": 0.051, "mark_price": 0.0505,
         "mark_iv": 55.5, "open_interest": 10.5, "volume": 2.5, "last": 0.05, "underlying_price": 102000.5,
         "underlying_index": "BTC-28AUG26", "creation_timestamp": 1786600000000}
        for strike in (90000, 100000, 110000) for kind in "CP"
    ],
}  # fmt: skip
_CBOE = {
    "timestamp": "2026-08-13 15:00:00",
    "data": {"symbol": "^SPX", "current_price": 6400.5, "last_trade_time": "2026-08-13T11:00:00",
             "options": [{"option": f"SPXW260818{kind}06400000", "bid": 20.5, "ask": 21.0, "iv": 0.11, "open_interest": 100.0,
                          "volume": 5.0, "last_trade_price": 20.75, "last_trade_time": "2026-08-13T10:59:00"} for kind in "CP"]},
}  # fmt: skip
_KITE = {
    "mode": "full", "instrument_token": 256265, "last_price": 25010.5, "exchange_timestamp": "2026-08-13 09:15:01",
    "ohlc": {"open": 24990, "high": 25020, "low": 24980, "close": 24950}, "volume_traded": 1200,
}  # fmt: skip
_CHAIN_CSV = (
    b"symbol,expiry,spot,strike,CE_bid,CE_ask,CE_ltp,CE_oi,CE_volume,CE_iv,PE_bid,PE_ask,PE_ltp,PE_oi,PE_volume,PE_iv\n"
    b"NIFTY,2026-08-18,25010,24900,189.5,190.5,190,1000,10,11.5,59.5,60.5,60,2000,20,12\n"
    b"NIFTY,2026-08-18,25010,25000,124.5,125.5,125,3000,10,11.4,94.5,95.5,95,2500,20,11.9\n"
    b"BANKNIFTY,2026-08-18,56030,56000,424.5,425.5,425,300,10,13.4,394.5,395.5,395,250,20,13.9\n"
)
_EXPORT = (
    b"CALLS,,PUTS\n,OI,CHNG IN OI,VOLUME,IV,LTP,CHNG,BID QTY,BID,ASK,ASK QTY,STRIKE,BID QTY,BID,ASK,ASK QTY,CHNG,LTP,IV,"
    b"VOLUME,CHNG IN OI,OI,\n"
    b',"1,23,456",12,"5,400",11.5,190.00,-3.5,75,189.5,190.5,150,"24,900.00",75,59.5,60.5,150,2.1,60.00,12,"1,000",-,"2,000",\n'
)
_UDIFF = (
    b"TradDt,BizDt,Sgmt,Src,FinInstrmTp,FinInstrmId,ISIN,TckrSymb,SctySrs,XpryDt,FininstrmActlXpryDt,StrkPric,OptnTp,"
    b"FinInstrmNm,OpnPric,HghPric,LwPric,ClsPric,LastPric,PrvsClsgPric,UndrlygPric,SttlmPric,OpnIntrst,ChngInOpnIntrst,"
    b"TtlTradgVol,TtlTrfVal,TtlNbOfTxsExctd,SsnId,NewBrdLotQty\n"
    b"2026-08-13,2026-08-13,FO,NSE,IDO,1,,NIFTY,,2026-08-18,2026-08-18,25000.00,CE,NIFTY26AUG25000CE,120,130,110,125,125,"
    b"119,25010.5,125,97500,650,1000,25000,90,F1,65\n"
)

def _both(of: Callable[[str], object]) -> list[object]:
    return [of("C"), of("P")]


_US = {"bid": 5.4, "ask": 5.6, "last": 5.5, "volume": 10, "strike": 640.0}
_MORE = [
    {"status": "success", "data": {
        "NSE:NIFTY 50": {"instrument_token": 5, "last_price": 25010.5, "timestamp": "2026-08-13 09:15:01", "depth": {}},
        **{f"NFO:NIFTY2681825000{side}E": {
            "instrument_token": 6, "last_price": 130.5, "volume": 650, "oi": 6500, "timestamp": "2026-08-13 09:15:01",
            "last_trade_time": "2026-08-13 09:14:00",
            "depth": {"buy": [{"price": 130, "quantity": 65}], "sell": [{"price": 131, "quantity": 65}]},
        } for side in "CP"},
    }},
    {"status": "success", "data": [{
        "expiry": "2026-08-18", "strike_price": 25000.0, "underlying_key": "NSE_INDEX|Nifty 50", "underlying_spot_price": 25010.5,
        **{f"{side}_options": {
            "instrument_key": "NSE_FO|1", "option_greeks": {"vega": 5.5, "theta": -6.5, "gamma": 0.0, "delta": 0.5, "iv": 11.5},
            "market_data": {"ltp": 130.5, "volume": 650, "oi": 6500.0, "bid_price": 130.0, "bid_qty": 65, "ask_price": 131, "ask_qty": 130},
        } for side in ("call", "put")},
    }]},
    {"symbol": "MSFT", "status": "SUCCESS", "underlyingPrice": 401.5, **{f"{side}ExpDateMap": {"2026-08-21:8": {"400.0": [{
        "symbol": "MSFT_1", "bid": 9.9, "ask": 10.1, "last": 10.0, "bidSize": 47, "askSize": 28, "totalVolume": 3860,
        "tradeTimeInLong": 1786651128405, "quoteTimeInLong": 1786651199412, "volatility": 21.745, "delta": 0.53, "gamma": 0.02,
        "theta": -0.2, "vega": 0.25, "openInterest": 7959, "strikePrice": 400.0, "nonStandard": False,
    }]}} for side in ("call", "put")}},
    {"options": {"option": _both(lambda side: {
        **_US, "symbol": f"SPY260821{side}00640000", "root_symbol": "SPY", "underlying": "SPY", "expiration_date": "2026-08-21",
        "option_type": {"C": "call", "P": "put"}[side], "open_interest": 100, "bidsize": 1, "asksize": 2, "trade_date": 1786651128405,
        "bid_date": 1786651128405, "ask_date": 1786651128405, "greeks": {"mid_iv": 0.12, "delta": 0.5, "gamma": 0.1, "vega": 0.2, "theta": -0.1},
    })}},
    {"optionChain": {"error": None, "result": [{
        "quote": {"regularMarketTime": 1786651128, "regularMarketPrice": 641.5},
        "options": [{f"{name}s": [{
            **_US, "contractSymbol": f"SPY260821{name[0].upper()}00640000", "lastPrice": 5.5, "openInterest": 100,
            "impliedVolatility": 0.12, "lastTradeDate": 1786651128,
        }] for name in ("call", "put")}],
    }]}},
]
_DERIBIT_TABLE = (
    b"underlying_price,underlying_index,timestamp,open_interest,mark_iv,last_price,instrument_name,index_price,best_bid_price,"
    b"best_ask_price,asks,stats.volume,greeks.vega,greeks.delta\n"
    b'101800,BTC-25SEP26,1786591500123,120.4,52.1,0.0615,BTC-25SEP26-100000-C,101500,0.061,0,"[[0.2, 3]]",12.5,80,0.5\n'
    b"101800,index_price,1786591500124,120.4,52.1,0.0615,BTC-25SEP26-100000-P,101500,0.061,0.062,[],12.5,80,-0.5\n"
)

FILES: list[bytes] = [
    *map(_json, _MORE), _DERIBIT_TABLE,
    b"time,price,volume\n2026-08-13T09:15:00,25010.5,75\n2026-08-13T09:15:01,25011.0,150\n",
    b"time;price;volume\n2026-08-13 09:15:00;25010,50;75\n2026-08-13 09:15:01;25011,00;150\n",
    b"Date\tTime\tLTP\tVol\n13-08-2026\t09:15:00\t25010.50\t75\n13-08-2026\t09:15:01\t25011\t80\n",
    b"1786592700000,25010.5\n1786592700600,25011\n",
    b"20260813 091500;25010.50;75\n20260813 091501;25011.00;80\n",
    b'"time","price"\n"13-Aug-2026 09:15:00 AM","25,010.50"\n"13-Aug-2026 09:15:01 AM","25,011.00"\n',
    "time,price\n2026-08-13T09:15:00,25010.5\n".encode("utf-16"),
    gzip.compress(b"time,price\n2026-08-13T09:15:00,25010.5\n", mtime=0),
    _CHAIN_CSV, _EXPORT, _UDIFF, _json(_NSE), _json(_BOOK), _json(_CBOE), _json([_KITE, _KITE]),
    b"\n".join([_json(_TICK)] * 3), b"\n".join([_json(_KITE)] * 3),
    b'1) "message"\n2) "market:underlying"\n3) "' + _json(_TICK).replace(b'"', b'\\"') + b'"\n',
    b'{"at": "2026-08-13T03:45:00+00:00", "topic": "market:underlying", "body": ' + _json(json.dumps(_TICK)) + b"}\n",
    _json({"records": {}}), b"{}", b"<!DOCTYPE html><html><body>Access denied</body></html>",
    _json({"code": "0", "msg": "", "data": [{"instId": "BTC-USD-260828-100000-C", "instType": "OPTION", "bidPx": "0.05",
                                            "askPx": "0.051", "last": "0.05", "oi": "100", "vol24h": "5", "ts": "1786600000000"}]}),
    _json([{"symbol": "BTC-260828-100000-C", "markPrice": "2500.5", "bidIV": "0.55", "askIV": "0.56", "markIV": "0.555",
            "delta": "0.5", "theta": "-50", "gamma": "0.0001", "vega": "80", "highPriceLimit": "9000", "lowPriceLimit": "0.1"}]),
    b"contractSymbol,lastTradeDate,strike,lastPrice,bid,ask,change,percentChange,volume,openInterest,impliedVolatility,"
    b"inTheMoney,contractSize,currency\nSPY260821C00640000,2026-08-13 15:00:00+00:00,640.0,5.5,5.4,5.6,0,0,10,100,0.12,True,"
    b"REGULAR,USD\n",
]  # fmt: skip
