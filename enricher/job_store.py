"""What jobs are kept in, as its users see it: requests, records, runs, how a run ends, and calls.

A `Call` is a question or an order as data. A store answers it, in the loop or blocking:

    await store.ask(Find(id))       blocking.ask(Enqueue((request,)))

The system of jobs speaks these words alone; ``adapters/redis/jobs`` knows what they are in Redis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import msgspec

from enricher.engine.effects import Effect
from enricher.engine.ports import Sink, Source
from enricher.errors import EnricherError
from enricher.runs import Run as Bulk
from enricher.runs import RunStore

T = TypeVar("T")
R = TypeVar("R", bound=Bulk)

RUNS = "runs"
"""The sink that writes how runs end."""

State = Literal["waiting", "scheduled", "running", "retrying", "succeeded", "failed", "cancelled"]

FINISHED: tuple[State, ...] = ("succeeded", "failed", "cancelled")


_QUEUE = re.compile(r"[A-Za-z0-9_.\-]+")
RESERVED = ("control", "deaths", "job", "late", "lost", "paused", "queues", "schedules", "served", "workers")
"""What stores keep besides queues, under names of the same kind."""


def queue_problem(name: object) -> str | None:
    """None for what can be the name of a queue, else what would be right."""
    if not isinstance(name, str) or not _QUEUE.fullmatch(name):
        return "the name of a queue: letters, digits, _, . and -"
    if name in RESERVED:
        return f"the name of a queue, which is none of {', '.join(RESERVED)}"
    return None


class StoreUnavailable(EnricherError):
    """The server of the jobs cannot be reached, or refuses everybody."""


class Unique(msgspec.Struct, frozen=True):
    """While somebody holds ``key``, another request that wants it gets the holder's id.

    It is held until the job is ``started`` or ``finished`` (succeeded, failed or cancelled), or for
    ``ttl_ms`` milliseconds (`time`).
    """

    key: str
    until: Literal["started", "finished", "time"] = "finished"
    ttl_ms: int = 0


class Limit(msgspec.Struct, frozen=True):
    """A limit over all processes: ``most`` runs at once, ``rate`` starts in ``per_ms`` (0: no limit)."""

    key: str
    most: int = 0
    rate: int = 0
    per_ms: int = 0


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job to enqueue. ``payload`` is the JSON array ``[args, kwargs]`` of ``perform``.

    It is due at ``at_ms`` (since 1970, UTC) if that is given, else in ``delay_ms`` of the server's time.
    ``parent`` is the job that enqueues it, ``trace`` the context (W3C's traceparent) in which that was done.
    """

    id: str
    task: str
    queue: str
    payload: bytes
    at_ms: int | None = None
    delay_ms: int = 0
    unique: Unique | None = None
    limits: tuple[Limit, ...] = ()
    parent: str = ""
    trace: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a worker has begun.

    ``attempt`` counts from 1; runs that a crash or a stop cut off do not count. ``number`` tells this run
    from every other of the job: the end of an older one is not written. ``entry`` is the id of the queue's
    entry. ``lost`` counts the runs whose worker went silent. ``cancelling``: somebody has cancelled it.
    Times are milliseconds since 1970, by the server's clock.
    """

    id: str
    task: str
    queue: str
    payload: bytes
    attempt: int
    number: int
    entry: str
    enqueued_ms: int
    started_ms: int
    lost: int = 0
    parent: str = ""
    trace: str = ""
    cancelling: bool = False


class JobError(msgspec.Struct, frozen=True):
    """What a run raised: names of type and module, its text, its traceback."""

    type: str
    message: str
    module: str = "builtins"
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class End(Effect, frozen=True, gc=False, kw_only=True):
    """How a run ended. All of it is written at once, with the entry's acknowledgement, or nothing.

    ``state`` ``retrying`` is due in ``delay_ms``; ``waiting`` hands the job back as if it had not begun.
    ``result`` is what others read as the result (JSON, see `enricher.jobs.results`), kept for ``result_ttl``
    seconds. ``children`` are enqueued with it.
    """

    sink: ClassVar[str] = RUNS
    run: Run
    state: State
    result: bytes = b""
    result_ttl: int = 3600
    delay_ms: int = 0
    error: JobError | None = None
    children: tuple[Request, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """An attempt that failed: its number (the count begins anew with a retry by hand), and when it ended."""

    at: int
    attempt: int
    error: JobError


class LogLine(msgspec.Struct, frozen=True):
    """What a job has said: when (by its worker's clock), in which attempt, and in which words."""

    at: int
    attempt: int
    text: str
    fields: Mapping[str, Any] = {}


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is stored. Times are milliseconds since 1970 (0: not yet), by the server's clock.

    ``unique`` is the key by which it is unique, ``limits`` are the keys of its limits, ``steps`` the outcomes
    of its steps (JSON) by name, ``failures`` its last attempts that were followed by another, ``log`` its
    last lines; pages of jobs are without these five.
    """

    id: str
    task: str
    queue: str
    state: State
    payload: bytes
    attempt: int = 0
    lost: int = 0
    enqueued_ms: int = 0
    due_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    worker: str = ""
    error: JobError | None = None
    progress: bytes = b""
    parent: str = ""
    cancelling: bool = False
    unique: str = ""
    limits: tuple[str, ...] = ()
    steps: Mapping[str, bytes] = {}
    failures: tuple[Failure, ...] = ()
    log: tuple[LogLine, ...] = ()

    @property
    def earlier(self) -> tuple[Failure, ...]:
        """The failures before the one that is its ``error``."""
        return self.failures if self.state in ("failed", "cancelled") else self.failures[:-1]


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue stands. ``oldest_ms``: for how long the first waiting job has waited, 0 if none waits.

    Of more than a thousand delayed jobs, those due first are told apart; all others count as scheduled.
    """

    name: str
    waiting: int
    running: int
    scheduled: int
    retrying: int
    oldest_ms: int
    paused: bool


class Call(msgspec.Struct, Generic[T], frozen=True):
    """Something to ask of a store; ``T`` is the answer."""


class Enqueue(Call[list[str]], frozen=True):
    """Keep jobs; the ids, each its own or that of who holds its `Unique`."""

    requests: tuple[Request, ...]


class Find(Call["JobRecord | None"], frozen=True):
    """The job with this id, if there is one."""

    id: str


class Result(Call["bytes | None"], frozen=True):
    """The stored result of a job: the JSON object that Celery's clients read too; None if there is none."""

    id: str


class Forget(Call[None], frozen=True):
    """Remove the stored result of a job."""

    id: str


class Cancel(Call["State | None"], frozen=True):
    """Cancel a job: at once, or by telling its worker if it runs. The state it was in, None: no such job.

    ``result`` is the result that one has which is cancelled at once.
    """

    id: str
    result: bytes = b""


class Progress(Call[bool], frozen=True):
    """Note how far a run is (JSON). False: it is somebody else's run by now."""

    run: Run
    progress: bytes


class AddToLog(Call[bool], frozen=True):
    """Keep lines of a run, each a `LogLine` as JSON. False: it is somebody else's run by now."""

    run: Run
    lines: bytes


class FindStep(Call["bytes | None"], frozen=True):
    """The stored outcome of a step of a job (JSON), if it has run."""

    id: str
    name: str


class StoreStep(Call[bool], frozen=True):
    """Store the outcome of a step of a run. False: it is somebody else's run by now."""

    run: Run
    name: str
    outcome: bytes


class Queues(Call[list[QueueFigures]], frozen=True):
    """How these queues stand."""

    names: tuple[str, ...]


class Pause(Call[bool], frozen=True):
    """Pause a queue, or resume it with ``paused`` off; whether that was news."""

    queue: str
    paused: bool = True


class JobStore(Protocol):
    """Answers calls, for coroutines. Raises `StoreUnavailable`."""

    async def ask(self, call: Call[T]) -> T: ...

    async def wait(self, id: str, timeout: float | None) -> bytes | None:  # noqa: A002
        """The stored result of a job once it has ended; what there is, if any, after ``timeout`` seconds."""
        ...

    async def close(self) -> None: ...


class BlockingJobStore(Protocol):
    """Answers calls, for plain code, from any thread and after a fork. Raises `StoreUnavailable`."""

    def ask(self, call: Call[T]) -> T: ...

    def wait(self, id: str, timeout: float | None) -> bytes | None:  # noqa: A002
        """As `JobStore.wait`."""
        ...

    def close(self) -> None: ...


class JobQueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where jobs are kept and how a worker reads them.

    ``url`` is the server of the queues, ``results_url`` that of the results ("": the same). ``lease``,
    ``poll``, ``max_block``, ``keep_for``, ``result_ttl`` and ``timeout`` are seconds.
    """

    url: str
    results_url: str = ""
    prefix: str
    queues: tuple[str, ...] = ("critical", "default", "low")
    concurrency: int = 8
    lease: float = 60.0
    poll: float = 1.0
    max_block: float = 60.0
    max_deliveries: int = 3
    keep_count: int = 10_000
    keep_for: float = 604_800.0
    result_ttl: int = 3600
    timeout: float = 5.0


class Shares(Protocol):
    """Divides free slots among queues."""

    def take(self, want: int) -> Sequence[tuple[str, int]]:
        """Every queue, in the order of reading, with the jobs to read of it; they add up to ``want``."""
        ...

    def served(self, counts: Mapping[str, int]) -> None:
        """How many jobs came of each queue after the last `take`."""
        ...


class Runner(Protocol):
    """What a source asks of whoever runs its jobs."""

    @property
    def abandoned(self) -> int:
        """How many threads run that nobody waits for any more."""
        ...

    def cancel(self, id: str) -> None:  # noqa: A002
        """Somebody has cancelled this job."""

    def lapse(self, run: Run) -> bool:
        """The job has begun elsewhere: end this run of it. False: it does not run any more."""
        ...

    def goes_on(self, id: str) -> bool:  # noqa: A002
        """Whether a thread of this job has not returned. Another thread may ask."""
        ...

    def failure(self, run: Run, stage: str, text: str, error: Exception | None) -> End:
        """The end of a run that the engine sets aside."""
        ...

    async def stop(self) -> Collection[str]:
        """End every run that can be ended; the ids of those that go on, for a thread cannot be ended."""
        ...


Description = Callable[[], bytes]
"""What others see of a worker (JSON), asked by another thread whenever it is heard of."""


class JobQueues(Protocol):
    """The jobs of one server: the store, the sink that ends runs, and the source of a worker's runs."""

    store: JobStore
    sink: Sink

    def runs(self, kind: type[R]) -> RunStore[R]:
        """Where the run is kept that does the same with many jobs."""
        ...

    def source(
        self,
        runner: Runner,
        shares: Shares,
        *,
        description: Description = ...,
        end: Callable[[], None] = ...,
    ) -> Source:
        """Runs for the routes ``{prefix}:{queue}``, each with the `Run` as its body (JSON).

        ``end`` is called, perhaps several times, when somebody has told this worker to stop.
        """
        ...
