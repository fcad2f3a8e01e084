"""A list of jobs: of a state, filtered, page by page; and what is done with those that were picked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta, field

from enricher.dead_letters.filters import parse_moment
from enricher.job_store import JobRecord, State
from enricher.jobs import deeds
from enricher.jobs.deeds import Asks, Deed
from enricher.jobs.runs import JobRun
from enricher.jobs.selection import STATES, JobFilter, arguments, moment
from enricher.jobs.web.reading import Reading
from enricher.redaction import redact_text
from enricher.runs import Runs
from enricher.web.requests import Refusal
from enricher.web.views import Asked, Done

_LOOKED_AT = 1_000
"""Jobs that one page looks at for those that are wanted."""
_SHOWN = 300


class JobParts(msgspec.Struct, frozen=True):
    """Which jobs: those of a ``state``, and of these parts. Times are such as ``2h`` or ISO 8601."""

    state: State = "running"
    queue: str = ""
    cls: str = field(default="", name="class")
    args: str = ""
    error: str = ""
    since: str = ""
    until: str = ""

    @property
    def wanted(self) -> JobFilter:
        """As a filter. Raises `Refusal` (422)."""
        now_us = time.time_ns() // 1000
        try:
            since, until = (parse_moment(t, now_us) // 1000 if t else None for t in (self.since, self.until))
        except ValueError as error:
            raise Refusal(422, str(error)) from error
        return JobFilter(
            states=(self.state,),
            queues=(self.queue,) if self.queue else (),
            cls=self.cls,
            args=self.args,
            error=self.error,
            since_ms=since,
            until_ms=until,
        )


class JobQuery(JobParts, frozen=True):
    """A page of them; ``after`` is the ``next`` of an earlier answer."""

    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class Progress(msgspec.Struct, frozen=True):
    """How far a job is: ``done`` of ``total``, each if it says so."""

    done: float | None = None
    total: float | None = None
    note: str | None = None


class JobRow(msgspec.Struct, frozen=True):
    """A job in a list; times are seconds since 1970, ``at`` the one that counts for its state."""

    id: str
    task: str
    queue: str
    state: State
    arguments: str
    attempt: int
    at: float | None
    due: float | None
    enqueued: float | None
    started: float | None
    finished: float | None
    worker: str
    error: str
    progress: Progress | None
    cancelling: bool


class JobList(msgspec.Struct, frozen=True):
    """Jobs, and how many there are of each state; ``looked_at`` were looked at, ``next`` goes on.

    ``run`` is the newest run over many jobs.
    """

    counts: dict[str, int]
    queues: list[str]
    jobs: list[JobRow]
    looked_at: int
    next: str
    run: JobRun | None


class Picked(msgspec.Struct, frozen=True):
    """The ids of jobs."""

    ids: Annotated[list[str], Meta(max_length=1000)] = []


class JobLists:
    """Answers about lists of jobs."""

    def __init__(self, reading: Reading, runs: Runs[JobRun]) -> None:
        self._reading = reading
        self._runs = runs

    async def listed(self, asked: Asked[JobQuery]) -> JobList:
        query, reading = asked.parameters, self._reading
        wanted = query.wanted
        counts, figures, _ = await reading.counts()
        known = [each.name for each in figures]
        # One that nobody has heard of is asked for all the same: it has no jobs.
        names = [query.queue] if query.queue else known
        found = await reading.find(
            wanted, query.state, after=query.after, limit=query.limit, most=_LOOKED_AT, names=names
        )
        rows = [row_of(job) for job in found.jobs]
        ordered: dict[str, int] = {state: counts[state] for state in STATES}
        run = await self._runs.now()
        return JobList(ordered, known, rows, found.looked_at, found.after, run)

    async def retry(self, asked: Asked[Picked]) -> Done:
        return await self._each(asked, deeds.retry, "retried")

    async def cancel(self, asked: Asked[Picked]) -> Done:
        return await self._each(asked, partial(deeds.cancel, reason=f"by {asked.who}"), "cancelled")

    async def delete(self, asked: Asked[Picked]) -> Done:
        return await self._each(asked, deeds.delete, "deleted")

    async def _each(
        self, asked: Asked[Picked], do: Callable[[Asks, str], Awaitable[Deed]], past: str
    ) -> Done:
        ids = list(dict.fromkeys(asked.parameters.ids))
        if not ids:
            raise Refusal(422, "pick some jobs first")
        labels: Counter[str] = Counter()
        number = 0
        for each in ids:
            deed = await do(self._reading, each)
            number += deed.done
            labels[deed.label] += not deed.done
        others = ", ".join(f"{count:,} {label}" for label, count in (+labels).items())
        return Done(f"{number:,} {past}" + (f"; {others}" if others else ""), number)


def row_of(job: JobRecord) -> JobRow:
    """The job as a list shows it, without passwords."""
    return JobRow(
        id=job.id,
        task=job.task,
        queue=job.queue,
        state=job.state,
        arguments=_cut(redact_text(_arguments(job.payload))),
        attempt=job.attempt,
        at=_seconds(moment(job)),
        due=_seconds(job.due_ms),
        enqueued=_seconds(job.enqueued_ms),
        started=_seconds(job.started_ms),
        finished=_seconds(job.finished_ms),
        worker=job.worker,
        error="" if job.error is None else _cut(redact_text(str(job.error)[: 4 * _SHOWN])),
        progress=_progress(job.progress),
        cancelling=job.cancelling,
    )


def _arguments(payload: bytes) -> str:
    most = 20 * _SHOWN  # what is larger is not read for the little that is shown
    return arguments(payload) if len(payload) <= most else payload[:most].decode("utf-8", "replace")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _seconds(ms: int) -> float | None:
    return ms / 1000 if ms else None


def _progress(said: bytes) -> Progress | None:
    if not said:
        return None
    try:
        return msgspec.json.decode(said, type=Progress)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Progress(note=redact_text(said[:_SHOWN].decode("utf-8", "replace")))
