"""Loading: the state of lanes that have none, in batches, before their first turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.abc

from enricher.engine.isolation import apart, is_ctrl_c
from enricher.engine.lanes import Lane, LaneGroup, Step
from enricher.engine.pool_parts import Core
from enricher.engine.ports import Delivery, Reader, StateStore
from enricher.engine.retry import Backoff
from enricher.engine.scheduler import TOGETHER, LoadQueue
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable
from enricher.log import log
from enricher.texts import text_of, trace_of

_BACKOFF = Backoff(base=0.05, max_delay=5.0)


class StateLoader:
    """Loads what lanes need; ``done`` is told of each lane, its state, and whether it was its key's first.

    At the start lanes are restored that were left with something to do. ``active`` loads are
    under way.

    An error costs time, never messages: the lanes wait and the loading is repeated.
    """

    def __init__(
        self, core: Core, groups: Iterable[LaneGroup], done: Callable[[Lane, Any, bool], None]
    ) -> None:
        self.active = 0
        self._core = core
        self._queues = {group: LoadQueue() for group in groups}
        self._done = done
        self._tasks: anyio.abc.TaskGroup | None = None
        # Groups whose last load failed, and no server was away.
        self.failing: dict[LaneGroup, str] = {}
        # Groups whose lanes to restore are not known.
        self._unknown: set[LaneGroup] = set()
        # Lanes to restore that were not, but for those that fail of themselves: nobody shall wait for them.
        self._awaited: set[Lane] = set()
        self._to_restore = 0

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Begin, with the lanes that are waiting already and the keys that were left unfinished."""
        self._tasks = tasks
        for group in self._queues:
            if group.state_store is None or self._core.reader is None:
                self._asked(group)
            else:
                self._unknown.add(group)
                tasks.start_soon(self._restore, group, group.state_store, self._core.reader)

    @property
    def restoring(self) -> tuple[int, int] | None:
        """How many lanes were restored, of how many as far as is known; None when there is nothing to do."""
        if not self._unknown and not self._awaited:
            return None
        return self._to_restore - len(self._awaited), self._to_restore

    @property
    def unread(self) -> dict[str, str]:
        """The sinks that states cannot be loaded from, although some are to be, and why."""
        return {q.unreachable.sink: q.unreachable.reason for q in self._queues.values() if q.unreachable}

    def want(self, lane: Lane) -> None:
        """Load the state of ``lane``."""
        self._queues[lane.group].add(lane)
        self._begin(lane.group)

    def _begin(self, group: LaneGroup) -> bool:
        if self._tasks is None or not self._queues[group].begin():
            return False
        self.active += 1
        self._tasks.start_soon(self._load, group)
        return True

    def _asked(self, group: LaneGroup) -> None:
        self._queues[group].asked = True
        while self._begin(group):
            pass

    async def _restore(self, group: LaneGroup, state_store: StateStore[Any], reader: Reader) -> None:
        """Load the state of keys that were left with something to do, whether or not a message comes."""
        queue, attempt = self._queues[group], 0
        while True:
            try:
                keys = await apart(state_store.unfinished, reader, self._core.clock())
            except Exception as error:  # noqa: BLE001  whatever it is, messages go on
                attempt += 1
                _complain("unfinished_unknown", group, error)
                if isinstance(error, SinkUnavailable):
                    queue.unreachable = error
                else:
                    self._unknown.discard(group)
                self._asked(group)
                await anyio.sleep(_BACKOFF.delay(attempt))
            else:
                queue.unreachable = None
                break
        for key in keys:
            if self._core.owns is not None and not self._core.owns(key):
                continue
            lane = group.lane(key)
            if not lane.cold or lane.waking:
                continue
            self._to_restore += 1
            self._awaited.add(lane)
            if lane.restore() is Step.LOAD:
                self.want(lane)
            else:
                queue.promote(lane)
        self._unknown.discard(group)
        self._asked(group)

    async def _load(self, group: LaneGroup) -> None:
        state_store, reader, queue = group.state_store, self._core.reader, self._queues[group]
        if state_store is None or reader is None:
            raise LookupError(f"lanes of {group.name!r} keep state, but no reader can load it")
        attempt, size = 0, TOGETHER
        while True:
            lanes, restored = queue.take(size)
            if not lanes:
                break
            try:
                await self._load_lanes(state_store, reader, queue, lanes)
            except Exception as error:  # noqa: BLE001  whatever it is, the messages wait
                attempt, size = attempt + 1, 1
                queue.put_back(lanes, restored, error)
                if queue.unreachable is None:
                    self._awaited.difference_update(lanes)
                    self.failing[group] = f"{type(error).__name__}: {text_of(error)}"
                _complain("state_load_failed", group, error)
                await anyio.sleep(_BACKOFF.delay(attempt))
            else:
                attempt, size, queue.unreachable = 0, min(2 * size, TOGETHER), None
                self.failing.pop(group, None)
                if size == TOGETHER:
                    self._begin(group)
            finally:
                queue.give_back(restored)
        queue.end()
        self.active -= 1

    async def _load_lanes(
        self, state_store: StateStore[Any], reader: Reader, queue: LoadQueue, lanes: list[Lane]
    ) -> None:
        wanted = {str(lane.key): first for lane in lanes if (first := self._first(lane)) is not None}
        states = await apart(state_store.restore, reader, wanted) if wanted else {}
        loaded = [(lane, states[str(lane.key)] if str(lane.key) in wanted else None) for lane in lanes]
        for lane, state in loaded:
            self._awaited.discard(lane)
            self._done(lane, state, state is not None and queue.learn(lane))

    def _first(self, lane: Lane) -> Delivery | None:
        """The delivery that asks for the lane's state; a waking lane asks for itself."""
        first = next((d for d in lane.queue if not d.gone), None)
        return Delivery("", b"", self._core.clock()) if first is None and lane.waking else first


def _complain(event: str, group: LaneGroup, error: Exception) -> None:
    # An outage is said by whoever watches; what waits because of it is detail.
    say = log.debug if isinstance(error, SinkUnavailable) else log.warning
    say(event, family=group.name, error=f"{type(error).__name__}: {text_of(error)}")


def distrust(lane: Lane, step: str, error: BaseException, stats: Stats) -> None:
    """A state store failed outside any message: its state is loaded anew before the next one."""
    if is_ctrl_c(error):
        raise error
    lane.distrust()
    stats.counters["state_failures"] += 1
    log.error(
        "state_failed",
        family=lane.group.name,
        key=lane.key,
        step=step,
        error=f"{type(error).__name__}: {text_of(error)}",
        traceback=trace_of(error),
    )
