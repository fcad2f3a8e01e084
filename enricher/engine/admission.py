"""Admission: how much may be under way at once, and who makes room when it is too much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from time import monotonic

from enricher.config import PoolSettings
from enricher.engine.backlog import Backlog
from enricher.engine.isolation import is_ctrl_c
from enricher.engine.lanes import Lane
from enricher.engine.ports import Delivery
from enricher.engine.router import Overload, Route, Router
from enricher.engine.stats import Stats
from enricher.errors import BadMessage, UnknownTopic
from enricher.log import log

UNKNOWN = "(unknown)"

# Topics whose route is remembered: a pattern may match topics without end.
_KNOWN = 10_000
# Seconds between two lines about an overload of one topic: even one that the log holds back costs more than
# the message that was dropped.
_LINE_EVERY = 10.0

_queued = attrgetter("queued")
_lane: Callable[[Delivery], Lane | None] = attrgetter("lane")

Admitted = tuple[list[Delivery], list[tuple[Delivery, BadMessage]]]
"""What may go to its lane, and what must be set aside, with why."""


def counted_as(delivery: Delivery) -> str:
    """The topic under which a delivery is counted: its route's, so that a pattern has one row."""
    return delivery.route.topic if delivery.route is not None else UNKNOWN


Known = tuple[Route | None, Counter[str], Backlog | None, int]
"""What is looked up for a topic once: route, counters, backlog, and the bytes of its largest message.

A topic without a route has no backlog either, and -1 bytes.
"""


class Admission:
    """Lets deliveries in up to ``max_messages`` and ``max_bytes`` (of bodies), counted until `release`.

    A message larger than ``max_message_bytes``, or of a topic without a route, is let in to be set aside.
    """

    def __init__(self, router: Router, stats: Stats, limits: PoolSettings) -> None:
        self.count = 0
        self.bytes = 0
        self.empty = asyncio.Event()
        self._space = asyncio.Event()
        self._router = router
        self._stats = stats
        self._max_messages = limits.max_messages
        self._max_bytes = limits.max_bytes
        self._max_message_bytes = limits.max_message_bytes
        self._known: dict[str, Known] = {}
        self._backlogs = {
            route.topic: Backlog(conflate=route.overload is Overload.CONFLATE)
            for route in router.routes
            if route.overload in (Overload.CONFLATE, Overload.DROP_OLDEST)
        }
        # Whether anybody was let go, and how many by topic and label.
        self._crowded = False
        self._reads = 0  # that found no room for all of their messages
        self._gone: Counter[tuple[str, str]] = Counter()
        self._next_line: dict[str, float] = {}

    def admit(self, deliveries: Sequence[Delivery]) -> Admitted:
        """Judge deliveries as they would be one after the other: to its lane, aside, or dropped.

        Those who made room are let go of at the end, many together. Keys are for the caller to read, of
        those that may go to their lanes only (a route that conflates by its key has read it).
        """
        size = number = most = 0
        topic = route = backlog = counts = None
        backlogs: set[Backlog | None] = set()
        bad: dict[int, BadMessage] = {}
        for delivery in deliveries:
            if delivery.topic is not topic:  # what comes of one topic in a row is looked up and counted once
                if counts is not None:
                    counts["received"] += number
                topic, number = delivery.topic, 0
                route, counts, backlog, most = self._known.get(topic) or self._look_up(topic)
                backlogs.add(backlog)
            number += 1
            length = len(delivery.body)
            size += length
            delivery.route, delivery.backlog = route, backlog
            if length > most:
                bad[id(delivery)] = self._why_not(delivery, most)
        if counts is not None:
            counts["received"] += number
        aside: list[tuple[Delivery, BadMessage]] = []
        if not bad and len(deliveries) > 1 and self._admit_all(deliveries, size, backlogs):
            queued = [*deliveries]
        else:
            queued = []
            for delivery in deliveries:
                if bad and id(delivery) in bad:
                    self._aside(delivery, bad[id(delivery)], aside)
                elif self._admit_one(delivery):
                    queued.append(delivery)
        if self._crowded:
            self._let_go()
            queued = [delivery for delivery in queued if not delivery.gone]
        return queued, aside

    def _why_not(self, delivery: Delivery, most: int) -> BadMessage:
        """Why no handler shall see a message."""
        if delivery.route is None:
            return UnknownTopic(delivery.topic, self._router.topics)
        return BadMessage("$", f"at most {most} bytes", f"{len(delivery.body)} bytes")

    def _admit_all(
        self, deliveries: Sequence[Delivery], size: int, backlogs: Collection[Backlog | None]
    ) -> bool:
        """Let all of these in, of ``size`` bytes together, if nothing has to be asked of a single one.

        ``backlogs`` are those of their routes.

        So it is while there is room, or each that finds none displaces the oldest of its own route. The room
        that there is goes to messages spread over the read: a read often begins with a large message, whose
        route would be kept more often than others if its first messages had it.
        """
        number = len(deliveries)
        room = min(self._max_messages - self.count, number)
        if self.bytes + size > self._max_bytes or room < 0:
            return False
        if any(backlog is not None and backlog.conflate for backlog in backlogs):
            return False
        if room < number and not all(backlog is not None and backlog.queued for backlog in backlogs):
            return False
        arrived: dict[Backlog | None, list[Delivery]] = {backlog: [] for backlog in backlogs}
        for delivery in deliveries:
            arrived[delivery.backlog].append(delivery)
        self.count += room
        self.bytes += size
        for backlog, those in arrived.items():
            if backlog is not None:
                backlog.add_all(those)
        if room < number:
            self._crowded = True
            self._reads += 1
            first = self._reads % (number // room) if room else 0
            spared = Counter([deliveries[first + at * number // room].backlog for at in range(room)])
            for backlog, those in arrived.items():
                if backlog is not None:
                    self.bytes -= backlog.drop_all(len(those) - spared[backlog])
        return True

    def _admit_one(self, delivery: Delivery) -> bool:
        """Whether it may go to its lane, for what had to make room has; else it is dropped."""
        route, backlog, size = delivery.route, delivery.backlog, len(delivery.body)
        same = self._same(delivery, route) if backlog is not None and backlog.conflate else None
        # As `full` says it, which would be a call more for each message.
        full = self.count >= self._max_messages or self.bytes + size > self._max_bytes
        if full and not _limits_itself(delivery, route) and not self._make_room(size, backlog, same):
            self._refuse(delivery)
            return False
        self.count += 1
        self.bytes += size
        if backlog is not None:
            backlog.add(delivery, same)
        return True

    def admit_aside(self, delivery: Delivery) -> None:
        """Count a delivery in, without a look at the bounds, that is on its way to the dead letters."""
        delivery.route, *_ = self._known.get(delivery.topic) or self._look_up(delivery.topic)
        self._stats.count(counted_as(delivery), "received")
        self.count += 1
        self.bytes += len(delivery.body)

    async def wait_for_room(self, delivery: Delivery) -> None:
        """Return when there is room, if it is the policy of the delivery's route to wait for it."""
        route = self._router.match(delivery.topic)
        if route is not None and route.overload in (Overload.BLOCK, Overload.SPILL):
            while self.full_for(delivery) and self.count:
                self._space.clear()
                await self._space.wait()

    def full(self, size: int) -> bool:
        """Whether a message of ``size`` bytes finds no room."""
        return self.count >= self._max_messages or self.bytes + size > self._max_bytes

    def full_for(self, delivery: Delivery) -> bool:
        """Whether `admit` would have to drop something for this message."""
        if not self.full(len(delivery.body)):
            return False
        route = self._router.match(delivery.topic)
        return route is None or not _limits_itself(delivery, route)

    def release(self, size: int, count: int = 1) -> None:
        """A message, or ``count`` of them with ``size`` bytes in all, has left for good."""
        self.count -= count
        self.bytes -= size
        self._space.set()
        if not self.count:
            self.empty.set()

    def _look_up(self, topic: str) -> Known:
        route = self._router.match(topic)
        if route is None:
            return None, self._stats.topic(UNKNOWN).counts, None, -1
        most = min(route.max_bytes or self._max_message_bytes, self._max_bytes)
        known = (route, self._stats.topic(route.topic).counts, self._backlogs.get(route.topic), most)
        if len(self._known) < _KNOWN:
            self._known[topic] = known
        return known

    def _aside(self, delivery: Delivery, why: BadMessage, aside: list[tuple[Delivery, BadMessage]]) -> None:
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

    def _make_room(self, size: int, backlog: Backlog | None, same: str | None) -> bool:
        """Let go of what is older, of the same, of the route, or, when the route has nothing queued, of the
        route that has most: a flood must not shut out what comes rarely."""
        if backlog is None or size > self._max_bytes:
            return False
        self._crowded = True
        gone = None if same is None else backlog.drop(same)
        while gone := gone or backlog.drop() or max(self._backlogs.values(), key=_queued).drop():
            self.count -= 1
            self.bytes -= len(gone.body)
            if self.count < self._max_messages and self.bytes + size <= self._max_bytes:
                return True
            gone = None
        return False

    def _refuse(self, delivery: Delivery) -> None:
        self._crowded = True
        delivery.gone = True
        delivery.settled("dropped")
        self._gone[counted_as(delivery), "dropped"] += 1

    def _let_go(self) -> None:
        """Tell lanes, sources and counters of the queued messages that made room, and of those refused."""
        self._crowded = False
        for topic, backlog in self._backlogs.items():
            for gone, label in ((backlog.dropped, "dropped"), (backlog.conflated, "conflated")):
                if not gone:
                    continue
                for delivery in gone:
                    delivery.body = b""
                    if type(delivery) is not Delivery:  # a plain one has nobody to tell
                        delivery.settled(label)
                for lane, number in Counter(map(_lane, gone)).items():
                    if lane is not None:
                        lane.drop(number)
                self._gone[topic, label] += len(gone)
                gone.clear()
        now = monotonic()
        for (topic, label), number in self._gone.items():
            self._stats.count(topic, label, number)
            if now >= self._next_line.get(topic, now):
                self._next_line[topic] = now + _LINE_EVERY
                total = self._stats.topic(topic).counts[label]
                log.warning("overload", topic=topic, policy=label, total=total, queued=self.count)
        self._gone.clear()


def _limits_itself(delivery: Delivery, route: Route) -> bool:
    """Whether the source of a message reads no more than its route can serve.

    Then it is let in however full the pool is: else a flood that is dropped as it comes would shut it out for
    as long as it lasts.
    """
    return delivery.kept and (route.slots is not None or route.max_concurrency > 0)


def read_key(function: object, body: bytes) -> str | None:
    """The key that ``function`` reads off ``body``; None when the body cannot be understood."""
    try:
        return function(body)  # type: ignore[operator,no-any-return]
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        return None  # the handler's own decoding will say what is wrong
