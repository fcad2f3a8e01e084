"""Files of the National Stock Exchange of India become chains."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from enricher.errors import EnricherError
from enricher.market.files import BadRecord, Notes, OptionNeeded
from tests.vendor_files import legs, lines, messages, written


def version_3(**changes: Any) -> dict[str, Any]:
    """As api/option-chain-v3 of nseindia.com answers: one strike, of which only the call is listed.

    Fields of the older version: BennyThadikaran/NseIndiaApi, src/samples/option_chain.json.
    """
    call = {
        "strikePrice": 24900, "expiryDate": "18-08-2026", "underlying": "NIFTY",
        "identifier": "OPTIDXNIFTY18-08-2026CE24900.00", "openInterest": 1000.5, "changeinOpenInterest": -10,
        "totalTradedVolume": 0, "impliedVolatility": 11.5, "lastPrice": 0, "buyPrice1": 189.5,
        "buyQuantity1": 65, "sellPrice1": 190.5, "sellQuantity1": 130, "underlyingValue": 25010.5,
    }  # fmt: skip
    nothing = dict.fromkeys(call, 0) | {"identifier": None, "underlying": None, "expiryDate": None}
    row = {"expiryDates": "18-Aug-2026", "strikePrice": 24900, "CE": call, "PE": nothing}
    records = {"timestamp": "13-Aug-2026 11:30:00", "underlyingValue": 25010.5, "data": [row]}
    return {"records": records | changes, "filtered": {}}


def test_version_3_of_the_option_chain_has_other_names_for_bids_asks_and_expiries(tmp_path: Path) -> None:
    notes = Notes()
    (chain,) = messages(written(tmp_path, version_3()), notes)
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("NIFTY", "2026-08-18", 25010.5)
    assert (chain["timestamp"], chain["oi_unit"]) == ("2026-08-13T11:30:00", "contracts")
    assert legs(chain, "bid", "ask", "bid_qty", "ask_qty", "last", "iv") == {
        "C24900": [189.5, 190.5, 65, 130, None, 0.115]
    }
    assert legs(chain, "open_interest", "volume", "change_in_oi") == {"C24900": [1000.5, 0, -10]}
    assert notes.skipped == {"a leg that is not listed (no identifier)": 1}


def test_a_log_of_answers_has_a_snapshot_in_every_line(tmp_path: Path) -> None:
    later = version_3(timestamp="13-Aug-2026 11:33:00")
    first, second = messages(written(tmp_path, lines(version_3(), later)))
    assert (first["timestamp"], second["timestamp"]) == ("2026-08-13T11:30:00", "2026-08-13T11:33:00")
    assert first["calls"][0]["bid"] == second["calls"][0]["bid"] == 189.5
    with pytest.raises(OptionNeeded, match="--time is that of one answer, and every line here is one"):
        messages(written(tmp_path, lines(version_3(), later)), timestamp="2026-08-13T11:30:00+05:30")


@pytest.mark.parametrize("spot", [None, 0])
def test_a_spot_that_is_not_known_is_asked_for(tmp_path: Path, spot: object) -> None:
    document = version_3(underlyingValue=spot)
    document["records"]["data"][0]["CE"]["underlyingValue"] = spot
    path = written(tmp_path, document)
    with pytest.raises(OptionNeeded, match=r"NSE's option-chain JSON; it has no price of .*--spot"):
        messages(path)
    assert messages(path, spot=25000.0)[0]["spot_price"] == 25000
    document["records"]["data"][0]["CE"]["underlyingValue"] = 25012
    assert messages(written(tmp_path, document))[0]["spot_price"] == 25012, "a leg may know it"
    document["records"]["underlyingValue"], notes = 25500, Notes()
    assert messages(written(tmp_path, document), notes)[0]["spot_price"] == 25500
    assert notes.doubts == ["NIFTY has two prices, 25012 and 25500: the last one counts (--spot)"]


def test_two_legs_of_one_place_that_differ_are_refused(tmp_path: Path) -> None:
    row = version_3()["records"]["data"][0]
    other = row | {"CE": row["CE"] | {"lastPrice": 5}}
    assert len(messages(written(tmp_path, version_3(data=[row, row])))) == 1
    with pytest.raises(BadRecord, match=r"data\[1\]\.CE: expected one call of NIFTY 2026-08-18 at 24900"):
        messages(written(tmp_path, version_3(data=[row, other])))


# What "Download (.csv)" of the page nseindia.com/option-chain gives.
EXPORT = """CALLS,,PUTS
,OI,CHNG IN OI,VOLUME,IV,LTP,CHNG,BID QTY,BID,ASK,ASK QTY,STRIKE,BID QTY,BID,ASK,ASK QTY,CHNG,LTP,IV,VOLUME,\
CHNG IN OI,OI,
,"1,02,345","-2,100",-,11.5,"1,190.00",5.25,65,"1,189.50","1,190.50",130,"24,900.00",-,-,-,-,-,-,-,-,-,-,
,-,-,-,-,-,-,-,-,-,-,"25,000.50",65,114.50,115.50,130,-4.40,115.00,11.9,"8,76,543",500,"1,98,765",
"""


def test_the_table_of_the_web_page_is_read_with_what_it_does_not_say(tmp_path: Path) -> None:
    given = {"product": "NIFTY", "expiry": "2026-08-18", "spot": 25010.0, "timestamp": "2026-08-13T09:30:00"}
    (chain,) = messages(written(tmp_path, EXPORT), **given)
    assert (chain["product"], chain["expiry"], chain["spot_price"]) == ("NIFTY", "2026-08-18", 25010)
    assert (chain["timestamp"], chain["strikes"]) == ("2026-08-13T09:30:00", [24900, 25000.5])
    assert legs(chain, "bid", "ask", "last", "iv", "open_interest", "volume", "change_in_oi") == {
        "C24900": [1189.5, 1190.5, 1190, 0.115, 102345, None, -2100],
        "P25000.5": [114.5, 115.5, 115, 0.119, 198765, 876543, 500],
    }


def test_the_table_of_the_web_page_may_say_product_and_expiry_in_the_name_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, EXPORT, "option-chain-ED-BANKNIFTY-25-Aug-2026 (1).csv")
    notes = Notes()
    (chain,) = messages(path, notes, spot=25010.0, timestamp="2026-08-13T09:30:00")
    assert (chain["product"], chain["expiry"]) == ("BANKNIFTY", "2026-08-25")
    assert "BANKNIFTY, expiry 2026-08-25 (name of the file)" in notes.guesses
    with pytest.raises(OptionNeeded, match=r"no price of the underlying and no time: give --spot --time$"):
        messages(path)


# Columns: cmrohityadav/Go, 02_ProtoGo/04_vittaIndicator/internal/types/types.go.
UDIFF = """TradDt,BizDt,Sgmt,Src,FinInstrmTp,FinInstrmId,ISIN,TckrSymb,SctySrs,XpryDt,FininstrmActlXpryDt,\
StrkPric,OptnTp,FinInstrmNm,OpnPric,HghPric,LwPric,ClsPric,LastPric,PrvsClsgPric,UndrlygPric,SttlmPric,OpnIntrst,\
ChngInOpnIntrst,TtlTradgVol,TtlTrfVal,TtlNbOfTxsExctd,SsnId,NewBrdLotQty,Rmks,Rsvd1,Rsvd2,Rsvd3,Rsvd4
2026-08-13,2026-08-13,FO,NSE,IDF,1,,NIFTY,,2026-08-25,2026-08-25,,,NIFTY26AUGFUT,1,1,1,25065.20,1,1,25010.00,1,1,1,\
1,1,1,F1,65,,,,,
2026-08-13,2026-08-13,FO,NSE,IDO,2,,NIFTY,,2026-08-25,2026-08-25,25000.00,CE,NIFTY26AUG25000CE,1,1,1,130.00,131.00,1,\
25010.00,1,650000,-6500,1200,1,900,F1,65,,,,,
2026-08-13,2026-08-13,FO,NSE,STO,3,,ACC,,2026-08-25,2026-08-25,1800.00,PE,ACC26AUG1800PE,0,0,0,0.00,0,1,1850.5,1,0,0,\
0,0,0,F1,300,,,,,
"""
# Columns: jugaad-py/jugaad-data, tests/test_bhav.py.
OLD = """INSTRUMENT,SYMBOL,EXPIRY_DT,STRIKE_PR,OPTION_TYP,OPEN,HIGH,LOW,CLOSE,SETTLE_PR,CONTRACTS,VAL_INLAKH,\
OPEN_INT,CHG_IN_OI,TIMESTAMP,
FUTIDX,NIFTY,26-Mar-2015,0,XX,1,1,1,8950.5,1,1,1,1,1,02-MAR-2015,
OPTIDX,NIFTY,26-Mar-2015,8900,CE,1,1,1,130.5,1,1200,1,650000,-6500,02-MAR-2015,
"""


def test_a_bhavcopy_becomes_chains_of_the_end_of_the_day(tmp_path: Path) -> None:
    acc, nifty = messages(written(tmp_path, UDIFF))
    assert nifty["timestamp"] == "2026-08-13T15:30:00+05:30", "the end of trading in India"
    assert (nifty["product"], nifty["expiry"], nifty["spot_price"]) == ("NIFTY", "2026-08-25", 25010)
    assert (nifty["future_price"], nifty["oi_unit"]) == (25065.2, "units")
    fields = ("symbol", "last", "open_interest", "change_in_oi", "volume", "bid", "iv")
    assert legs(nifty, *fields) == {"C25000": ["NIFTY26AUG25000CE", 130, 650000, -6500, 1200, None, None]}
    assert (acc["product"], acc["spot_price"], "future_price" in acc) == ("ACC", 1850.5, False)
    assert legs(acc, "last", "open_interest", "volume") == {"P1800": [None, 0, 0]}


def test_only_one_product_of_a_bhavcopy_can_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, UDIFF)
    (chain,) = messages(path, product="acc", timestamp="2026-08-13T15:40:00", zone=ZoneInfo("Asia/Kolkata"))
    assert (chain["product"], chain["timestamp"]) == ("ACC", "2026-08-13T15:40:00+05:30")
    with pytest.raises(OptionNeeded, match="no option of SBIN in it; there is ACC, NIFTY"):
        messages(path, product="SBIN")
    with pytest.raises(OptionNeeded, match="--spot is the price of one product, and there are ACC, NIFTY"):
        messages(path, spot=1850.0)


def test_a_bhavcopy_of_before_2024_has_forwards_but_no_price_of_the_underlying(tmp_path: Path) -> None:
    notes = Notes()
    (chain,) = messages(written(tmp_path, OLD), notes)
    assert (chain["expiry"], chain["spot_price"], chain["future_price"]) == ("2015-03-26", 0, 8950.5)
    assert chain["timestamp"] == "2015-03-02T15:30:00+05:30"
    assert legs(chain, "last", "open_interest", "volume") == {"C8900": [130.5, 650000, 1200]}
    assert ["spot_price is 0, which is unknown" in doubt for doubt in notes.doubts] == [True]
    assert messages(written(tmp_path, OLD), spot=8956.5)[0]["spot_price"] == 8956.5


def test_two_days_in_a_bhavcopy_are_refused(tmp_path: Path) -> None:
    second = OLD.splitlines()[-1].replace("02-MAR", "03-MAR")
    with pytest.raises(
        BadRecord, match=r"line 4, column .*: expected one day in a file, which was 2015-03-02"
    ):
        messages(written(tmp_path, OLD + second + "\n"))


def test_a_tape_of_trades_is_named_and_not_read(tmp_path: Path) -> None:
    header = "timestamp,asset,instrument_type,strike,trading_symbol,traded_price"
    text = f"{header}\n2026-08-13 14:39:05,NIFTY,PE,1,X,2\n"
    with pytest.raises(EnricherError, match=r"looks like a tape of option trades .*no bids"):
        messages(written(tmp_path, text))
