"""Whom an overload lets go of: the queue of arrivals of one route."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from enricher.engine.ports import Delivery


class Backlog:
    """The queued deliveries of one route in order of arrival, so that an overload knows whom to drop.

    Kept only for routes that drop or conflate; ``queued`` is how many are in their lanes, which count them.
    Deliveries that were taken meanwhile are skipped and cleared in bulk, which makes each operation constant
    on average. Of several of the same it is the oldest that goes: what stays is fresher, and it has waited
    for less time.

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
            self._tidy()

    def add_all(self, deliveries: Sequence[Delivery]) -> None:
        """These were queued, none of which would replace another."""
        self.queued += len(deliveries)
        self._arrivals.extend(deliveries)
        if len(self._arrivals) > 2 * self.queued + 256:
            self._tidy()

    def _tidy(self) -> None:
        self._arrivals = deque([d for d in self._arrivals if not d.gone])
        left = {key: [d for d in queue if not d.gone] for key, queue in self._same.items()}
        self._same = {key: deque(queue) for key, queue in left.items() if queue}

    def left(self) -> None:
        """A delivery was taken out of its lane: nobody can drop it any more."""
        self.queued -= 1
        if not self.queued:
            self.clear()

    def clear(self) -> None:
        """Hold on to nothing: what is committed may not be kept alive until the next message, hours away."""
        self._arrivals.clear()
        if self.conflate:
            self._same.clear()

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

    def drop_all(self, number: int) -> int:
        """Let go of so many that were queued first, of at least as many; the bytes that are free then."""
        free, arrivals, gone = 0, self._arrivals, self.dropped
        self.queued -= number
        while number:
            first = arrivals.popleft()
            if not first.gone:
                first.gone = True
                free += len(first.body)
                gone.append(first)
                number -= 1
        return free
