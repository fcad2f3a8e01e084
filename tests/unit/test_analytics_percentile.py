"""Where a value stands in its own past."""

from __future__ import annotations

import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.percentile import DailySeries, DayValue, Standing

values = st.integers(0, 20).map(lambda number: number / 4)


def standing(past: list[float], value: float) -> Standing:
    series = DailySeries(least=1)
    for day, one in enumerate(past):
        series.fold(day, day, one)
    return series.standing(len(past), value)


@given(st.lists(values, min_size=1, max_size=40), values)
def test_a_percentile_is_the_share_below_and_half_of_the_equals(past: list[float], value: float) -> None:
    place = pd.Series([*past, value]).rank(method="average").iloc[-1]
    assert standing(past, value).percentile == pytest.approx(100 * (place - 1) / len(past), abs=1e-12)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.1, 0.0), (0.2, 50.0), (0.3, 100.0), (0.5, 100.0), (0.05, 0.0)]
)
def test_a_rank_is_the_place_between_lowest_and_highest(value: float, expected: float) -> None:
    assert standing([0.3, 0.1, 0.15], value).rank == pytest.approx(expected)


def filled(days: int, look_back: int = 365, least: int = 1) -> DailySeries:
    series = DailySeries(look_back, least)
    for day in range(days):
        series.fold(day, day * 10, day / 100)
    return series


def test_a_value_stands_among_the_days_before_it_and_never_its_own() -> None:
    assert filled(11).standing(10, 0.045) == Standing(50.0, 50.0, 10, 0.0, 0.09)
    assert filled(10).standing(10, 0.045) == filled(11).standing(10, 0.045)


def test_a_value_beyond_its_past_has_the_outermost_rank() -> None:
    assert filled(10).standing(10, 0.5) == Standing(100.0, 100.0, 10, 0.0, 0.5)


def test_days_before_the_look_back_do_not_count() -> None:
    found = filled(100, look_back=5).standing(100, 0.97)
    assert (found.days, found.low, found.percentile) == (5, 0.95, 50.0)


def test_a_short_history_has_no_standing_but_a_reason() -> None:
    found = filled(19, least=20).standing(19, 0.1)
    assert found == Standing(None, None, 19, reason="short_history")


def test_an_unknown_value_has_no_standing_but_a_reason() -> None:
    assert filled(5).standing(5, None) == Standing(None, None, 5, reason="no_value")
    assert filled(5).standing(5, float("nan")).reason == "no_value"


def test_the_last_value_of_a_day_counts() -> None:
    series = DailySeries(least=1)
    assert series.fold(1, 100, 0.2) == DayValue(1, 100, 0.2)
    assert series.fold(1, 90, 0.3) is None
    assert series.fold(1, 110, 0.4) == DayValue(1, 110, 0.4)
    assert series.rows() == [DayValue(1, 110, 0.4)]


def test_what_is_unknown_changes_nothing() -> None:
    series = DailySeries()
    assert series.fold(1, 100, None) is None
    assert series.fold(1, 100, float("inf")) is None
    assert series.rows() == []


def test_a_value_of_a_past_day_changes_the_standing_of_today() -> None:
    series = filled(10)
    assert series.standing(10, 0.045).percentile == 50.0
    series.fold(0, 99, 0.9)
    assert series.standing(10, 0.045).percentile == 40.0


def test_the_history_stays_bounded_over_the_years() -> None:
    series = filled(2000, look_back=365)
    assert len(series) == 366
    for day in range(1000):
        series.fold(day, 1, 0.5)  # a replay of years ago has a history of its own
    assert len(series) == 2 * 366
    assert series.standing(2000, 5.0).days == series.standing(999, 0.1).days == 365


def test_the_order_of_arrival_never_shows() -> None:
    rng = random.Random(5)
    rows = [(day, rng.randrange(100), rng.random()) for day in range(60) for _ in range(3)]
    straight, mixed = DailySeries(40, 1), DailySeries(40, 1)
    for row in rows:
        straight.fold(*row)
    rng.shuffle(rows)
    for row in rows:
        mixed.fold(*row)
        mixed.standing(50, 0.5)
    assert [row for row in mixed.rows() if row.day >= 59 - 40] == straight.rows()
    assert mixed.standing(59, 0.5) == straight.standing(59, 0.5)


def test_stored_rows_give_the_history_back() -> None:
    series, restored = filled(30), DailySeries(least=1)
    for row in reversed(series.rows()):
        restored.fold(row.day, row.event_us, row.value)
    assert restored.rows() == series.rows()
    assert restored.standing(30, 0.1) == series.standing(30, 0.1)


def test_a_history_of_no_days_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 day"):
        DailySeries(look_back=0)


def test_a_flat_history_has_a_percentile_but_no_rank_and_a_reason() -> None:
    series = DailySeries(365, 3)
    for day in range(3):
        series.fold(day, day, 0.2)
    assert series.standing(3, 0.2) == Standing(50.0, None, 3, 0.2, 0.2, "flat_history")
    assert series.standing(3, 0.3) == Standing(100.0, 100.0, 3, 0.2, 0.3)
