"""Files of exchanges become messages of the feed, with nothing invented and nothing lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from enricher.clock import event_us
from enricher.errors import EnricherError
from enricher.market.files import BadRecord, OptionNeeded, Options, Recorded, read
from enricher.messages.models import decode_chain, decode_tick

INDIA = ZoneInfo("Asia/Kolkata")
LATER = event_us("2040-01-01T00:00:00+00:00")[0]


def side(identifier: str, **values: float) -> dict[str, Any]:
    leg: dict[str, Any] = {
        "underlying": "DEMO",
        "identifier": identifier,
        "openInterest": 10,
        "changeinOpenInterest": -2,
        "totalTradedVolume": 5,
        "impliedVolatility": 19.42,
        "lastPrice": 3.5,
        "bidQty": 50,
        "bidprice": 3.4,
        "askQty": 75,
        "askPrice": 3.6,
    }
    return leg | values


def exchange_document() -> dict[str, Any]:
    nothing = {"lastPrice": 0, "impliedVolatility": 0, "bidprice": 0, "askPrice": 0}
    empty = {"openInterest": 0, "totalTradedVolume": 0, "changeinOpenInterest": 0}
    rows = [
        {"strikePrice": 110, "expiryDate": "25-Jul-2030", "PE": side("P110")},
        {"strikePrice": 105, "expiryDate": "27-Jun-2030", "CE": side("C105", openInterest=7.5)},
        {
            "strikePrice": 100,
            "expiryDate": "27-Jun-2030",
            "CE": side("C100", **nothing, **empty),
            "PE": side("P100"),
        },
    ]
    return {"records": {"timestamp": "03-Jun-2030 10:47:19", "underlyingValue": 101.5, "data": rows}}


def nse_file(folder: Path, document: object) -> Path:
    path = folder / "chain.json"
    path.write_text(json.dumps(document))
    return path


def bodies(records: list[Recorded]) -> list[dict[str, Any]]:
    assert {record.topic for record in records} == {"market:option_chain"}
    for record in records:
        decode_chain(record.body, now_us=LATER)
    return [json.loads(record.body) for record in records]


def test_the_exchange_s_document_becomes_one_chain_per_expiry(tmp_path: Path) -> None:
    near, far = bodies(list(read(nse_file(tmp_path, exchange_document()))))
    assert (near["expiry"], near["strikes"]) == ("2030-06-27", [100, 105])
    assert (far["expiry"], far["strikes"]) == ("2030-07-25", [110])
    assert (near["product"], near["spot_price"]) == ("DEMO", 101.5)
    assert near["timestamp"] == "2030-06-03T10:47:19"


def test_a_leg_keeps_what_the_exchange_says(tmp_path: Path) -> None:
    near, _ = bodies(list(read(nse_file(tmp_path, exchange_document()))))
    assert near["puts"] == [
        {
            "symbol": "P100",
            "product": "DEMO",
            "strike": 100,
            "expiry": "2030-06-27",
            "option_type": "PUT",
            "bid": 3.4,
            "ask": 3.6,
            "last": 3.5,
            "volume": 5,
            "open_interest": 10,
            "iv": 0.1942,
            "change_in_oi": -2,
            "bid_qty": 50,
            "ask_qty": 75,
            "timestamp": "2030-06-03T10:47:19",
        }
    ]


def test_missing_legs_stay_missing_and_fractions_of_interest_stay(tmp_path: Path) -> None:
    near, far = bodies(list(read(nse_file(tmp_path, exchange_document()))))
    assert [(leg["strike"], leg["open_interest"]) for leg in near["calls"]] == [(100, 0), (105, 7.5)]
    assert far["calls"] == []


def test_a_price_of_zero_is_none_and_an_interest_of_zero_is_zero(tmp_path: Path) -> None:
    near, _ = bodies(list(read(nse_file(tmp_path, exchange_document()))))
    leg = near["calls"][0]
    assert [leg[name] for name in ("bid", "ask", "last", "iv")] == [None] * 4
    assert [leg[name] for name in ("open_interest", "volume", "change_in_oi")] == [0] * 3


def test_a_zone_gives_the_local_time_its_offset(tmp_path: Path) -> None:
    path = nse_file(tmp_path, exchange_document())
    naive, aware = next(read(path)), next(read(path, Options(zone=INDIA)))
    assert json.loads(aware.body)["timestamp"] == "2030-06-03T10:47:19+05:30"
    assert naive.at_us - aware.at_us == 5.5 * 3600 * 1_000_000


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("records", "data", 1, "expiryDate"), "27-Foo-2030", r"\$\.records\.data\[1\]\.expiryDate"),
        (("records", "data", 0, "strikePrice"), "x", r"data\[0\]\.strikePrice: expected a number"),
        (("records", "data", 0, "PE", "openInterest"), True, r"data\[0\]\.PE\.openInterest"),
        (("records", "timestamp"), "yesterday", r"\$\.records\.timestamp"),
        (("records", "data"), {}, r"\$\.records\.data: expected a list"),
        (("records", "data", 2), 5, r"\$\.records\.data\[2\]: expected an object"),
    ],
)
def test_what_is_wrong_in_a_document_is_named_by_its_path(
    tmp_path: Path, path: tuple[str | int, ...], value: object, named: str
) -> None:
    document: Any = exchange_document()
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(BadRecord, match=r"chain\.json, " + (named if named[0] == "\\" else ".*" + named)):
        list(read(nse_file(tmp_path, document)))


@pytest.mark.parametrize("text", ['{"records"', "[]", "{}"])
def test_a_file_that_is_no_such_document_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chain.json"
    path.write_text(text)
    with pytest.raises(EnricherError, match=r"chain\.json.* (expected JSON|nothing in it)"):
        list(read(path))


SNAPSHOT = """symbol,expiryDate,strikePrice,underlying,CE_OI,CE_CHGOI,CE_IV,CE_LTP,CE_BIDQTY,CE_BID,\
CE_ASK,CE_ASKQTY,PE_OI,PE_CHGOI,PE_IV,PE_LTP,PE_BIDQTY,PE_BID,PE_ASK,PE_ASKQTY
DEMO,25-Jul-2030,105,101.5,NA,NA,NA,NA,NA,NA,NA,NA,0,0,0,0,75,1.5,0,0
DEMO,27-Jun-2030,100,101.5,4,-1,12.5,2.5,10,2.4,2.6,20,,,,,,,,
"""


def snapshot_file(folder: Path, text: str = SNAPSHOT, name: str = "x_2030-06-03_04-44-16Z.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_snapshot_becomes_one_chain_per_expiry_at_the_time_in_its_name(tmp_path: Path) -> None:
    near, far = bodies(list(read(snapshot_file(tmp_path))))
    assert (near["expiry"], far["expiry"]) == ("2030-06-27", "2030-07-25")
    assert near["timestamp"] == "2030-06-03T04:44:16+00:00"
    (call,) = near["calls"]
    assert (call["symbol"], call["iv"], call["last"]) == ("DEMO300627C100", 0.125, 2.5)
    assert "volume" not in call, "the file has no column of volumes: none is invented"


def test_legs_of_a_snapshot_without_any_value_are_missing(tmp_path: Path) -> None:
    near, far = bodies(list(read(snapshot_file(tmp_path))))
    assert (near["puts"], far["calls"]) == ([], [])
    assert (far["strikes"], far["puts"][0]["open_interest"]) == ([105], 0)
    assert (far["puts"][0]["bid"], far["puts"][0]["ask"], far["puts"][0]["iv"]) == (1.5, None, None)


@pytest.mark.parametrize(
    ("timestamp", "zone", "expected"),
    [
        (None, INDIA, "2030-06-03T10:14:16+05:30"),
        ("2030-06-03T10:00:00", None, "2030-06-03T10:00:00"),
        ("2030-06-03 10:00:00", INDIA, "2030-06-03T10:00:00+05:30"),
    ],
)
def test_the_moment_of_a_snapshot_can_be_given_or_shown_in_a_zone(
    tmp_path: Path, timestamp: str | None, zone: ZoneInfo | None, expected: str
) -> None:
    record = next(read(snapshot_file(tmp_path), Options(timestamp=timestamp, zone=zone)))
    assert json.loads(record.body)["timestamp"] == expected


def test_a_snapshot_without_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"file name: expected YYYY-MM-DD_HH-MM-SSZ"):
        list(read(snapshot_file(tmp_path, name="snapshot.csv")))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("12.5", "high", r"line 3, column CE_IV: expected a number.*, got 'high'"),
        ("27-Jun-2030", "27-Foo-2030", r"line 3, column expiryDate: expected a month"),
        ("DEMO,25-Jul-2030,105", "DEMO,25-Jul-2030,nan", r"line 2, column strikePrice"),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(BadRecord, match=named):
        list(read(snapshot_file(tmp_path, SNAPSHOT.replace(old, new))))


def ticks(path: Path, **options: Any) -> list[dict[str, Any]]:
    records = list(read(path, Options(**options)))
    for record in records:
        assert decode_tick(record.body, now_us=LATER).product
    return [json.loads(record.body) for record in records]


def test_rows_of_time_and_price_become_numbered_ticks(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("2030-06-03 09:15:00,101.5\n\n2030-06-03 09:15:01.25,102\n")
    first, second = ticks(path, product="DEMO")
    assert first == {
        "type": "UNDERLYING",
        "product": "DEMO",
        "price": 101.5,
        "timestamp": "2030-06-03T09:15:00",
        "tick_id": 0,
    }
    assert (second["tick_id"], second["price"]) == (1, 102)
    assert second["timestamp"] == "2030-06-03T09:15:01.250000"


def test_columns_can_be_named_and_products_are_numbered_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(
        gzip.compress(
            b"when,what,px,id,size\n03/06/2030 09:15:00,A,1,,5\n"
            b"03/06/2030 09:15:00,B,2,,\n03/06/2030 09:15:01,A,3,x9,0\n03/06/2030 09:15:02,A,4,77,1\n"
        )
    )
    names = {"time": "when", "price": "px", "product": "what", "tick_id": "id", "volume": "size"}
    columns = {f"{field}_column": name for field, name in names.items()}
    found = ticks(path, **columns, time_format="%d/%m/%Y %H:%M:%S", zone=INDIA)
    assert [(t["product"], t["tick_id"], t["volume"]) for t in found] == [
        ("A", 0, 5),
        ("B", 0, None),
        ("A", "x9", 0),
        ("A", 77, 1),
    ]
    assert found[0]["timestamp"] == "2030-06-03T09:15:00+05:30"


def test_an_offset_in_the_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("2030-06-03T09:15:00-04:00,1\n")
    (tick,) = ticks(path, product="DEMO", zone=INDIA)
    assert tick["timestamp"] == "2030-06-03T09:15:00-04:00"


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("2030-06-03 09:15:00,inf", r"line 2, column 1: expected a number"),
        ("2030-06-03,1", r"line 2, column 0: expected a time"),
        ("soon,1", r"line 2, column 0: expected a time \(ISO 8601, .*\), got 'soon'"),
        ("2030-06-03 09:15:00", r"line 2, row: expected 2 cells, as the first row has, got \"1: "),
    ],
)
def test_a_bad_row_of_ticks_is_named(tmp_path: Path, row: str, named: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"2030-06-03 09:15:00,1\n{row}\n")
    with pytest.raises(BadRecord, match=named):
        list(read(path, Options(product="DEMO")))


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"2030-06-03 09:15:00,\xff\n")
    with pytest.raises(BadRecord, match=r"line 1, .*text in utf-8 \(--encoding\)"):
        list(read(path, Options(product="DEMO")))


def test_ticks_without_a_product_need_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("2030-06-03 09:15:00,1\n")
    with pytest.raises(OptionNeeded, match="--product"):
        list(read(path))
