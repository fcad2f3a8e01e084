"""What bars are made of: cells, into which each tick is folded once whatever the number of windows.

Sums of sizes and turnovers are exact, so that the order of ticks cannot show in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite
from operator import attrgetter
from typing import Final

import msgspec

from enricher.analytics.volume_steps import VolumeSteps
from enricher.messages.models import Number

BarKey = tuple[int, int]  # (minutes, start_us)

_first_us: Final = attrgetter("first_us")
_last_us: Final = attrgetter("last_us")
_NEVER: Final = 2**63
_INT64: Final = 2**63  # from here on MongoDB takes no whole number
_ONE_BITS: Final = 1074
_ONE: Final = 1 << _ONE_BITS
_FINE_BITS: Final = 64
_FINE: Final = 2.0**_FINE_BITS


class Content(msgspec.Struct, frozen=True, gc=False):
    """The numbers of a bar, each finite and storable: whole numbers fit 64 bits.

    ``volume`` sums trade sizes; it and ``vwap`` are None without any. ``vwap`` is None too when the
    turnover of a trade is beyond a double. Where volumes are cumulative it is of `VolumeSteps`.
    """

    open: float
    high: float
    low: float
    close: float
    num_ticks: int
    volume: Number | None = None
    vwap: float | None = None


class Cell:
    """The ticks of the time between two edges of bars. Sums are exact: the order of ticks cannot show."""

    __slots__ = (
        "bars", "close", "count", "day", "first_order", "first_traded", "first_us", "given_out", "high",
        "last_order", "last_us", "low", "open", "peak", "start", "steps", "traded", "turnover",
        "turnover_rest", "unpriced", "volume", "volume_rest",
    )  # fmt: skip

    def __init__(self, day: int, start: int) -> None:
        self.bars = 0  # how many it is part of
        self.day, self.start = day, start
        # Where volumes are cumulative: the highest (below 0 without any), and the first after time and order.
        self.peak: Number = -1
        self.steps: VolumeSteps | None = None
        self.first_traded: tuple[int, int, Number] | None = None
        self.given_out: tuple[BarKey, ...] = ()  # those that were given out, which another tick revises
        self.first_us, self.first_order = _NEVER, 0
        self.last_us, self.last_order = -_NEVER, 0
        self.open = self.close = 0.0
        self.high, self.low = -inf, inf
        self.count = 0
        self.traded = False  # whether a tick was a trade, of whatever size
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

    def add_run(self, events: Sequence[int], prices: Sequence[float], order: int) -> None:
        """As `add` does ticks in the order of time, newer than all before; ``order`` is that of the last."""
        if not self.count:
            self.first_us, self.open = events[0], prices[0]
        self.last_us, self.last_order, self.close = events[-1], order, prices[-1]
        self.high, self.low = max(self.high, *prices), min(self.low, *prices)
        self.count += len(events)

    def trade_run(self, prices: Sequence[float], sizes: Sequence[int]) -> None:
        """As `trade` does with each price and size."""
        turnovers = [price * size * _FINE for price, size in zip(prices, sizes, strict=True)]
        if all(map(float.is_integer, turnovers)):
            self.traded = True
            self.volume += sum(sizes) << _FINE_BITS
            self.turnover += sum(map(int, turnovers))
        else:
            for price, size in zip(prices, sizes, strict=True):
                self.trade(price, size)

    def trade(self, price: float, size: Number) -> None:
        self.traded = True
        turnover = price * size
        # Nearly every price and size is a whole number of 2^-64, which makes small integers.
        if isinstance(size, int):
            self.volume += size << _FINE_BITS
        elif (scaled := size * _FINE).is_integer():
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


class RunningBar:
    """One bar in the making: its cells, which follow one another in time, and how often it was given out."""

    __slots__ = ("cells", "end", "given", "revision")

    def __init__(self, end: int, *cells: Cell) -> None:
        self.end = end  # the first moment after it
        self.cells = list(cells)
        self.revision: int | None = None  # None until given out
        self.given: Content | None = None  # as it was given out last

    def give_out(self, key: BarKey, revision: int, content: Content) -> None:
        self.revision, self.given = revision, content
        for cell in self.cells:
            if key not in cell.given_out:
                cell.given_out += (key,)

    def content(self) -> Content:
        cells = self.cells
        first = min(cells, key=_first_us)
        last = max(cells, key=_last_us)
        volume: Number | None = None
        vwap = None
        if any(cell.traded for cell in cells):
            traded = _total([(cell.volume, cell.volume_rest) for cell in cells])
            whole = traded >> _ONE_BITS
            volume = whole if whole < _INT64 and whole << _ONE_BITS == traded else traded / _ONE
            if traded and not any(cell.unpriced for cell in cells):
                vwap = _ratio(_total([(cell.turnover, cell.turnover_rest) for cell in cells]), traded)
        high, low = max(cell.high for cell in cells), min(cell.low for cell in cells)
        count = sum(cell.count for cell in cells)
        return Content(first.open, high, low, last.close, count, volume, vwap)


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
