"""Admission: how much may be under way at once, and who makes room when it is too much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING

from enricher.engine.apart import is_ctrl_c
from enricher.engine.overload import Overload, Waiting
from enricher.engine.ports import Clock, Delivery
from enricher.engine.router import Route, Router
from enricher.engine.stats import RouteStats, Stats
from enricher.errors import BadMessage, UnknownTopic
from enricher.log import log

if TYPE_CHECKING:
    from enricher.engine.lanes import Lane

UNKNOWN = "(unknown)"

# Topics whose route is remembered: a pattern may match topics without end.
_KNOWN = 10_000
_WARN_EVERY_US = 10_000_000

_queued = attrgetter("queued")
_lane: Callable[[Delivery], Lane | None] = attrgetter("lane")

Admitted = tuple[list[Delivery], list[tuple[Delivery, BadMessage]]]
"""What may go to its lane, and what must be set aside, with why."""


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
        steady: Clock,
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
        self._steady = steady
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_message_bytes = max_message_bytes
        self._known: dict[str, tuple[Route, RouteStats, Waiting | None, int]] = {}
        self._waiting = {
            route.topic: Waiting(conflate=route.overload is Overload.CONFLATE)
            for route in router.routes
            if route.overload in (Overload.CONFLATE, Overload.DROP_OLDEST)
        }
        self._crowded = False
        self._warned: dict[str, int] = {}

    def admit(self, deliveries: Iterable[Delivery]) -> Admitted:
        """Judge deliveries in the order in which they came: to its lane, aside, or dropped.

        Those who made room are let go of at the end, many together. Keys are for the caller to read, of
        those that may go to their lanes only (a route that conflates by its key has read it).
        """
        queued: list[Delivery] = []
        aside: list[tuple[Delivery, BadMessage]] = []
        for delivery in deliveries:
            known = self._known.get(delivery.topic) or self._look_up(delivery.topic)
            size = len(delivery.body)
            if known is None:
                self._stats.count(UNKNOWN, "received")
                self._aside(delivery, UnknownTopic(delivery.topic, self._router.topics), aside)
                continue
            route, counters, waiting, most = known
            counters.counts["received"] += 1
            delivery.route = route
            delivery.waiting = waiting
            if size > most:
                expected = f"at most {most} bytes"
                self._aside(delivery, BadMessage("$", expected, f"{size} bytes"), aside)
                continue
            same = self._same(delivery, route) if waiting is not None and waiting.conflate else None
            if self.count >= self._max_messages or self.bytes + size > self._max_bytes:
                one = self.count == self._max_messages and self.bytes + size <= self._max_bytes
                freed = waiting.swap(delivery, same) if one and waiting is not None else None
                if freed is not None:
                    self._crowded = True
                    self.bytes += size - freed
                    queued.append(delivery)
                    continue
                if not self._make_room(size, waiting, same):
                    self._refuse(delivery)
                    continue
            self.count += 1
            self.bytes += size
            if waiting is not None:
                waiting.add(delivery, same)
            queued.append(delivery)
        if self._crowded:
            self._crowded = False
            self._pay()
            for topic, waiting in self._waiting.items():
                self._tell(topic, waiting.dropped, "dropped")
                self._tell(topic, waiting.conflated, "conflated")
            queued = [delivery for delivery in queued if not delivery.gone]
        return queued, aside

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

    def can_hold(self, count: int, size: int) -> bool:
        """Whether so many messages and bytes may be out of reach of every overload policy for long."""
        return count <= self._max_messages // 4 and size <= self._max_bytes // 4

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

    def _look_up(self, topic: str) -> tuple[Route, RouteStats, Waiting | None, int] | None:
        route = self._router.match(topic)
        if route is None:
            return None
        most = min(route.max_bytes or self._max_message_bytes, self._max_bytes)
        known = (route, self._stats.topic(route.topic), self._waiting.get(route.topic), most)
        if len(self._known) < _KNOWN:
            self._known[topic] = known
        return known

    def _aside(
        self, delivery: Delivery, why: BadMessage, aside: list[tuple[Delivery, BadMessage]]
    ) -> None:
        self._pay()
        if self.full(len(delivery.body)):
            self._refuse(delivery)
            return
        self.count += 1
        self.bytes += len(delivery.body)
        delivery.attempts = 1
        aside.append((delivery, why))

    def _same(self, delivery: Delivery, route: Route) -> str | None:
        """What a newer delivery would replace, by the route's conflation or else its key."""
        if route.conflation is not None:
            return read_key(route.conflation, delivery.body)
        if route.key is not None:
            delivery.key = read_key(route.key, delivery.body)
        return delivery.key

    def _make_room(self, size: int, waiting: Waiting | None, same: str | None) -> bool:
        """Let go of what is older, of the same, of the route, or, when the route has nothing queued, of the
        route that has most: a flood must not shut out what comes rarely."""
        self._pay()
        if not self.full(size):
            return True
        if waiting is None or size > self._max_bytes:
            return False
        self._crowded = True
        gone = None if same is None else waiting.replace(same)
        gone = gone or self._oldest(waiting)
        while gone is not None:
            self.count -= 1
            self.bytes -= len(gone.body)
            if not self.full(size):
                return True
            gone = self._oldest(waiting)
        return False

    def _oldest(self, waiting: Waiting) -> Delivery | None:
        """Let go of the oldest of the route, else of the route that has most."""
        return waiting.drop() or max(self._waiting.values(), key=_queued).drop()

    def _pay(self) -> None:
        """Let go of as many of the oldest as were let in for them; until then their bytes count."""
        for waiting in self._waiting.values():
            if waiting.owed:
                self.bytes -= waiting.pay()

    def _tell(self, topic: str, gone: list[Delivery], label: str) -> None:
        """Tell lanes, sources and counters of queued messages of one route that were let go."""
        if not gone:
            return
        for delivery in gone:
            delivery.body = b""
            delivery.settled(label)
        for lane, number in Counter(map(_lane, gone)).items():
            if lane is not None:
                lane.forget(number)
        self._count_dropped(topic, label, len(gone))
        gone.clear()

    def _refuse(self, delivery: Delivery) -> None:
        """A message does not get in."""
        delivery.gone = True
        delivery.settled("dropped")
        self._count_dropped(counted_as(delivery), "dropped", 1)

    def _count_dropped(self, topic: str, label: str, number: int) -> None:
        self._stats.count(topic, label, number)
        now = self._steady()
        if now - self._warned.get(topic, now - _WARN_EVERY_US) >= _WARN_EVERY_US:
            self._warned[topic] = now
            total = self._stats.topic(topic).counts[label]
            log.warning("overload", topic=topic, policy=label, total=total, queued=self.count)


def read_key(function: object, body: bytes) -> str | None:
    """The key that ``function`` reads off ``body``; None when the body cannot be understood."""
    try:
        return function(body)  # type: ignore[operator,no-any-return]
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        return None  # the handler's own decoding will say what is wrong
