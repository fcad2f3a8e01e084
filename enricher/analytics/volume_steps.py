"""At which prices the volume of a day rose: what a price by volume is made of if volumes are cumulative."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from math import fsum

from enricher.messages.leg import Number


class VolumeSteps:
    """The ticks of one cell at which the day's volume rose above all before, by event time.

    What was traded between two of them goes at the price of the later one: sum p dv / sum dv, with dv the
    increase of the running maximum. They follow from the ticks, whatever their order. 32 bytes each.
    """

    __slots__ = ("_inner", "_orders", "_prices", "_times", "_volumes")

    def __init__(self) -> None:
        self._times = array("q")
        self._orders = array("q")
        self._volumes = array("d")
        self._prices = array("d")
        self._inner: float | None = None  # the turnover after the first step

    def add(self, event_us: int, order: int, volume: Number, price: float) -> None:
        """Take a tick in; of one moment and order the larger volume is the later."""
        times, volumes = self._times, self._volumes
        volume = float(volume)
        if not times or event_us > times[-1]:
            at = end = len(times)
        else:
            low = bisect_left(times, event_us)
            high = bisect_right(times, event_us, low)
            at = bisect_right(self._orders, order, low, high)
            while at > low and self._orders[at - 1] == order and volumes[at - 1] > volume:
                at -= 1
            end = bisect_right(volumes, volume, at)
        if at and volumes[at - 1] >= volume:
            return
        times[at:end] = array("q", (event_us,))
        self._orders[at:end] = array("q", (order,))
        volumes[at:end] = array("d", (volume,))
        self._prices[at:end] = array("d", (price,))
        self._inner = None

    def turnover(self, before: float) -> tuple[float, float]:
        """Price times what was traded since the day's volume was ``before``, and what it is then."""
        volumes, prices = self._volumes, self._prices
        first = bisect_right(volumes, before)
        if first == len(volumes):
            return 0.0, before
        begun = prices[first] * (volumes[first] - before)
        if first:
            return begun + self._after(first), volumes[-1]
        if self._inner is None:
            self._inner = self._after(0)
        return begun + self._inner, volumes[-1]

    def _after(self, first: int) -> float:
        volumes, prices = self._volumes, self._prices
        return fsum([prices[at] * (volumes[at] - volumes[at - 1]) for at in range(first + 1, len(volumes))])
