"""Timers: messages that are tried again later, and states that want a clock event.

Nothing here has a task of its own per message: one heap is looked at ten times a second.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from time import perf_counter

from enricher.engine.effects import EMITTED, SETTLED
from enricher.engine.isolation import current_task, uncancelled
from enricher.engine.lanes import Lane, Status, Step
from enricher.engine.pipeline import RetryLater, accept
from enricher.engine.pool_parts import Core
from enricher.engine.ports import Delivery, Write
from enricher.engine.state_loader import distrust
from enricher.errors import BadMessage
from enricher.log import log

# Seconds between two looks.
_LOOK_EVERY = 0.1
# Seconds that a run of clock events may hold the loop.
_HOLD = 0.001
# Microseconds until a state that cannot have its clock event now is asked again.
_SOON_US = 500_000
# Microseconds by which a clock that runs must be off to have been set.
_STEP_US = 500_000


class Timers:
    """Wakes what waits for a time: ``act`` takes the next step of a lane, ``enqueue`` finds a message's own.

    Delays go by the steady clock, which is never set, clock events of states by the wall clock. When that is
    set, forward or back, states are told (`StateStore.clock_set`) and asked anew when they are due.

    ``evict_after`` seconds after its last turn an idle lane's state goes. ``deferred`` holds the messages
    that are tried again, by `id`.
    """

    def __init__(
        self, core: Core, act: Callable[[Lane, Step | None], None], enqueue: Callable[[Delivery], None]
    ) -> None:
        self.deferred: dict[int, Delivery] = {}
        self._core = core
        self._evict_after_us = int(core.evict_after * 1e6)
        self._act = act
        self._enqueue = enqueue
        self._held: dict[int, BadMessage] = {}
        self._held_bytes = 0
        self._holding = True
        # Delays of parked lanes and of messages, and clock events of states.
        self._delays: list[tuple[int, int, Lane | Delivery]] = []
        self._events: list[tuple[int, int, Lane]] = []
        self._sequence = itertools.count()

    # -- retries -----------------------------------------------------------------------------------

    def retry(self, lane: Lane, delivery: Delivery, later: RetryLater) -> None:
        """Leave the slot until the delay has passed; a strict route's lane waits with its message."""
        log.debug("retry", topic=delivery.topic, key=delivery.key, delay=later.delay, error=later.error)
        route = delivery.route
        # A strict lane keeps the message itself: handed back, it would come again behind later ones.
        handed_back = None if route.strict else delivery.defer(later.delay)
        if later.held is not None and handed_back is None and not self._hold(delivery, later.held):
            self._core.writer.submit(self._core.pipeline.dead(delivery, "decode", later.held))
            return
        label = "held" if later.held is not None else "retried" if later.error else "handed_back"
        self._core.stats.count(route.topic, label)
        if handed_back is not None:
            lane.sent()
            stateful = route.state_store is not None
            effects = (*later.effects, *handed_back)
            self._core.writer.submit(Write(effects, delivery, lane, 0, "deferred", stateful))
            return
        if later.effects:
            self._core.writer.submit(Write(later.effects, label=EMITTED))
        due_us = self._core.steady() + int(later.delay * 1e6)
        if route.strict:
            lane.park(delivery, due_us)
        else:
            self.deferred[id(delivery)] = delivery
        heapq.heappush(self._delays, (due_us, next(self._sequence), lane if route.strict else delivery))

    @property
    def parked(self) -> list[Lane]:
        """The strict lanes that wait with their messages."""
        delays = ((waiting, due_us) for due_us, _, waiting in [*self._delays] if isinstance(waiting, Lane))
        return [lane for lane, due_us in delays if lane.resume_us == due_us]

    def _hold(self, delivery: Delivery, why: BadMessage) -> bool:
        """Keep count of a message that is held; False when there are too many, or all are let go."""
        size, limits = self._held_bytes + len(delivery.body), self._core.limits
        # Out of reach of every overload policy for long: at most a quarter of the pool.
        many = len(self._held) >= limits.max_messages // 4 or size > limits.max_bytes // 4
        if many or not self._holding:
            return False
        self._held[id(delivery)] = why
        self._held_bytes = size
        return True

    def let_go(self) -> None:
        """At a stop: what is held becomes dead letters, now and from now on, for nothing else keeps it."""
        self._holding = False
        for number, why in list(self._held.items()):
            delivery = self.deferred.pop(number)
            self._unhold(delivery)
            self._core.writer.submit(self._core.pipeline.dead(delivery, "decode", why))

    def _unhold(self, delivery: Delivery) -> None:
        if self._held.pop(id(delivery), None) is not None:
            self._held_bytes -= len(delivery.body)

    def _delay_over(self, waiting: Lane | Delivery, due_us: int) -> None:
        if isinstance(waiting, Lane):
            self._act(waiting, waiting.resume(due_us))
        elif self.deferred.pop(id(waiting), None) is not None:
            self._unhold(waiting)
            self._enqueue(waiting)

    # -- clock events ------------------------------------------------------------------------------

    def schedule(self, lane: Lane, due_us: int | None, now_us: int) -> None:
        """Remember when the lane wants a clock event; every state has one, if only to be evicted."""
        latest = now_us + self._evict_after_us
        wanted = latest if due_us is None else min(due_us, latest)
        if lane.ask(wanted):
            heapq.heappush(self._events, (wanted, next(self._sequence), lane))

    async def run(self) -> None:
        """Wake what is due until cancelled."""
        task = current_task()
        apart_us, runs = self._core.clock() - self._core.steady(), False
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            steady_us, now_us = self._core.steady(), self._core.clock()
            step_us = now_us - steady_us - apart_us
            apart_us += step_us
            if not -_STEP_US < step_us < _STEP_US:
                # One that somebody moves by hand stands still in between: moving it is how its time passes.
                if runs:
                    self._clock_set(step_us, now_us)
            else:
                runs = -_STEP_US // 10 < step_us < _STEP_US // 10
            began = perf_counter()
            while self._delays and self._delays[0][0] <= steady_us:
                due_us, _, waiting = heapq.heappop(self._delays)
                self._delay_over(waiting, due_us)
                if perf_counter() - began > _HOLD:
                    await asyncio.sleep(0)
                    began = perf_counter()
            while self._events and self._events[0][0] <= now_us:
                due_us, _, lane = heapq.heappop(self._events)
                if lane.due(due_us):
                    self._clock_event(lane, now_us)
                if task.cancelling():
                    await uncancelled(task)
                if perf_counter() - began > _HOLD:
                    await asyncio.sleep(0)
                    began = perf_counter()

    def _clock_set(self, step_us: int, now_us: int) -> None:
        """The clock was set: every state is told, and has its clock event now."""
        log.warning("clock_set", seconds=round(step_us / 1e6, 3))
        lanes = [lane for due_us, _, lane in self._events if lane.due(due_us)]
        self._events.clear()
        for lane in lanes:
            tell = getattr(lane.group.state_store, "clock_set", None)
            if tell is not None and lane.state is not None and not lane.stale:
                try:
                    tell(lane.state, step_us)
                except Exception as error:  # noqa: BLE001
                    distrust(lane, "stepped", error, self._core.stats)
            self.schedule(lane, now_us, now_us)

    def _clock_event(self, lane: Lane, now_us: int) -> None:
        state_store = lane.group.state_store
        if state_store is None or lane.state is None:
            return
        if lane.stale and lane.status is Status.IDLE and not lane.unsettled and not lane.queue:
            self._act(lane, lane.evict())
            return
        if lane.status is Status.RUNNING or lane.stale or lane.group.commit_group.room <= 0:
            self.schedule(lane, now_us + _SOON_US, now_us)
            return
        try:
            wanted = state_store.due(lane.state)
            if wanted is not None and wanted <= now_us:
                effects = state_store.on_time(lane.state, now_us)
                accept(effects, lane.group.commit_group, "state store", state_store.name)
                if effects:
                    lane.sent()
                    write = Write(effects, owner=lane, label=SETTLED, stateful=True)
                    lane.group.commit_group.submit((write,))
                wanted = state_store.due(lane.state)
        except BaseException as error:  # noqa: BLE001
            distrust(lane, "on_clock", error, self._core.stats)
            self.schedule(lane, now_us + _SOON_US, now_us)
            return
        idle_us = self._core.steady() - lane.touched_us
        if wanted is None and not lane.queue and idle_us >= self._evict_after_us:
            if not lane.unsettled:
                self._act(lane, lane.evict())
                return
            wanted = now_us + 1_000_000
        self.schedule(lane, wanted, now_us)
