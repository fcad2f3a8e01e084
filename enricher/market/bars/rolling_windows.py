"""Rolling windows over the ticks of one product, exact in whatever order the ticks come.

A tick costs 33 bytes in five parallel columns plus at most 16 in the staircases, under 64 in all.
High and low of every window come from one pair of staircases: the prices that no later tick
exceeds (or undercuts). Those of a staircase that are newer than a window's left edge are exactly
the staircase of that window, so its high is the first of them: one bisect for any window.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf

import msgspec

from enricher.engine.ports import Folded
from enricher.messages.models import Number, TickId

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_TEXTS_FROM = 2**62  # order keys: whole numbers below, other texts above, no id last
_LONGEST_INT64 = 20
_LONGEST_NUMBER = 18  # digits at the end of a text that count as its number: all below 2^60
_NUMBER_BITS = (20, 44, 60)  # of the 60 bits of a key that its number takes
_TEXT_BITS = 60
_NO_TIMES = array("q")


class Window(msgspec.Struct, frozen=True, gc=False):
    """Open, high, low and close of the ticks in (end_us - span, end_us].

    ``start_us`` and ``end_us`` are the event times of its first and last tick.
    """

    open: float
    high: float
    low: float
    close: float
    count: int
    start_us: int
    end_us: int


def order_key(tick_id: TickId) -> int:
    """Where a tick stands among those of its microsecond, as a signed 64-bit integer.

    Whole numbers (as number or text) by value, then texts that end in no digit by their first 60
    bits, then texts with a number at their end, then ticks without an id. Of two texts that are
    alike but for the decimal number at their end (its last 18 digits, if it has more) the smaller
    number comes first, whatever came before it: NIFTY-2, NIFTY-0011, NIFTY-100. With unlike
    beginnings those whose number has the same width (up to 20, 44 or 60 bits) go by the beginning, in
    the bits that the number leaves of 60, and others by that width. Equal keys leave it to arrival.
    """
    if tick_id is None:
        return _INT64_MAX
    if isinstance(tick_id, str):
        digits = tick_id.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            return _TEXTS_FROM + _text_key(tick_id)
        if len(digits) > _LONGEST_INT64:  # int() is quadratic, and refuses the very long
            return _TEXTS_FROM - 1 if digits == tick_id else _INT64_MIN
        tick_id = int(tick_id)
    if _INT64_MIN <= tick_id < _TEXTS_FROM:
        return tick_id
    return _INT64_MIN if tick_id < 0 else _TEXTS_FROM - 1


def _text_key(text: str) -> int:
    """62 bits: two for the width of the number at the end (0 without one), the rest for text and number."""
    digits = len(text) - len(text.rstrip("0123456789"))
    at = len(text) - min(digits, _LONGEST_NUMBER)
    first = int.from_bytes(text[: min(at, 8)].encode()[:8].ljust(8, b"\0"), "big") >> (64 - _TEXT_BITS)
    if not digits:
        return first
    number = int(text[at:])
    width = bisect_right(_NUMBER_BITS, number.bit_length() - 1)
    bits = _NUMBER_BITS[width]
    return (width + 1 << _TEXT_BITS) | (first >> bits << bits) | number


def identity_key(tick_id: TickId, digest: str) -> int:
    """A 64-bit stand-in for a tick's identity beside its event time.

    Good within this process only (Python salts the hash of texts).
    """
    return hash(f"#{digest}" if tick_id is None else f":{tick_id}")


class _Staircase:
    """Prices that no later one reaches, with their times: ascending times, descending prices."""

    __slots__ = ("_head", "_prices", "_times")

    def __init__(self) -> None:
        self._times = array("q")
        self._prices = array("d")
        self._head = 0

    def append(self, time: int, price: float) -> None:
        """A price later than all others."""
        times, prices = self._times, self._prices
        while len(prices) > self._head and prices[-1] <= price:
            times.pop()
            prices.pop()
        times.append(time)
        prices.append(price)

    def extend(self, times: Sequence[int], prices: Sequence[float]) -> None:
        """Prices later than all others, in the order of time: each as by `append`, and cheaper when many."""
        if len(prices) == 1:
            self.append(times[0], prices[0])
            return
        steps, top = list[int](), -inf
        for at in range(len(prices) - 1, -1, -1):
            if prices[at] > top:
                top = prices[at]
                steps.append(at)
        end = len(self._prices)
        while end > self._head and self._prices[end - 1] <= top:
            end -= 1
        del self._times[end:], self._prices[end:]
        steps.reverse()
        self._times.extend([times[at] for at in steps])
        self._prices.extend([prices[at] for at in steps])

    def insert(self, time: int, price: float) -> None:
        times, prices, head = self._times, self._prices, self._head
        at = bisect_left(times, time, head)
        if at == len(times):
            self.append(time, price)
            return
        if prices[at] >= price:
            return
        end = at + (times[at] == time)
        while at > head and prices[at - 1] <= price:
            at -= 1
        times[at:end] = array("q", (time,))
        prices[at:end] = array("d", (price,))

    def highest_after(self, time: int) -> float:
        return self._prices[bisect_right(self._times, time, self._head)]

    def drop_before(self, time: int) -> None:
        times = self._times
        if self._head < len(times) and times[self._head] < time:
            self._head = bisect_left(times, time, self._head)
            if _worth_compacting(self._head, len(times)):
                del times[: self._head]
                del self._prices[: self._head]
                self._head = 0

    @property
    def columns(self) -> tuple[array[int] | array[float], ...]:
        return (self._times, self._prices)


class TickWindow:
    """The ticks of one product from ``retention_us`` before the newest on, by event time.

    Ties of event time are ordered by order key, then by arrival. Adding in order is amortised
    O(1); a late tick is a bisect and a block move of what is newer. What is added in order goes into the
    columns only when they are asked for, many ticks at once.
    """

    __slots__ = (
        "_added", "_events", "_head", "_high", "_idents", "_live", "_low", "_orders", "_prices", "newest",
        "retention_us",
    )  # fmt: skip

    def __init__(self, retention_us: int) -> None:
        self.retention_us = retention_us
        self.newest: int | None = None  # the latest event time
        self._added: list[tuple[int, float, int, int, bool]] = []  # a row of the columns each
        # Of many products most have no ticks, and seven empty arrays would be most of what they take.
        self._events = _NO_TIMES
        self._head = 0

    def __len__(self) -> int:
        self._settle()
        return len(self._events) - self._head

    @property
    def last_price(self) -> float | None:
        """The price of the last tick of all; None before the first."""
        self._settle()
        return self._prices[-1] if self._events else None

    def is_last(self, event_us: int, ident: int) -> bool:
        """Whether the last tick of all, by event time, order key and arrival, is this one."""
        self._settle()
        return bool(self._events) and self._events[-1] == event_us and self._idents[-1] == ident

    @property
    def columns(self) -> tuple[array[int] | array[float], ...]:
        """Every array that holds ticks, for measuring memory."""
        self._settle()
        if self._events is _NO_TIMES:
            return ()
        own = (self._events, self._prices, self._orders, self._idents, self._live)
        return (*own, *self._high.columns, *self._low.columns)

    def add(self, event_us: int, price: Number, order: int, ident: int, live: bool = True) -> bool:
        """Folds a tick in; False, and nothing is changed, when it is older than the retention.

        It does not look for duplicates: ask ``seen`` first. ``live`` is False for a tick that is
        only remembered from before a restart. OverflowError for a price beyond a double.
        """
        price = price + 0.0  # a double, and no negative zero
        newest = self.newest
        if newest is None or event_us > newest:
            self.newest = event_us
            self._added.append((event_us, price, order, ident, live))
            return True
        if event_us < newest - self.retention_us:
            return False
        self._settle()
        events = self._events
        low = bisect_left(events, event_us, self._head)
        at = bisect_right(self._orders, order, low, bisect_right(events, event_us, low))
        events.insert(at, event_us)
        self._prices.insert(at, price)
        self._orders.insert(at, order)
        self._idents.insert(at, ident)
        self._live.insert(at, live)
        self._high.insert(event_us, price)
        self._low.insert(event_us, -price)
        return True

    def add_run(self, events: list[int], prices: list[float], orders: list[int], idents: list[int]) -> None:
        """Folds live ticks in as `add` does: times ascend, the first is newer than all before."""
        self._settle()
        self.newest = events[-1]
        self._append(events, prices, orders, idents, b"\1" * len(events))

    def _settle(self) -> None:
        """Put what was added in order into the columns, and let go of what is older than the retention."""
        if not self._added:
            return
        events, prices, orders, idents, live = zip(*self._added, strict=True)
        self._added = []
        self._append(list(events), list(prices), list(orders), list(idents), bytes(live))

    def _append(
        self, events: list[int], prices: list[float], orders: list[int], idents: list[int], live: bytes
    ) -> None:
        if self._events is _NO_TIMES:
            self._begin()
        self._events.fromlist(events)
        self._prices.fromlist(prices)
        self._orders.fromlist(orders)
        self._idents.fromlist(idents)
        self._live.frombytes(live)
        self._high.extend(events, prices)
        self._low.extend(events, [-price for price in prices])
        oldest = events[-1] - self.retention_us
        if self._events[self._head] < oldest:
            self._evict(oldest)

    def _begin(self) -> None:
        self._events = array("q")
        self._prices = array("d")
        self._orders = array("q")
        self._idents = array("q")
        self._live = array("b")
        self._high = _Staircase()
        self._low = _Staircase()  # of negated prices

    def seen(self, event_us: int, ident: int) -> Folded | None:
        """How this identity was folded, None if it was not."""
        newest = self.newest
        if newest is None or event_us > newest:
            return None
        self._settle()
        events = self._events
        low = bisect_left(events, event_us, self._head)
        if low == len(events) or events[low] != event_us:
            return None
        try:
            at = self._idents.index(ident, low, bisect_right(events, event_us, low))
        except ValueError:
            return None
        return Folded.HERE if self._live[at] else Folded.RESTORED

    def window(self, span_us: int) -> Window | None:
        """The ticks with event time in (newest - span_us, newest]; None before the first tick.

        ValueError for a span that is not positive or longer than the retention.
        """
        if not 0 < span_us <= self.retention_us:
            raise ValueError(f"a span of {span_us} us; kept are {self.retention_us} us")
        self._settle()
        events = self._events
        if not events:
            return None
        edge = events[-1] - span_us
        first = bisect_right(events, edge, self._head)
        return Window(
            self._prices[first],
            self._high.highest_after(edge),
            # Adding 0.0 turns the -0.0 of a negated zero into 0.0.
            0.0 - self._low.highest_after(edge),
            self._prices[-1],
            len(events) - first,
            events[first],
            events[-1],
        )

    def _evict(self, oldest: int) -> None:
        events = self._events
        self._head = bisect_left(events, oldest, self._head)
        if _worth_compacting(self._head, len(events)):
            for column in (events, self._prices, self._orders, self._idents, self._live):
                del column[: self._head]
            self._head = 0
        self._high.drop_before(oldest)
        self._low.drop_before(oldest)


def _worth_compacting(head: int, length: int) -> bool:
    """An eighth of dead weight: each kept tick is moved at most eight times per tick dropped."""
    return head > 64 + length // 8
