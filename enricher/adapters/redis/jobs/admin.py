"""Calls of `enricher.job_admin` as scripts of Redis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

from enricher.adapters.redis.jobs.records import end_settings, record_of
from enricher.adapters.redis.jobs.wires import Part, Wire, result_key
from enricher.adapters.redis.scripts import load
from enricher.job_admin import (
    JOB_ID,
    Cleared,
    ClearQueue,
    DeleteJob,
    Finished,
    FinishedFigures,
    JobPage,
    ListJobs,
    ListQueues,
    ListWorkers,
    Rate,
    RetryJob,
    RetryRefused,
    TellWorker,
    WorkerRecord,
)
from enricher.job_store import FINISHED, Call, JobQueueSettings, State

_SHARED = "job_shared"
_LIST, _RETRY, _DELETE = load("job_list", _SHARED), load("job_retry", _SHARED), load("job_delete", _SHARED)
_CLEAR, _FINISHED, _WORKERS, _TELL = (
    load(f"job_{name}", _SHARED) for name in ("clear", "finished", "workers", "tell")
)

PAGE_BYTES = 1_048_576
"""Bytes of arguments and errors after which a page is full."""
_WINDOW_MS = 60_000
# As in `job_list.lua`.
_FIELDS = (
    *(b"state", b"task", b"queue", b"payload", b"failures", b"lost", b"enqueued", b"due", b"started"),
    *(b"finished", b"worker", b"error", b"progress", b"parent", b"cancelling"),
)


def _list(call: ListJobs, settings: JobQueueSettings) -> Wire:
    def read(reply: list[Any]) -> JobPage:
        after, *rows = reply
        found = [record_of(row[0].decode(), dict(zip(_FIELDS, row[1:], strict=True))) for row in rows]
        return JobPage([record for record in found if record is not None], after.decode())

    arguments = (call.state, call.queue, call.after, call.count, PAGE_BYTES)
    return Wire((1, settings.prefix, *arguments), read, _LIST)


def _retry(call: RetryJob, settings: JobQueueSettings) -> Wire:
    def read(reply: list[Any]) -> State | RetryRefused | None:
        state, holder = (None if each is None else each.decode() for each in (*reply, None)[:2])
        return RetryRefused(holder) if holder else state

    def elsewhere(answer: State | RetryRefused | None) -> list[tuple[Part, ...]]:
        return [("DEL", result_key(call.id))] if answer in ("failed", "cancelled") else []

    return Wire((1, settings.prefix, call.id), read, _RETRY, elsewhere)


def _state(reply: bytes | None) -> str | None:
    return None if reply is None else reply.decode()


def _delete(call: DeleteJob, settings: JobQueueSettings) -> Wire:
    def elsewhere(state: State | None) -> list[tuple[Part, ...]]:
        return [] if state in (None, "running") else [("DEL", result_key(call.id))]

    return Wire((1, settings.prefix, call.id), _state, _DELETE, elsewhere)


def _clear(call: ClearQueue, settings: JobQueueSettings) -> Wire:
    most, kept_ms, here = end_settings(settings)
    head, _, tail = call.result.partition(msgspec.json.encode(JOB_ID))

    def read(reply: list[Any]) -> Cleared:
        entries, ids = reply
        return Cleared(entries, [each.decode() for each in ids])

    def elsewhere(answer: Cleared) -> list[tuple[Part, ...]]:
        found: list[tuple[Part, ...]] = []
        for id_ in answer.jobs if call.result else ():
            key, result = result_key(id_), head + msgspec.json.encode(id_) + tail
            found += [("SET", key, result, "EX", settings.result_ttl), ("PUBLISH", key, result)]
        return found

    shown = (head, tail) if here else ("", "")
    arguments = (call.queue, call.count, most, kept_ms, *shown, settings.result_ttl, call.until_ms)
    return Wire((1, settings.prefix, *arguments), read, _CLEAR, elsewhere)


def _queues(call: ListQueues, settings: JobQueueSettings) -> Wire:
    return Wire(
        ("SMEMBERS", f"{settings.prefix}:queues"), lambda reply: sorted(each.decode() for each in reply)
    )


def _workers(call: ListWorkers, settings: JobQueueSettings) -> Wire:
    def read(reply: list[Any]) -> list[WorkerRecord]:
        return [
            WorkerRecord(name.decode(), int(float(heard)), said, told.decode())
            for name, heard, said, told in reply
        ]

    return Wire((1, settings.prefix), read, _WORKERS)


def _tell(call: TellWorker, settings: JobQueueSettings) -> Wire:
    seconds = max(int(settings.lease * 3), 3)
    return Wire((1, settings.prefix, call.name, call.order, seconds), bool, _TELL)


def _finished(call: Finished, settings: JobQueueSettings) -> Wire:
    def read(reply: list[Any]) -> FinishedFigures:
        now, kept, rows = reply
        ended: dict[str, float] = defaultdict(float)
        failed: dict[str, float] = defaultdict(float)
        for state, queue, number, span_ms in rows:
            rate = number / span_ms * 1000
            ended[queue.decode()] += rate
            if state == b"failed":
                failed[queue.decode()] += rate
        rates = {queue: Rate(rate, failed[queue]) for queue, rate in ended.items()}
        return FinishedFigures(now, dict(zip(FINISHED, kept, strict=True)), rates)

    return Wire((1, settings.prefix, call.sample, _WINDOW_MS, *FINISHED), read, _FINISHED)


WIRES: dict[type[Call[Any]], Callable[[Any, JobQueueSettings], Wire]] = {
    ListJobs: _list,
    RetryJob: _retry,
    DeleteJob: _delete,
    ClearQueue: _clear,
    ListQueues: _queues,
    ListWorkers: _workers,
    TellWorker: _tell,
    Finished: _finished,
}
