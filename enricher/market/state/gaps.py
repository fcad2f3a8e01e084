"""Where ticks of a product may be missing: gaps of its feed, as times of receipt and as event times.

A gap is a range of receipt: nobody listened from then to then. Bars are of event time. What may be missing of
a product lies, in event time, after the newest tick that came before the gap, and before the first one that
came after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from enricher.clock import SECOND

GAP: Final = "ticks may be missing: the feed was not heard all the time"
"""The flag of a bar or window."""

_EVER: Final = -(2**62)
_LIVE_US: Final = 60 * SECOND  # a tick that is no older than this when it comes is of a live feed
_KEPT: Final = 64


class ProductGaps:
    """The gaps of one product's ticks; ``passed`` is how many of the feed's have been taken in, ``some``
    whether there is any that may still touch something."""

    __slots__ = ("open_us", "passed", "set_us", "some", "spans")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self.passed = 0
        self.set_us = 0  # by how much the clock was set since the gap that is not passed yet
        # Event times: after which, and before which, something may be missing.
        self.spans: list[tuple[int, int]] = list(spans)
        self.open_us: int | None = None
        self.some = bool(self.spans)

    def begin(self, from_us: int, newest: int | None, heard_us: int | None) -> None:
        """A gap began then: something may be missing after the ``newest`` tick, received at ``heard_us``.

        While a live feed was heard and silent, nothing was missed.
        """
        self.some = True
        if self.open_us is None:
            self.open_us = _EVER if newest is None else newest
            if newest is not None and heard_us is not None and abs(heard_us - newest) <= _LIVE_US:
                self.open_us = max(newest, from_us - (heard_us - newest))

    def end(self, to_us: int, event_us: int, received_us: int, reach_us: int) -> bool:
        """The first tick after the gap has come: whether something may be missing before it.

        Of a gap long before it the feed had been heard since.
        """
        low, high = self.open_us, event_us - (received_us - to_us)
        self.passed += 1
        self.open_us = None
        self.spans = [span for span in self.spans if span[1] > event_us - reach_us][-_KEPT:]
        touching = low is not None and max(low, event_us - reach_us) < high
        if touching:
            self.spans.append((low or 0, high))
        self.some = bool(self.spans)
        return touching

    def touches(self, start_us: int, end_us: int) -> bool:
        """Whether something may be missing of [start, end)."""
        if self.open_us is not None and self.open_us < end_us:
            return True
        return any(low < end_us and high > start_us for low, high in self.spans)
