"""Numbers and times of files: read as they are meant, or refused with what would be right."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.market.files import BadRecord
from enricher.market.files.numbers import PLAIN, Marks, marks_of
from enricher.market.files.times import Times, date_of, day_first, joined
from enricher.market.files.values import Cell, amount, integer_or_text, number

INDIA = ZoneInfo("Asia/Kolkata")
COMMA, POINT = Marks(","), Marks(".")


@pytest.mark.parametrize(
    "text", ["2_5012", "\uff11\uff12", "0x10", "1e", "", " 1", "1 2", "nan", "inf", "1e400", "--1"]
)
@pytest.mark.parametrize("marks", [PLAIN, POINT, COMMA])
def test_what_is_no_number_is_refused_whatever_the_marks(text: str, marks: Marks) -> None:
    with pytest.raises(BadRecord, match=r"line 3, column price: expected a (finite )?number"):
        number(Cell(Path("f.csv"), 3, "column price", text), marks)


@pytest.mark.parametrize(
    ("marks", "text", "value"),
    [
        (PLAIN, "-1.5e3", -1500.0),
        (PLAIN, "+.5", 0.5),
        (PLAIN, "9" * 30, 1e30),
        (POINT, "25,010.50", 25010.5),
        (POINT, "1,20,000", 120000),
        (POINT, "12,34,56,789.5", 123456789.5),
        (POINT, "25'010.5", 25010.5),
        (POINT, "25 010", 25010),
        (COMMA, "25010,50", 25010.5),
        (COMMA, "25.010,5", 25010.5),
        (COMMA, "1.234.567", 1234567),
        (COMMA, "25\u202f010,5", 25010.5),
        (COMMA, "25", 25),
    ],
)
def test_numbers_are_read_by_their_marks(marks: Marks, text: str, value: float) -> None:
    found = marks.number(text)
    assert found == value
    assert isinstance(found, int) == isinstance(value, int)


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        (PLAIN, "25,010.5"),
        (POINT, "25,01"),
        (POINT, "25.010,5"),
        (POINT, "1,2,000"),
        (POINT, "0,123"),
        (POINT, "25,010'000"),
        (COMMA, "25010.5"),
        (COMMA, "25,010.5"),
        (COMMA, "1,20,000"),
    ],
)
def test_a_number_with_other_marks_is_refused(marks: Marks, text: str) -> None:
    with pytest.raises(ValueError, match="a number"):
        marks.number(text)


@pytest.mark.parametrize(
    ("texts", "marks"),
    [
        (["25010.5", "x"], Marks(".")),
        (["25010,5", "13.08.2026"], Marks(",")),
        (["1,20,000"], Marks(".")),
        (["1.234.567"], Marks(",")),
        (["25010"], Marks(".", sure=False)),
        (["25,010", "1.234"], Marks(".", sure=False)),
        (["25010,5", "0.5"], Marks(".")),
    ],
)
def test_the_marks_are_told_by_what_can_be_read_in_one_way_only(texts: list[str], marks: Marks) -> None:
    assert marks_of(texts) == marks


def test_a_comma_that_may_be_either_is_refused_until_something_tells() -> None:
    with pytest.raises(ValueError, match=r"--decimal \. or --decimal ,"):
        Marks(sure=False).number("25,010")
    assert Marks().number("25,010") == 25010
    assert COMMA.number("25,010") == 25.01


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([POINT, COMMA]))
def test_what_is_written_with_marks_is_read_back(value: float, marks: Marks) -> None:
    value = round(value, 2) if abs(value) < 1e15 else 0.0
    text = f"{value:,.2f}"
    if marks == COMMA:
        text = text.translate(str.maketrans(",.", ".,"))
    assert marks.number(text) == value


def test_no_value_is_none_and_a_price_of_zero_may_be() -> None:
    for value in (None, "", "-", "NA", "n/a", "NaN", float("nan")):
        assert amount(Cell(Path("f"), 1, "c", value)) is None
    zero = Cell(Path("f"), 1, "c", "0")
    assert (amount(zero), amount(zero, zero=False)) == (0, None)
    assert amount(Cell(Path("f"), 1, "c", 19.42), percent=True) == 0.1942
    assert integer_or_text(Cell(Path("f"), 1, "c", "9" * 25)) == "9" * 25


AT = "2026-08-13T09:15:00"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-08-13 09:15:00", AT),
        ("2026-08-13T09:15:00.5", AT + ".500000"),
        ("2026-08-13 09:15:00,100", AT + ".100000"),
        ("2026-08-13T09:15:00Z", AT + "+00:00"),
        ("2026-08-13 09:15:00 +0530", AT + "+05:30"),
        ("2026-08-13T09:15:00-04:00", AT + "-04:00"),
        ("2026-08-13 09:15:00 UTC", AT + "+00:00"),
        ("2026-08-13 9:15", AT),
        ("2026/08/13 09:15:00", AT),
        ("2026.08.13 09:15", AT),
        ("20260813 091500", AT),
        ("20260813 091500123", AT + ".123000"),
        ("20260813091500", AT),
        ("20260813 09:15:00", AT),
        ("20260813T091500", AT),
        ("13-Aug-2026 09:15:00", AT),
        ("13 August 2026 09:15:00", AT),
        ("Aug 13, 2026 09:15:00 AM", AT),
        ("13/08/2026 09:15:00", AT),
        ("08/13/2026 09:15:00", AT),
        ("13-08-2026 09:15:00 AM", AT),
        ("13.08.2026, 09:15:00", AT),
        ("2026-08-13 12:15:00 am", "2026-08-13T00:15:00"),
        ("2026-08-13 12:15:00 PM", "2026-08-13T12:15:00"),
        ("2026-08-13 03:30:00 p.m.", "2026-08-13T15:30:00"),
        ("1786591500", "2026-08-13T03:25:00+00:00"),
        ("1786591500600", "2026-08-13T03:25:00.600000+00:00"),
        ("1786591500.6", "2026-08-13T03:25:00.600000+00:00"),
        ("1786591500600001", "2026-08-13T03:25:00.600001+00:00"),
        ("1786591500600001999", "2026-08-13T03:25:00.600001+00:00"),
    ],
)
def test_a_time_is_read_as_it_is_written(text: str, shown: str) -> None:
    assert Times().read(text)[0] == shown


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("05/08/2026 09:15:00", r"day or month is first: give --time-format, with %d/%m/%Y or %m/%d/%Y"),
        ("2026-08-13", r"not a date alone \(--time-column\)"),
        ("20260813", r"not a date alone"),
        ("09:15:00", r"with its date \(--date-column\)"),
        ("1.78659E+12", "whose digits are all there"),
        ("17865915000", "--time-format epoch"),
        ("46247.385", "not the days of a spreadsheet"),
        ("2026-08-13+05:30", "a time"),
        ("2026-13-08 09:15:00", "month"),
        ("31/02/2026 09:15:00", "day"),
        ("13/08/26 09:15:00", "--time-format says"),
        ("13-Foo-2026 09:15:00", "a month by its English name"),
        ("2026-08-13 13:15:00 PM", "an hour from 1 to 12"),
        ("2026-08-13 09:15:00 IST", "a time"),
        ("1970-01-01T00:00:00", "from 1971 to 2199"),
        ("0001-01-01T00:00:00", "from 1971 to 2199"),
        ("9999-12-31T23:59:59", "from 1971 to 2199"),
        ("soon", "ISO 8601"),
    ],
)
def test_a_time_that_cannot_be_right_or_may_be_two_is_refused(text: str, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        Times().read(text)


@pytest.mark.parametrize(
    ("pattern", "text", "shown"),
    [
        ("epoch", "1786591500.25", "2026-08-13T08:55:00.250000+05:30"),
        ("epoch", "978307200", "2001-01-01T05:30:00+05:30"),
        ("epoch-ms", "1786591500600", "2026-08-13T08:55:00.600000+05:30"),
        ("epoch-us", "1786591500600001", "2026-08-13T08:55:00.600001+05:30"),
        ("epoch-ns", "1786591500600001999", "2026-08-13T08:55:00.600001+05:30"),
        ("%m/%d/%Y %H:%M:%S", "05/08/2026 09:15:00", "2026-05-08T09:15:00+05:30"),
        ("%d/%m/%y %H%M", "05/08/26 0915", "2026-08-05T09:15:00+05:30"),
        ("%Y-%m-%dT%H:%M:%S%z", "2026-08-13T09:15:00-0400", "2026-08-13T09:15:00-04:00"),
    ],
)
def test_a_format_says_how_times_are_read(pattern: str, text: str, shown: str) -> None:
    assert Times(pattern, INDIA).read(text)[0] == shown


@pytest.mark.parametrize(
    ("pattern", "text", "right"),
    [
        ("epoch", "1786591500600", "from 1971 to 2199"),
        ("epoch-ms", "1786591500", "from 1971 to 2199; by epoch-ms it is 1970-01-21"),
        ("epoch", "9" * 20, "from 1971 to 2199"),
        ("epoch", "1.78E+09", "which has lost digits"),
        ("epoch", "2026-08-13 09:15:00", "a number of units since 1970"),
        ("%H:%M:%S", "09:15:00", "from 1971 to 2199"),
        ("%d/%m/%Y %H:%M", "08/13/2026 09:15", r"a time \(%d/%m/%Y %H:%M\)"),
    ],
)
def test_a_format_that_does_not_fit_is_named(pattern: str, text: str, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        Times(pattern, INDIA).read(text)


def test_the_place_of_the_day_is_told_by_a_number_above_12() -> None:
    assert day_first(["05/08/2026", "13/08/2026 09:15"]) is True
    assert day_first(["05/08/2026", "08/13/2026"]) is False
    assert day_first(["05/08/2026"]) is day_first(["13/08/2026", "08/13/2026"]) is day_first(["x"]) is None
    assert Times(day_first=True).read("05/08/2026 09:15")[0] == "2026-08-05T09:15:00"
    assert Times(day_first=False).read("05/08/2026 09:15")[0] == "2026-05-08T09:15:00"
    with pytest.raises(ValueError, match=r"."):
        Times(day_first=True).read("08/13/2026 09:15")


def test_a_clock_time_of_digits_gets_its_zero_back() -> None:
    assert joined("20260813", "91500") == "20260813 091500"
    assert joined("20260813", "91500123") == "20260813 091500123"
    assert joined("2026-08-13", "09:15") == "2026-08-13 09:15"


def test_dates_of_expiries() -> None:
    for text in ("31-Mar-2022", "2022-03-31", "20220331", "31/03/2022", "Mar 31, 2022", "31MAR2022"):
        assert date_of(text) == "2022-03-31"
    for text in ("05/08/2026", "31-Mar-22", "2022-W13-4", "tomorrow"):
        with pytest.raises(ValueError, match="a date"):
            date_of(text)
