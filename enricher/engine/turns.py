"""Turns: lanes are served under a number of slots, in the order of `enricher.engine.scheduler`.

A turn takes what has gathered in the lane, up to `max_batch` messages or `time_slice` seconds, and hands the
writes to the lane's commit group.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from time import perf_counter
from typing import Any

import anyio
import anyio.abc

from enricher.engine.effects import SETTLED
from enricher.engine.isolation import current_task, uncancelled
from enricher.engine.lanes import Lane, Status, Step
from enricher.engine.pipeline import RetryLater, Unfinished, accept
from enricher.engine.pool_parts import Core
from enricher.engine.ports import Delivery, Write
from enricher.engine.scheduler import Scheduler
from enricher.engine.state_loader import StateLoader, distrust
from enricher.engine.supervision import endless
from enricher.engine.timers import Timers
from enricher.log import log

# Messages in a turn while states are loaded, and until their lanes have had their first: the loop comes round
# often, so that a key's first message waits for its load and not for the turns of a hot key.
_WHILE_LOADING = 8

# Seconds that a stop waits for cancelled handlers. They may go on for longer, but sources and sinks have
# to close before the process is ended.
_CLEANING_UP = 0.5


class Turns:
    """Gives lanes their turns and takes the steps that their transitions ask for.

    ``handling`` is what handlers that wait are at, each with when it began (seconds of `perf_counter`).
    ``ended`` says that nothing is handled any more.
    """

    def __init__(self, core: Core, scheduler: Scheduler) -> None:
        self.ended = False
        self.handling: dict[int, tuple[Delivery, float]] = {}
        self.loader = StateLoader(core, scheduler.groups, self._loaded)
        self.timers = Timers(core, self.act, self._enqueue_again)
        self._core = core
        self._scheduler = scheduler
        self._short_until = 0
        # No handler run is slow before so many seconds, whatever its route.
        self._slow = min([core.slow_handler, *(r.slow_handler for r in core.router.routes if r.slow_handler)])
        self._wake = asyncio.Event()
        self._done = asyncio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None

    def act(self, lane: Lane, step: Step | None) -> None:
        """Take the step that a transition of ``lane`` has returned, if it has."""
        if step is Step.TURN:
            self._scheduler.queue(lane)
            self._wake.set()
        elif step is Step.LOAD:
            self.loader.want(lane)
        elif step is Step.FORGET:
            lane.group.forget(lane)

    def room(self) -> None:
        """A commit group has room again: what waits may have its turn."""
        for group in self._scheduler.groups:
            if group.ready:
                self._wake.set()
                return

    def _enqueue_again(self, delivery: Delivery) -> None:
        lane = self._scheduler.by_name[delivery.route.lane_group].lane(delivery.key)
        self.act(lane, lane.add_again(delivery))

    def _loaded(self, lane: Lane, state: Any, first: bool) -> None:
        """The state of ``lane`` was loaded, unless what asked for it has been dropped meanwhile.

        At the ``first`` load of its key, what an earlier process left stored and unshown goes out before
        anything else of the lane.
        """
        lane.loaded(state, self._core.steady())
        state_store = lane.group.state_store
        if state is not None and state_store is not None:
            if first and hasattr(state_store, "unshown"):
                _show(lane, state_store.unshown, self._core)
            if lane.pop_show_again():
                try:
                    if hasattr(state_store, "show_again"):
                        state_store.show_again(state)
                except Exception as error:  # noqa: BLE001  one key's state must not end the engine
                    distrust(lane, "tell_again", error, self._core.stats)
                self._submit(lane, [])
                lane.group.commit_group.unfinished -= 1
            self.timers.schedule(lane, state_store.due(state), self._core.clock())
        if lane.queue:
            ready = sum(len(group.ready) for group in self._scheduler.groups)
            self._short_until = self._scheduler.turns + ready + 1
        self.act(lane, lane.rest())

    async def run(self) -> None:
        """Serve lanes until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self.loader.start(tasks)
                tasks.start_soon(endless, self.timers.run)
                held_since, task, scheduler = perf_counter(), current_task(), self._scheduler
                while not self.ended:
                    lane = scheduler.pick()
                    if lane is None:
                        self._wake.clear()
                        try:
                            await self._wake.wait()
                        except asyncio.CancelledError:
                            if task.cancelling():  # else a plain handler asked for it and took it back
                                raise
                        held_since = perf_counter()
                        continue
                    step = lane.begin()
                    if step is not Step.RUN:
                        self.act(lane, step)
                        scheduler.end(lane, 0)
                        continue
                    if lane.group.inline:
                        self._serve(lane, tasks)
                        if task.cancelling():
                            await uncancelled(task)
                    else:
                        tasks.start_soon(self._serve_waiting, lane)
                    if self.loader.active or perf_counter() - held_since > self._core.limits.time_slice:
                        await uncancelled(task)
                        held_since = perf_counter()
            if not self.ended:
                raise RuntimeError("a task of the pool has ended")
        finally:
            self._done.set()

    def show_held(self) -> None:
        """Hand over what states have put off, for at a stop nobody asks them again."""
        for group in self._scheduler.groups:
            if (held := getattr(group.state_store, "held", None)) is None:
                continue
            for lane in group.lanes.values():
                if lane.state is not None and not lane.stale:
                    _show(lane, held, self._core)

    def end(self) -> None:
        """Handle nothing any more."""
        self.ended = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    async def wait_ended(self) -> None:
        """Return when the handlers have ended that `end` has cancelled, or when they take too long to."""
        if self._tasks is not None:
            with anyio.move_on_after(_CLEANING_UP):
                await self._done.wait()

    def _serve(self, lane: Lane, tasks: anyio.abc.TaskGroup) -> None:
        """One turn of a lane whose handlers are all pure; one that goes on in steps ends it in a task."""
        core, commit_group = self._core, lane.group.commit_group
        enrich, slow = core.pipeline.enrich, self._slow
        writes: list[Write] = []
        handled: defaultdict[str, list[int]] = defaultdict(list)
        began = before = perf_counter()
        over = began + core.limits.time_slice
        room = min(core.limits.max_batch, commit_group.room)
        if self.loader.active or self._scheduler.turns <= self._short_until:
            room = min(room, _WHILE_LOADING)
        served = 0
        rest: Unfinished | None = None
        for delivery in lane.take_all(room, commit_group.room_bytes):
            result = enrich(delivery.route, delivery, lane)
            if type(result) is Unfinished:
                rest = result
                break
            now = perf_counter()
            if now - before > slow:
                _warn_if_slow(delivery, now - before, core.slow_handler)
            handled[delivery.route.topic].append(int((now - before) * 1e6))
            before = now
            served += 1
            if type(result) is Write and result.label != "dead":
                writes.append(result)
            else:
                self._apart(lane, delivery, result)
                if lane.stale or lane.status is not Status.RUNNING:
                    break
            if now > over:
                break
        for topic, durations in handled.items():
            core.stats.topic(topic).handling.record_all(durations)
        self._submit(lane, writes)
        if rest is None:
            self._end(lane, served)
            return
        # Here, since a stop may come before the task begins.
        self.handling[id(rest.delivery)] = rest.delivery, perf_counter()
        tasks.start_soon(self._go_on, lane, rest, served + 1)

    async def _go_on(self, lane: Lane, rest: Unfinished, served: int) -> None:
        """The end of a turn whose last message is handled in steps."""
        try:
            await self._wait_for(lane, rest.delivery, rest)
        finally:
            self._end(lane, served)

    async def _serve_waiting(self, lane: Lane) -> None:
        """One turn of a lane whose handlers may wait; it keeps its slot, but not during a retry."""
        commit_group, most = lane.group.commit_group, self._core.limits.max_batch
        served = 0
        try:
            # A group without room (an outage) must not keep the slots from the other groups.
            while served < most and lane.status is Status.RUNNING and commit_group.room > 0:
                delivery = lane.take()
                if delivery is None:
                    break
                served += 1
                if not await self._wait_for(lane, delivery):
                    return
                if lane.stale or lane.group.share.crowded:
                    break
        finally:
            self._end(lane, served)

    async def _wait_for(self, lane: Lane, delivery: Delivery, rest: Unfinished | None = None) -> bool:
        """Handle a message, or the ``rest`` of it, in more than one turn of the loop; False after the end."""
        core, route, attempt = self._core, delivery.route, delivery.attempts + (rest is None)
        began = perf_counter()
        self.handling[id(delivery)] = delivery, began
        row = core.stats.in_flight.begin(delivery.topic, delivery.key, attempt, core.clock(), "handler")
        try:
            result = await core.pipeline.finish(route, delivery, lane, rest)
        finally:
            core.stats.in_flight.end(row)
        if self.ended:
            return False
        # Not in a `finally`: what is cut off in its handler is counted as left.
        del self.handling[id(delivery)]
        seconds = perf_counter() - began
        core.stats.topic(route.topic).handling.record(int(seconds * 1e6))
        if seconds > self._slow:
            _warn_if_slow(delivery, seconds, core.slow_handler)
        writes: list[Write] = []
        if type(result) is Write and result.label != "dead":
            writes.append(result)
        else:
            self._apart(lane, delivery, result)
        self._submit(lane, writes)
        return True

    def _apart(self, lane: Lane, delivery: Delivery, result: RetryLater | Write) -> None:
        """Deal with a message that is tried again, or whose dead letter goes to a sink of its own."""
        if isinstance(result, RetryLater):
            self.timers.retry(lane, delivery, result)
        else:
            self._core.writer.submit(result)

    def _submit(self, lane: Lane, writes: list[Write]) -> None:
        """Hand the writes over, and what the state as a whole has to say after them."""
        state_store = lane.group.state_store
        if state_store is not None and lane.state is not None:
            now_us, due_us = self._core.clock(), None
            if not lane.stale:
                try:
                    effects = state_store.show(lane.state, now_us)
                    if effects and not lane.group.commit_group.accepted.issuperset(map(type, effects)):
                        accept(effects, lane.group.commit_group, "state store", state_store.name)
                    due_us = state_store.due(lane.state)
                except BaseException as error:  # noqa: BLE001  one key's state must not end the engine
                    distrust(lane, "settle", error, self._core.stats)
                else:
                    if effects:
                        writes.append(Write(effects, owner=lane, label=SETTLED, stateful=True))
            if lane.due_us is None or (due_us is not None and due_us < lane.due_us):
                self.timers.schedule(lane, due_us, now_us)
        if writes:
            lane.sent(len(writes))
            lane.group.commit_group.submit(writes)

    def _end(self, lane: Lane, served: int) -> None:
        step = lane.end(self._core.steady())
        if step is not None:
            self.act(lane, step)
        self._scheduler.end(lane, served)
        self._wake.set()


def _show(lane: Lane, unshown: Callable[[Any, int], Any], core: Core) -> None:
    try:
        shown = unshown(lane.state, core.clock())
        writes = [Write(effects, owner=lane, label="unshown", stateful=True) for effects in shown if effects]
    except Exception as error:  # noqa: BLE001  one key's state must not end the engine
        distrust(lane, "unshown", error, core.stats)
        return
    lane.sent(len(writes))
    lane.group.commit_group.submit(writes)


def _warn_if_slow(delivery: Delivery, seconds: float, setting: float) -> None:
    if seconds > (delivery.route.slow_handler or setting):
        log.warning("slow_handler", topic=delivery.topic, key=delivery.key, seconds=round(seconds, 3))
