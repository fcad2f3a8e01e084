"""What people ask of the jobs: pages of them, another try, an end, who works on what. Calls of a `JobStore`.

None of them holds up the store for long, however many jobs there are: what is asked for is paged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from enricher.job_store import Call, JobRecord, State

JOB_ID = "{id of the job}"
"""Stands for the id of a job in a result that is one for many."""


class JobPage(msgspec.Struct, frozen=True):
    """Jobs, and ``after``, where the next page begins ("": there is none)."""

    jobs: list[JobRecord]
    after: str


class ListJobs(Call[JobPage], frozen=True):
    """A page of the jobs of a state: of one queue, or where they are finished of all of them ("").

    What waits or runs comes in its order, what is delayed by when it is due, what is finished the newest
    first. At most ``count`` are looked at; a page without jobs may not be the last.
    """

    state: State
    queue: str = ""
    after: str = ""
    count: int = 100


class RetryRefused(msgspec.Struct, frozen=True):
    """Another try was not given: ``holder`` has the key that makes the job unique."""

    holder: str


class RetryJob(Call["State | RetryRefused | None"], frozen=True):
    """Let a job that has failed, was cancelled, or is delayed wait for a worker now; its tries begin anew.

    Answers the state it was in; nothing is done to any other. None: there is no such job.
    """

    id: str


class DeleteJob(Call["State | None"], frozen=True):
    """Remove a job with its result, unless it runs. The state it was in; None: there is no such job."""

    id: str


class Cleared(msgspec.Struct, frozen=True):
    """Jobs that were cancelled, and how many entries the queue has fewer (0: none was left)."""

    entries: int
    jobs: list[str]


class ClearQueue(Call[Cleared], frozen=True):
    """Cancel the next ``count`` jobs that wait in a queue, of those that began to by ``until_ms`` (0: all).

    ``result`` is the result that each has, with `JOB_ID` for its id.
    """

    queue: str
    result: bytes = b""
    count: int = 100
    until_ms: int = 0


class ListQueues(Call[list[str]], frozen=True):
    """The queues that jobs were ever enqueued to, by name."""


Order = Literal["quiet", "stop", ""]
"""To begin no more jobs; to do so and end; to begin jobs again."""


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker that is there: when it was last heard of (ms since 1970), what it says of itself (JSON).

    ``told`` is the order it was given last.
    """

    name: str
    heard_ms: int
    description: bytes
    told: str = ""

    @property
    def said(self) -> Mapping[str, Any]:
        """What it says of itself, read."""
        try:
            found = msgspec.json.decode(self.description)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}
        return found if isinstance(found, dict) else {}


def served(workers: Iterable[WorkerRecord]) -> Counter[str]:
    """How many workers serve each queue."""
    return Counter(queue for worker in workers for queue in worker.said.get("queues", ()))


class ListWorkers(Call["list[WorkerRecord]"], frozen=True):
    """The workers that are there, by name."""


class TellWorker(Call[bool], frozen=True):
    """Give a worker an order, which holds as long as it lives. False: there is no such worker."""

    name: str
    order: Order


class Rate(msgspec.Struct, frozen=True):
    """How many jobs of a queue came to an end per second, and how many of these failed."""

    ended: float
    failed: float


class FinishedFigures(msgspec.Struct, frozen=True):
    """How many finished jobs are kept, by state, and how fast jobs come to an end now, by queue.

    ``now_ms`` is the server's time.
    """

    now_ms: int
    kept: Mapping[State, int]
    rates: Mapping[str, Rate]


class Finished(Call[FinishedFigures], frozen=True):
    """How many finished jobs are kept, and how fast they have come in during the last minute.

    Of each state the newest ``sample`` are looked at.
    """

    sample: int = 500
