"""Figures, times and lines as the screens show them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from enricher.web.formats import moment, polyline, signed, ticks


def test_a_line_fills_a_square_of_100_from_below() -> None:
    assert polyline([5, 7, 6]) == "0.00,100.00 50.00,0.00 100.00,50.00"
    assert polyline([(10, 1), (20, 3)], (0, 40, 1, 5)) == "25.00,100.00 50.00,50.00"
    assert polyline([]) == ""
    assert polyline([4, 4]) == "0.00,100.00 100.00,100.00"


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
def test_the_lines_of_an_axis_are_few_even_and_within_it(low: float, span: float, most: int) -> None:
    high = low + span
    found = ticks(low, high, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in found)
    steps = [after - before for before, after in pairwise(found)]
    assert all(abs(step - steps[0]) < 1e-6 * span for step in steps)


def test_an_axis_has_round_values() -> None:
    assert ticks(0.131, 0.162, 4) == [0.14, 0.15, 0.16]
    assert ticks(21350, 22350, 5) == [21400, 21600, 21800, 22000, 22200]
    assert ticks(3, 3) == []


def test_a_time_is_that_of_the_zone_and_its_element_says_the_moment() -> None:
    at = datetime(2026, 1, 5, 9, 15, tzinfo=UTC)
    assert ">05 Jan 14:45:00 IST</time>" in moment(at, "Asia/Kolkata")
    assert 'datetime="2026-01-05T09:15:00.000+00:00"' in moment(at, "Asia/Kolkata")
    assert ">05 Jan 09:15:00</time>" in moment(at)
    assert signed(1234.5, 2) == "+1,234.50"
    assert signed(None) == signed(None, 2)
