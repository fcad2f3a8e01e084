"""Where bars begin and end: every moment lies in one bar of each length, whatever the clocks do."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.bar_boundaries import Opening, bar_edges, bar_start
from enricher.clock import MINUTE, SECOND, event_us, to_date
from enricher.market.bars.bars import Bars

HOUR = 60 * MINUTE
INDIA = Opening(ZoneInfo("Asia/Kolkata"), (9 * 60 + 15) * 60)
AMERICA = Opening(ZoneInfo("America/New_York"), (9 * 60 + 30) * 60)
ZONES = ["UTC", "Asia/Kolkata", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Beirut",
         "America/Sao_Paulo", "Pacific/Apia"]  # fmt: skip


def us(text: str) -> int:
    return event_us(text)[0]


def test_short_bars_start_on_whole_multiples_before_1970_too() -> None:
    assert bar_start(7 * MINUTE + 1, 5) == 5 * MINUTE
    assert bar_start(-1, 15) == -15 * MINUTE
    assert bar_edges(15 * MINUTE, 15) == (15 * MINUTE, 30 * MINUTE)
    assert bar_edges(15 * MINUTE - 1, 15) == (0, 15 * MINUTE)


def test_hour_bars_count_from_the_open_of_the_session() -> None:
    opened = us("2025-10-14T09:15:00+05:30")
    assert bar_edges(opened, 60, INDIA) == (opened, opened + HOUR)
    assert bar_edges(opened + HOUR - 1, 60, INDIA) == (opened, opened + HOUR)
    assert bar_edges(opened - 1, 60, INDIA) == (opened - HOUR, opened)
    assert bar_start(7 * MINUTE, 5, INDIA) == 5 * MINUTE


@pytest.mark.parametrize("day", ["2025-03-07T09:30:00-05:00", "2025-03-09T09:30:00-04:00",
                                 "2025-11-02T09:30:00-05:00"])  # fmt: skip
def test_the_opening_is_a_time_on_the_clock_on_the_days_too_on_which_it_is_changed(day: str) -> None:
    opened = us(day)
    assert bar_edges(opened, 60, AMERICA) == (opened, opened + HOUR)
    assert bar_start(opened, 1440, AMERICA) == opened


@pytest.mark.parametrize(
    ("before", "after", "hours"),
    [
        ("2025-03-08T09:30:00-05:00", "2025-03-09T09:30:00-04:00", 23),
        ("2025-10-14T09:30:00-04:00", "2025-10-15T09:30:00-04:00", 24),
        ("2025-11-01T09:30:00-04:00", "2025-11-02T09:30:00-05:00", 25),
    ],
)
def test_a_bar_of_a_day_lasts_from_one_opening_to_the_next(before: str, after: str, hours: int) -> None:
    edges = (us(before), us(after))
    assert edges[1] - edges[0] == hours * HOUR
    for moment in (edges[0], (edges[0] + edges[1]) // 2, edges[1] - 1):
        assert bar_edges(moment, 1440, AMERICA) == edges


def test_the_last_long_bar_before_an_opening_is_cut_short_where_its_length_does_not_divide_the_day() -> None:
    opened = us("2025-10-15T09:15:00+05:30")
    assert bar_edges(opened - 1, 375, INDIA) == (opened - 315 * MINUTE, opened)
    assert bar_edges(opened, 375, INDIA) == (opened, opened + 375 * MINUTE)


sessions = st.builds(Opening, st.sampled_from(ZONES).map(ZoneInfo), st.integers(0, 86_399))
some_minutes = st.one_of(st.integers(1, 1440), st.sampled_from([1, 5, 15, 60, 240, 375, 720, 1440]))
changes = st.sampled_from(["2025-03-09", "2025-11-02", "2025-03-30", "2025-10-26", "2025-04-06",
                           "2018-11-04", "2018-02-18", "2011-12-30", "2011-12-31"])  # fmt: skip
moments = st.one_of(
    st.integers(us("1980-01-01T00:00:00+00:00"), us("2090-01-01T00:00:00+00:00")),
    st.builds(lambda day, hours: us(f"{day}T00:00:00+00:00") + hours, changes,
              st.integers(-36 * HOUR, 36 * HOUR)),
)


@given(moments, some_minutes, st.one_of(st.none(), sessions))
def test_every_moment_lies_in_one_bar_and_the_next_begins_where_it_ends(
    moment: int, minutes: int, session: Opening | None
) -> None:
    start, end = bar_edges(moment, minutes, session)
    assert start <= moment < end
    assert end - start <= minutes * MINUTE or minutes == 1440
    assert bar_edges(start, minutes, session) == bar_edges(end - 1, minutes, session) == (start, end)
    assert bar_edges(end, minutes, session)[0] == end
    assert bar_edges(start - 1, minutes, session)[1] == start


@given(moments, sessions)
def test_an_opening_shows_its_time_of_day_unless_the_clocks_leave_that_out(
    moment: int, session: Opening
) -> None:
    opened, _ = session.around(moment)
    local = to_date(opened).astimezone(session.zone)
    shown = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second).seconds
    offsets = {to_date(opened - back).astimezone(session.zone).utcoffset() for back in (0, 2 * HOUR)}
    assert shown == session.open_seconds or len(offsets) == 2


@pytest.mark.parametrize("day", ["2025-03-08", "2025-11-01", "2025-10-14"])
@pytest.mark.parametrize("minutes", [60, 240, 375, 1440])
def test_bars_around_a_changed_clock_hold_every_tick_once_in_any_order(day: str, minutes: int) -> None:
    begin = us(f"{day}T00:00:00-05:00")
    ticks = [begin + at * 7 * MINUTE for at in range(450)]
    found = []
    for order in (ticks, ticks[::-1]):
        kept = Bars((minutes,), 0, 4000 * MINUTE, AMERICA)
        for moment in order:
            kept.fold(moment, 1.0, 0)
        found.append(kept.idle_close(begin + 10_000 * MINUTE))
    assert found[0] == found[1]
    for bar in found[0]:
        inside = [moment for moment in ticks if bar.start_us <= moment < bar.end_us]
        assert bar.content.num_ticks == len(inside)
    assert sum(bar.content.num_ticks for bar in found[0]) == len(ticks)


def test_a_bar_cut_short_is_final_at_its_end_and_says_where_that_is() -> None:
    before, after = us("2025-03-08T09:30:00-05:00"), us("2025-03-09T09:30:00-04:00")
    kept = Bars((1440,), 0, 1440 * MINUTE, AMERICA)
    kept.fold(before, 1.0, 0)
    kept.fold(after - 1, 2.0, 1)
    assert kept.close() == []
    kept.fold(after, 3.0, 2)
    (bar,) = kept.close()
    assert (bar.start_us, bar.end_us, bar.content.num_ticks) == (before, after, 2)


def test_a_tick_on_the_border_belongs_to_the_bar_that_begins_there() -> None:
    kept = Bars((1,), SECOND, HOUR)
    for moment in (MINUTE - 1, MINUTE, 2 * MINUTE - 1, 2 * MINUTE + SECOND - 1):
        kept.fold(moment, 1.0, 0)
    assert [(bar.start_us, bar.content.num_ticks) for bar in kept.close()] == [(0, 1)]
    kept.fold(2 * MINUTE + SECOND, 1.0, 0)
    assert [(bar.start_us, bar.content.num_ticks) for bar in kept.close()] == [(MINUTE, 2)]
