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


class Waiting:
    """The queued deliveries of one route in order of arrival, so that an overload knows whom to drop.

    Kept only for routes that drop or conflate. Deliveries that were taken meanwhile are skipped and
    cleared in bulk, which makes each operation constant on average. Of several of the same it is the oldest
    that goes: what stays is fresher, and it has waited for less time.

    ``dropped`` and ``conflated`` are those that were let go and that nobody has been told of yet: in a flood
    they are many, and telling lanes and counters of all of them together costs a fraction. For the same
    reason the oldest may stay ``owed`` until it is looked up together with others.
    """

    __slots__ = ("_arrivals", "_same", "conflate", "conflated", "dropped", "owed", "queued")

    def __init__(self, *, conflate: bool) -> None:
        self.conflate = conflate
        self.queued = 0
        self.owed = 0
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
        """A delivery was taken out of its queue."""
        self.queued -= 1
        if not self.queued:
            # Nothing may keep what is committed alive until the next message, which may be hours away.
            self._arrivals.clear()
            self._same.clear()

    def swap(self, delivery: Delivery, same: str | None) -> int | None:
        """Queue ``delivery`` for one that goes: an older one of the ``same``, else the oldest.

        The bytes that are free now: 0 if it is owed, see `pay`. None if nothing is queued that could go.
        """
        if not self.queued:
            return None
        if not self.conflate:
            self.owed += 1
            self._arrivals.append(delivery)
            return 0
        gone = (None if same is None else self.replace(same)) or self.drop()
        if gone is None:
            return None
        self.add(delivery, same)
        return len(gone.body)

    def pay(self) -> int:
        """Let go of as many of the oldest as are owed; the bytes of their bodies."""
        arrivals, dropped, owed, freed = self._arrivals, self.dropped, self.owed, 0
        while owed:
            first = arrivals.popleft()
            if not first.gone:
                first.gone = True
                dropped.append(first)
                freed += len(first.body)
                owed -= 1
        self.owed = 0
        return freed

    def drop(self) -> Delivery | None:
        """Let go of the delivery that has been queued longest, if there is one."""
        return self._let_go(self._arrivals, self.dropped)

    def replace(self, same: str) -> Delivery | None:
        """Let go of the delivery for ``same`` that has been queued longest, if there is one."""
        queue = self._same.get(same)
        return self._let_go(queue, self.conflated) if queue else None

    def _let_go(self, queue: deque[Delivery], gone: list[Delivery]) -> Delivery | None:
        while queue:
            first = queue.popleft()
            if not first.gone:
                first.gone = True
                self.queued -= 1
                gone.append(first)
                return first
        return None
