"""Calls of `enricher.job_store` as scripts and commands of Redis, for every kind of client.

Keys, with the prefix ``jobs``:

    jobs:{queue}            stream of what waits or runs, read by group ``workers``: the field id of a job
    jobs:{queue}:delayed    sorted set: ids by the ms at which they are due (scheduled, retrying)
    jobs:{queue}:limited    sorted set: ids of what waits under a limit
    jobs:job:{id}           hash, the job itself: state, queue, task, payload, enqueued, and, where there is
                            such, run, started, worker, entry, failures, lost, deaths, silent, due, error,
                            progress, finished, unique, until, limits, parent, cancelling, turn, step:{name};
                            as lines of JSON earlier (attempts that failed), log
    jobs:lost               sorted set: "queue entry id" of runs whose worker went silent, by when they
                            may begin again
    jobs:late               there while leases may have lapsed because the server stood still
    jobs:deaths             sorted set: workers that went silent by no fault of a known job, by when
    jobs:finished:{state}   sorted set: ids by the ms at which they ended
    jobs:paused             set of queues
    jobs:schedules          hash: of each scheduled task since, ran (ms), module, rule; see `FindSchedules`
    jobs:queues             set of the queues that jobs were enqueued to
    jobs:unique:{key}       the id of the job that holds it
    jobs:limit:{kind}:{key} of a limit: ``running`` what runs under it, ``waiting`` what waits for a place
                            (sorted sets), ``starts`` the last ones (list), ``turn`` when the next turn is
    jobs:served             set of queues that workers have served
    jobs:workers            sorted set: workers by when they were last heard of
    jobs:worker:{name}      what a worker says of itself (JSON)
    jobs:schedules:paused   set of tasks
    jobs:control            channel: ``cancel ID``, ``due MS``, ``queues``, ``told ORDER WORKER``
    jobs:control:gone       hash: of each queue how many entries wait whose job was cancelled or deleted
    jobs:control:told:{name}  the order that a worker was given: ``quiet``, ``stop``
    jobs:control:run        the run that does the same with many jobs (JSON); ``:holder`` is who works on it,
                            ``:stop`` which one is to stop
    celery-task-meta-{id}   the result, string and channel, as Celery's clients read it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from enricher.adapters.redis.jobs import admin, schedules
from enricher.adapters.redis.jobs.records import end_settings, record_of
from enricher.adapters.redis.jobs.wires import Part, Wire, request_parts, result_key
from enricher.adapters.redis.scripts import load
from enricher.job_store import (
    AddToLog,
    Call,
    Cancel,
    End,
    Enqueue,
    Find,
    FindStep,
    Forget,
    JobQueueSettings,
    Pause,
    Progress,
    QueueFigures,
    Queues,
    Result,
    Run,
    State,
    StoreStep,
)

GROUP = "workers"

_SHARED = "job_shared"
ENQUEUE, END, FETCH = load("job_enqueue", _SHARED), load("job_end", _SHARED), load("job_fetch", _SHARED)
RENEW, TAKE_OVER = load("job_renew", _SHARED), load("job_takeover", _SHARED)
RESTORE = load("job_restore", _SHARED)
_CANCEL, _NOTE, _QUEUES = load("job_cancel", _SHARED), load("job_note", _SHARED), load("job_queues", _SHARED)


def wire(call: Call[Any], settings: JobQueueSettings) -> Wire:
    """A call as Redis takes it. LookupError for a kind of call that is not known here."""
    known = _WIRES.get(type(call))
    if known is None:
        raise LookupError(f"the store of jobs in Redis does not know {type(call).__name__}")
    return known(call, settings)


def end_parts(end: End, *, shown: bool) -> list[Part]:
    """The arguments of an end, see ``job_end.lua``; without ``shown`` the result is kept elsewhere."""
    run = end.run
    parts: list[Part] = [
        *(run.id, run.number, run.queue, run.entry, end.state, end.delay_ms),
        b"" if end.error is None else msgspec.json.encode(end.error),
        *(end.result if shown else b"", end.result_ttl, len(end.children)),
    ]
    for child in end.children:
        parts += request_parts(child)
    return parts


def run_of(row: Sequence[Any]) -> Run:
    """A run as ``job_fetch.lua`` replies it."""
    id_, task, queue, payload, attempt, number, entry, enqueued, started, lost, parent, trace, *more = row
    return Run(
        id=id_.decode(),
        task=task.decode(),
        queue=queue.decode(),
        payload=payload,
        attempt=attempt,
        number=number,
        entry=entry.decode(),
        enqueued_ms=enqueued,
        started_ms=started,
        lost=lost,
        parent=parent.decode(),
        trace=trace.decode(),
        cancelling=more == [1],
    )


def _texts(reply: Any) -> list[str]:
    return [each.decode() for each in reply]


def _enqueue(call: Enqueue, settings: JobQueueSettings) -> Wire:
    parts = [part for request in call.requests for part in request_parts(request)]
    return Wire((1, settings.prefix, *parts), _texts, ENQUEUE)


def _find(call: Find, settings: JobQueueSettings) -> Wire:
    return Wire(("HGETALL", f"{settings.prefix}:job:{call.id}"), lambda reply: record_of(call.id, reply))


def _result(call: Result, settings: JobQueueSettings) -> Wire:
    return Wire(("GET", result_key(call.id)), lambda reply: reply)


def _forget(call: Forget, settings: JobQueueSettings) -> Wire:
    return Wire(("DEL", result_key(call.id)), lambda _: None)


def _cancel(call: Cancel, settings: JobQueueSettings) -> Wire:
    kept = end_settings(settings)
    result = call.result if kept[2] else b""
    arguments = (1, settings.prefix, call.id, *kept[:2], result, settings.result_ttl)

    def elsewhere(state: State | None) -> list[tuple[Part, ...]]:
        if not call.result or state not in ("waiting", "scheduled", "retrying"):
            return []
        key = result_key(call.id)
        return [("SET", key, call.result, "EX", settings.result_ttl), ("PUBLISH", key, call.result)]

    return Wire(arguments, lambda reply: reply.decode() if reply else None, _CANCEL, elsewhere)


def _note(run: Run, field: str, value: bytes, settings: JobQueueSettings) -> Wire:
    return Wire((1, settings.prefix, run.id, run.number, field, value), bool, _NOTE)


def _progress(call: Progress, settings: JobQueueSettings) -> Wire:
    return _note(call.run, "progress", call.progress, settings)


def _add_to_log(call: AddToLog, settings: JobQueueSettings) -> Wire:
    return Wire((1, settings.prefix, call.run.id, call.run.number, "log", call.lines, "1"), bool, _NOTE)


def _store_step(call: StoreStep, settings: JobQueueSettings) -> Wire:
    return _note(call.run, f"step:{call.name}", call.outcome, settings)


def _find_step(call: FindStep, settings: JobQueueSettings) -> Wire:
    key = f"{settings.prefix}:job:{call.id}"
    return Wire(("HGET", key, f"step:{call.name}"), lambda reply: reply)


def _queues(call: Queues, settings: JobQueueSettings) -> Wire:
    def read(reply: Any) -> list[QueueFigures]:
        return [
            QueueFigures(
                name=name,
                waiting=row[0],
                running=row[1],
                scheduled=row[2],
                retrying=row[3],
                oldest_ms=row[4],
                paused=bool(row[5]),
            )
            for name, row in zip(call.names, reply, strict=True)
        ]

    return Wire((1, settings.prefix, *call.names), read, _QUEUES)


def _pause(call: Pause, settings: JobQueueSettings) -> Wire:
    return Wire(("SADD" if call.paused else "SREM", f"{settings.prefix}:paused", call.queue), bool)


_WIRES: dict[type[Call[Any]], Callable[[Any, JobQueueSettings], Wire]] = {
    Enqueue: _enqueue,
    Find: _find,
    Result: _result,
    Forget: _forget,
    Cancel: _cancel,
    Progress: _progress,
    AddToLog: _add_to_log,
    FindStep: _find_step,
    StoreStep: _store_step,
    Queues: _queues,
    Pause: _pause,
    **admin.WIRES,
    **schedules.WIRES,
}
