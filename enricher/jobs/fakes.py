"""The store of a test's jobs: what is asked of a store, answered from memory."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from enricher.job_store import (
    FINISHED,
    Call,
    Cancel,
    Enqueue,
    Find,
    FindStep,
    Forget,
    JobRecord,
    Progress,
    Request,
    Result,
    Run,
    State,
    StoreStep,
)
from enricher.jobs import results
from enricher.jobs.payload import split


class FakeJob:
    """A job that a test has enqueued: what it is, and how it stands.

    ``args`` and ``kwargs`` are as JSON has them; ``delay`` is in seconds, ``at`` a time in UTC.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.id = request.id
        self.task = request.task
        self.queue = request.queue
        self.args, self.kwargs = split(request.payload)
        self.delay = request.delay_ms / 1000
        at = request.at_ms
        self.at = None if at is None else datetime.fromtimestamp(at / 1000, UTC)
        self.state: State = "scheduled" if at is not None or request.delay_ms else "waiting"
        self.attempt = 0
        self.progress = b""
        self.steps: dict[str, bytes] = {}
        self.enqueued_ms = _now_ms()

    def __repr__(self) -> str:
        shown = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"<FakeJob {self.task}({', '.join(shown)}) {self.state}>"

    def run(self) -> Run:
        """The run that begins now."""
        return Run(
            id=self.id,
            task=self.task,
            queue=self.queue,
            payload=self.request.payload,
            attempt=self.attempt,
            number=self.attempt,
            entry="",
            enqueued_ms=self.enqueued_ms,
            started_ms=_now_ms(),
            parent=self.request.parent,
        )


class FakeStore:
    """Jobs by their ids, in the order in which they were enqueued, and their results."""

    def __init__(self) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self.results: dict[str, bytes] = {}

    def end(self, job: FakeJob, state: State, result: bytes) -> None:
        """The job has ended like this."""
        job.state = state
        self.results[job.id] = result

    def answer(self, call: Call[Any]) -> Any:
        """What a store answers. LookupError for calls that no test needs."""
        match call:
            case Enqueue(requests):
                return [self._enqueue(request) for request in requests]
            case Find(id_):
                return self._find(id_)
            case Result(id_):
                return self.results.get(id_)
            case Forget(id_):
                self.results.pop(id_, None)
                return None
            case Cancel(id_):
                return self._cancel(id_)
            case Progress(run, progress):
                self.jobs[run.id].progress = progress
                return True
            case FindStep(id_, name):
                return self.jobs[id_].steps.get(name)
            case StoreStep(run, name, outcome):
                self.jobs[run.id].steps[name] = outcome
                return True
        raise LookupError(f"{type(call).__name__} is nothing that jobs of a test know: ask a real store")

    def _enqueue(self, request: Request) -> str:
        unique = request.unique
        if unique is not None:
            for other in self.jobs.values():
                held = other.request.unique
                if held is not None and held.key == unique.key and _holds(other, held.until):
                    return other.id
        self.jobs.setdefault(request.id, FakeJob(request))
        return request.id

    def _find(self, id: str) -> JobRecord | None:  # noqa: A002
        job = self.jobs.get(id)
        if job is None:
            return None
        return JobRecord(
            id=job.id,
            task=job.task,
            queue=job.queue,
            state=job.state,
            payload=job.request.payload,
            attempt=job.attempt,
            enqueued_ms=job.enqueued_ms,
            progress=job.progress,
            parent=job.request.parent,
        )

    def _cancel(self, id: str) -> State | None:  # noqa: A002
        job = self.jobs.get(id)
        if job is None:
            return None
        was = job.state
        if was not in (*FINISHED, "running"):
            self.end(job, "cancelled", results.revoked(id))
        return was


def _holds(job: FakeJob, until: str) -> bool:
    if until == "started":
        return job.state in ("waiting", "scheduled")
    return until == "time" or job.state not in FINISHED


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
