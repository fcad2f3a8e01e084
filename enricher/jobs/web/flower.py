"""The paths of Flower's API that answer about tasks, queues and workers, in Flower's words.

Source of the names: Flower's API reference, https://flower.readthedocs.io/en/latest/api.html.
"""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import msgspec
from msgspec import Meta, field

from enricher.job_admin import ListWorkers
from enricher.job_store import Cancel, Enqueue, Find, JobRecord, Queues, Result, State
from enricher.jobs import deeds, results
from enricher.jobs.selection import EVERY, STATES, JobFilter
from enricher.jobs.web.enqueuing import Enqueuing
from enricher.jobs.web.reading import Reading
from enricher.redaction import redact_text
from enricher.web.requests import Refusal
from enricher.web.views import Action, Asked, View

_MOST = 1000
_LONGEST_WAIT = 60.0
_STATES: dict[State, str] = {
    "waiting": "PENDING",
    "scheduled": "PENDING",
    "running": "STARTED",
    "retrying": "RETRY",
    "succeeded": "SUCCESS",
    "failed": "FAILURE",
    "cancelled": "REVOKED",
}


class OfWorkers(msgspec.Struct, frozen=True):
    """``workername`` is one of them, ``status`` asks only whether they are there."""

    workername: str = ""
    status: bool = False
    refresh: bool = False


class OfTasks(msgspec.Struct, frozen=True):
    """Which tasks, the newest first; ``state`` is one of Celery's."""

    limit: Annotated[int, Meta(ge=1, le=_MOST)] = 100
    offset: Annotated[int, Meta(ge=0, le=_MOST)] = 0
    workername: str = ""
    taskname: str = ""
    state: str = ""


class OfResult(msgspec.Struct, frozen=True):
    """For how many seconds a result is waited for."""

    timeout: Annotated[float, Meta(ge=0, le=_LONGEST_WAIT)] = 0


class Call(msgspec.Struct, frozen=True):
    """Arguments of a task, and when it is due: in ``countdown`` seconds, or at ``eta`` (ISO 8601)."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    countdown: Annotated[float, Meta(ge=0)] | None = None
    eta: str = ""
    queue: str = ""
    task_id: str = ""


class Terminate(msgspec.Struct, frozen=True):
    """How a task is ended; one that runs always is told to stop."""

    terminate: bool = False
    signal: str = ""


class Task(msgspec.Struct, frozen=True):
    """A task as Flower has it; times are seconds since 1970."""

    uuid: str
    name: str
    state: str
    args: str
    kwargs: str
    queue: str
    worker: str | None
    received: float | None
    eta: float | None
    started: float | None
    succeeded: float | None
    failed: float | None
    revoked: float | None
    retries: int
    runtime: float | None
    exception: str | None
    traceback: str | None
    timestamp: float | None
    result: str | None = None


class TaskResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of a task, and what it returned or raised."""

    id: str = field(name="task-id")
    state: str
    result: Any = None
    traceback: str | None = None


class Types(msgspec.Struct, frozen=True):
    """The names of all tasks."""

    types: list[str] = field(name="task-types")


class QueueLength(msgspec.Struct, frozen=True):
    """How many jobs wait in a queue."""

    name: str
    messages: int


class Lengths(msgspec.Struct, frozen=True):
    """How many jobs wait in each queue."""

    active_queues: list[QueueLength]


class Message(msgspec.Struct, frozen=True):
    """What was done."""

    message: str


class Flower:
    """Answers as Flower does."""

    def __init__(self, reading: Reading, enqueuing: Enqueuing) -> None:
        self._reading = reading
        self._enqueuing = enqueuing

    async def workers(self, asked: Asked[OfWorkers]) -> dict[str, Any]:
        """Workers by name: queues, tasks, pool, and what is active."""
        query = asked.parameters
        there = await self._reading.ask(ListWorkers())
        if query.workername:
            there = [each for each in there if each.name == query.workername]
            if not there:
                raise Refusal(404, f"Unknown worker '{query.workername}'")
        if query.status:
            return {each.name: True for each in there}
        names = await self._reading.queues()
        found = await self._reading.find(EVERY, "running", limit=_MOST, most=_MOST, names=names)
        active: dict[str, list[dict[str, Any]]] = {}
        for job in found.jobs:
            active.setdefault(job.worker, []).append(_active(job))
        return {each.name: _worker(each.said, each.heard_ms, active.get(each.name, [])) for each in there}

    async def tasks(self, asked: Asked[OfTasks]) -> dict[str, Task]:
        """Tasks by id."""
        query = asked.parameters
        if query.state and query.state not in _STATES.values():
            expected = ", ".join(dict.fromkeys(_STATES.values()))
            raise Refusal(422, f"state: {expected} was expected, got {query.state!r:.60}")
        names, wanted = await self._reading.queues(), JobFilter(cls=query.taskname)
        most = query.offset + query.limit
        jobs: list[JobRecord] = []
        for state in STATES:
            if query.state in ("", _STATES[state]):
                page = await self._reading.find(wanted, state, limit=most, most=_MOST, names=names)
                jobs += page.jobs
        if query.workername:
            jobs = [job for job in jobs if job.worker == query.workername]
        jobs.sort(key=lambda job: job.enqueued_ms, reverse=True)
        return {job.id: _task(job) for job in jobs[query.offset : most]}

    async def types(self, _: Asked[Any]) -> Types:
        return Types(sorted(self._reading.registry.definitions))

    async def lengths(self, _: Asked[Any]) -> Lengths:
        figures = await self._reading.ask(Queues(tuple(await self._reading.queues())))
        return Lengths([QueueLength(each.name, each.waiting) for each in figures])

    async def info(self, asked: Asked[Any]) -> Task:
        id_ = asked.path["id"]
        job = await self._reading.ask(Find(id_))
        if job is None:
            raise Refusal(404, f"Unknown task '{id_}'")
        outcome = results.read(id_, await self._reading.ask(Result(id_)))
        result = msgspec.json.encode(outcome.result).decode() if outcome.status == "SUCCESS" else None
        return msgspec.structs.replace(_task(job), result=result)

    async def result(self, asked: Asked[OfResult]) -> TaskResult:
        return await self._outcome(asked.path["id"], asked.parameters.timeout)

    async def apply(self, asked: Asked[Call]) -> TaskResult:
        return await self._outcome(await self._enqueue(asked, known_only=True), _LONGEST_WAIT)

    async def async_apply(self, asked: Asked[Call]) -> TaskResult:
        return TaskResult(await self._enqueue(asked, known_only=True), "PENDING")

    async def send_task(self, asked: Asked[Call]) -> TaskResult:
        return TaskResult(await self._enqueue(asked, known_only=False), "PENDING")

    async def revoke(self, asked: Asked[Terminate]) -> Message:
        id_ = asked.path["id"]
        if await self._reading.ask(Cancel(id_, results.revoked(id_, f"by {asked.who}"))) is None:
            raise Refusal(404, deeds.GONE.label)
        return Message(f"Revoked '{id_}'")

    async def abort(self, asked: Asked[Any]) -> Message:
        await self.revoke(asked)
        return Message(f"Aborted '{asked.path['id']}'")

    async def _enqueue(self, asked: Asked[Call], *, known_only: bool) -> str:
        call, task = asked.parameters, asked.path["task"]
        made = self._enqueuing.made(
            task,
            call.args,
            call.kwargs,
            at=call.eta,
            delay=call.countdown,
            queue=call.queue,
            id=call.task_id,
            known_only=known_only,
        )
        return (await self._reading.ask(Enqueue((made,))))[0]

    async def _outcome(self, id_: str, timeout: float) -> TaskResult:
        stored = await self._reading.ask(Result(id_))
        outcome = results.read(id_, stored)
        if timeout and outcome.status not in results.ENDED:
            with anyio.move_on_after(timeout):
                outcome = results.read(id_, await self._reading.store.wait(id_, timeout))
        if outcome.status == "SUCCESS":
            return TaskResult(id_, "SUCCESS", outcome.result)
        if outcome.status in results.ENDED:
            error = redact_text(repr(results.value_of(outcome)))
            return TaskResult(id_, outcome.status, error, redact_text(outcome.traceback or "") or None)
        return TaskResult(id_, outcome.status)


def views(reading: Reading, enqueuing: Enqueuing) -> list[View | Action]:
    """The views and actions, at Flower's paths."""
    flower = Flower(reading, enqueuing)
    return [
        View("/api/workers", flower.workers, "As Flower: the workers.", OfWorkers),
        View("/api/tasks", flower.tasks, "As Flower: tasks, the newest first.", OfTasks),
        View("/api/task/types", flower.types, "As Flower: the names of tasks."),
        View("/api/queues/length", flower.lengths, "As Flower: how many wait in each queue."),
        View("/api/task/info/{id:path}", flower.info, "As Flower: a task."),
        View("/api/task/result/{id:path}", flower.result, "As Flower: the result of a task.", OfResult),
        Action("/api/task/apply/{task}", flower.apply, "As Flower: run a task and wait.", Call),
        Action("/api/task/async-apply/{task}", flower.async_apply, "As Flower: enqueue a task.", Call),
        Action("/api/task/send-task/{task}", flower.send_task, "As Flower: enqueue by any name.", Call),
        Action("/api/task/revoke/{id:path}", flower.revoke, "As Flower: cancel a task.", Terminate),
        Action("/api/task/abort/{id:path}", flower.abort, "As Flower: cancel a task.", Terminate),
    ]


def _task(job: JobRecord) -> Task:
    args, kwargs = _arguments(job.payload)
    ended = job.finished_ms / 1000 if job.finished_ms else None
    took = (job.finished_ms - job.started_ms) / 1000 if job.finished_ms and job.started_ms else None
    moments = (job.finished_ms, job.started_ms, job.enqueued_ms)
    return Task(
        uuid=job.id,
        name=job.task,
        state=_STATES[job.state],
        args=args,
        kwargs=kwargs,
        queue=job.queue,
        worker=job.worker or None,
        received=job.enqueued_ms / 1000,
        eta=job.due_ms / 1000 if job.due_ms else None,
        started=job.started_ms / 1000 if job.started_ms else None,
        succeeded=ended if job.state == "succeeded" else None,
        failed=ended if job.state == "failed" else None,
        revoked=ended if job.state == "cancelled" else None,
        retries=max(job.attempt - 1, 0),
        runtime=took if job.state == "succeeded" else None,
        exception=None if job.error is None else redact_text(str(job.error)),
        traceback=None if job.error is None else redact_text(job.error.traceback) or None,
        timestamp=next((ms / 1000 for ms in moments if ms), None),
    )


def _active(job: JobRecord) -> dict[str, Any]:
    args, kwargs = _arguments(job.payload)
    started = job.started_ms / 1000
    return {"id": job.id, "name": job.task, "args": args, "kwargs": kwargs, "time_start": started}


def _worker(said: Any, heard_ms: int, active: list[dict[str, Any]]) -> dict[str, Any]:
    queues, tasks = said.get("queues", ()), said.get("tasks", ())
    pool = {"max-concurrency": said.get("concurrency"), "processes": [said.get("pid")]}
    return {
        "active": active,
        "active_queues": [{"name": name} for name in queues],
        "registered": list(tasks),
        "stats": {"pid": said.get("pid"), "pool": pool},
        "timestamp": heard_ms / 1000,
    }


def _arguments(payload: bytes) -> tuple[str, str]:
    try:
        args, kwargs = msgspec.json.decode(payload, type=tuple[msgspec.Raw, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return redact_text(payload.decode("utf-8", "replace")), "{}"
    return redact_text(bytes(args).decode()), redact_text(bytes(kwargs).decode())
