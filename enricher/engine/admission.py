"""Admission: how much may be under way at once, and who makes room when it is too much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from enricher.engine.overload import Overload, Waiting
from enricher.engine.ports import Clock, Delivery
from enricher.engine.router import Route, Router
from enricher.engine.stats import RouteStats, Stats
from enricher.errors import BadMessage, UnknownTopic

log = structlog.get_logger("enricher")

UNKNOWN = "(unknown)"

# Topics whose route is remembered: a pattern may match topics without end.
_KNOWN = 10_000
_WARN_EVERY_US = 10_000_000
# Of so many queued messages of a route one more than needed is dropped.
_SPARE = 1000


def counted_as(delivery: Delivery) -> str:
    """The topic under which a delivery is counted: its route's, so that a pattern has one row."""
    return delivery.route.topic if delivery.route is not None else UNKNOWN


class Admission:
    """Lets deliveries in up to ``max_messages`` and ``max_bytes`` (of bodies), counted until `release`.

    A message larger than ``max_message_bytes``, or of a topic without a route, is let in to be set aside.
    """

    def __init__(
        self,
        router: Router,
        stats: Stats,
        clock: Clock,
        *,
        max_messages: int,
        max_bytes: int,
        max_message_bytes: int,
    ) -> None:
        self.count = 0
        self.bytes = 0
        self.empty = asyncio.Event()
        self._space = asyncio.Event()
        self._router = router
        self._stats = stats
        self._clock = clock
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_message_bytes = max_message_bytes
        self._known: dict[str, tuple[Route, RouteStats, Waiting | None]] = {}
        self._waiting = {
            route.topic: Waiting(conflate=route.overload is Overload.CONFLATE)
            for route in router.routes
            if route.overload in (Overload.CONFLATE, Overload.DROP_OLDEST)
        }
        self._warned: dict[str, int] = {}

    def admit(self, delivery: Delivery) -> Route | BadMessage | None:
        """Its route if it may go to its lane, why it must be set aside, or None if it was dropped."""
        known = self._known.get(delivery.topic) or self._look_up(delivery.topic)
        size = len(delivery.body)
        if known is None:
            self._stats.count(UNKNOWN, "received")
            return self._aside(delivery, UnknownTopic(delivery.topic, self._router.topics))
        route, counters, waiting = known
        counters.counts["received"] += 1
        delivery.route, delivery.waiting = route, waiting
        if size > self._max_message_bytes:
            expected = f"at most {self._max_message_bytes} bytes"
            return self._aside(delivery, BadMessage("$", expected, f"{size} bytes"))
        same = None
        if route.key is not None:
            delivery.key = same = _key(route.key, delivery.body)
        if waiting is not None and waiting.conflate and route.conflation is not None:
            same = _key(route.conflation, delivery.body)
        full = self.count >= self._max_messages or self.bytes + size > self._max_bytes
        if full and not self._make_room(size, waiting, same):
            self._drop(delivery, "dropped")
            return None
        self.count += 1
        self.bytes += size
        if waiting is not None:
            waiting.add(delivery, same if waiting.conflate else None)
        return route

    def admit_aside(self, delivery: Delivery) -> None:
        """Count a delivery in, without a look at the bounds, that is on its way to the dead letters."""
        known = self._known.get(delivery.topic) or self._look_up(delivery.topic)
        delivery.route = None if known is None else known[0]
        self._stats.count(counted_as(delivery), "received")
        self.count += 1
        self.bytes += len(delivery.body)

    async def wait_for_room(self, delivery: Delivery) -> None:
        """Return when there is room, if it is the policy of the delivery's route to wait for it."""
        route = self._router.match(delivery.topic)
        if route is not None and route.overload in (Overload.BLOCK, Overload.SPILL):
            while self.full(len(delivery.body)) and self.count:
                self._space.clear()
                await self._space.wait()

    def full(self, size: int) -> bool:
        """Whether a message of ``size`` bytes finds no room."""
        return self.count >= self._max_messages or self.bytes + size > self._max_bytes

    def taken(self, delivery: Delivery) -> None:
        """A message has left its queue: nobody can drop it any more."""
        if delivery.waiting is not None:
            delivery.waiting.left()

    def queued_again(self, delivery: Delivery) -> None:
        """A message is back in a queue, for another attempt."""
        if delivery.waiting is not None:
            delivery.waiting.queued += 1

    def release(self, size: int, count: int = 1) -> None:
        """A message, or ``count`` of them with ``size`` bytes in all, has left for good."""
        self.count -= count
        self.bytes -= size
        self._space.set()
        if not self.count:
            self.empty.set()

    def _look_up(self, topic: str) -> tuple[Route, RouteStats, Waiting | None] | None:
        route = self._router.match(topic)
        if route is None:
            return None
        known = (route, self._stats.topic(route.topic), self._waiting.get(route.topic))
        if len(self._known) < _KNOWN:
            self._known[topic] = known
        return known

    def _aside(self, delivery: Delivery, why: BadMessage) -> BadMessage | None:
        if self.full(len(delivery.body)):
            self._drop(delivery, "dropped")
            return None
        self.count += 1
        self.bytes += len(delivery.body)
        delivery.attempts = 1
        return why

    def _make_room(self, size: int, waiting: Waiting | None, same: str | None) -> bool:
        if waiting is None:
            return False
        older = waiting.older(same) if waiting.conflate else None
        if older is not None:
            self._evict([older], waiting, "conflated")
        if self.full(size):
            self._evict(self._oldest(size, waiting), waiting, "dropped")
        return not self.full(size)

    def _oldest(self, size: int, waiting: Waiting) -> list[Delivery]:
        """As many of the oldest as make room for ``size`` bytes, and a thousandth of all more: in a flood
        the next ones find room, and most of what dropping costs is paid once for many."""
        found: list[Delivery] = []
        over = self.count + 1 - self._max_messages + waiting.queued // _SPARE
        over_bytes = self.bytes + size - self._max_bytes
        while (over > 0 or over_bytes > 0) and (oldest := waiting.oldest()) is not None:
            oldest.gone = True
            over -= 1
            over_bytes -= len(oldest.body)
            found.append(oldest)
        return found

    def _evict(self, evicted: Sequence[Delivery], waiting: Waiting, label: str) -> None:
        """Let queued messages of one route go."""
        if not evicted:
            return
        self.release(sum(len(delivery.body) for delivery in evicted), len(evicted))
        waiting.left(len(evicted))
        for delivery in evicted:
            if delivery.lane is not None:
                delivery.lane.forget(delivery)
            delivery.settled(label)
        self._count_dropped(counted_as(evicted[0]), label, len(evicted))

    def _drop(self, delivery: Delivery, label: str) -> None:
        """A message does not get in."""
        delivery.settled(label)
        self._count_dropped(counted_as(delivery), label, 1)

    def _count_dropped(self, topic: str, label: str, number: int) -> None:
        self._stats.count(topic, label, number)
        now = self._clock()
        if now - self._warned.get(topic, 0) > _WARN_EVERY_US:
            self._warned[topic] = now
            total = self._stats.topic(topic).counts[label]
            log.warning("overload", topic=topic, policy=label, total=total, queued=self.count)


def _key(function: object, body: bytes) -> str | None:
    """The key that ``function`` reads off ``body``; None when the body cannot be understood."""
    try:
        return function(body)  # type: ignore[operator,no-any-return]
    except Exception:  # noqa: BLE001  the handler's own decoding will say what is wrong
        return None
