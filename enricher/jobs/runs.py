"""All jobs that match, retried, cancelled or deleted in a run; or a queue cleared.

A job to which it was done is in another state, is younger than the run, or has gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Literal

import anyio

from enricher.dead_letters.bulk import RateLimit, Report, attempt_each
from enricher.job_admin import JOB_ID, ClearQueue, Finished, ListJobs, ListQueues
from enricher.job_store import FINISHED, JobRecord, JobStore, State
from enricher.jobs import deeds, results
from enricher.jobs.deeds import Asks, Deed
from enricher.jobs.selection import JobFilter
from enricher.runs import Left, Run

Verb = Literal["retry", "cancel", "delete", "clear"]

VERBS: Mapping[State, tuple[Verb, ...]] = {
    "running": ("cancel",),
    "waiting": ("cancel", "delete"),
    "scheduled": ("retry", "cancel", "delete"),
    "retrying": ("retry", "cancel", "delete"),
    "failed": ("retry", "delete"),
    "cancelled": ("retry", "delete"),
    "succeeded": ("delete",),
}
"""What can be done with jobs of a state."""

_AT_ONCE = 200
# A call holds up everybody who asks the store; a job takes it about 0.2 ms.
_CLEARED_AT_ONCE = 25


class JobRun(Run, frozen=True, kw_only=True):
    """``verb`` done with the jobs that are ``wanted``, which are of one state.

    ``clear`` cancels all that wait, and takes them out of their queues as well.
    """

    verb: Verb
    wanted: JobFilter


async def now_us(jobs: Asks) -> int:
    """The time by the server's clock, by which jobs have theirs."""
    return (await jobs.ask(Finished(sample=1))).now_ms * 1000


def jobs_left(store: JobStore) -> Callable[[JobRun], AbstractAsyncContextManager[Left]]:
    """What is left of a run, however many these are: they are looked through twice, and never held."""

    @asynccontextmanager
    async def left(run: JobRun) -> AsyncIterator[Left]:
        number = 0
        async for ids in _pages(store, run):
            number += len(ids)
        yield Left(number, partial(_clear if run.verb == "clear" else _each, store, run))

    return left


async def _each(store: JobStore, run: JobRun, report: Report, limit: RateLimit) -> None:
    acts: dict[Verb, Callable[[str], Awaitable[Deed]]] = {
        "retry": partial(deeds.retry, store),
        "cancel": partial(deeds.cancel, store, reason=f"by {run.who}"),
        "delete": partial(deeds.delete, store),
    }
    async for ids in _pages(store, run):
        await attempt_each(ids, acts[run.verb], report, limit)
        if report.stopped:
            return


async def _clear(store: JobStore, run: JobRun, report: Report, limit: RateLimit) -> None:
    result = results.revoked(JOB_ID, f"the queue was cleared by {run.who}")
    for queue in list(run.wanted.queues) or await store.ask(ListQueues()):
        call = ClearQueue(queue, result, _CLEARED_AT_ONCE, until_ms=run.began_us // 1000)
        while not report.stopped and (cleared := await store.ask(call)).entries:
            report.outcomes["cancelled"] += len(cleared.jobs)
            report.gone += len(cleared.jobs)
            await anyio.sleep(len(cleared.jobs) / (limit.rate or 1000))


async def _pages(store: JobStore, run: JobRun) -> AsyncIterator[list[str]]:
    """The ids of the jobs that are left, some at a time. What is done to them moves no page."""
    (state,) = run.wanted.states
    queues = [""] if state in FINISHED else list(run.wanted.queues)
    for queue in queues or await store.ask(ListQueues()):
        after = ""
        while True:
            page = await store.ask(ListJobs(state, queue, after, _AT_ONCE))
            yield [job.id for job in page.jobs if run.wanted.matches(job) and _is_left(job, run)]
            after = page.after
            if not after:
                break


def _is_left(job: JobRecord, run: JobRun) -> bool:
    """Whether it was there when the run began, and has not been dealt with since."""
    since = job.finished_ms if job.state in FINISHED else max(job.enqueued_ms, job.started_ms)
    return since * 1000 <= run.began_us and not (run.verb == "cancel" and job.cancelling)
