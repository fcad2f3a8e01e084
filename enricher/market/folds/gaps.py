"""Where ticks of a product may be missing: gaps of its feed, as times of receipt and as event times.

A gap is a range of receipt: nobody listened from then to then. Bars are of event time. What may be missing of
a product lies, in event time, after the newest tick that came before the gap, and before the first one that
came after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from enricher.clock import SECOND
from enricher.market.folds.fold import Fold, Product, TickChange

GAP: Final = "ticks may be missing: the feed was not heard all the time"
"""The flag of a bar or window."""

_EVER: Final = -(2**62)
_LIVE_US: Final = 60 * SECOND  # a tick that is no older than this when it comes is of a live feed
_KEPT: Final = 64


class Gaps(Fold):
    """The gaps of one product's ticks. It comes before bars and windows, which are as before this tick.

    ``feed`` are the gaps of the feed, by receipt, which grow; ``passed`` is how many of them were taken in,
    ``spans`` the event times after which, and before which, something may be missing.
    """

    __slots__ = ("_feed", "_reach_us", "open_us", "passed", "set_us", "spans")

    def __init__(self, product: Product, feed: Sequence[tuple[int, int]]) -> None:
        super().__init__(product)
        self._feed = feed
        self._reach_us = product.settings.reload_us
        self.passed = 0
        self.set_us = 0  # by how much the clock was set since the gap that is not passed yet
        self.spans: list[tuple[int, int]] = []
        self.open_us: int | None = None

    def fold_tick(self, tick: TickChange) -> None:
        if self.passed == len(self._feed) or tick.sent is None:
            return
        while self.passed < len(self._feed):
            _, to_us = self._feed[self.passed]
            newest, received_us = self.product.windows.ticks.newest, tick.received_us - self.set_us
            if received_us < to_us:
                return  # it came before, and waited
            self.begin()
            if newest is not None and tick.event_us <= newest:
                return  # a late one
            self._end(to_us, tick.event_us, received_us)
        self.set_us = 0

    @property
    def pending(self) -> bool:
        """Whether a gap of the feed has not been taken in yet: ticks have to come one by one."""
        return self.passed < len(self._feed)

    def begin(self) -> None:
        """The next gap, if there is one, began: something may be missing after the newest tick.

        While a live feed was heard and silent, nothing was missed.
        """
        if self.passed == len(self._feed) or self.open_us is not None:
            return
        from_us, _ = self._feed[self.passed]
        newest, heard_us = self.product.windows.ticks.newest, self.product.bars.heard_us
        self.open_us = _EVER if newest is None else newest
        if newest is not None and heard_us is not None and abs(heard_us - newest) <= _LIVE_US:
            self.open_us = max(newest, from_us - (heard_us - newest))

    def _end(self, to_us: int, event_us: int, received_us: int) -> None:
        """The first tick after the gap has come. Of a gap long before it the feed had been heard since."""
        low, high = self.open_us, event_us - (received_us - to_us)
        self.passed += 1
        self.open_us = None
        self.spans = [span for span in self.spans if span[1] > event_us - self._reach_us][-_KEPT:]
        if low is not None and max(low, event_us - self._reach_us) < high:
            self.spans.append((low, high))
            self.product.checkpoint.wanted = True

    def touch(self, start_us: int, end_us: int) -> bool:
        """Whether something may be missing of [start, end)."""
        if self.open_us is not None and self.open_us < end_us:
            return True
        return any(low < end_us and high > start_us for low, high in self.spans)

    def clock_set(self, step_us: int) -> None:
        if self.passed < len(self._feed):
            self.set_us += step_us
