"""Tumbling event-time bars of one product: the fold of its ticks, whatever order they come in.

A bar covers [start, start + minutes). The watermark is the newest event time less the lateness;
a bar is final when the watermark has reached its end, or when the product falls idle. A tick into
a bar that is final but retained is folded in and the bar given out again, one revision later.
Only aggregates are kept, no ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal

import msgspec

from enricher.market.cells import BarKey, Cell, Content, RunningBar
from enricher.market.clock import MINUTE, SECOND, event_us, to_date
from enricher.market.models import Number

Folded = Literal["folded", "late_dropped"]

_NEVER: Final = 2**63
_OPENING_US: Final = 5 * MINUTE
_LARGEST_VOLUME: Final = 1e100
_INT64: Final = 2**63  # from here on MongoDB takes no whole number


class Session(msgspec.Struct, frozen=True):
    """Where long bars start counting: ``open_seconds`` after local midnight in ``zone``."""

    zone: tzinfo
    open_seconds: int


class BarTick(msgspec.Struct, frozen=True, gc=False):
    """What a bar needs of a tick; ``order`` ranks ticks of one microsecond."""

    event_us: int
    price: Number
    order: int
    volume: Number | None = None


class Bar(msgspec.Struct, frozen=True, gc=False):
    """A bar as given out: revision 0 the first time, one more whenever a late tick changed it."""

    start_us: int
    minutes: int
    content: Content
    revision: int
    final: bool = True

    @property
    def end_us(self) -> int:
        """The first moment after the bar."""
        return self.start_us + self.minutes * MINUTE


def bar_start(event_us: int, minutes: int, session: Session | None = None) -> int:
    """The start of the bar that an event time falls into, in microseconds.

    Whole multiples of the window since 1970 UTC. Windows of 60 minutes and more count from the
    session's open on the local day instead, if there is one, backwards before it; let them divide
    a day, or the last bar of one reaches into the next.
    """
    width = minutes * MINUTE
    anchor = _session_open(event_us, session) if session and minutes >= 60 else 0
    return event_us - (event_us - anchor) % width


class Bars:
    """The open and the retained final bars of one product, for every window length.

    ``windows`` in minutes; ``retention_us``, at least the lateness, says how long before the
    newest event time a tick is still folded. ``dropped`` counts the ticks that came later.

    A tick is folded once, whatever the number of windows: into its cell, which is the time that its bars of
    all windows have in common. A bar is put together from its cells when it is given out.

    With ``day_of`` (event time to the start of its day, both in microseconds) a tick's volume is what was
    traded on the day so far. A bar's volume is then the increase of its running maximum. The day counts from
    0, or from what `start_volume` says was traded before; if the first volume comes more than 5 minutes after
    the opening, from that one.
    """

    def __init__(
        self,
        windows: Sequence[int],
        lateness_us: int,
        retention_us: int,
        session: Session | None = None,
        day_of: Callable[[int], int] | None = None,
    ) -> None:
        if not windows or min(windows) <= 0 or lateness_us < 0 or retention_us < lateness_us:
            raise ValueError(
                f"windows {list(windows)} min, lateness {lateness_us} us, retention {retention_us}"
                " us: windows must be positive and the retention at least the lateness"
            )
        self.windows = tuple(windows)
        self.lateness_us = lateness_us
        self.retention_us = retention_us
        self.session = session
        self._day_of = day_of
        self._traded: dict[int, float] = {}  # by day, up to the first of the cells kept
        self.newest: int | None = None
        self.dropped = 0
        self._bars: dict[BarKey, RunningBar] = {}
        self._cells: dict[tuple[int, ...], Cell] = {}
        # The cell that was found last, which is where most ticks belong.
        self._current: tuple[int, int, Cell | None] = (0, 0, None)
        self._next_end = _NEVER  # the earliest end among bars not yet given out
        self._changed: set[BarKey] = set()  # given out, and folded into since
        self._complete_from = -_NEVER

    @property
    def watermark(self) -> int | None:
        """Up to where the past counts as complete; None before the first tick."""
        return None if self.newest is None else self.newest - self.lateness_us

    def fold(self, event_us: int, price: Number, order: int, volume: Number | None = None) -> Folded:
        """Folds a tick into its bar of every window, or drops it when it is beyond retention.

        ``volume`` is the size of the trade; one that is negative or not finite is unknown. Ties
        of event time are ordered by ``order``, then by arrival. ``price`` is finite.
        """
        newest = self.newest
        if newest is None or event_us > newest:
            self.newest = event_us
        elif event_us < newest - self.retention_us:
            self.dropped += 1
            return "late_dropped"
        start, end, cell = self._current
        if cell is None or not start <= event_us < end:
            cell = self._cell(event_us)
            if cell is None:
                self.dropped += 1
                return "late_dropped"
        cell.add(event_us, float(price), order)
        if volume is not None and 0 <= volume <= _LARGEST_VOLUME:
            if self._day_of is None:
                cell.trade(float(price), float(volume))
            elif volume > cell.peak:
                self._raise(cell, float(volume))
        if cell.given_out:
            self._changed.update(cell.given_out)
        return "folded"

    def _cell(self, event_us: int) -> Cell | None:
        """The cell of this moment; None if no bar there is complete."""
        starts = tuple([bar_start(event_us, minutes, self.session) for minutes in self.windows])
        key, day = starts, 0
        if self._day_of is not None:
            day = self._day_of(event_us)
            key = (*starts, day)
        cell = self._cells.get(key)
        if cell is None:
            cell = Cell()
            cell.day, cell.start = day, max(key)
            for minutes, start in zip(self.windows, starts, strict=True):
                if start >= self._complete_from:
                    self._join(cell, minutes, start)
            if not cell.bars:
                return None
            self._cells[key] = cell
        end = min(start + minutes * MINUTE for minutes, start in zip(self.windows, starts, strict=True))
        first = max(key)
        # Long bars count anew from each day's opening, and volumes with each day, so that a cell may be
        # shorter than what its bars have in common: then the next tick is looked up anew.
        if not self._together(first, starts, day):
            first = event_us
        if not self._together(end - 1, starts, day):
            end = event_us + 1
        self._current = (first, end, cell)
        return cell

    def start_volume(self, day: int, traded: float) -> None:
        """What was traded on a day before the first tick that is folded here."""
        self._traded[day] = max(traded, self._traded.get(day, 0.0))

    def _raise(self, cell: Cell, volume: float) -> None:
        """A new peak of a cell: what follows on its day counts from there, so bars given out may change."""
        before, cell.peak = cell.peak, volume
        cell.trades += 1
        if before < 0 and cell.day not in self._traded and self._begins_late(cell):
            # Nobody was listening since the opening, so most of this was traded before.
            self._traded[cell.day] = volume
        for other in sorted(self._cells.values(), key=_start):
            if other.day == cell.day and other.start > cell.start and other.peak >= 0:
                self._changed.update(other.given_out)
                if other.peak >= max(before, volume):
                    return

    def _begins_late(self, cell: Cell) -> bool:
        """Whether it is the first of its day with a volume, and later than the first minutes of trading."""
        for other in self._cells.values():
            if other is not cell and other.day == cell.day and other.peak >= 0:
                return False
        opened = cell.day + (self.session.open_seconds * SECOND if self.session else 0)
        return cell.start > opened + _OPENING_US

    def _content(self, bar: RunningBar) -> Content:
        """The numbers of a bar, its volume by the day's cells where volumes are cumulative."""
        content = bar.content()
        if self._day_of is None or not any(cell.peak >= 0 for cell in bar.cells):
            return content
        gained = 0.0
        begin = min(cell.start for cell in bar.cells)
        for day in {cell.day for cell in bar.cells}:
            before = self._traded.get(day, 0.0)
            for cell in self._cells.values():
                if cell.day == day and cell.start < begin:
                    before = max(before, cell.peak)
            peak = max(cell.peak for cell in bar.cells if cell.day == day)
            gained += max(peak - before, 0.0)
        volume: Number = int(gained) if gained < _INT64 and gained.is_integer() else gained
        return msgspec.structs.replace(content, volume=volume, vwap=None)

    def _together(self, moment_us: int, starts: tuple[int, ...], day: int) -> bool:
        """Whether a moment belongs to the bars with these starts, and to this day of volumes."""
        if self._day_of is not None and self._day_of(moment_us) != day:
            return False
        return self.session is None or all(
            bar_start(moment_us, minutes, self.session) == start
            for minutes, start in zip(self.windows, starts, strict=True)
        )

    def _join(self, cell: Cell, minutes: int, start: int) -> None:
        """Make a new cell part of a bar, which may be new too, or given out already."""
        key = (minutes, start)
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = RunningBar()
            self._next_end = min(self._next_end, start + minutes * MINUTE)
        elif bar.revision is not None:
            cell.given_out.append(key)
        bar.cells.append(cell)
        cell.bars += 1

    @property
    def open_bars(self) -> bool:
        """Whether any bar has not been given out yet."""
        return self._next_end != _NEVER

    def due(self) -> bool:
        """Whether ``close`` would give out anything now."""
        return bool(self._changed) or (
            self.newest is not None and self._next_end <= self.newest - self.lateness_us
        )

    def close(self, up_to_us: int | None = None) -> list[Bar]:
        """The bars that became final by the watermark (or by ``up_to_us``) or have changed since.

        Each is given out once per revision, oldest first; bars beyond retention are then
        forgotten.
        """
        if self.newest is None:
            return []
        edge = self.newest - self.lateness_us if up_to_us is None else up_to_us
        found = []
        if self._next_end <= edge:
            self._next_end = _NEVER
            for (minutes, start), bar in self._bars.items():
                end = start + minutes * MINUTE
                if bar.revision is None and end <= edge:
                    bar.give_out((minutes, start), 0)
                    found.append(Bar(start, minutes, self._content(bar), 0))
                elif bar.revision is None:
                    self._next_end = min(self._next_end, end)
        for minutes, start in self._changed:
            bar = self._bars[minutes, start]
            revision = (bar.revision or 0) + 1
            bar.revision = revision
            found.append(Bar(start, minutes, self._content(bar), revision))
        self._changed.clear()
        if found:
            self._forget(self.newest - self.retention_us)
        found.sort(key=_start_and_minutes)
        return found

    def idle_close(self, now_us: int) -> list[Bar]:
        """The bars that the clock has left behind by the lateness, for a product fallen idle."""
        watermark = self.watermark
        if watermark is None:
            return []
        return self.close(max(watermark, now_us - self.lateness_us))

    def restore(
        self,
        ticks: Iterable[BarTick],
        stored: Mapping[BarKey, tuple[int, Content]],
        complete_from_us: int | None = None,
    ) -> None:
        """Rebuilds fresh state from stored ticks and from the bars that were already stored.

        ``stored`` maps (minutes, start_us) to (revision, content). A final bar that was never
        stored is due as revision 0, one whose stored content differs as one revision more, an
        equal one not at all. ``ticks`` are all there are from ``complete_from_us`` on; a bar that
        starts earlier would be a fragment, so it is neither rebuilt nor folded into later.
        """
        if complete_from_us is not None:
            self._complete_from = complete_from_us
        for tick in ticks:
            self.fold(tick.event_us, tick.price, tick.order, tick.volume)
        self.dropped = 0
        for key, (revision, content) in stored.items():
            bar = self._bars.get(key)
            if bar is None:
                continue
            bar.give_out(key, revision)
            if self._content(bar) != content:
                self._changed.add(key)

    def __len__(self) -> int:
        return len(self._bars)

    def _forget(self, oldest: int) -> None:
        over = [
            key
            for key, bar in self._bars.items()
            if bar.revision is not None and key[1] + key[0] * MINUTE <= oldest
        ]
        for key in over:
            for cell in self._bars.pop(key).cells:
                cell.bars -= 1
        if over:
            for cell in self._cells.values():
                if not cell.bars and cell.peak >= 0:
                    self.start_volume(cell.day, cell.peak)
            self._cells = {starts: cell for starts, cell in self._cells.items() if cell.bars}
            for day in sorted(self._traded)[:-2]:
                del self._traded[day]
            if self._current[2] is not None and not self._current[2].bars:
                self._current = (0, 0, None)


def _start(cell: Cell) -> int:
    return cell.start


def _start_and_minutes(bar: Bar) -> tuple[int, int]:
    return (bar.start_us, bar.minutes)


def _session_open(moment_us: int, session: Session) -> int:
    """The session's open on the local day of a moment."""
    day = to_date(moment_us).astimezone(session.zone)
    midnight = datetime(day.year, day.month, day.day, tzinfo=session.zone).astimezone(UTC)
    return event_us(midnight.isoformat())[0] + session.open_seconds * SECOND
