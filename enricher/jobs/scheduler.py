"""Enqueues the jobs that are due by their schedule, beside any number of others that do the same.

The store's clock says what is due, and the store notes with each job it takes that its occurrence has run. So
processes need no leader: whoever comes first runs an occurrence, and whoever was killed, frozen or cut off
goes on where all of them stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

import msgspec

from enricher.engine.retry import Backoff
from enricher.job_store import JobStore, Request, StoreUnavailable
from enricher.jobs.definition import Definition
from enricher.jobs.payload import MAX_PAYLOAD
from enricher.jobs.requests import new_id, request
from enricher.jobs.schedules import ON_TIME_MS, Cron, Interval, Misfire, Schedule, missed
from enricher.log import log
from enricher.schedule_store import (
    FindSchedules,
    KeepSchedules,
    KeptSchedule,
    Occurrence,
    RunOccurrences,
    ScheduleTimes,
)

MOST = 100
"""Occurrences of a schedule, and in all, that are enqueued at once."""
LONGEST_WAIT = 60.0
"""Seconds after which the server's clock is asked again: it may have been set."""
_BACKOFF = Backoff(base=0.5, max_delay=5.0)


class ScheduledTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task with a schedule; ``request`` makes the job of the occurrence that is due at the given ms."""

    task: str
    module: str
    schedule: Schedule
    request: Callable[[int], Request]

    def request_now(self) -> Request:
        """A job besides the occurrences."""
        return msgspec.structs.replace(self.request(0), id=new_id())

    @property
    def kept(self) -> KeptSchedule:
        """What the store is to know of it."""
        rule = f"{self.schedule.expression} {self.schedule.zone}"
        return KeptSchedule(self.task, self.module, rule)


def scheduled_tasks(
    definitions: Iterable[Definition], zone: str, max_payload: int = MAX_PAYLOAD
) -> list[ScheduledTask]:
    """The tasks of the classes that have a schedule. ``zone`` is that of a cron without one of its own.

    Raises `BadArguments` for arguments that are larger than ``max_payload``.
    """
    return [_scheduled_task(each, zone, max_payload) for each in definitions if each.scheduled]


def _scheduled_task(definition: Definition, zone: str, max_payload: int) -> ScheduledTask:
    schedule: Schedule
    if definition.every is not None:
        schedule = Interval(definition.every)
    else:
        schedule = Cron(definition.cron_schedule or "", definition.cron_timezone or zone)

    args, kwargs = definition.cron_args
    made = request(definition, args, kwargs, max_payload=max_payload)

    def request_at(due_ms: int) -> Request:
        # Its own id: even a server that fell back to an older copy of its data runs it only once.
        own = str(uuid5(NAMESPACE_URL, f"{definition.task}@{due_ms}"))
        return msgspec.structs.replace(made, id=own)

    module = definition.cls.__module__
    return ScheduledTask(task=definition.task, module=module, schedule=schedule, request=request_at)


class Standing(NamedTuple):
    """A schedule and where it stands; times are ms since 1970, 0 for never."""

    task: str
    rule: str
    zone: str
    queue: str
    last_ms: int
    next_ms: int
    known: bool
    paused: bool

    def is_late(self, now_ms: int) -> bool:
        """Whether what is due has not been enqueued: nobody runs a scheduler."""
        return not self.known or (not self.paused and 0 < self.next_ms + ON_TIME_MS < now_ms)


def standing(task: ScheduledTask, times: ScheduleTimes, misfire: Misfire) -> Standing:
    """Where a schedule stands. Its next time has passed if nobody has run what was due."""
    since = times.since_ms.get(task.task, times.now_ms)
    begin = max(since, times.now_ms) if misfire == "skip" else since
    following = next(task.schedule.after(begin), 0)
    rule, zone, queue = task.schedule.expression, task.schedule.zone, task.request(following).queue
    last = times.ran_ms.get(task.task, 0)
    known, paused = task.task in times.since_ms, task.task in times.paused
    return Standing(task.task, rule, zone, queue, last, following, known, paused)


class Due(NamedTuple):
    """Occurrences to run now, and when to look at the schedule again (ms since 1970; None: never)."""

    moments: list[int]
    again_ms: int | None


def due(schedule: Schedule, since_ms: int, now_ms: int, misfire: Misfire) -> Due:
    """What is to be done for a schedule whose occurrences have run up to ``since_ms``."""
    moments = missed(schedule, since_ms, now_ms, misfire, MOST)
    # There may be more than could be taken at once.
    again = now_ms if len(moments) == MOST else next(schedule.after(max(now_ms, since_ms)), None)
    return Due(moments, again)


class Scheduler:
    """Runs the occurrences of ``tasks`` for as long as `run` goes on.

    ``misfire`` says what is done about those that were due while nobody was there: ``one`` runs the latest,
    ``skip`` none, ``all`` each. ``packages`` are those whose classes are all among ``tasks`` if they have a
    schedule: what the store still knows of others in them is forgotten.
    """

    def __init__(
        self,
        store: JobStore,
        tasks: Sequence[ScheduledTask],
        *,
        misfire: Misfire = "one",
        packages: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._tasks = {task.task: task for task in tasks}
        self._misfire: Misfire = misfire
        self._packages = tuple(packages)
        self._again: dict[str, int | None] = {}

    async def run(self) -> None:
        """Enqueue what is due, until cancelled. An outage of the store is waited out."""
        begun, failures = False, 0
        while True:
            try:
                if not begun:
                    await self._keep(self._tasks.values(), self._packages)
                    begun = True
                wait = await self._turn()
            except StoreUnavailable as error:
                failures += 1
                if failures == 1:
                    log.warning("outage_begin", what="schedules", reason=str(error))
                wait = _BACKOFF.delay(failures)
            else:
                if failures:
                    log.warning("outage_end", what="schedules", attempts=failures)
                failures = 0
            await asyncio.sleep(wait)

    async def _turn(self) -> float:
        """Enqueue what is due now; for how many seconds there is nothing to do."""
        times = await self._store.ask(FindSchedules(tuple(self._tasks)))
        unknown = [task for name, task in self._tasks.items() if name not in times.since_ms]
        if unknown:
            # The server has lost them, or an older process' schedules were forgotten for those of a newer.
            await self._keep(unknown, ())
            return 0.0
        found = self._due(times)
        occurrences = [
            Occurrence(moment, self._tasks[name].request(moment))
            for name, each in found.items()
            for moment in each.moments
        ]
        for first in range(0, len(occurrences), MOST):
            await self._store.ask(RunOccurrences(tuple(occurrences[first : first + MOST])))
        # Not before: what could not be enqueued is found again.
        self._again.update({name: each.again_ms for name, each in found.items()})
        ahead = [again for again in self._again.values() if again is not None]
        wait = (min(ahead) - times.now_ms + 1) / 1000 if ahead else LONGEST_WAIT
        return min(max(wait, 0.0), LONGEST_WAIT)

    def _due(self, times: ScheduleTimes) -> dict[str, Due]:
        found = {}
        for name, task in self._tasks.items():
            again = self._again.get(name, 0)
            if again is not None and again <= times.now_ms:
                found[name] = due(task.schedule, times.since_ms[name], times.now_ms, self._misfire)
        return found

    async def _keep(self, tasks: Iterable[ScheduledTask], packages: Sequence[str]) -> None:
        await self._store.ask(KeepSchedules(tuple(task.kept for task in tasks), tuple(packages)))
