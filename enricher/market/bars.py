"""Tumbling event-time bars of one product: the fold of its ticks, whatever order they come in.

A bar covers [start, start + minutes). The watermark is the newest event time less the lateness;
a bar is final when the watermark has reached its end, or when the product falls idle. A tick into
a bar that is final but retained is folded in and the bar given out again, one revision later.
Only aggregates are kept, no ticks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from math import isfinite
from typing import Final, Literal

import msgspec

from enricher.market.clock import MINUTE, SECOND, event_us, to_date
from enricher.market.models import Number

Folded = Literal["folded", "late_dropped"]
BarKey = tuple[int, int]  # (minutes, start_us)

_NEVER: Final = 2**63
_LARGEST_VOLUME: Final = 1e100
_INT64: Final = 2**63  # from here on MongoDB takes no whole number
_ONE_BITS: Final = 1074
_ONE: Final = 1 << _ONE_BITS
_EXACT_TO: Final = 2.0**53  # up to here a double shows every whole number


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
    turnover of a trade is beyond a double.
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
    """

    def __init__(
        self,
        windows: Sequence[int],
        lateness_us: int,
        retention_us: int,
        session: Session | None = None,
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
        self.newest: int | None = None
        self.dropped = 0
        self._bars: dict[BarKey, _Running] = {}
        self._next_end = _NEVER  # the earliest end among bars not yet given out
        self._changed: set[BarKey] = set()  # given out, and folded into since
        self._complete_from = -_NEVER
        # Per window the bar that was opened last, which is where most ticks belong.
        self._current: list[tuple[int, int, _Running | None]] = [(0, 0, None) for _ in windows]

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
        price = float(price)
        traded = turnover = None
        if volume is not None and 0 <= volume <= _LARGEST_VOLUME:
            traded, turnover = _exact(float(volume)), _exact(price * volume)
        result: Folded = "late_dropped"
        for place, minutes in enumerate(self.windows):
            start, end, bar = self._current[place]
            if bar is not None and start <= event_us < end:
                result = "folded"
                bar.add(event_us, price, order, traded, turnover)
                if bar.revision is not None:
                    self._changed.add((minutes, start))
                continue
            start = bar_start(event_us, minutes, self.session)
            if start < self._complete_from:
                continue
            result = "folded"
            bar = self._bars.get((minutes, start))
            if bar is None:
                self._bars[minutes, start] = _Running(event_us, price, order, traded, turnover)
                self._next_end = min(self._next_end, start + minutes * MINUTE)
                self._current[place] = (start, start + minutes * MINUTE, self._bars[minutes, start])
                continue
            bar.add(event_us, price, order, traded, turnover)
            if bar.revision is not None:
                self._changed.add((minutes, start))
        self.dropped += result == "late_dropped"
        return result

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
                    bar.revision = 0
                    found.append(Bar(start, minutes, bar.content(), 0))
                elif bar.revision is None:
                    self._next_end = min(self._next_end, end)
        for minutes, start in self._changed:
            bar = self._bars[minutes, start]
            revision = (bar.revision or 0) + 1
            bar.revision = revision
            found.append(Bar(start, minutes, bar.content(), revision))
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
            bar.revision = revision
            if bar.content() != content:
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
            del self._bars[key]


class _Running:
    """One bar in the making. Sums are kept exactly, so the order of ticks cannot show in them."""

    __slots__ = (
        "close",
        "count",
        "first",
        "high",
        "last",
        "low",
        "open",
        "revision",
        "traded",
        "turnover",
        "unpriced",
    )

    def __init__(
        self, event_us: int, price: float, order: int, traded: int | None, turnover: int | None
    ) -> None:
        self.first = self.last = (event_us, order)
        self.open = self.high = self.low = self.close = price
        self.count = 0
        self.revision: int | None = None  # None until given out
        self.traded: int | None = None
        self.turnover: int | None = None
        self.unpriced = False  # whether a trade's turnover is unknown
        self.add(event_us, price, order, traded, turnover)

    def add(
        self, event_us: int, price: float, order: int, traded: int | None, turnover: int | None
    ) -> None:
        at = (event_us, order)
        if at < self.first:
            self.first, self.open = at, price
        if at >= self.last:
            self.last, self.close = at, price
        if price > self.high:
            self.high = price
        if price < self.low:
            self.low = price
        self.count += 1
        if traded is not None:
            self.traded = traded + (self.traded or 0)
            if turnover is None:
                self.unpriced = True
            else:
                self.turnover = turnover + (self.turnover or 0)

    def content(self) -> Content:
        volume: Number | None = None if self.traded is None else self.traded / _ONE
        if volume is not None and volume < _INT64 and volume == int(volume):
            volume = int(volume)
        vwap = None
        if self.traded and self.turnover is not None and not self.unpriced:
            vwap = _ratio(self.turnover, self.traded)
        return Content(self.open, self.high, self.low, self.close, self.count, volume, vwap)


def _ratio(turnover: int, traded: int) -> float | None:
    """None beyond a double: products of the smallest sizes are rounded, and a quotient with them."""
    try:
        return turnover / traded
    except OverflowError:
        return None


def _exact(value: float) -> int | None:
    """The value as a whole number of 2^-1074, the smallest double, so that sums are exact.

    None for a value that is not finite: a price times a size may be beyond a double.
    """
    if not isfinite(value):
        return None
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_ONE_BITS - denominator.bit_length() + 1)


def _start_and_minutes(bar: Bar) -> tuple[int, int]:
    return (bar.start_us, bar.minutes)


def _session_open(moment_us: int, session: Session) -> int:
    """The session's open on the local day of a moment."""
    day = to_date(moment_us).astimezone(session.zone)
    midnight = datetime(day.year, day.month, day.day, tzinfo=session.zone).astimezone(UTC)
    return event_us(midnight.isoformat())[0] + session.open_seconds * SECOND
