"""Loading: the state of lanes that have none, in batches, before their first turn."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.abc

from enricher.engine.apart import apart, is_ctrl_c, text_of
from enricher.engine.lanes import Family, Lane, Status
from enricher.engine.ports import Clock, Delivery, Keeper, Reader
from enricher.engine.retry import Backoff
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable
from enricher.log import log

# Lanes whose state is loaded together.
_TOGETHER = 200


class StateLoader:
    """Loads what lanes need, all that wait as one batch; ``done`` is told of each lane afterwards.

    ``owns`` says which keys are this process's, where several share them.

    An error costs time, never messages: the lanes wait and the loading is repeated.
    """

    def __init__(
        self,
        reader: Reader | None,
        clock: Clock,
        done: Callable[[Lane], None],
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        self._owns = owns
        self._reader = reader
        self._clock = clock
        self._done = done
        self._tasks: anyio.abc.TaskGroup | None = None

    def start(self, tasks: anyio.abc.TaskGroup, families: Iterable[Family]) -> None:
        """Begin, with the lanes that are waiting already and the keys that were left unfinished."""
        self._tasks = tasks
        for family in families:
            self._begin(family)
            if family.keeper is not None and self._reader is not None:
                tasks.start_soon(self._wake_unfinished, family, family.keeper, self._reader)

    def want(self, lane: Lane) -> None:
        """Load the state of ``lane``."""
        lane.status = Status.LOADING
        lane.family.cold.append(lane)
        self._begin(lane.family)

    def _begin(self, family: Family) -> None:
        if family.cold and not family.loading and self._tasks is not None:
            family.loading = True
            self._tasks.start_soon(self._load, family)

    async def _wake_unfinished(self, family: Family, keeper: Keeper[Any], reader: Reader) -> None:
        """Load the state of keys that were left with something to do, whether or not a message comes."""
        backoff, attempt = Backoff(base=0.05, cap=5.0), 0
        while True:
            try:
                keys = await apart(keeper.unfinished, reader, self._clock())
            except Exception as error:  # noqa: BLE001  whatever it is, messages go on
                attempt += 1
                _complain("unfinished_unknown", family, error)
                await anyio.sleep(backoff.delay(attempt))
            else:
                break
        for key in keys:
            if self._owns is not None and not self._owns(key):
                continue
            lane = family.lane(key)
            if lane.cold and lane.status is Status.IDLE:
                lane.waking = True
                self.want(lane)

    async def _load(self, family: Family) -> None:
        keeper, reader = family.keeper, self._reader
        if keeper is None or reader is None:
            raise LookupError(f"lanes of {family.name!r} keep state, but no reader can load it")
        backoff, attempt, size = Backoff(base=0.05, cap=5.0), 0, _TOGETHER
        while family.cold:
            lanes, family.cold = family.cold[:size], family.cold[size:]
            firsts = [(lane, self._first(lane)) for lane in lanes]
            wanted = {str(lane.key): first for lane, first in firsts if first is not None}
            try:
                states = await apart(keeper.load, reader, wanted) if wanted else {}
                loaded = [(lane, states[str(lane.key)]) for lane, first in firsts if first is not None]
            except Exception as error:  # noqa: BLE001  whatever it is, the messages wait
                attempt += 1
                # A server that is away is asked little: by one lane, until that succeeds. What fails for
                # any other reason may be the trouble of these lanes alone, so others have their turn first.
                size = 1
                away = isinstance(error, SinkUnavailable)
                family.cold = [*lanes, *family.cold] if away else [*family.cold, *lanes]
                _complain("state_load_failed", family, error)
                await anyio.sleep(backoff.delay(attempt))
                continue
            attempt, size = 0, min(2 * size, _TOGETHER)
            for lane, state in loaded:
                lane.state = state
            for lane in lanes:
                lane.status = Status.IDLE
                lane.waking = False
                lane.purge()
                self._done(lane)
        family.loading = False

    def _first(self, lane: Lane) -> Delivery | None:
        """The delivery that asks for the lane's state; a waking lane asks for itself."""
        first = next((d for d in lane.queue if not d.gone), None)
        return Delivery("", b"", self._clock()) if first is None and lane.waking else first


def _complain(event: str, family: Family, error: Exception) -> None:
    # An outage has its own log line; what else waits because of it is detail.
    say = log.debug if isinstance(error, SinkUnavailable) else log.warning
    say(event, family=family.name, error=f"{type(error).__name__}: {text_of(error)}")


def distrust(lane: Lane, step: str, error: BaseException, stats: Stats) -> None:
    """A keeper failed outside any message: its state is loaded anew before the next one."""
    if is_ctrl_c(error):
        raise error
    lane.stale = True
    stats.counters["keeper_failures"] += 1
    log.error(
        "keeper_failed",
        family=lane.family.name,
        key=lane.key,
        step=step,
        error=f"{type(error).__name__}: {text_of(error)}",
        traceback="".join(traceback.format_exception(error)),
    )
