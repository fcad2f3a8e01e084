"""What was traded in a bar where a tick says what was traded on the day so far.

Volumes of a day count as their running maximum over event time, so that what a bar has follows from the
ticks and not from the order in which they came.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from math import fsum, isfinite
from operator import attrgetter
from typing import Final

from enricher.analytics.bar_boundaries import Opening
from enricher.analytics.sub_bars import BarKey, Cell
from enricher.analytics.volume_steps import VolumeSteps
from enricher.clock import MINUTE, to_date
from enricher.messages.models import Number

_start: Final = attrgetter("start")
_OPENING_US: Final = 5 * MINUTE
_INT64: Final = 2**63  # from here on MongoDB takes no whole number
_DAYS_KEPT: Final = 4  # no tick that still counts is of an older day


def _ratio(turnovers: Sequence[float], traded: float) -> float | None:
    try:
        vwap = fsum(turnovers) / traded if traded > 0 else None
    except OverflowError:
        return None
    return vwap if vwap is not None and isfinite(vwap) else None


class _Day:
    """One day: its opening, its cells with a volume in the order of time, and what was traded before them."""

    __slots__ = ("before", "cells", "opens_us")

    def __init__(self, opens_us: int) -> None:
        self.opens_us = opens_us
        self.cells: list[Cell] = []
        self.before: Number | None = None

    def baseline(self) -> Number:
        """What the first of the cells counts from.

        If that is not known: 0, or the first volume when it comes more than 5 minutes after the opening, for
        nobody was listening and most of it was traded before.
        """
        if self.before is not None:
            return self.before
        first = self.cells[0].first_traded if self.cells else None
        return first[2] if first is not None and first[0] > self.opens_us + _OPENING_US else 0


class DayVolumes:
    """The volumes of one product by day (the start of the day in microseconds is its name)."""

    __slots__ = ("_days", "_session")

    def __init__(self, session: Opening | None = None) -> None:
        self._session = session
        self._days: dict[int, _Day] = {}

    def start(self, day: int, traded: Number) -> None:
        """What was traded on a day before all ticks that are going to be taken."""
        held = self._day(day)
        held.before = traded if held.before is None else max(held.before, traded)

    def traded(self, day: int, before_us: int) -> Number | None:
        """What was traded on a day before a moment at which a cell begins, if any; None if nobody said."""
        held = self._days.get(day)
        if held is None:
            return None
        peaks = [cell.peak for cell in held.cells if cell.start < before_us]
        return max(peaks if held.before is None else (held.before, *peaks), default=None)

    def take(self, cell: Cell, event_us: int, order: int, volume: Number, price: float) -> Sequence[BarKey]:
        """Note that a tick of this cell says so much; the bars given out after it that may have changed."""
        if cell.steps is None:
            cell.steps = VolumeSteps()
        cell.steps.add(event_us, order, volume, price)
        first = (event_us, order, volume)
        if cell.first_traded is None or first < cell.first_traded:
            # It may be what the day counts from. Bars after this cell count from its peak, which is no less.
            cell.first_traded = first
        if volume <= cell.peak:
            return ()
        new, cell.peak = cell.peak < 0, volume
        cells = self._day(cell.day).cells
        if new:
            insort(cells, cell, key=_start)
        if cells[-1] is cell:
            return ()
        changed: list[BarKey] = []
        for other in cells[bisect_right(cells, cell.start, key=_start) :]:
            changed += other.given_out
            if other.peak >= volume:
                break
        return changed

    def gained(self, cells: Sequence[Cell]) -> tuple[Number, float | None] | None:
        """What was traded in the cells of one bar, and at which price; None if none of them has a volume.

        The price is None where nothing was traded, or the turnover is beyond a double.
        """
        days = sorted({cell.day for cell in cells if cell.peak >= 0})
        if not days:
            return None
        gained: Number = 0
        turnovers: list[float] = []
        traded = 0.0
        begin = min(cell.start for cell in cells)
        for day in days:
            held = self._days[day]
            before = held.baseline()
            for cell in held.cells:
                if cell.start >= begin:
                    break
                before = max(before, cell.peak)
            own = sorted([cell for cell in cells if cell.day == day and cell.peak >= 0], key=_start)
            gained += max(max(cell.peak for cell in own) - before, 0)
            reached = start = float(before)
            for cell in own:
                if cell.steps is not None:
                    turnover, reached = cell.steps.turnover(reached)
                    turnovers.append(turnover)
            traded += reached - start
        vwap = _ratio(turnovers, traded)
        if isinstance(gained, float):
            return (int(gained) if gained.is_integer() and gained < _INT64 else gained), vwap
        return (gained if gained < _INT64 else float(gained)), vwap

    def forget(self, cells: Iterable[Cell]) -> None:
        """Keep no more of these cells, the oldest there are, than what their days had traded by then."""
        for cell in sorted((cell for cell in cells if cell.peak >= 0), key=_start):
            day = self._days[cell.day]
            day.before = max(day.baseline(), cell.peak)
            day.cells.remove(cell)
        for name in sorted(self._days)[:-_DAYS_KEPT]:
            if not self._days[name].cells:
                del self._days[name]

    def _day(self, name: int) -> _Day:
        day = self._days.get(name)
        if day is None:
            day = self._days[name] = _Day(self._opens(name))
        return day

    def _opens(self, day: int) -> int:
        if self._session is None:
            return day
        return self._session.opening(to_date(day).astimezone(self._session.zone).toordinal())
