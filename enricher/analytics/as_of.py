"""What stood at a moment: values by time for as-of joins, whatever else was heard of later times.

Messages of one product come in streams of their own: the live feed, and beside it replays of the past or
a late source. Each of them stands somewhere in event time, and each is to find what was known there, and
nothing of later. So what is kept follows from where the streams stand, not from the newest time of all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from enricher.clock import SECOND

V = TypeVar("V")

JUMP_US: Final = 36 * 3600 * SECOND
"""Where time goes on by more than this at once, another stream begins: a feed beside which a replay runs."""

_MOST: Final = 8


class Fronts:
    """Where the streams stand that times come from: the newest, and of others the `_MOST` heard of last.

    A time belongs to the front at most ``back`` after it, or to the one at most ``forward`` before it, which
    moves there; without one it begins a stream of its own. For each front is wanted what lies within
    ``reach`` before it, and the one before that.
    """

    __slots__ = ("_back", "_forward", "_reach", "at")

    def __init__(self, reach: int, forward: int, back: int = 0) -> None:
        self._reach = reach
        self._forward = forward
        self._back = back
        self.at: list[int] = []

    def touch(self, time: int) -> None:
        fronts, since = self.at, time - self._forward
        if len(fronts) == 1 and since <= fronts[0] <= time:
            fronts[0] = time
            return
        if any(time < front <= time + self._back for front in fronts):
            return
        behind = max((front for front in fronts if since <= front <= time), default=None)
        if behind is not None:
            fronts.remove(behind)
        fronts.append(time)
        if len(fronts) > _MOST:
            del fronts[fronts[0] == max(fronts)]

    def unwanted(self, times: Sequence[int]) -> list[slice]:
        """The stretches, from the end, that no front needs of ascending ``times``."""
        stretches: list[slice] = []
        end = len(times)
        for front in sorted(self.at, reverse=True):
            last = bisect_right(times, front)
            if last < end:
                stretches.append(slice(last, end))
            first = max(bisect_right(times, front - self._reach) - 1, 0)
            end = min(end, first)
        if end:
            stretches.append(slice(0, end))
        return stretches


class Timeline(Generic[V]):
    """Values by time, of which the newest up to a moment is asked.

    Of two at one time the one with the larger ``tie`` counts. Up to ``least`` are kept in any case, more as
    their `Fronts` want them.
    """

    __slots__ = ("_fronts", "_keys", "_least", "_times", "_values")

    def __init__(self, reach: int, forward: int, least: int = 0) -> None:
        self._fronts = Fronts(reach, forward)
        self._least = least
        self._times: list[int] = []
        self._keys: list[tuple[int, str]] = []
        self._values: list[V] = []

    def add(self, time: int, value: V, tie: str = "") -> None:
        """Take a value in, however late it comes."""
        key = (time, tie)
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            self._values[at] = value
        else:
            self._keys.insert(at, key)
            self._times.insert(at, time)
            self._values.insert(at, value)
        self._fronts.touch(time)
        if len(self._times) > self._least:
            for stretch in self._fronts.unwanted(self._times):
                del self._keys[stretch], self._times[stretch], self._values[stretch]

    def at(self, moment: int) -> V | None:
        """The newest value up to a moment; None if nothing is known of then."""
        place = bisect_right(self._times, moment)
        return self._values[place - 1] if place else None

    def before(self, moment: int) -> V | None:
        """The newest value earlier than a moment."""
        place = bisect_left(self._times, moment)
        return self._values[place - 1] if place else None

    def standing(self) -> list[V]:
        """The two last values of every stream, which is what a restart needs of them."""
        places: set[int] = set()
        for front in self._fronts.at:
            end = bisect_right(self._times, front)
            places.update(range(max(end - 2, 0), end))
        return [self._values[place] for place in sorted(places)]

    def __len__(self) -> int:
        return len(self._times)
