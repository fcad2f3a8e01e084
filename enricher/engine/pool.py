"""The pool: deliveries wait in lanes, lanes are served under one semaphore.

It is bounded by messages and by bytes, counted from receipt until the commit. One dispatcher gives the turns,
in the order of `enricher.engine.scheduler`. A turn takes what has gathered in the lane, up to `max_batch`
messages or `time_slice` seconds, and hands the writes to the lane's group.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

import anyio
import anyio.abc

from enricher.config import PoolSettings
from enricher.engine.admission import Admission, counted_as, read_key
from enricher.engine.apart import current_task, uncancelled
from enricher.engine.completion import Settling
from enricher.engine.effects import DEAD_LETTERS, SETTLED, Effect
from enricher.engine.lanes import Lane, Status
from enricher.engine.pipeline import NOT_BEGUN, Again, Pipeline, Unfinished
from enricher.engine.ports import Clock, Delivery, Reader, Write
from enricher.engine.restoring import StateLoader, distrust
from enricher.engine.router import Route, Router
from enricher.engine.scheduler import Families
from enricher.engine.stalls import Waiting, full_lanes, lanes_behind_handlers, lanes_that_wait
from enricher.engine.stats import Stats
from enricher.engine.supervision import endless
from enricher.engine.timers import Timers
from enricher.engine.writer import Writer
from enricher.log import log

# Messages in a turn while states are loaded, and until their lanes have had their first: the loop comes round
# often, so that a key's first message waits for its load and not for the turns of a hot key.
_WHILE_LOADING = 8


class Pool:
    """Takes deliveries in and gives lanes their turns; what is committed is `settling`'s."""

    def __init__(
        self,
        router: Router,
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
        steady: Clock,
        limits: PoolSettings,
        reader: Reader | None,
        owns: Callable[[str], bool] | None = None,
        *,
        slow_handler: float,
        evict_after: float,
    ) -> None:
        self.limits = limits
        self._slow_handler = slow_handler
        self.stats = stats
        self.turns = 0
        self._short_until = 0
        self._router = router
        self._pipeline = pipeline
        self._clock = clock
        self._steady = steady
        self._admission = Admission(
            router,
            stats,
            steady,
            max_messages=limits.max_messages,
            max_bytes=limits.max_bytes,
            max_message_bytes=limits.max_message_bytes,
        )
        self._loader = StateLoader(reader, clock, self._loaded, owns)
        self._slots = anyio.Semaphore(limits.concurrency, fast_acquire=True)
        self._wake = asyncio.Event()
        self._handling: dict[int, tuple[Delivery, float]] = {}
        # Lanes whose turn is given and has not begun.
        self._about: dict[int, Lane] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._ended = False
        self._stuck: set[str] = set()
        self._timers = Timers(
            self._admission, stats, clock, steady, evict_after, self._ready, self._enqueue
        )
        self.settling = Settling(self._admission, pipeline, stats, clock, self._ready)

    def connect(self, writer: Writer) -> None:
        """Give the pool its writer (the two know each other); makes one family per state_store or topic."""
        self._writer = writer
        self.settling.connect(writer)
        self._timers.connect(writer, self._pipeline.dead)
        writer.group((DEAD_LETTERS,))  # a missing store is found now, not by the first bad message
        self._families = Families(self._router.routes, writer.group)
        self._by_name = self._families.by_name

    # -- taking in ---------------------------------------------------------------------------------

    def offer(self, delivery: Delivery) -> bool:
        """Take ``delivery`` without waiting; False if the pool was full and it had to be dropped."""
        self.offer_all((delivery,))
        return not delivery.gone

    def offer_all(self, deliveries: Iterable[Delivery]) -> None:
        """Take what was read at once, as `offer` one after the other."""
        queued, aside = self._admission.admit(deliveries)
        for delivery in queued:
            route: Route = delivery.route  # set by `admit`
            if route.key is not None and delivery.key is None:
                delivery.key = read_key(route.key, delivery.body)
            self._enqueue(delivery, route)
        for delivery, why in aside:
            self._writer.submit(self._pipeline.dead(delivery, "receive", why))

    async def put(self, delivery: Delivery) -> None:
        """Take ``delivery``, waiting for room if its route's policy is to block."""
        if self._admission.full(len(delivery.body)):
            await self._admission.wait_for_room(delivery)
        self.offer_all((delivery,))

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        """Make a dead letter of a delivery that no handler shall see, whatever room there is."""
        self._admission.admit_aside(delivery)
        self._writer.submit(self._pipeline.dead(delivery, stage, error, task_name))

    def full_for(self, delivery: Delivery) -> bool:
        """Whether `offer` would have to drop something."""
        return self._admission.full(len(delivery.body))

    @property
    def count(self) -> int:
        """Messages taken in and not yet committed, dropped or lost."""
        return self._admission.count

    @property
    def bytes(self) -> int:
        """Bytes of their bodies."""
        return self._admission.bytes

    @property
    def lanes(self) -> int:
        """How many lanes there are, idle ones with state included."""
        return sum(len(family.lanes) for family in self._families)

    @property
    def restoring(self) -> tuple[int, int] | None:
        """How many lanes left from before were restored, of how many; None when all were."""
        return self._loader.restoring

    # -- lanes -------------------------------------------------------------------------------------

    def _enqueue(self, delivery: Delivery, route: Route) -> None:
        lane = self._by_name[route.family].lane(delivery.key)
        delivery.lane = lane
        delivery.gone = False
        lane.queue.append(delivery)
        if lane.status is Status.IDLE:
            self._ready(lane)

    def _ready(self, lane: Lane) -> None:
        """Queue a lane for its turn, or for the loading of its state."""
        family = lane.family
        if lane.stale:
            if lane.unsettled:
                lane.status = Status.PARKED  # until what it has in flight is stored
                return
            lane.stale, lane.state = False, None
            lane.waking |= lane.retell
        if lane.cold:
            self._loader.want(lane)
            return
        if not family.ready and not family.running:
            self._families.level(family)
        lane.status = Status.READY
        family.ready.append(lane)
        self._wake.set()

    def _loaded(self, lane: Lane, first: bool) -> None:
        """The state of ``lane`` was loaded, unless what asked for it has been dropped meanwhile.

        At the ``first`` load of its key, what an earlier process left stored and unshown goes out before
        anything else of the lane.
        """
        state_store = lane.family.state_store
        if lane.state is not None and state_store is not None:
            lane.touched_us = self._steady()
            if first and hasattr(state_store, "unshown"):
                self._show(lane, state_store.unshown)
            if lane.retell:
                lane.retell = False
                try:
                    if hasattr(state_store, "show_again"):
                        state_store.show_again(lane.state)
                except Exception as error:  # noqa: BLE001  one key's state must not end the engine
                    distrust(lane, "tell_again", error, self.stats)
                self._finish(lane, [])
                lane.family.group.unfinished -= 1
            self._timers.schedule(lane, state_store.due(lane.state), self._clock())
        if lane.queue:
            self._ready(lane)
            self._short_until = self.turns + sum(len(family.ready) for family in self._families)
        elif lane.state is None:
            lane.family.discard(lane)

    def _show(self, lane: Lane, unshown: Callable[[Any, int], Sequence[Sequence[Effect]]]) -> None:
        now_us = self._clock()
        try:
            shown = unshown(lane.state, now_us)
            writes = [Write(effects, owner=lane, label="unshown", stateful=True) for effects in shown]
        except Exception as error:  # noqa: BLE001  one key's state must not end the engine
            distrust(lane, "unshown", error, self.stats)
            return
        if writes:
            lane.unsettled += len(writes)
            lane.family.group.submit(writes)

    async def run(self) -> None:
        """Serve lanes until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._loader.start(tasks, self._families)
            tasks.start_soon(endless, self._timers.run)
            held_since, task = perf_counter(), current_task()
            while not self._ended:
                lane = self._families.pick() if self._slots.value else None
                if lane is None:
                    self._wake.clear()
                    try:
                        await self._wake.wait()
                    except asyncio.CancelledError:
                        if task.cancelling():  # else a plain handler asked for it and took it back
                            raise
                    held_since = perf_counter()
                    continue
                if lane.stale:
                    lane.status = Status.IDLE
                    self._ready(lane)
                    continue
                family = lane.family
                self._slots.acquire_nowait()
                lane.status = Status.RUNNING
                family.running += 1
                # Charged ahead, so that slots are shared by weight also while turns last.
                family.charge(1)
                self.turns += 1
                if family.inline:
                    rest = self._serve(lane)
                    if task.cancelling():
                        await uncancelled(task)
                    if rest is None:
                        self._end_turn(lane)
                    else:
                        # Here, since a stop may come before the task begins.
                        self._handling[id(rest.delivery)] = rest.delivery, perf_counter()
                        tasks.start_soon(self._go_on, lane, rest)
                else:
                    self._about[id(lane)] = lane
                    tasks.start_soon(self._serve_waiting, lane)
                if self._loader.active or perf_counter() - held_since > self.limits.time_slice:
                    await uncancelled(task)
                    held_since = perf_counter()
        if not self._ended:
            raise RuntimeError("a task of the pool has ended")

    def _serve(self, lane: Lane) -> Unfinished | None:
        """One turn of a lane whose handlers are all pure; what is left of it if one goes on in steps."""
        enrich, limits, taken = self._pipeline.enrich, self.limits, self._admission.taken
        writes: list[Write] = []
        handled: dict[str, list[int]] = {}
        began = before = perf_counter()
        over = began + limits.time_slice
        room = min(limits.max_batch, lane.family.group.room)
        if self._loader.active or self.turns <= self._short_until:
            room = min(room, _WHILE_LOADING)
        room_bytes = lane.family.group.room_bytes
        served = 0
        rest: Unfinished | None = None
        while served < room and room_bytes > 0:
            delivery = lane.take()
            if delivery is None:
                break
            room_bytes -= len(delivery.body)
            taken(delivery)
            route: Route = delivery.route  # set in offer
            result = enrich(route, delivery, lane)
            if isinstance(result, Unfinished):
                rest = result
                break
            now = perf_counter()
            if now - before > self._slow_handler:
                _warn_of_slow(delivery, now - before)
            handled.setdefault(route.topic, []).append(int((now - before) * 1e6))
            before = now
            served += 1
            if isinstance(result, Again):
                self._timers.again(lane, delivery, route, result)
                if lane.status is Status.PARKED:
                    break
            else:
                self._collect(lane, result, writes)
            if lane.stale or now > over:
                break
        for topic, durations in handled.items():
            self.stats.topic(topic).handling.record_all(durations)
        lane.family.charge(served - 1)
        self._finish(lane, writes)
        return rest

    async def _go_on(self, lane: Lane, rest: Unfinished) -> None:
        """The end of a turn whose last message is handled in steps."""
        delivery = rest.delivery
        route: Route = delivery.route  # set in offer
        try:
            await self._wait_for(lane, delivery, self._pipeline.go_on(route, rest, lane), delivery.attempts)
        finally:
            lane.family.charge(1)
            self._end_turn(lane)

    async def _serve_waiting(self, lane: Lane) -> None:
        """One turn of a lane whose handlers may wait; it keeps its slot, but not during a retry."""
        group, limits = lane.family.group, self.limits
        served = 0
        del self._about[id(lane)]
        try:
            # A group without room (an outage) must not keep the slots from the other groups.
            while served < limits.max_batch and lane.status is Status.RUNNING and group.room > 0:
                delivery = lane.take()
                if delivery is None:
                    break
                route = self._taken(delivery)
                served += 1
                work = self._pipeline.enrich_waiting(route, delivery, lane)
                if not await self._wait_for(lane, delivery, work, delivery.attempts + 1):
                    return
                if lane.stale or self._families.waits_beside(lane):
                    break
        finally:
            lane.family.charge(served - 1)
            self._end_turn(lane)

    async def _wait_for(
        self, lane: Lane, delivery: Delivery, work: Awaitable[Write | Again], attempt: int
    ) -> bool:
        """Hand on what comes of a message whose handler takes more than one turn; False after the end."""
        route: Route = delivery.route  # set in offer
        began = perf_counter()
        self._handling[id(delivery)] = delivery, began
        row = self.stats.in_flight.begin(delivery.topic, delivery.key, attempt, self._clock(), "handler")
        try:
            result = await work
        finally:
            self.stats.in_flight.end(row)
        if self._ended:
            return False
        # Not in a `finally`: what is cut off in its handler is what `leftover` looks for.
        del self._handling[id(delivery)]
        seconds = perf_counter() - began
        self.stats.topic(route.topic).handling.record(int(seconds * 1e6))
        if seconds > self._slow_handler:
            _warn_of_slow(delivery, seconds)
        writes: list[Write] = []
        if isinstance(result, Again):
            self._timers.again(lane, delivery, route, result)
        else:
            self._collect(lane, result, writes)
        self._finish(lane, writes)
        return True

    def _taken(self, delivery: Delivery) -> Route:
        route: Route = delivery.route  # set in offer
        self._admission.taken(delivery)
        return route

    def _collect(self, lane: Lane, write: Write, writes: list[Write]) -> None:
        if write.label == "dead":
            self._writer.submit(write)
        else:
            lane.unsettled += 1
            writes.append(write)

    def _finish(self, lane: Lane, writes: list[Write]) -> None:
        """Add what the state as a whole has to say, and hand the writes over."""
        state_store = lane.family.state_store
        now_us = self._clock()
        if state_store is not None and lane.state is not None:
            due_us = None
            try:
                effects = () if lane.stale else state_store.show(lane.state, now_us)
                due_us = None if lane.stale else state_store.due(lane.state)
            except BaseException as error:  # noqa: BLE001  one key's state must not end the engine
                distrust(lane, "settle", error, self.stats)
            else:
                if effects:
                    lane.unsettled += 1
                    writes.append(Write(effects, owner=lane, label=SETTLED, stateful=True))
            self._timers.schedule(lane, due_us, now_us)
        if writes:
            lane.family.group.submit(writes)

    def _end_turn(self, lane: Lane) -> None:
        self._slots.release()
        lane.touched_us = self._steady()
        if lane.status is Status.RUNNING:
            lane.status = Status.IDLE
            if lane.queue:
                self._ready(lane)
            elif lane.state is None:
                lane.family.discard(lane)
        # Only now: a family whose one lane is queued again was never idle, and keeps its credit.
        lane.family.running -= 1
        self._wake.set()

    # -- does it move? -----------------------------------------------------------------------------

    @property
    def unread(self) -> dict[str, str]:
        """The sinks that states cannot be loaded from, although some are to be, and why."""
        return {f.away.sink: f.away.reason for f in self._families if f.away is not None}

    def waiting(self, patience: float) -> list[Waiting]:
        """Work that waits and nothing explains it; handlers without a timeout have ``patience`` seconds."""
        now, handling = perf_counter(), self.handling
        found = lanes_that_wait(self._families, self._slots.value, handling, self.turns, now, patience)
        found += lanes_behind_handlers(self._families, handling, now)
        for family, why in self._loader.failing.items():
            every = family.lanes.values()
            unloaded = (lane for lane in every if lane.status is Status.LOADING and lane.queue)
            if keys := tuple(str(lane.key) for lane in islice(unloaded, 5)):
                found.append(Waiting(f"state of {family.name}", why, self.turns, keys))
        for route in self._router.routes:
            threads = self._pipeline.threads(route)
            if threads is None or not threads.hang:
                continue
            lanes = tuple(str(lane.key) for lane in full_lanes(self._by_name[route.family]))
            if lanes or threads.waiting or route.topic in self._stuck:
                what, why = f"messages of {route.topic}", "every thread is past its timeout"
                found.append(Waiting(what, why, threads.ended, lanes[:5], route.topic))
        return found

    def stuck(self, topic: str) -> bool:
        """Whether messages of ``topic`` cannot begin, and are for other workers."""
        return topic in self._stuck

    def hand_back(self, topics: set[str]) -> None:
        """Messages of ``topics`` cannot begin, now and until this is said of others: those that somebody has
        still go back to him.
        """
        self._stuck = topics
        for route in self._router.routes:
            if route.topic not in topics or route.strict:
                continue
            threads = self._pipeline.threads(route)
            if threads is not None:
                threads.give_up()
            for lane in [*self._by_name[route.family].lanes.values(), *self._by_name[route.family].ready]:
                queued, lane.queue = lane.queue, deque()
                for delivery in queued:
                    if delivery.gone or not delivery.kept or delivery.route is not route:
                        lane.queue.append(delivery)
                        continue
                    delivery.gone = True
                    self._admission.taken(delivery)
                    self._timers.again(lane, delivery, route, NOT_BEGUN)

    # -- the end -----------------------------------------------------------------------------------

    def room(self) -> None:
        """A group has room again."""
        self._wake.set()

    async def drain(self) -> None:
        """Return when everything that was taken in is committed.

        Retries that wait in memory are not waited for, unless they hold back a strict lane. What is held
        becomes dead letters.
        """
        self._timers.let_go()
        while self.count > len(self._timers.deferred):
            self._admission.empty.clear()
            with anyio.move_on_after(0.05):
                await self._admission.empty.wait()

    @property
    def handling(self) -> list[tuple[Delivery, float]]:
        """What handlers that wait are at, each with when it began (seconds of `perf_counter`)."""
        return list(self._handling.values())

    def left(self) -> tuple[Counter[str], Counter[str]]:
        """What `leftover` would say now; nothing changes. Another thread may ask while the loop stands."""
        lost: Counter[str] = Counter()
        handed_back: Counter[str] = Counter()
        for delivery in self._left(self._writer.left()):
            (handed_back if delivery.kept else lost)[delivery.topic] += 1
        return lost, handed_back

    def _left(self, writes: Iterable[Write]) -> list[Delivery]:
        """Everything that was taken in and is not committed; ``writes`` is what the writer has of it."""
        waiting = [w.delivery for w in writes if w.delivery is not None]
        waiting += self._timers.deferred.values()
        waiting += [delivery for delivery, _ in self.handling]
        elsewhere = {**self._timers.parked, **self._about}
        for family in self._families:
            lanes = {id(lane): lane for lane in (*family.lanes.values(), *family.ready)}
            # A message without a key has a lane that only its timer knows, or the task of its turn.
            lanes.update((i, lane) for i, lane in elsewhere.items() if lane.family is family)
            for lane in lanes.values():
                waiting += [d for d in lane.queue if not d.gone]
        return waiting

    def leftover(self) -> tuple[Counter[str], Counter[str]]:
        """Messages per topic that were taken in and are not committed: those that are lost, and those that
        are handed back to whoever keeps them. All are let go, and nothing is handled any more: what is
        counted here must not be committed as well while sources and sinks are closed.
        """
        self._ended = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        lost: Counter[str] = Counter()
        handed_back: Counter[str] = Counter()
        waiting = self._left(self._writer.abandon())
        for delivery in waiting:
            label = "handed_back" if delivery.kept else "lost"
            (handed_back if delivery.kept else lost)[delivery.topic] += 1
            self.stats.count(counted_as(delivery), label)
            delivery.settled(label)
        return lost, handed_back


def _warn_of_slow(delivery: Delivery, seconds: float) -> None:
    log.warning("slow_handler", topic=delivery.topic, key=delivery.key, seconds=round(seconds, 3))
