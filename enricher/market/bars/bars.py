"""Tumbling event-time bars of one product: the fold of its ticks, whatever order they come in.

A bar covers [start, start + minutes). The watermark is the newest event time less the lateness;
a bar is final when the watermark has reached its end, or when the product falls idle. A tick into
a bar that is final but retained is folded in and the bar given out again, one revision later.
Only aggregates are kept, no ticks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from enricher.analytics.bar_boundaries import Opening, bar_edges, bar_start
from enricher.analytics.sub_bars import BarKey, Cell, Content, RunningBar
from enricher.clock import MINUTE
from enricher.market.bars.volumes import DayVolumes
from enricher.messages.doubts import LIMITS
from enricher.messages.models import Number

LARGEST_VOLUME: Final = 1e100
"""A volume beyond it is none."""

_FIRST_LIMIT: Final = min(limit for limit in LIMITS if limit > 0)
_NEVER: Final = 2**63
_NONE: Final = (0, 0, None)


class Bar(msgspec.Struct, frozen=True, gc=False):
    """A bar as given out: revision 0 the first time, one more whenever a late tick changed it.

    ``until_us`` is where it ends if it is not as long as ``minutes`` says, see `bar_edges`.
    """

    start_us: int
    minutes: int
    content: Content
    revision: int
    final: bool = True
    until_us: int | None = None

    @property
    def end_us(self) -> int:
        """The first moment after the bar."""
        return self.start_us + self.minutes * MINUTE if self.until_us is None else self.until_us


def _sizes(volumes: Sequence[Number | None]) -> list[int] | None:
    """The volumes where all are plain whole numbers, nothing where no tick has one; None for all others."""
    sizes = [volume for volume in volumes if type(volume) is int]
    if len(sizes) < len(volumes):
        return None if any(volume is not None for volume in volumes) else []
    return sizes if min(sizes) >= 0 and max(sizes) < _FIRST_LIMIT else None


class Bars:
    """The open and the retained final bars of one product, for every window length.

    ``windows`` in minutes; ``retention_us``, at least the lateness, says how long before the
    newest event time a tick is still folded.

    A tick is folded once, whatever the number of windows: into its cell, which is the time that its bars of
    all windows have in common. A bar is put together from its cells when it is given out.

    With ``day_of`` (event time to the start of its day, both in microseconds) a tick's volume is what was
    traded on the day so far. A bar's volume is then the increase of its running maximum. The day counts from
    0, or from what `start_volume` says was traded before; if its first volume by event time comes more than 5
    minutes after the opening, from that one.
    """

    __slots__ = (
        "_bars", "_cells", "_changed", "_complete_from", "_current", "_day_of", "_next_end", "_volumes",
        "lateness_us", "newest", "retention_us", "session", "windows",
    )  # fmt: skip

    def __init__(
        self,
        windows: Sequence[int],
        lateness_us: int,
        retention_us: int,
        session: Opening | None = None,
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
        self._volumes = None if day_of is None else DayVolumes(session)
        self.newest: int | None = None
        self._bars: dict[BarKey, RunningBar] = {}
        self._cells: dict[tuple[int, ...], Cell] = {}
        # The cell that was found last, which is where most ticks belong.
        self._current: tuple[int, int, Cell | None] = _NONE
        self._next_end = _NEVER  # the earliest end among bars not yet given out
        self._changed: dict[BarKey, None] = {}  # given out, and folded into since
        self._complete_from = -_NEVER

    def fold(self, event_us: int, price: Number, order: int, volume: Number | None = None) -> bool:
        """Folds a tick into its bar of every window, False when it is beyond retention.

        ``volume`` is the size of the trade; one that is negative or not finite is unknown. Ties
        of event time are ordered by ``order``, then by arrival. ``price`` is finite, of any sign.
        """
        newest = self.newest
        if newest is None or event_us > newest:
            self.newest = event_us
        elif event_us < newest - self.retention_us:
            return False
        start, end, cell = self._current
        if cell is None or not start <= event_us < end:
            cell = self._cell(event_us)
            if cell is None:
                if self._day_of is not None and volume is not None and 0 <= volume <= LARGEST_VOLUME:
                    # It is of no bar that is complete, but what those count from is no less.
                    self.start_volume(self._day_of(event_us), volume)
                return False
        price = price + 0.0  # a double, and no negative zero
        cell.add(event_us, price, order)
        if volume is not None and 0 <= volume <= LARGEST_VOLUME:
            if volume in LIMITS:
                pass  # it stands for no value
            elif self._volumes is None:
                cell.trade(price, volume)
            else:
                self._changed |= dict.fromkeys(self._volumes.take(cell, event_us, order, volume, price))
        if cell.given_out:
            self._changed |= dict.fromkeys(cell.given_out)
        return True

    def fold_run(
        self,
        events: Sequence[int],
        prices: Sequence[float],
        orders: Sequence[int],
        volumes: Sequence[Number | None],
    ) -> None:
        """Folds ticks as `fold` does, cheaper when many: times ascend, the first newer than all before."""
        sizes = _sizes(volumes) if self._volumes is None else None
        at, count = 0, len(events)
        while at < count:
            start, end, cell = self._current
            to = bisect_left(events, end, at)
            if sizes is None or cell is None or cell.given_out or not start <= events[at] < end:
                self.fold(events[at], prices[at], orders[at], volumes[at])
                at += 1
                continue
            self.newest = events[to - 1]
            cell.add_run(events[at:to], prices[at:to], orders[to - 1])
            if sizes:
                cell.trade_run(prices[at:to], sizes[at:to])
            at = to

    def _cell(self, event_us: int) -> Cell | None:
        """The cell of this moment; None if no bar there is complete."""
        edges = [bar_edges(event_us, minutes, self.session) for minutes in self.windows]
        key = tuple([start for start, _ in edges])
        first, end, day = max(key), min([end for _, end in edges]), 0
        if self._day_of is not None:
            day = self._day_of(event_us)
            key, first = (*key, day), max(first, day)
            if self._day_of(end - 1) != day:  # the next tick may be of another day, and is looked up anew
                end = event_us + 1
        cell = self._cells.get(key)
        if cell is None:
            cell = Cell(day, first)
            for minutes, (start, until) in zip(self.windows, edges, strict=True):
                if start >= self._complete_from:
                    self._join(cell, (minutes, start), until)
            if not cell.bars:
                return None
            self._cells[key] = cell
        self._current = (first, end, cell)
        return cell

    def begin(self, moment_us: int) -> int:
        """Where the earliest of the bars that a moment falls into starts."""
        return min([bar_start(moment_us, minutes, self.session) for minutes in self.windows])

    def traded(self, day: int, before_us: int) -> Number | None:
        """The highest volume that the ticks of a day said before a moment, which is the `begin` of one from
        which on all bars are kept. None without one, and where volumes are those of trades.
        """
        return None if self._volumes is None else self._volumes.traded(day, before_us)

    def start_volume(self, day: int, traded: Number) -> None:
        """What was traded on a day before the first tick that is folded here."""
        if self._volumes is not None:
            self._volumes.start(day, traded)

    def _join(self, cell: Cell, key: BarKey, until: int) -> None:
        """Make a new cell part of a bar, which may be new too, or given out already."""
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = RunningBar(until, cell)
            self._next_end = min(self._next_end, until)
        else:
            if bar.revision is not None:
                cell.given_out += (key,)
            bar.cells.append(cell)
        cell.bars += 1

    def _content(self, bar: RunningBar) -> Content:
        """The numbers of a bar; where volumes are cumulative, volume and vwap are by the day's cells."""
        content = bar.content()
        if self._volumes is None or (gained := self._volumes.gained(bar.cells)) is None:
            return content
        volume, vwap = gained
        if vwap is not None:  # rounding must not lead it out of the prices it is of
            vwap = min(max(vwap, content.low), content.high)
        return msgspec.structs.replace(content, volume=volume, vwap=vwap)

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

        Each is given out once per revision, oldest first, and again only when it says something else; bars
        beyond retention are then forgotten.
        """
        if self.newest is None:
            return []
        edge = self.newest - self.lateness_us if up_to_us is None else up_to_us
        closed = []
        if self._next_end <= edge:
            self._next_end = _NEVER
            for key, bar in self._bars.items():
                if bar.revision is not None:
                    continue
                if bar.end <= edge:
                    closed.append(self._give_out(key, bar, 0, self._content(bar)))
                else:
                    self._next_end = min(self._next_end, bar.end)
        for key in self._changed:
            bar = self._bars[key]
            content = self._content(bar)
            if bar.revision is not None and content != bar.given:
                closed.append(self._give_out(key, bar, bar.revision + 1, content))
        self._changed.clear()
        if closed:
            self._forget(self.newest - self.retention_us)
        closed.sort(key=attrgetter("start_us", "minutes"))
        return closed

    def _give_out(self, key: BarKey, bar: RunningBar, revision: int, content: Content) -> Bar:
        bar.give_out(key, revision, content)
        minutes, start = key
        until = None if bar.end == start + minutes * MINUTE else bar.end
        return Bar(start, minutes, content, revision, until_us=until)

    def idle_close(self, now_us: int) -> list[Bar]:
        """The bars that the clock has left behind by the lateness, for a product fallen idle."""
        return [] if self.newest is None else self.close(max(self.newest, now_us) - self.lateness_us)

    def complete_from(self, moment_us: int) -> None:
        """Ticks are given from this moment on: a bar that starts earlier would be a fragment, and is none."""
        self._complete_from = moment_us

    def restore(self, stored: Mapping[BarKey, tuple[int, Content]]) -> None:
        """Take into account which bars were stored already, when the stored ticks have been folded again.

        ``stored`` maps (minutes, start_us) to (revision, content). A final bar that was never stored is due
        as revision 0, one whose stored content differs as one revision more, an equal one not at all.
        """
        for key, (revision, content) in stored.items():
            bar = self._bars.get(key)
            if bar is not None:
                bar.give_out(key, revision, content)
                self._changed[key] = None

    def __len__(self) -> int:
        return len(self._bars)

    def _forget(self, oldest: int) -> None:
        over = [key for key, bar in self._bars.items() if bar.revision is not None and bar.end <= oldest]
        if not over:
            return
        for key in over:
            for cell in self._bars.pop(key).cells:
                cell.bars -= 1
        if self._volumes is not None:
            self._volumes.forget(cell for cell in self._cells.values() if not cell.bars)
        self._cells = {starts: cell for starts, cell in self._cells.items() if cell.bars}
        if self._current[2] is not None and not self._current[2].bars:
            self._current = _NONE
