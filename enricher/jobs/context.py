"""What a job knows of itself while it runs: `job()`.

    class ImportWorker(Worker):
        @classmethod
        def perform(cls, files: list[str]) -> None:
            for done, file in enumerate(files):
                job().step(file, import_file, file)
                job().progress(done + 1, len(files))
            job().enqueue(ReportWorker, files)

An async job awaits its steps; all else reads the same.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import msgspec

from enricher.engine.retry import Backoff
from enricher.job_store import Call, FindStep, JobStore, Request, Run, StoreStep, StoreUnavailable
from enricher.jobs.errors import BadArguments, RunLost, WrongPlace
from enricher.jobs.handle import Handle
from enricher.jobs.payload import MAX_PAYLOAD
from enricher.jobs.progress import ProgressWriter
from enricher.jobs.worker import Enqueuer, Worker
from enricher.log import log
from enricher.texts import text_of

T = TypeVar("T")

MOST_IN_CHILDREN = 64 * 1024 * 1024
"""Bytes of arguments of all that a job enqueues: they are kept in one go, with its success."""

_STORING = 5.0  # seconds that a job which is cancelled waits until what it did is stored

_current: ContextVar[Job] = ContextVar("enricher_job")


def job() -> Job:
    """The job whose `perform` this is called in, or a task of its. Raises `WrongPlace` elsewhere."""
    try:
        return _current.get()
    except LookupError:
        where = "perform, while a worker runs it, or in a thread with a copy of its context"
        raise WrongPlace(f"job() was called where no job runs: call it in {where}") from None


class Outlet(Protocol):
    """Where a job's words go, from whatever thread."""

    def progress(self, progress: bytes) -> None: ...

    def log(self, message: str, fields: Mapping[str, Any]) -> None: ...


class Job(ABC):
    """A job that runs.

    ``id`` is the same over all attempts; ``attempt`` counts from 1. ``enqueued_at`` and ``deadline`` (when
    its time limit ends it, None: never) are in UTC. ``cancelled`` says that it should stop: somebody has
    cancelled it, its time is up, or it is another worker's by now. ``children`` are enqueued with its
    success.
    """

    def __init__(
        self, run: Run, outlet: Outlet, *, time_limit: float | None = None, max_payload: int = MAX_PAYLOAD
    ) -> None:
        self.id = run.id
        self.task = run.task
        self.queue = run.queue
        self.attempt = run.attempt
        self.enqueued_at = datetime.fromtimestamp(run.enqueued_ms / 1000, UTC)
        # By this machine's clock, for that is what measures the limit, and what the job reads.
        self.deadline = None if time_limit is None else datetime.now(UTC) + timedelta(seconds=time_limit)
        self.cancelled = False
        self.children: list[Request] = []
        self._children_bytes = 0
        self._run = run
        self._outlet = outlet
        self._max_payload = max_payload
        self._steps: set[str] = set()

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Note how far it is, as often as you like: a few times a second, and at the end, it is written."""
        fields = {"done": done, "total": total, "note": note}
        self.report(msgspec.json.encode({k: v for k, v in fields.items() if v not in (None, "")}))

    def report(self, progress: bytes) -> None:
        """As `progress`, of what is JSON already."""
        self._outlet.progress(progress)

    def log(self, message: str, /, **fields: Any) -> None:
        """Write a line to the worker's log, with the job's id and task; the job keeps its last ones too."""
        self._outlet.log(message, fields)

    def enqueue(self, worker: type[Worker] | Enqueuer, /, *args: Any, **kwargs: Any) -> Handle:
        """Enqueue a job of that class when this one succeeds; not if it fails or is tried again.

        ``worker`` may have options: ``job().enqueue(ReportWorker.options(delay=60), 7)``. Raises
        `BadArguments`. The handle's `get` and `wait` raise `WrongPlace`: they could only wait for ever.
        """
        enqueuer = worker if isinstance(worker, Enqueuer) else Enqueuer(worker)
        request = enqueuer.request(args, kwargs, self._max_payload, parent=self.id)
        self._children_bytes += len(request.payload)
        if self._children_bytes > MOST_IN_CHILDREN:
            expected = f"at most {MOST_IN_CHILDREN:,} bytes of arguments in all that a job enqueues"
            raise BadArguments("$", expected, f"{self._children_bytes:,} bytes with this one")
        self.children.append(request)
        return Handle(request.id, child=True)

    @abstractmethod
    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, as JSON makes it (a tuple is a list); to be awaited in an async job.

        It is stored before the job goes on, and the function is not called when the job is tried again. What
        it raises is not stored. ``name`` says which step of the job it is. Raises ValueError where that name
        has been used, TypeError for a result that is no JSON, `RunLost`. While the store is away it waits.
        """

    @contextmanager
    def _one_step(self, name: str) -> Iterator[None]:
        if name in self._steps:
            raise ValueError(f"step {name!r} has run in this job: give each step a name of its own")
        self._steps.add(name)
        try:
            yield
        except BaseException:
            self._steps.discard(name)  # it may be tried again at once
            raise

    def _outcome(self, name: str, result: Any) -> StoreStep:
        try:
            return StoreStep(self._run, name, msgspec.json.encode(result))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            text = f"step {name!r} returned what is no JSON, so that it cannot be stored: {text_of(error)}"
            raise TypeError(text) from error

    def _checked(self, step: StoreStep, stored: bool) -> Any:
        if not stored:
            self.cancelled = True
            raise RunLost(f"step {step.name!r} was not stored: job {self.id} is another worker's by now")
        return msgspec.json.decode(step.outcome)


async def patiently(store: JobStore, call: Call[T]) -> T:
    """The answer of the store, however long it is away: that is no fault of the job."""
    backoff, attempt = Backoff(base=0.05, max_delay=1.0), 0
    while True:
        try:
            return await store.ask(call)
        except StoreUnavailable:
            attempt += 1
            await asyncio.sleep(backoff.delay(attempt))


class AsyncJob(Job):
    """A job whose `perform` is a coroutine function."""

    def __init__(self, run: Run, outlet: Outlet, store: JobStore, **options: Any) -> None:
        super().__init__(run, outlet, **options)
        self._store = store

    async def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        with self._one_step(name):
            found = await patiently(self._store, FindStep(self.id, name))
            if found is not None:
                return msgspec.json.decode(found)
            result = function(*args, **kwargs)
            outcome = self._outcome(name, await result if inspect.isawaitable(result) else result)
            # What was done is stored, even if the job is cancelled just now.
            storing = asyncio.ensure_future(patiently(self._store, outcome))
            try:
                stored = await asyncio.shield(storing)
            except asyncio.CancelledError:
                await asyncio.wait((storing,), timeout=_STORING)
                if storing.cancel():
                    raise
                storing.exception()
                raise
            return self._checked(outcome, stored)


class SyncJob(Job):
    """A job whose `perform` is a plain function; ``ask`` asks the store and waits for the answer."""

    def __init__(self, run: Run, outlet: Outlet, ask: Callable[[Call[Any]], Any], **options: Any) -> None:
        super().__init__(run, outlet, **options)
        self._ask = ask

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        with self._one_step(name):
            found = self._ask(FindStep(self.id, name))
            if found is not None:
                return msgspec.json.decode(found)
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"step {name!r} is async in a job that is not: hand over a plain function")
            outcome = self._outcome(name, function(*args, **kwargs))
            return self._checked(outcome, self._ask(outcome))


class _InLoop:
    """The outlet of jobs in this process."""

    def __init__(self, run: Run, writer: ProgressWriter) -> None:
        self._run = run
        self._writer = writer
        self.progress = writer.set

    def log(self, message: str, fields: Mapping[str, Any]) -> None:
        self._writer.say(message, fields)
        # The one method that holds no line back: how many are enough is for the job to say.
        log.summary(message, **{"job": self._run.id, "task": self._run.task, **fields})


class _FromThread:
    """Asks a store of this loop, for threads that wait for the answer."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, call: Call[Any]) -> Any:
        # Not `run_coroutine_threadsafe`: its future has a lock, and the loop would wait for that for ever if
        # an exception for a limit came in this thread just as it takes that.
        answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._loop.call_soon_threadsafe(self._begin, call, answers)
        answer, error = answers.get()
        if error is not None:
            raise error
        return answer

    def _begin(self, call: Call[Any], answers: queue.SimpleQueue[tuple[Any, Exception | None]]) -> None:
        task = self._loop.create_task(self._answer(call, answers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, call: Call[Any], answers: queue.SimpleQueue[tuple[Any, Exception | None]]
    ) -> None:
        try:
            answers.put((await patiently(self._store, call), None))
        except Exception as error:  # noqa: BLE001  it is the thread's
            answers.put((None, error))
        except asyncio.CancelledError:
            answers.put((None, StoreUnavailable("the worker has stopped")))
            raise


@contextmanager
def current(one: Job) -> Iterator[None]:
    """Inside of it, and of tasks begun there, `job()` is this one."""
    token = _current.set(one)
    try:
        yield
    finally:
        _current.reset(token)


@asynccontextmanager
async def running(run: Run, store: JobStore, *, sync: bool, **options: Any) -> AsyncIterator[Job]:
    """The run's job, which `job()` gives inside of it; leaving it writes its last progress and lines.

    A ``sync`` one is for a thread: it asks the store through this loop. ``options`` are those of `Job`.
    """
    writer = ProgressWriter(run, store)
    outlet = _InLoop(run, writer)
    if sync:
        one: Job = SyncJob(run, outlet, _FromThread(store).ask, **options)
    else:
        one = AsyncJob(run, outlet, store, **options)
    writer.lost = lambda: setattr(one, "cancelled", True)
    try:
        with current(one):
            yield one
    finally:
        one.cancelled = True  # a thread that goes on is past its limit, or its worker stops
        await writer.close()
