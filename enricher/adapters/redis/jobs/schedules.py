"""Calls about schedules as scripts of Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enricher.adapters.redis.jobs.wires import Part, Wire, request_parts
from enricher.adapters.redis.scripts import load
from enricher.job_store import Call, JobQueueSettings
from enricher.schedule_store import FindSchedules, KeepSchedules, RunOccurrences, ScheduleTimes

_SHARED = "job_shared"
_FIND, _KEEP = load("job_schedules_find", _SHARED), load("job_schedules_keep", _SHARED)
_RUN = load("job_schedules_run", _SHARED)


def _find(call: FindSchedules, settings: JobQueueSettings) -> Wire:
    def read(reply: list[int]) -> ScheduleTimes:
        now, *times = reply
        known = dict(zip(call.tasks, zip(times[::2], times[1::2], strict=True), strict=True))
        since = {task: since for task, (since, _) in known.items() if since}
        return ScheduleTimes(now, since, {task: known[task][1] for task in since})

    return Wire((1, settings.prefix, *call.tasks), read, _FIND)


def _keep(call: KeepSchedules, settings: JobQueueSettings) -> Wire:
    parts: list[Part] = [len(call.packages), *call.packages]
    for kept in call.schedules:
        parts += [kept.task, kept.module, kept.expression]
    return Wire((1, settings.prefix, *parts), lambda _: None, _KEEP)


def _run(call: RunOccurrences, settings: JobQueueSettings) -> Wire:
    parts: list[Part] = []
    for occurrence in call.occurrences:
        parts += [occurrence.due_ms, *request_parts(occurrence.request)]
    return Wire((1, settings.prefix, *parts), int, _RUN)


WIRES: dict[type[Call[Any]], Callable[[Any, JobQueueSettings], Wire]] = {
    FindSchedules: _find,
    KeepSchedules: _keep,
    RunOccurrences: _run,
}
