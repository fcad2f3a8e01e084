"""What people do with jobs, one at a time, and what came of it in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol, TypeVar

from enricher.job_admin import JOB_ID, ClearQueue, DeleteJob, RetryJob, RetryRefused
from enricher.job_store import FINISHED, Call, Cancel, State
from enricher.jobs import results

T = TypeVar("T")


class Asks(Protocol):
    """Asks the store of jobs."""

    async def ask(self, call: Call[T]) -> T: ...


class Deed(NamedTuple):
    """What became of a job: ``label`` for people; ``done`` where it was what was wanted."""

    label: str
    done: bool


GONE = Deed("no such job", done=False)


async def retry(jobs: Asks, id: str) -> Deed:  # noqa: A002
    """Let it wait for a worker now."""
    answer = await jobs.ask(RetryJob(id))
    if isinstance(answer, RetryRefused):
        return Deed(f"not retried: job {answer.holder} holds its unique lock", done=False)
    if answer in ("failed", "cancelled"):
        return Deed("waits again", done=True)
    others = {
        "scheduled": Deed("waits, due now", done=True),
        "retrying": Deed("waits, due now", done=True),
        "waiting": Deed("waits already", done=True),
        "running": Deed("not retried: it runs", done=False),
        "succeeded": Deed("not retried: it has succeeded; enqueue it anew", done=False),
    }
    return others.get(answer or "", GONE)


async def cancel(jobs: Asks, id: str, reason: str = "") -> Deed:  # noqa: A002
    """Cancel it; one that runs is told to stop."""
    answer = await jobs.ask(Cancel(id, results.revoked(id, reason)))
    if answer == "running":
        return Deed("told to stop", done=True)
    if answer in FINISHED:
        return Deed(f"not cancelled: it has {_ended(answer)}", done=False)
    return GONE if answer is None else Deed("cancelled", done=True)


async def delete(jobs: Asks, id: str) -> Deed:  # noqa: A002
    """Remove it with its result."""
    answer = await jobs.ask(DeleteJob(id))
    if answer == "running":
        return Deed("not deleted: it runs; cancel it first", done=False)
    return GONE if answer is None else Deed("deleted", done=True)


async def clear(jobs: Asks, queue: str, waiting: int) -> AsyncIterator[int]:
    """Cancel the jobs that wait in a queue, of which there are ``waiting``; how many went, after each part.

    What comes meanwhile stays.
    """
    done = 0
    result = results.revoked(JOB_ID, "the queue was cleared")
    while gone := (await jobs.ask(ClearQueue(queue, result))).entries:
        done += gone
        yield done
        if done >= waiting:
            return


def _ended(state: State) -> str:
    return "been cancelled" if state == "cancelled" else state
