"""Timestamps become exact integers and go back in the style they came in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.clock import MINUTE, event_us, render, to_date, to_millis

KOLKATA = ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    ("text", "us", "naive"),
    [
        ("1970-01-01T00:00:00", 0, True),
        ("1970-01-01T00:00:00Z", 0, False),
        ("1970-01-01 00:00:00.000001+00:00", 1, False),
        ("1970-01-01T05:30:00+05:30", 0, False),
        ("19700101T000001", 1_000_000, True),
        ("1970W01T00", -3 * 86_400_000_000, True),
        ("1969-12-31T23:59:59.999999", -1, True),
    ],
)
def test_an_iso_text_becomes_microseconds_since_1970(text: str, us: int, naive: bool) -> None:
    assert event_us(text) == (us, naive)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1743090350654", "2025-03-27T15:45:50.654000+00:00"),
        ("1757052241452", "2025-09-05T06:04:01.452000+00:00"),
        ("1786591500", "2026-08-13T03:25:00+00:00"),
        ("1786591500.25", "2026-08-13T03:25:00.250000+00:00"),
        ("1786591500000001", "2026-08-13T03:25:00.000001+00:00"),
        ("1786591500000001999", "2026-08-13T03:25:00.000001+00:00"),
        ("9999999999", "2286-11-20T17:46:39+00:00"),
    ],
)
def test_a_count_since_1970_is_read_by_its_digits_and_never_as_a_day_of_long_ago(
    text: str, expected: str
) -> None:
    us, naive = event_us(text, KOLKATA)
    assert (render(us, naive=False), naive) == (expected, False)


def test_a_naive_text_is_read_in_the_zone_and_an_aware_one_is_not() -> None:
    assert event_us("1970-01-01T05:30:00", KOLKATA) == (0, True)
    assert event_us("1970-01-01T05:30:00+00:00", KOLKATA) == (19_800_000_000, False)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2025-10-14", "20251014", "2025-W42-2", "2025-10-14T25:00", "176040000", " "]
    + ["2025-10-14+05:30", "2025-10-14-05:30", "20251014509:15", "17604000000", "20251014091500"]
    + ["-1760400000", "1760400000 ", "1760400000.", "1760400000.5.5", "176040000000"]
    + ["0001-01-01T00:00:00+05:30", "9999-12-31T23:59:59-00:01"]
    + ["0001-01-01T00:00:00", "0001-12-31T23:59:59.999999Z", "9999-01-01T00:00:00"],
)
def test_dates_other_texts_and_moments_beyond_the_calendar_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        event_us(text)


@pytest.mark.parametrize("text", ["0002-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z"])
def test_days_around_the_outermost_moments_can_be_shown_in_every_zone(text: str) -> None:
    for days in (-3, 3):
        us = event_us(text)[0] + days * 24 * 60 * MINUTE
        assert to_date(us).year in {1, 2, 9998, 9999}
        for zone in (ZoneInfo("Pacific/Kiritimati"), ZoneInfo("America/Los_Angeles")):
            assert len(render(us, naive=True, zone=zone)) >= 19


def test_rendering_keeps_the_style_and_drops_zero_decimals() -> None:
    assert render(0, naive=True) == "1970-01-01T00:00:00"
    assert render(0, naive=False) == "1970-01-01T00:00:00+00:00"
    assert render(1_500, naive=True, zone=KOLKATA) == "1970-01-01T05:30:00.001500"


def test_milliseconds_are_cut_downwards_before_1970_too() -> None:
    assert to_millis(1_999) == 1_000
    assert to_millis(-1) == -1_000


# Hypothesis wants naive bounds: offsets come from the strategy below.
FIRST, MODERN, LAST = (datetime(year, 1, 1) for year in (2, 1950, 9998))  # noqa: DTZ001
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
aware = st.datetimes(FIRST, LAST, timezones=offsets)


@given(aware)
def test_every_aware_moment_survives_the_way_there_and_back(moment: datetime) -> None:
    us, naive = event_us(moment.isoformat())
    assert not naive
    assert to_date(us) == moment
    assert event_us(render(us, naive=False)) == (us, False)


@given(st.datetimes(MODERN, LAST))
def test_every_naive_text_of_a_zone_without_clock_changes_survives(moment: datetime) -> None:
    us, naive = event_us(moment.isoformat(), KOLKATA)
    assert naive
    assert render(us, naive, KOLKATA) == moment.isoformat()
    assert render(event_us(moment.isoformat(), UTC)[0], naive) == moment.isoformat()
