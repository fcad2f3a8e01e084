"""What happens to a message that finds the pool full."""

from __future__ import annotations

from collections import deque
from enum import Enum

from enricher.engine.ports import Delivery


class Overload(Enum):
    """The policy of a route for a full pool.

    ``BLOCK``        the source waits (only sources that can)
    ``CONFLATE``     the oldest per key that is still queued makes room for a newer one
    ``DROP_OLDEST``  the oldest queued message of the route makes room
    ``SPILL``        what finds memory full takes the way over a Redis stream (`sources.spill`), from which
                     it comes back when there is room; a source without that way drops it
    """

    BLOCK = "block"
    CONFLATE = "conflate"
    DROP_OLDEST = "drop_oldest"
    SPILL = "spill"


class Backlog:
    """The queued deliveries of one route in order of arrival, so that an overload knows whom to drop.

    Kept only for routes that drop or conflate. Deliveries that were taken meanwhile are skipped and
    cleared in bulk, which makes each operation constant on average. Of several of the same it is the oldest
    that goes: what stays is fresher, and it has waited for less time.

    ``dropped`` and ``conflated`` are those that were let go and that nobody has been told of yet: in a flood
    they are many, and telling lanes and counters of all of them together costs a fraction.
    """

    __slots__ = ("_arrivals", "_same", "conflate", "conflated", "dropped", "queued")

    def __init__(self, *, conflate: bool) -> None:
        self.conflate = conflate
        self.queued = 0
        self.dropped: list[Delivery] = []
        self.conflated: list[Delivery] = []
        self._arrivals: deque[Delivery] = deque()
        self._same: dict[str, deque[Delivery]] = {}

    def add(self, delivery: Delivery, same: str | None) -> None:
        """A delivery was queued; ``same`` names what a newer one would replace (`conflate`)."""
        self.queued += 1
        self._arrivals.append(delivery)
        if same is not None:
            queue = self._same.get(same)
            if queue is None:
                queue = self._same[same] = deque()
            queue.append(delivery)
        if len(self._arrivals) > 2 * self.queued + 256:
            self._arrivals = deque([d for d in self._arrivals if not d.gone])
            left = {key: [d for d in queue if not d.gone] for key, queue in self._same.items()}
            self._same = {key: deque(queue) for key, queue in left.items() if queue}

    def __len__(self) -> int:
        """How many deliveries it holds on to, those included that have left."""
        return len(self._arrivals)

    def left(self) -> None:
        """A delivery was taken out of its queue: nobody can drop it any more."""
        self.queued -= 1
        if not self.queued:
            # Nothing may keep what is committed alive until the next message, which may be hours away.
            self._arrivals.clear()
            if self.conflate:
                self._same.clear()

    def back(self) -> None:
        """A delivery is in its queue again, for another attempt."""
        self.queued += 1

    def drop(self, same: str | None = None) -> Delivery | None:
        """Let go of the delivery that was queued first, of all or of the ``same``; None if there is none."""
        queue = self._arrivals if same is None else self._same.get(same, ())
        while queue:
            first = queue.popleft()
            if not first.gone:
                first.gone = True
                self.queued -= 1
                (self.dropped if same is None else self.conflated).append(first)
                return first
        return None

    def swap(self, delivery: Delivery) -> int:
        """Queue ``delivery`` in the place of the one that was queued first; the bytes that are free then."""
        arrivals = self._arrivals
        arrivals.append(delivery)
        while (first := arrivals.popleft()).gone:
            pass
        first.gone = True
        self.dropped.append(first)
        return len(first.body)
