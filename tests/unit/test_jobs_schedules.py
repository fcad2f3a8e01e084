"""Cron on the clocks of real zones, intervals, and which missed occurrences are run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import WrongSetting
from enricher.jobs.schedules import Cron, Interval, Schedule, cron_problem, missed, occurrences

DAY = 86_400_000
MINUTE = 60_000


def ms(text: str, zone: str = "UTC") -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000)


def on(day: str, expression: str, zone: str) -> list[str]:
    """The clock of ``zone`` at the occurrences of a day, with its offset from UTC."""
    begin = ms(day, zone)
    end = ms((datetime.fromisoformat(day) + timedelta(days=1)).isoformat(), zone)
    shown = [
        datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone)).isoformat()
        for at in occurrences(Cron(expression, zone), begin - 1, end - 1)
    ]
    assert all(text.startswith(day) for text in shown)
    return [text[len(day) + 1 :].replace(":00+", "+").replace(":00-", "-") for text in shown]


# Berlin: 02:00 to 03:00 is skipped on 29 March, and comes twice on 25 October.
# New York: 02:00 to 03:00 is skipped on 8 March, 01:00 to 02:00 comes twice on 1 November.
# Lord Howe: 02:00 to 02:30 is skipped on 4 October, 01:30 to 02:00 comes twice on 5 April.
CHANGES = [
    ("Europe/Berlin", "2026-03-29", "30 2 * * *", ["03:00+02:00"]),
    ("Europe/Berlin", "2026-03-29", "0,30 2 * * *", ["03:00+02:00"]),
    ("Europe/Berlin", "2026-03-29", "30 1-3 * * *", ["01:30+01:00", "03:00+02:00", "03:30+02:00"]),
    ("Europe/Berlin", "2026-03-29", "*/30 2 * * *", []),
    (
        "Europe/Berlin",
        "2026-03-29",
        "*/30 1-3 * * *",
        ["01:00+01:00", "01:30+01:00", "03:00+02:00", "03:30+02:00"],
    ),
    ("Europe/Berlin", "2026-10-25", "30 2 * * *", ["02:30+02:00"]),
    ("Europe/Berlin", "2026-10-25", "0 3 * * *", ["03:00+01:00"]),
    (
        "Europe/Berlin",
        "2026-10-25",
        "*/30 2 * * *",
        ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"],
    ),
    ("America/New_York", "2026-03-08", "15 2 * * *", ["03:00-04:00"]),
    ("America/New_York", "2026-03-08", "*/30 2-3 * * *", ["03:00-04:00", "03:30-04:00"]),
    ("America/New_York", "2026-11-01", "15 1 * * *", ["01:15-04:00"]),
    (
        "America/New_York",
        "2026-11-01",
        "*/30 1 * * *",
        ["01:00-04:00", "01:30-04:00", "01:00-05:00", "01:30-05:00"],
    ),
    ("Australia/Lord_Howe", "2026-10-04", "15 2 * * *", ["02:30+11:00"]),
    ("Australia/Lord_Howe", "2026-10-04", "45 2 * * *", ["02:45+11:00"]),
    ("Australia/Lord_Howe", "2026-10-04", "*/15 2 * * *", ["02:30+11:00", "02:45+11:00"]),
    ("Australia/Lord_Howe", "2026-10-04", "0 */12 * * *", ["00:00+10:30", "12:00+11:00"]),
    ("Australia/Lord_Howe", "2026-10-04", "0 3-4 * * *", ["03:00+11:00", "04:00+11:00"]),
    ("Australia/Lord_Howe", "2026-04-05", "45 1 * * *", ["01:45+11:00"]),
    (
        "Australia/Lord_Howe",
        "2026-04-05",
        "*/15 1 * * *",
        ["01:00+11:00", "01:15+11:00", "01:30+11:00", "01:45+11:00", "01:30+10:30", "01:45+10:30"],
    ),
    ("Australia/Lord_Howe", "2026-04-05", "*/20 2 * * *", ["02:00+10:30", "02:20+10:30", "02:40+10:30"]),
    ("Asia/Kolkata", "2026-03-29", "30 2 * * *", ["02:30+05:30"]),
    ("Asia/Kolkata", "2026-10-25", "*/30 2 * * *", ["02:00+05:30", "02:30+05:30"]),
]


@pytest.mark.parametrize(("zone", "day", "expression", "expected"), CHANGES)
def test_a_clock_that_is_changed_neither_loses_nor_repeats_a_daily_job(
    zone: str, day: str, expression: str, expected: list[str]
) -> None:
    assert on(day, expression, zone) == expected


@pytest.mark.parametrize(("zone", "day"), sorted({change[:2] for change in CHANGES}))
def test_what_begins_with_a_star_follows_real_time(zone: str, day: str) -> None:
    begin = ms(day, zone) - MINUTE
    assert occurrences(Cron("* * * * *", zone), begin, begin + DAY) == list(
        range(begin + MINUTE, begin + DAY + 1, MINUTE)
    )


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"])
@given(
    minute=st.sampled_from(["0", "30", "7,37", "*", "*/20", "5-50/15"]),
    hour=st.sampled_from(["*", "2", "1-3", "*/2", "0,23", "1"]),
    day=st.sampled_from(["*", "1", "25-31", "*/7"]),
    weekday=st.sampled_from(["*", "0", "7", "1-5", "SUN"]),
    start=st.sampled_from(["2026-03-07", "2026-03-28", "2026-10-24", "2026-10-31", "2028-02-28"]),
)
def test_where_clocks_change_by_whole_hours_it_says_what_cronsim_says(
    zone: str, minute: str, hour: str, day: str, weekday: str, start: str
) -> None:
    expression = f"{minute} {hour} {day} * {weekday}"
    begin = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    expected = [int(at.timestamp() * 1000) for at in islice(CronSim(expression, begin), 80)]
    assert list(islice(Cron(expression, zone).after(int(begin.timestamp() * 1000)), 80)) == expected


@given(
    st.integers(ms("2026-10-24T20:00Z"), ms("2026-10-25T06:00Z")),
    st.sampled_from(["*/15 * * * *", "15,45 1-3 * * *"]),
)
def test_wherever_one_begins_the_occurrences_are_the_same(moment: int, expression: str) -> None:
    cron = Cron(expression, "Europe/Berlin")
    end = ms("2026-10-26T00:00Z")
    whole = occurrences(cron, ms("2026-10-24T00:00Z"), end)
    assert occurrences(cron, moment, end) == [at for at in whole if at > moment]


def test_an_interval_is_counted_from_1970() -> None:
    assert occurrences(Interval(30), 59_999, 120_000) == [60_000, 90_000, 120_000]
    assert occurrences(Interval(0.5), 500, 1600) == [1000, 1500]
    assert Interval(30).expression == "every 30 s"


EVERY_MINUTE: list[Schedule] = [Cron("* * * * *", "Europe/Berlin"), Interval(60)]


@pytest.mark.parametrize("schedule", EVERY_MINUTE)
def test_of_missed_occurrences_one_runs_or_none_or_all(schedule: Schedule) -> None:
    last, now = 10 * MINUTE, 15 * MINUTE + 30_000
    assert missed(schedule, last, now, "one") == [15 * MINUTE]
    assert missed(schedule, last, now, "skip") == []
    assert missed(schedule, last, now, "all") == [minute * MINUTE for minute in range(11, 16)]
    assert missed(schedule, last, now, "all", most=2) == [11 * MINUTE, 12 * MINUTE]


@pytest.mark.parametrize("schedule", EVERY_MINUTE)
@pytest.mark.parametrize("policy", ["one", "skip", "all"])
def test_what_is_due_runs_once_whatever_the_policy(schedule: Schedule, policy: str) -> None:
    assert missed(schedule, 10 * MINUTE, 11 * MINUTE - 1, policy) == []  # type: ignore[arg-type]
    assert missed(schedule, 10 * MINUTE, 11 * MINUTE, policy) == [11 * MINUTE]  # type: ignore[arg-type]
    assert missed(schedule, 10 * MINUTE, 11 * MINUTE + 5000, policy) == [11 * MINUTE]  # type: ignore[arg-type]
    assert missed(schedule, 11 * MINUTE, 11 * MINUTE + 5, policy) == []  # type: ignore[arg-type]


@given(st.integers(1, 400 * DAY), st.sampled_from(["* * * * *", "0 2 * * *", "0 0 29 2 *", "0 0 1 * *"]))
def test_the_one_that_runs_is_the_latest_however_long_ago(away: int, expression: str) -> None:
    cron, now = Cron(expression, "Europe/Berlin"), ms("2026-11-20T10:00:30Z")
    every = occurrences(cron, max(now - away, now - 5 * MINUTE if expression.startswith("*") else 0), now)
    assert missed(cron, now - away, now, "one") == every[-1:]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("* * * *", ""),
        ("0 0 2 * * *", ""),
        ("@daily", ""),
        ("", ""),
        ("0 0 L * *", "without L and #"),
        ("0 0 * * 5L", "without L and #"),
        ("0 0 * * MON#1", "without L and #"),
        ("61 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 30 2 MO", "bad day-of-week"),
    ],
)
def test_a_wrong_expression_is_named_with_the_expected_format(expression: str, why: str) -> None:
    with pytest.raises(WrongSetting) as raised:
        Cron(expression)
    assert repr(expression) in str(raised.value)
    assert "Expected format: 'minute hour day month day_of_week'" in str(raised.value)
    assert why in str(raised.value)


@pytest.mark.parametrize(
    "expression", ["0 2 * * *", "*/15 * * * *", "0 9 * * 1", "0 0 1 * *", "0 0 * JUL mon-fri"]
)
def test_common_expressions_are_fine(expression: str) -> None:
    assert cron_problem(expression) is None


def test_an_unknown_zone_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(WrongSetting, match=r"cron_timezone = 'Europe/Berln'.*Europe/Berlin"):
        Cron("0 2 * * *", "Europe/Berln")


@pytest.mark.parametrize("every", [0, -5, 0.01, "30", True, float("nan"), float("inf")])
def test_a_wrong_interval_is_named(every: float) -> None:
    with pytest.raises(WrongSetting, match="expected a number of seconds, at least"):
        Interval(every)
