"""What happens to a message that finds the pool full."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enricher.engine.ports import Delivery


class Overload(Enum):
    """The policy of a route for a full pool.

    ``BLOCK``        the source waits (only sources that can)
    ``CONFLATE``     the newest per key replaces an older one that is still queued
    ``DROP_OLDEST``  the oldest queued message of the route makes room
    ``SPILL``        to a Redis stream; a configuration error until that intake exists
    """

    BLOCK = "block"
    CONFLATE = "conflate"
    DROP_OLDEST = "drop_oldest"
    SPILL = "spill"


class Waiting:
    """The queued deliveries of one route in order of arrival, so that an overload knows whom to drop.

    Kept only for routes that drop or conflate. Deliveries that were taken meanwhile are skipped and
    cleared in bulk, which makes each operation constant on average.
    """

    __slots__ = ("_arrivals", "_newest", "conflate", "queued")

    def __init__(self, *, conflate: bool) -> None:
        self.conflate = conflate
        self.queued = 0
        self._arrivals: deque[Delivery] = deque()
        self._newest: dict[str, Delivery] = {}

    def add(self, delivery: Delivery, same: str | None) -> None:
        """A delivery was queued; ``same`` names what a newer one would replace (`conflate`)."""
        self.queued += 1
        self._arrivals.append(delivery)
        if same is not None:
            self._newest[same] = delivery
        if len(self._arrivals) > 2 * self.queued + 256:
            self._arrivals = deque(d for d in self._arrivals if not d.gone)
            self._newest = {k: d for k, d in self._newest.items() if not d.gone}

    def left(self) -> None:
        """A delivery was taken out of its queue."""
        self.queued -= 1

    def older(self, same: str | None) -> Delivery | None:
        """The queued delivery that a newer one for ``same`` replaces, if there is one."""
        found = None if same is None else self._newest.get(same)
        return None if found is None or found.gone else found

    def oldest(self) -> Delivery | None:
        """The delivery that has been queued longest, if there is one."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].gone:
            arrivals.popleft()
        return arrivals[0] if arrivals else None
