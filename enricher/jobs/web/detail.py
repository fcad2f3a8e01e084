"""One job: all that is stored of it, and what can be done with it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec

from enricher.job_store import Failure, JobError, LogLine, Result
from enricher.jobs import deeds, results
from enricher.jobs.deeds import Deed
from enricher.jobs.web.listed import JobRow, row_of
from enricher.jobs.web.reading import Reading
from enricher.redaction import redact_text
from enricher.web.requests import Refusal
from enricher.web.views import Asked, Done

_LONGEST = 50_000


class Step(msgspec.Struct, frozen=True):
    """A step that is done, and its outcome (JSON)."""

    name: str
    outcome: str


class FailedAttempt(msgspec.Struct, frozen=True):
    """An attempt before the last; ``at`` is when it ended, in seconds since 1970."""

    at: float
    attempt: int
    error_type: str
    error_message: str
    traceback: str


class Said(msgspec.Struct, frozen=True):
    """A line of the log; ``at`` is seconds since 1970, ``fields`` are as in ``done=7, total=9``."""

    at: float
    attempt: int
    text: str
    fields: str


class JobDetail(msgspec.Struct, frozen=True):
    """A job whole. ``args``, ``kwargs``, ``result`` and outcomes are JSON text, without passwords.

    ``size`` is that of the arguments in bytes, ``lost`` counts runs whose worker went silent. ``result`` is
    "" where there is none or it is no longer kept. ``took`` is seconds of its last run.
    ``failures`` are attempts before the last, ``log`` is what the job said: the last of both, in order.
    """

    job: JobRow
    size: int
    args: str
    kwargs: str
    lost: int
    took: float | None
    error_type: str
    error_message: str
    traceback: str
    failures: list[FailedAttempt]
    log: list[Said]
    steps: list[Step]
    result: str
    parent: str
    children: list[str]
    unique: str
    limits: list[str]
    known: bool


class JobDetails:
    """Answers about one job."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def job(self, asked: Asked[Any]) -> JobDetail:
        reading = self._reading
        job = await reading.job(asked.path["id"])
        stored = await reading.ask(Result(job.id))
        outcome = None if stored is None else results.read(job.id, stored)
        args, kwargs = _arguments(job.payload)
        error = job.error
        has_result = outcome is not None and outcome.status == "SUCCESS"
        return JobDetail(
            job=row_of(job),
            size=len(job.payload),
            args=args,
            kwargs=kwargs,
            lost=job.lost,
            took=(job.finished_ms - job.started_ms) / 1000 if job.finished_ms and job.started_ms else None,
            error_type="" if error is None else error.type,
            error_message="" if error is None else _cut(error.message),
            traceback="" if error is None else _traceback(error),
            failures=[_failed(each) for each in job.earlier],
            log=[Said(each.at / 1000, each.attempt, each.text, _fields(each)) for each in job.log],
            steps=[Step(name, _pretty(said)) for name, said in job.steps.items()],
            result=_pretty(msgspec.json.encode(outcome.result)) if outcome and has_result else "",
            parent=job.parent,
            children=results.children(outcome),
            unique=job.unique,
            limits=list(job.limits),
            known=reading.registry.find(job.task) is not None,
        )

    async def retry(self, asked: Asked[Any]) -> Done:
        return await self._done(deeds.retry(self._reading, asked.path["id"]))

    async def cancel(self, asked: Asked[Any]) -> Done:
        return await self._done(deeds.cancel(self._reading, asked.path["id"], f"by {asked.who}"))

    async def delete(self, asked: Asked[Any]) -> Done:
        done = await self._done(deeds.delete(self._reading, asked.path["id"]))
        return msgspec.structs.replace(done, to="jobs")

    async def _done(self, deed: Awaitable[Deed]) -> Done:
        label, done = await deed
        if not done:
            raise Refusal(404 if label == deeds.GONE.label else 409, label)
        return Done(label)


def _traceback(error: JobError) -> str:
    """Its traceback where that says more than the error itself."""
    return _cut(error.traceback) if "Traceback" in error.traceback else ""


def _failed(failure: Failure) -> FailedAttempt:
    error = failure.error
    return FailedAttempt(
        failure.at / 1000, failure.attempt, error.type, _cut(error.message), _traceback(error)
    )


def _fields(line: LogLine) -> str:
    return ", ".join(f"{name}={msgspec.json.encode(each).decode()}" for name, each in line.fields.items())


def _arguments(payload: bytes) -> tuple[str, str]:
    try:
        args, kwargs = msgspec.json.decode(payload, type=tuple[msgspec.Raw, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _cut(payload.decode("utf-8", "replace")), ""
    return _pretty(bytes(args)), _pretty(bytes(kwargs))


def _pretty(said: bytes) -> str:
    """JSON to be read; what is none as it is."""
    try:
        return _cut(msgspec.json.format(said, indent=2).decode())
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return _cut(said.decode("utf-8", "replace"))


def _cut(text: str) -> str:
    shown = redact_text(text[:_LONGEST])
    return shown if len(text) <= _LONGEST else f"{shown}… ({len(text):,} characters)"
