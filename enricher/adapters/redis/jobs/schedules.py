"""Calls about schedules as scripts of Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enricher.adapters.redis.jobs.wires import Part, Wire, request_parts
from enricher.adapters.redis.scripts import load
from enricher.job_store import Call, JobQueueSettings
from enricher.schedule_store import (
    FindSchedules,
    KeepSchedules,
    PauseSchedule,
    RunOccurrences,
    ScheduleTimes,
)

_SHARED = "job_shared"
_FIND, _KEEP = load("job_schedules_find", _SHARED), load("job_schedules_keep", _SHARED)
_RUN, _PAUSE = load("job_schedules_run", _SHARED), load("job_schedules_pause", _SHARED)


def _find(call: FindSchedules, settings: JobQueueSettings) -> Wire:
    def read(reply: list[int]) -> ScheduleTimes:
        now, *times = reply
        rows = zip(times[::3], times[1::3], times[2::3], strict=True)
        known = dict(zip(call.tasks, rows, strict=True))
        since = {task: since for task, (since, _, _) in known.items() if since}
        paused = frozenset(task for task, (_, _, paused) in known.items() if paused)
        return ScheduleTimes(now, since, {task: known[task][1] for task in since}, paused)

    return Wire((1, settings.prefix, *call.tasks), read, _FIND)


def _keep(call: KeepSchedules, settings: JobQueueSettings) -> Wire:
    parts: list[Part] = [len(call.packages), *call.packages]
    for kept in call.schedules:
        parts += [kept.task, kept.module, kept.expression]
    return Wire((1, settings.prefix, *parts), lambda _: None, _KEEP)


def _pause(call: PauseSchedule, settings: JobQueueSettings) -> Wire:
    return Wire((1, settings.prefix, call.task, int(call.paused)), bool, _PAUSE)


def _run(call: RunOccurrences, settings: JobQueueSettings) -> Wire:
    parts: list[Part] = []
    for occurrence in call.occurrences:
        parts += [occurrence.due_ms, *request_parts(occurrence.request)]
    return Wire((1, settings.prefix, *parts), int, _RUN)


WIRES: dict[type[Call[Any]], Callable[[Any, JobQueueSettings], Wire]] = {
    FindSchedules: _find,
    KeepSchedules: _keep,
    RunOccurrences: _run,
    PauseSchedule: _pause,
}
