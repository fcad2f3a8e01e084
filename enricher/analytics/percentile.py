"""Where today's number stands in a product's own past: percentile and rank over a bounded daily history.

`DailySeries` keeps one value a local day, the last by event time. It is a fold: ``fold`` says which row
changed, so that the caller can store it and fold it again after a restart, in any order. Percentiles and
ranks are in per cent, 0 to 100; the values keep their own unit (a volatility as a decimal, a ratio).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import isfinite
from typing import Final

import msgspec

from enricher.analytics.as_of import Fronts

LOOK_BACK_DAYS: Final = 365
LEAST_DAYS: Final = 20


class DayValue(msgspec.Struct, frozen=True, gc=False):
    """The value a day ended with so far: the day's ordinal (`datetime.date.toordinal`), when, and what."""

    day: int
    event_us: int
    value: float


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a value stands among the ``days`` days before it.

    ``percentile``: the share of days below it plus half of those equal to it. ``rank``: its place between the
    lowest and the highest, both counting the value itself. Both in per cent; None for a ``reason``:
    ``no_value`` or ``short_history``; ``rank`` alone is None for ``flat_history``, when all values are one.
    """

    percentile: float | None
    rank: float | None
    days: int
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class DailySeries:
    """One measure of one product, a value a day, and where a new value stands among them.

    ``look_back`` calendar days before a day count for it, the day itself never; the answer needs at least
    ``least`` of them. Only as many days are kept as can still count, at most one value each, for the live
    feed and for replays of the past (`analytics.as_of`). A day's value is the one of the latest event
    time, so the order of arrival never shows.
    """

    __slots__ = ("_days", "_fronts", "_last", "_rows", "_sorted", "_sorted_for", "least", "look_back")

    def __init__(self, look_back: int = LOOK_BACK_DAYS, least: int = LEAST_DAYS) -> None:
        if look_back < 1 or least < 1:
            raise ValueError(f"look_back {look_back} and least {least} must be at least 1 day")
        self.look_back = look_back
        self.least = least
        self._days: list[int] = []
        self._rows: list[DayValue] = []  # one for each of the days
        self._fronts: Fronts | None = None  # with the first value: most products of many have none
        self._last: int | None = None
        self._sorted: Sequence[float] = ()
        self._sorted_for: int | None = None

    def __len__(self) -> int:
        return len(self._days)

    def fold(self, day: int, event_us: int, value: float | None) -> DayValue | None:
        """Takes a value in; the row that this changed, None when it changed nothing.

        Nothing changes for an unknown or infinite value, or one older than the day's present value. Of equal
        times the larger value stays.
        """
        if value is None or not isfinite(value):
            return None
        row, before = DayValue(day, event_us, value), self.of(day)
        at = bisect_left(self._days, day)
        if before is None:
            self._days.insert(at, day)
            self._rows.insert(at, row)
        elif (event_us, value) <= (before.event_us, before.value):
            return None
        else:
            self._rows[at] = row
        if self._sorted_for is not None and day < self._sorted_for:
            self._sorted_for = None
        if day != self._last:
            self._last = day
            self._forget(day)
        return row

    def of(self, day: int) -> DayValue | None:
        at = bisect_left(self._days, day)
        return self._rows[at] if at < len(self._days) and self._days[at] == day else None

    def rows(self) -> list[DayValue]:
        """All rows kept, by day."""
        return [*self._rows]

    def standing(self, day: int, value: float | None) -> Standing:
        """Where ``value`` stands on ``day`` among the days before it."""
        past = self._before(day)
        days = len(past)
        if value is None or not isfinite(value):
            return Standing(None, None, days, reason="no_value")
        if days < self.least:
            return Standing(None, None, days, reason="short_history")
        low, high = min(past[0], value), max(past[-1], value)
        percentile = 50.0 * (bisect_left(past, value) + bisect_right(past, value)) / days
        if high > low:
            return Standing(percentile, 100.0 * (value - low) / (high - low), days, low, high)
        return Standing(percentile, None, days, low, high, "flat_history")

    def _before(self, day: int) -> Sequence[float]:
        """The values of the days that count for this one, ascending; kept until one of them changes."""
        if self._sorted_for != day:
            first, end = bisect_left(self._days, day - self.look_back), bisect_left(self._days, day)
            self._sorted = sorted([row.value for row in self._rows[first:end]])
            self._sorted_for = day
        return self._sorted

    def _forget(self, day: int) -> None:
        if self._fronts is None:
            self._fronts = Fronts(self.look_back, self.look_back)
        self._fronts.touch(day)
        for stretch in self._fronts.unwanted(self._days):
            del self._rows[stretch]
            del self._days[stretch]
            self._sorted_for = None
