"""What one consumer of a stream has in hand: data that its reader and the upkeep of its leases share."""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from enricher.adapters.redis.stream.entry import GroupKeys, StreamDelivery
from enricher.adapters.redis.stream.quarantine import Quarantined


class InFlight:
    """``under_way`` has the entries with the pool, by stream and id; ``quarantined`` those that wait for it.

    ``given_up`` were dropped by the pool and come again; ``waived`` were conflated and need no commit.
    """

    def __init__(self) -> None:
        self.under_way: dict[tuple[str, str], StreamDelivery] = {}
        self.quarantined: deque[Quarantined] = deque()
        self.given_up: list[StreamDelivery] = []
        self.waived: list[StreamDelivery] = []
        self.counts: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def settled(self, delivery: StreamDelivery, label: str) -> None:
        """A delivery has left. One that was not finished stays in hand until the consumer leaves."""
        if label in ("handed_back", "lost"):
            return
        self.under_way.pop((delivery.place.stream, delivery.entry), None)
        if label == "dropped":
            self.given_up.append(delivery)
        elif label == "conflated":
            self.waived.append(delivery)
        self._changed.set()

    def entries(self, keys: GroupKeys) -> set[str]:
        """Entries of a group that are under way, or about to be handed back or acknowledged."""
        waiting = (*self.under_way.values(), *self.given_up, *self.waived)
        return {delivery.entry for delivery in waiting if delivery.place == keys}

    def with_pool(self, keys: GroupKeys) -> list[str]:
        """Entries of a group that are under way."""
        return [id_ for stream, id_ in self.under_way if stream == keys.stream]

    def running(self, keys: GroupKeys) -> list[str]:
        """Entries of a group whose handlers run, and be it in a thread that nobody waits for any more."""
        return [d.entry for d in self.under_way.values() if d.place == keys and d.running]

    def waiting(self, keys: GroupKeys) -> list[str]:
        """Entries of a group that are in quarantine."""
        return [entry.id for entry in self.quarantined if entry.keys == keys]

    def held(self, keys: GroupKeys) -> list[str]:
        """Entries of a group whose leases are kept. Another thread may ask."""
        # Copied first: each copy is made in one step.
        under_way, quarantined = list(self.under_way), list(self.quarantined)
        waiting = [entry.id for entry in quarantined if entry.keys == keys]
        return [id_ for stream, id_ in under_way if stream == keys.stream] + waiting

    async def change(self) -> None:
        """Return when something has left."""
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        """End every `change`."""
        self._changed.set()
