"""The pool: deliveries wait in lanes, lanes have turns, and what they write is committed.

It is bounded by messages and by bytes, counted from receipt until the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from time import perf_counter

import anyio

from enricher.engine.admission import Admission, counted_as, read_key
from enricher.engine.completion import Completion
from enricher.engine.effects import DEAD_LETTERS, Effect
from enricher.engine.pipeline import NOT_BEGUN
from enricher.engine.pool_parts import Core
from enricher.engine.ports import Delivery, Write
from enricher.engine.scheduler import Scheduler
from enricher.engine.stalls import Waiting
from enricher.engine.turns import Turns
from enricher.engine.waits import (
    lanes_behind_handlers,
    lanes_that_wait,
    lanes_without_state,
    messages_without_thread,
)


class Pool:
    """Takes deliveries in, says what is under way, and counts what is left at the end."""

    def __init__(self, core: Core) -> None:
        self.limits = core.limits
        self._core = core
        self._admission = Admission(core.router, core.stats, core.limits)
        core.writer.group((DEAD_LETTERS,))  # a missing store is found now, not by the first bad message
        self._scheduler = Scheduler(core.router.routes, core.writer.group, core.limits.concurrency)
        self._turns = Turns(core, self._scheduler)
        self.run = self._turns.run
        self.wait_ended = self._turns.wait_ended
        completion = Completion(core, self._admission, self._turns.act)
        core.writer.settle, core.writer.refuse = completion.settle, completion.refuse
        core.writer.is_stale, core.writer.on_room = completion.is_stale, self._turns.room
        self._stuck: Set[str] = frozenset()

    # -- taking in ---------------------------------------------------------------------------------

    def offer(self, delivery: Delivery) -> bool:
        """Take ``delivery`` without waiting; False if the pool was full and it had to be dropped."""
        self.offer_all((delivery,))
        return not delivery.gone

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        """Take what was read at once, as `offer` one after the other."""
        queued, aside = self._admission.admit(deliveries)
        groups = self._scheduler.by_name
        for delivery in queued:
            route, key = delivery.route, delivery.key
            if key is None and route.key is not None:
                delivery.key = key = read_key(route.key, delivery.body)
            group = groups[route.lane_group]
            lane = group.lanes.get(key) or group.lane(key)
            step = lane.add(delivery)
            if step is not None:
                self._turns.act(lane, step)
        for delivery, why in aside:
            self._core.writer.submit(self._core.pipeline.dead(delivery, "receive", why))

    async def put(self, delivery: Delivery) -> None:
        """Take ``delivery``, waiting for room if its route's policy is to block."""
        if self._admission.full_for(delivery):
            await self._admission.wait_for_room(delivery)
        self.offer_all((delivery,))

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        """Make a dead letter of a delivery that no handler shall see, whatever room there is."""
        self._admission.admit_aside(delivery)
        self._core.writer.submit(self._core.pipeline.dead(delivery, stage, error, task_name))

    def commit(self, delivery: Delivery, effects: Sequence[Effect]) -> None:
        """Write effects for a delivery that no handler need see, whatever room there is."""
        self._admission.admit_aside(delivery)
        self._core.writer.submit(Write(effects, delivery))

    def full_for(self, delivery: Delivery) -> bool:
        """Whether `offer` would have to drop something."""
        return self._admission.full_for(delivery)

    # -- what is under way -------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Messages accepted and not yet committed, dropped or lost."""
        return self._admission.count

    @property
    def bytes(self) -> int:
        return self._admission.bytes

    @property
    def lanes(self) -> int:
        """How many lanes there are, idle ones with state included."""
        return sum(len(group.lanes) for group in self._scheduler.groups)

    @property
    def turns(self) -> int:
        return self._scheduler.turns

    @property
    def restoring(self) -> tuple[int, int] | None:
        """How many lanes left from before were restored, of how many; None when all were."""
        return self._turns.loader.restoring

    @property
    def unread(self) -> dict[str, str]:
        """The sinks that states cannot be loaded from, although some are to be, and why."""
        return self._turns.loader.unread

    @property
    def handling(self) -> list[tuple[Delivery, float]]:
        """What handlers that wait are at, each with when it began (seconds of `perf_counter`)."""
        return list(self._turns.handling.values())

    def waiting(self, patience: float) -> list[Waiting]:
        """Work that waits and nothing explains it; handlers without a timeout have ``patience`` seconds."""
        now, handling, scheduler, core = perf_counter(), self.handling, self._scheduler, self._core
        routes = core.router.routes
        threads = [(r, core.pipeline.threads(r), scheduler.by_name[r.lane_group]) for r in routes]
        return [
            *lanes_that_wait(scheduler.shares, handling, self.turns, now, patience),
            *lanes_behind_handlers(scheduler.groups, handling, now),
            *lanes_without_state(self._turns.loader.failing.items(), self.turns),
            *messages_without_thread(threads, self._stuck),
        ]

    def stuck(self, topic: str) -> bool:
        """Whether messages of ``topic`` cannot begin, and are for other workers."""
        return topic in self._stuck

    def hand_back(self, topics: Set[str]) -> None:
        """Messages of ``topics`` cannot begin, now and until this is said of others: those that somebody has
        still go back to him.
        """
        self._stuck = topics
        for route in self._core.router.routes:
            if route.topic not in topics or route.strict:
                continue
            threads = self._core.pipeline.threads(route)
            if threads is not None:
                threads.give_up()
            for lane in self._scheduler.by_name[route.lane_group].every():
                for delivery in lane.withdraw(route):
                    self._turns.timers.retry(lane, delivery, NOT_BEGUN)

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Return when everything that was accepted is committed.

        Retries that wait in memory are not waited for, unless they hold back a strict lane. What is held
        becomes dead letters. What states have put off is handed to the writer.
        """
        timers = self._turns.timers
        timers.let_go()
        while self.count > len(timers.deferred):
            self._admission.empty.clear()
            with anyio.move_on_after(0.05):
                await self._admission.empty.wait()
        self._turns.show_held()

    def left(self) -> tuple[Counter[str], Counter[str]]:
        """What `leftover` would say now; nothing changes. Another thread may ask while the loop stands."""
        return _by_topic(self._left(self._core.writer.left()))

    def leftover(self) -> tuple[Counter[str], Counter[str]]:
        """Messages per topic that were accepted and are not committed: those that are lost, and those that
        are handed back to whoever keeps them. All are let go, and nothing is handled any more: what is
        counted here must not be committed as well while sources and sinks are closed.
        """
        self._turns.end()
        left = self._left(self._core.writer.abandon())
        for delivery in left:
            label = "handed_back" if delivery.kept else "lost"
            self._core.stats.count(counted_as(delivery), label)
            delivery.settled(label)
        return _by_topic(left)

    def _left(self, writes: Iterable[Write]) -> list[Delivery]:
        """Everything that was accepted and is not committed; ``writes`` is what the writer has of it."""
        timers = self._turns.timers
        left = [write.delivery for write in writes if write.delivery is not None]
        left += timers.deferred.values()
        left += [delivery for delivery, _ in self.handling]
        lanes = [lane for group in self._scheduler.groups for lane in group.every()]
        # A parked one without a key is known by its timer alone.
        for lane in dict.fromkeys([*lanes, *timers.parked]):
            left += [delivery for delivery in lane.queue if not delivery.gone]
        return left


def _by_topic(left: Iterable[Delivery]) -> tuple[Counter[str], Counter[str]]:
    lost: Counter[str] = Counter()
    handed_back: Counter[str] = Counter()
    for delivery in left:
        (handed_back if delivery.kept else lost)[delivery.topic] += 1
    return lost, handed_back
