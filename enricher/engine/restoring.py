"""Loading: the state of lanes that have none, in batches, before their first turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.abc

from enricher.engine.apart import apart, is_ctrl_c
from enricher.engine.lanes import Family, Lane, Status
from enricher.engine.ports import Clock, Delivery, Reader, StateStore
from enricher.engine.retry import Backoff
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable
from enricher.log import log
from enricher.texts import text_of, trace_of

# Lanes of new keys whose state is loaded together.
_TOGETHER = 200
# Loads of a family under way at once, so that a slow one holds up none of the others. Fewer restore what is
# stored, so that a new key never waits for all of that.
_LOADS = 4
_RESTORING = 3
# Keys of a family of which it is kept in mind that something is stored.
_KNOWN = 100_000


class StateLoader:
    """Loads what lanes need; ``done`` is told of each lane, and whether it was the first load of its key.

    All new keys that wait are one batch, keys that something is stored of are loaded one by one. At the start
    these are the ``to_restore`` lanes that were left with something to do.
    ``owns`` says which keys are this process's, where several share them. ``active`` loads are under way.

    An error costs time, never messages: the lanes wait and the loading is repeated.
    """

    def __init__(
        self,
        reader: Reader | None,
        clock: Clock,
        done: Callable[[Lane, bool], None],
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        self.active = 0
        self.to_restore = 0
        self._owns = owns
        self._reader = reader
        self._clock = clock
        self._done = done
        # Families whose last load failed, and no server was away.
        self.failing: dict[Family, str] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        # Families whose lanes to restore are not known, and those that were not asked for them yet.
        self._unknown: set[str] = set()
        # Lanes to restore that were not, but for those that fail of themselves: nobody shall wait for them.
        self._awaited: set[Lane] = set()
        self._unasked: set[str] = set()

    def start(self, tasks: anyio.abc.TaskGroup, families: Iterable[Family]) -> None:
        """Begin, with the lanes that are waiting already and the keys that were left unfinished."""
        self._tasks = tasks
        for family in families:
            if family.state_store is None or self._reader is None:
                self._begin(family)
                continue
            self._unknown.add(family.name)
            self._unasked.add(family.name)
            tasks.start_soon(self._restore, family, family.state_store, self._reader)

    @property
    def restoring(self) -> tuple[int, int] | None:
        """How many lanes were restored, of how many as far as is known; None when there is nothing to do."""
        if not self._unknown and not self._awaited:
            return None
        return self.to_restore - len(self._awaited), self.to_restore

    def want(self, lane: Lane) -> None:
        """Load the state of ``lane``."""
        lane.status, family = Status.LOADING, lane.family
        (family.unrestored if lane.waking or lane.key in family.known else family.cold).append(lane)
        self._begin(family)

    def _begin(self, family: Family) -> None:
        waits = family.cold or (family.unrestored and family.restoring < _RESTORING)
        most = 0 if family.name in self._unasked else 1 if family.away is not None else _LOADS
        if waits and family.loading < most and self._tasks is not None:
            family.loading += 1
            self.active += 1
            self._tasks.start_soon(self._load, family)

    async def _restore(self, family: Family, state_store: StateStore[Any], reader: Reader) -> None:
        """Load the state of keys that were left with something to do, whether or not a message comes."""
        backoff, attempt = Backoff(base=0.05, max_delay=5.0), 0
        while True:
            try:
                keys = await apart(state_store.unfinished, reader, self._clock())
            except Exception as error:  # noqa: BLE001  whatever it is, messages go on
                attempt += 1
                _complain("unfinished_unknown", family, error)
                if isinstance(error, SinkUnavailable):
                    family.away = error
                else:
                    self._unknown.discard(family.name)
                self._asked(family)
                await anyio.sleep(backoff.delay(attempt))
            else:
                family.away = None
                break
        for key in keys:
            if self._owns is not None and not self._owns(key):
                continue
            lane = family.lane(key)
            if not lane.cold or lane.waking:
                continue
            lane.waking = True
            self.to_restore += 1
            self._awaited.add(lane)
            if lane in family.cold:
                # What is known to have a history is loaded by itself.
                family.cold.remove(lane)
                family.unrestored.append(lane)
            elif lane.status is Status.IDLE:
                self.want(lane)
        self._unknown.discard(family.name)
        self._asked(family)

    def _asked(self, family: Family) -> None:
        self._unasked.discard(family.name)
        for _ in range(_LOADS):
            self._begin(family)

    async def _load(self, family: Family) -> None:
        state_store, reader = family.state_store, self._reader
        if state_store is None or reader is None:
            raise LookupError(f"lanes of {family.name!r} keep state, but no reader can load it")
        backoff, attempt, size = Backoff(base=0.05, max_delay=5.0), 0, _TOGETHER
        while lanes := self._next(family, size):
            restoring = lanes[0].waking or lanes[0].key in family.known
            family.restoring += restoring
            try:
                await self._load_lanes(state_store, reader, lanes)
            except Exception as error:  # noqa: BLE001  whatever it is, the messages wait
                attempt += 1
                # A server that is away is asked little: by one lane, until that succeeds. What fails for
                # any other reason may be the trouble of these lanes alone, so others have their turn first.
                size = 1
                family.away = error if isinstance(error, SinkUnavailable) else None
                waiting = family.unrestored if restoring else family.cold
                if family.away is not None:
                    waiting.extendleft(reversed(lanes))
                else:
                    waiting.extend(lanes)
                    self._awaited.difference_update(lanes)
                if family.away is None:
                    self.failing[family] = f"{type(error).__name__}: {text_of(error)}"
                _complain("state_load_failed", family, error)
                await anyio.sleep(backoff.delay(attempt))
            else:
                attempt, size, family.away = 0, min(2 * size, _TOGETHER), None
                self.failing.pop(family, None)
                if size == _TOGETHER:
                    self._begin(family)
            finally:
                family.restoring -= restoring
        family.loading -= 1
        if not family.loading and not family.cold and not family.unrestored:
            family.away = None
        self.active -= 1

    def _next(self, family: Family, size: int) -> list[Lane]:
        """The lanes to be loaded next: those of messages, or else one to restore, first one with messages."""
        if family.away is not None and family.loading > 1:
            return []
        if family.cold:
            return [family.cold.popleft() for _ in range(min(size, len(family.cold)))]
        if not family.unrestored or family.restoring >= _RESTORING:
            return []
        lane = next((lane for lane in family.unrestored if lane.queue), family.unrestored[0])
        family.unrestored.remove(lane)
        return [lane]

    async def _load_lanes(self, state_store: StateStore[Any], reader: Reader, lanes: list[Lane]) -> None:
        firsts = [(lane, self._first(lane)) for lane in lanes]
        wanted = {str(lane.key): first for lane, first in firsts if first is not None}
        states = await apart(state_store.restore, reader, wanted) if wanted else {}
        loaded = [(lane, states[str(lane.key)]) for lane, first in firsts if first is not None]
        first = {lane for lane, _ in loaded if lane.key not in lane.family.known}
        for lane, state in loaded:
            lane.state = state
            if len(lane.family.known) == _KNOWN:
                lane.family.known.clear()
            lane.family.known.add(str(lane.key))
        for lane in lanes:
            lane.status = Status.IDLE
            lane.waking = False
            self._awaited.discard(lane)
            lane.purge()
            self._done(lane, lane in first)

    def _first(self, lane: Lane) -> Delivery | None:
        """The delivery that asks for the lane's state; a waking lane asks for itself."""
        first = next((d for d in lane.queue if not d.gone), None)
        return Delivery("", b"", self._clock()) if first is None and lane.waking else first


def _complain(event: str, family: Family, error: Exception) -> None:
    # An outage is said by whoever watches; what waits because of it is detail.
    say = log.debug if isinstance(error, SinkUnavailable) else log.warning
    say(event, family=family.name, error=f"{type(error).__name__}: {text_of(error)}")


def distrust(lane: Lane, step: str, error: BaseException, stats: Stats) -> None:
    """A state_store failed outside any message: its state is loaded anew before the next one."""
    if is_ctrl_c(error):
        raise error
    lane.stale = True
    stats.counters["state_failures"] += 1
    log.error(
        "state_failed",
        family=lane.family.name,
        key=lane.key,
        step=step,
        error=f"{type(error).__name__}: {text_of(error)}",
        traceback=trace_of(error),
    )
