"""Tumbling event-time bars of one product: the fold of its ticks, whatever order they come in.

A bar covers [start, start + minutes). The watermark is the newest event time less the lateness;
a bar is final when the watermark has reached its end, or when the product falls idle. A tick into
a bar that is final but retained is folded in and the bar given out again, one revision later.
Only aggregates are kept, no ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from math import inf, isfinite
from typing import Final, Literal

import msgspec

from enricher.market.clock import MINUTE, SECOND, event_us, to_date
from enricher.market.models import Number

Folded = Literal["folded", "late_dropped"]
BarKey = tuple[int, int]  # (minutes, start_us)

_NEVER: Final = 2**63
_OPENING_US: Final = 5 * MINUTE
_LARGEST_VOLUME: Final = 1e100
_INT64: Final = 2**63  # from here on MongoDB takes no whole number
_ONE_BITS: Final = 1074
_ONE: Final = 1 << _ONE_BITS
_FINE_BITS: Final = 64
_FINE: Final = 2.0**_FINE_BITS


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


class Content(msgspec.Struct, frozen=True, gc=False):
    """The numbers of a bar, each finite and storable: whole numbers fit 64 bits.

    ``volume`` sums trade sizes; it and ``vwap`` are None without any. ``vwap`` is None too when the
    turnover of a trade is beyond a double, and where volumes are cumulative: the price of what was traded
    between two ticks is not known.
    """

    open: float
    high: float
    low: float
    close: float
    num_ticks: int
    volume: Number | None = None
    vwap: float | None = None


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
        self._bars: dict[BarKey, _Bar] = {}
        self._cells: dict[tuple[int, ...], _Cell] = {}
        # The cell that was found last, which is where most ticks belong.
        self._current: tuple[int, int, _Cell | None] = (0, 0, None)
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

    def _cell(self, event_us: int) -> _Cell | None:
        """The cell of this moment; None if no bar there is complete."""
        starts = tuple([bar_start(event_us, minutes, self.session) for minutes in self.windows])
        key, day = starts, 0
        if self._day_of is not None:
            day = self._day_of(event_us)
            key = (*starts, day)
        cell = self._cells.get(key)
        if cell is None:
            cell = _Cell()
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

    def _raise(self, cell: _Cell, volume: float) -> None:
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

    def _begins_late(self, cell: _Cell) -> bool:
        """Whether it is the first of its day with a volume, and later than the first minutes of trading."""
        for other in self._cells.values():
            if other is not cell and other.day == cell.day and other.peak >= 0:
                return False
        opened = cell.day + (self.session.open_seconds * SECOND if self.session else 0)
        return cell.start > opened + _OPENING_US

    def _content(self, bar: _Bar) -> Content:
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

    def _join(self, cell: _Cell, minutes: int, start: int) -> None:
        """Make a new cell part of a bar, which may be new too, or given out already."""
        key = (minutes, start)
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = _Bar()
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


class _Cell:
    """The ticks of the time between two edges of bars. Sums are exact: the order of ticks cannot show."""

    __slots__ = (
        "bars",
        "close",
        "count",
        "day",
        "first_order",
        "first_us",
        "given_out",
        "high",
        "last_order",
        "last_us",
        "low",
        "open",
        "peak",
        "start",
        "trades",
        "turnover",
        "turnover_rest",
        "unpriced",
        "volume",
        "volume_rest",
    )

    def __init__(self) -> None:
        self.bars = 0  # how many it is part of
        self.day = self.start = 0
        self.peak = -1.0  # of cumulative volume; below 0 without any
        self.given_out: list[BarKey] = []  # those that were given out, which another tick revises
        self.first_us, self.first_order = _NEVER, 0
        self.last_us, self.last_order = -_NEVER, 0
        self.open = self.close = 0.0
        self.high, self.low = -inf, inf
        self.count = self.trades = 0
        # In whole numbers of 2^-64; what is none is summed in units of the smallest double.
        self.volume = self.turnover = self.volume_rest = self.turnover_rest = 0
        self.unpriced = False  # whether a trade's turnover is unknown

    def add(self, event_us: int, price: float, order: int) -> None:
        if event_us > self.last_us or (event_us == self.last_us and order >= self.last_order):
            self.last_us, self.last_order, self.close = event_us, order, price
        if event_us < self.first_us or (event_us == self.first_us and order < self.first_order):
            self.first_us, self.first_order, self.open = event_us, order, price
        if price > self.high:
            self.high = price
        if price < self.low:
            self.low = price
        self.count += 1

    def trade(self, price: float, size: float) -> None:
        self.trades += 1
        turnover = price * size
        # Nearly every price and size is a whole number of 2^-64, which makes small integers.
        scaled = size * _FINE
        if scaled.is_integer():
            self.volume += int(scaled)
        else:
            self.volume_rest += _smallest(size)
        scaled = turnover * _FINE
        if scaled.is_integer():
            self.turnover += int(scaled)
        elif isfinite(turnover):
            self.turnover_rest += _smallest(turnover)
        else:
            self.unpriced = True


class _Bar:
    """One bar in the making: its cells, which follow one another in time, and how often it was given out."""

    __slots__ = ("cells", "revision")

    def __init__(self) -> None:
        self.cells: list[_Cell] = []
        self.revision: int | None = None  # None until given out

    def give_out(self, key: BarKey, revision: int) -> None:
        self.revision = revision
        for cell in self.cells:
            if key not in cell.given_out:
                cell.given_out.append(key)

    def content(self) -> Content:
        cells = self.cells
        first = min(cells, key=_first_us)
        last = max(cells, key=_last_us)
        volume: Number | None = None
        vwap = None
        if any(cell.trades for cell in cells):
            traded = _total([(cell.volume, cell.volume_rest) for cell in cells])
            volume = traded / _ONE
            if volume < _INT64 and volume == int(volume):
                volume = int(volume)
            if traded and not any(cell.unpriced for cell in cells):
                vwap = _ratio(_total([(cell.turnover, cell.turnover_rest) for cell in cells]), traded)
        high, low = max(cell.high for cell in cells), min(cell.low for cell in cells)
        count = sum(cell.count for cell in cells)
        return Content(first.open, high, low, last.close, count, volume, vwap)


def _start(cell: _Cell) -> int:
    return cell.start


def _first_us(cell: _Cell) -> int:
    return cell.first_us


def _last_us(cell: _Cell) -> int:
    return cell.last_us


def _ratio(turnover: int, traded: int) -> float | None:
    """None beyond a double: products of the smallest sizes are rounded, and a quotient with them."""
    try:
        return turnover / traded
    except OverflowError:
        return None


def _smallest(value: float) -> int:
    """A finite value as a whole number of 2^-1074, the smallest double, so that sums are exact."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_ONE_BITS - denominator.bit_length() + 1)


def _total(sums: Iterable[tuple[int, int]]) -> int:
    """Sums in units of 2^-64 and of 2^-1074 as one whole number of the latter."""
    fine = rest = 0
    for one, other in sums:
        fine += one
        rest += other
    return (fine << (_ONE_BITS - _FINE_BITS)) + rest


def _start_and_minutes(bar: Bar) -> tuple[int, int]:
    return (bar.start_us, bar.minutes)


def _session_open(moment_us: int, session: Session) -> int:
    """The session's open on the local day of a moment."""
    day = to_date(moment_us).astimezone(session.zone)
    midnight = datetime(day.year, day.month, day.day, tzinfo=session.zone).astimezone(UTC)
    return event_us(midnight.isoformat())[0] + session.open_seconds * SECOND
