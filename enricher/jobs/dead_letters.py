"""The dead letters of jobs are the jobs themselves: those in state ``failed``, whole, with why."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from enricher.dead_letters.record import StoredLetter, encode
from enricher.dead_letters.store import Added, LetterStore
from enricher.engine.effects import DeadLetter
from enricher.errors import EnricherError
from enricher.job_admin import DeleteJob, Finished, ListJobs
from enricher.job_store import Find, JobRecord, JobStore


class FailedJobs(LetterStore):
    """Failed jobs as dead letters; their ids are the task ids.

    Nothing is added: what is set aside has failed as a job in the same commit.
    """

    shown_as = "jobs?state=failed"

    def __init__(self, store: JobStore, prefix: str) -> None:
        self.name = f"failed {prefix}"
        self._store = store
        self._prefix = prefix

    async def add(self, letter: DeadLetter) -> Added:
        return Added(await self.count())

    async def count(self) -> int:
        return (await self._store.ask(Finished(1))).kept.get("failed", 0)

    async def letters(self) -> AsyncIterator[StoredLetter]:
        position, after, more = 0, "", True
        while more:
            page = await self._store.ask(ListJobs("failed", after=after))
            for job in page.jobs:
                yield self.read(encode(letter_of(job, self._prefix)), position, job.id.encode())
                position += 1
            after, more = page.after, bool(page.after)

    async def remove(self, letter: StoredLetter) -> bool:
        job = await self._store.ask(Find(letter.task_id))
        if job is None or job.state != "failed":
            return False
        return await self._store.ask(DeleteJob(job.id)) == "failed"

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        raise EnricherError("the arguments of a failed job cannot be changed: enqueue another one")


def letter_of(job: JobRecord, prefix: str) -> DeadLetter:
    """A failed job as a dead letter."""
    error = job.error
    return DeadLetter(
        task_id=job.id,
        task_name=job.task,
        topic=f"{prefix}:{job.queue}",
        key=None,
        body=msgspec.json.encode({"id": job.id, "task": job.task, "arguments": msgspec.Raw(job.payload)}),
        stage="perform",
        error="" if error is None else error.message,
        error_type="" if error is None else error.type,
        path=None,
        traceback="" if error is None else error.traceback,
        attempts=max(job.attempt, 1),
        first_us=job.enqueued_ms * 1000,
        last_us=job.finished_ms * 1000,
    )
