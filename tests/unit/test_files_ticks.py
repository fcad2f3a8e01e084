"""Tables of ticks in every dialect: the right prices at the right times, or a refusal that helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enricher.errors import EnricherError
from enricher.market.files import BadRecord, Notes, OptionNeeded, Options, read
from tests.file_samples import INDIA
from tests.unit.test_files_contract import zipped

OPEN, SECOND = "2026-08-13T09:15:00+05:30", "2026-08-13T09:15:01+05:30"


def ticks(folder: Path, content: str | bytes, notes: Notes | None = None, **options: Any) -> list[Any]:
    """Time and price of every tick, and the volume where there is one."""
    path = folder / "ticks.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    given = Options(**{"product": "NIFTY", "zone": INDIA, **options})
    bodies = [json.loads(record.body) for record in read(path, given, notes)]
    assert all(body["type"] == "UNDERLYING" for body in bodies)
    return [tuple(body[name] for name in ("timestamp", "price", "volume") if name in body) for body in bodies]


TWO = [(OPEN, 25010.5), (SECOND, 25011.25)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time;price;volume\r\n2026-08-13 09:15:00,100;25010,50;75\r\n2026-08-13 09:15:01;25011,25;150\r\n",
         [("2026-08-13T09:15:00.100000+05:30", 25010.5, 75), (SECOND, 25011.25, 150)]),
        ("1786591500000,25010.5,75\n1786591500600,25011.25,150\n",
         [("2026-08-13T08:55:00+05:30", 25010.5), ("2026-08-13T08:55:00.600000+05:30", 25011.25)]),
        ("1786591500,25010.5,75\n", [("2026-08-13T08:55:00+05:30", 25010.5)]),
        ('\ufefftime,price,volume\r\n2026-08-13 09:15:00,"25,010.50","1,20,000"\r\n',
         [(OPEN, 25010.5, 120000)]),
        ("Ticker,Date,Time,LTP,BuyPrice,BuyQty,LTQ\r\nNIFTY-I.NFO,13/08/2026,09:15:00,25010.5,25010,65,70\r\n",
         [(OPEN, 25010.5, 70)]),
        ("20260813,09:15:00,25010.5,0,0\n20260813,09:15:01,25011.25,0,0\n", TWO),
        ("20260813,91500,25010.5\n20260813,101500,25011\n",
         [(OPEN, 25010.5), ("2026-08-13T10:15:00+05:30", 25011)]),
        ("20260813 091500;25010.5;25011.0;0\n20260813 091501;25011.25;25011.5;0\n", TWO),
        ("time\tprice\n2026-08-13 09:15:00\t25010.5\n2026-08-13 09:15:01\t25011.25\n", TWO),
        ("time|price\n2026-08-13 09:15:00|25010.5\n2026-08-13 09:15:01|25011.25", TWO),
        ("Time,Price\n13-08-2026 09:15:00 AM,25010.5\n13-08-2026 09:15:01 AM,25011.25\n", TWO),
        ("<DATE>\t<TIME>\t<BID>\t<LAST>\t<VOLUME>\n2026.08.13\t09:15:00.000\t1\t25010.5\t7\n",
         [(OPEN, 25010.5, 7)]),
        ('"2026-08-13 09:15:00","25010.50"\n"2026-08-13 09:15:01","25011.25"\n', TWO),
        ('2026-08-13 09:15:00,"25,010.50"\n2026-08-13 09:15:01,"25,011.25"\n', TWO),
        ("sep=;\ntime;price\n2026-08-13 09:15:00;25.010,5\n2026-08-13 09:15:01;25.011,25\n", TWO),
        ("epoch,symbol,price\n1786591500,R_10,6244.577\n", [("2026-08-13T08:55:00+05:30", 6244.577)]),
        ("Date,Time,Price\n2026-08-13 09:15:00,09:15,25010.5\n", TWO[:1]),
        (",Last Traded Price,Exchange Timestamp\n0,25010.5,2026-08-13 09:15:00\n", TWO[:1]),
        ("1,2026-08-13 09:15:00,25010.5\n2,2026-08-13 09:15:01,25011.25\n", TWO),
        ("time,price\r2026-08-13 09:15:00,25010.5\r", TWO[:1]),
        ("time,price,\n2026-08-13 09:15:00,25010.5,\n", TWO[:1]),
    ],
)  # fmt: skip
def test_a_table_of_any_dialect_is_read(tmp_path: Path, text: str, expected: list[Any]) -> None:
    assert ticks(tmp_path, text) == expected


def test_packed_and_wide_tables_are_read(tmp_path: Path) -> None:
    plain = "time,price\r\n2026-08-13 09:15:00,25010.5\r\n"
    assert ticks(tmp_path, zipped({"t.csv": plain.encode()})) == TWO[:1]
    assert ticks(tmp_path, plain.encode("utf-16")) == TWO[:1]
    latin = "Zeit;Börse;Kurs\n13.08.2026 09:15:00;Düsseldorf;25.010,5\n".encode("cp1252")
    with pytest.raises(BadRecord, match=r"line 1, .*text in utf-8 \(--encoding\)"):
        ticks(tmp_path, latin)
    columns = {"time_column": "zeit", "price_column": "Kurs"}
    assert ticks(tmp_path, latin, encoding="cp1252", **columns) == [(OPEN, 25010.5)]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("time;price\n2026-08-13 09:15:00;25,010\n", {"decimal": ","}, 25.01),
        ("time;price\n2026-08-13 09:15:00;25,010\n", {"decimal": "."}, 25010),
        ("time~price\n2026-08-13 09:15:00~25010.5\n", {"delimiter": "~"}, 25010.5),
        ("05/08/2026 09:15:00,25010.5\n", {"time_format": "%d/%m/%Y %H:%M:%S"}, 25010.5),
        ("day,at,px\n13/08/2026,09:15,25010.5\n",
         {"date_column": "day", "time_column": "at", "price_column": "px"}, 25010.5),
        ("x,y,z\n2026-08-13 09:15:00,1,25010.5\n", {"time_column": 0, "price_column": 2}, 25010.5),
        ("100,200\n2026-08-13 09:15:00,25010.5\n",
         {"header": True, "time_column": "100", "price_column": "200"}, 25010.5),
        ("time,open,high,low,close\n2026-08-13 09:15:00,1,3,1,2\n", {"price_column": "close"}, 2),
    ],
)  # fmt: skip
def test_what_a_guess_cannot_know_is_told_by_an_option(
    tmp_path: Path, text: str, options: dict[str, Any], expected: float
) -> None:
    ((_, price, *_),) = ticks(tmp_path, text, **options)
    assert price == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("time,price,volume\n2026-08-13 09:15:00,25,010.50,75\n",
         "line 2, row: expected 3 cells, as the header has, got .4"),
        ("time,price,volume\n2026-08-13 09:15:00,25\n", "line 2, row: expected 3 cells"),
        ("2026-08-13 09:15:00,1\n2026-08-13 09:15:01,1,2\n", "line 2, row: expected 2 cells, as the first"),
        ("time;price\n2026-08-13 09:15:00;25,010\n", r"line 2, column price: .* --decimal \. or --decimal ,"),
        ("time;price\n2026-08-13 09:15:00;1,5\n2026-08-13 09:15:01;1.5\n",
         r"column price: .* mark '\.' \(--decimal\), got '1,5'"),
        ("time,price\n05/08/2026 09:15:00,1\n", "day or month is first: give --time-format"),
        ("time,price\n09:15:00,1\n", r"with its date \(--date-column\)"),
        ("date,price\n2026-08-13,1\n", r"not a date alone \(--time-column\)"),
        ("time,price\n1.78659E+12,1\n", "whose digits are all there"),
        ("time,price\n46247.385416,1\n", "not the days of a spreadsheet"),
        ("time,price\n2026-08-13 09:15:00,-37.63\n", "column price: expected a price that is not negative"),
        ("time,price\n2026-08-13 09:15:00,2_5012\n", "column price: expected a number, got '2_5012'"),
        ('time,price\n"2026-08-13 09:15:00,1\n', "expected CSV, got 'unexpected end of data'"),
        ("time,price\n\0\0\0\0,1\n", "line 2, column time"),
        ("time,price,symbol\n2026-08-13 09:15:00,1,A\n2026-08-13 09:15:01,1,B\n",
         "line 3, column symbol: expected A as before.*--product-column symbol"),
        ("time,price,symbol\n2026-08-13 09:15:00,1,NIFTY26AUG25000CE\n", "the name of NIFTY, not of"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_by_its_place(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadRecord, match=r"ticks\.csv, .*" + named):
        ticks(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("when,px\n2026-08-13 09:15:00,1\n", "has the time[?] Give --time-column; the columns are when, px"),
        ("time,bid,ask\n2026-08-13 09:15:00,1,2\n", "Give --price-column; the columns are time, bid, ask"),
        ("time,open,high,low,close\n2026-08-13 09:15:00,1,3,1,2\n", "this looks like bars"),
        ("timestamp,strike,last\n2026-08-13 09:15:00,1,3\n", "this looks like options .column strike."),
        ("symbol,strike,option_type,bid\nN,1,CE,3\n", "this looks like options .column strike."),
        ("timestamp,mark_iv,last\n2026-08-13 09:15:00,1,3\n", "this looks like options .column mark_iv."),
        ("time,price,Price\n2026-08-13 09:15:00,1,3\n", "2 columns are price: give the number of one"),
    ],
)
def test_a_table_that_may_be_another_thing_asks_for_an_option(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(OptionNeeded, match=named):
        ticks(tmp_path, text)


def test_products_come_from_a_column_or_an_option_but_never_two_as_one(tmp_path: Path) -> None:
    text = "time,price,Symbol\n2026-08-13 09:15:00,1,A\n2026-08-13 09:15:01,2,B\n"
    path = tmp_path / "t.csv"
    path.write_text(text)
    names = [json.loads(record.body)["product"] for record in read(path)]
    assert names == ["A", "B"]
    with pytest.raises(OptionNeeded, match="not both"):
        ticks(tmp_path, text, product_column="Symbol")
    path.write_text("time,price,Symbol\n2026-08-13 09:15:00,1,\n")
    with pytest.raises(BadRecord, match="column Symbol: expected a product"):
        list(read(path))


def test_a_last_line_without_an_end_is_doubted(tmp_path: Path) -> None:
    notes = Notes()
    assert ticks(tmp_path, "time,price\n2026-08-13 09:15:00,250", notes) == [(OPEN, 250)]
    assert "line 2 has no end: was its last value cut off, too?" in notes.doubts[0]


def test_a_point_that_may_group_thousands_is_doubted_aloud(tmp_path: Path) -> None:
    both = ("time;price\n2026-08-13 09:15:00;25.010\n", 1), ("time,price\n2026-08-13 09:15:00,1.234\n", 0)
    for text, doubts in both:
        notes = Notes()
        ticks(tmp_path, text, notes)
        assert len(notes.doubts) == doubts
    ticks(tmp_path, "time;price\n2026-08-13 09:15:00;25.010\n", notes, decimal=".")
    assert not notes.doubts


def test_rows_that_are_left_out_are_counted_and_guesses_told(tmp_path: Path) -> None:
    notes = Notes()
    text = "time;price\n2026-08-13 09:15:00;1\n;\n\ntime;price\n2026-08-13 09:15:01;2\n"
    text += "2026-08-13 09:15:02;N/A\n2026-08-13 09:15:02;-1\n"
    assert [price for _, price in ticks(tmp_path, text, notes)] == [1, 2]
    reasons = {"a row without any value": 1, "a header between rows": 1, "a row without a price": 2}
    assert notes.skipped == reasons
    assert notes.guesses[1:] == [
        "delimiter ';', a header, decimal mark '.' (nothing tells another)",
        "times in column time, prices in price",
    ]


@pytest.mark.parametrize("text", ["time,price\n", "time,price\n,\n", "", "\n\n"])
def test_a_table_without_a_row_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(EnricherError, match=r"ticks.csv: (there is no message in it|there is nothing in it)"):
        ticks(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (zipped({"a.csv": b"1", "b.csv": b"2"}), "a zip file of 2 files .a.csv, b.csv., not of one"),
        (zipped({"[Content_Types].xml": b"", "xl/x": b""}), "a workbook"),
        (zipped({}), "a zip file of 0 files"),
        (b"PAR1....", "a Parquet file"),
        (b"ticks.csv" + bytes(248) + b"ustar  ", "a tar archive"),
        (b"\xd0\xcf\x11\xe0....", "a workbook of old Excel"),
        (b"\x1f\x8b..........", "ticks.csv"),
        (b"PK\x03\x04....", "ticks.csv"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    with pytest.raises(EnricherError, match=named):
        ticks(tmp_path, content)
