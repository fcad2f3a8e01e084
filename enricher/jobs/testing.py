"""Jobs in tests, without Redis and without a worker.

    with fake() as jobs:                      collects what is enqueued
        sign_up("a@example.com")
        assert jobs.of(WelcomeWorker)[0].kwargs == {"user_id": 7}
        jobs.drain()                          runs it, and what it enqueues

    with inline():                            runs each job at once, where it is enqueued
        sign_up("a@example.com")

Times are not waited for. Arguments make the way through JSON, as they do in earnest. What a job raises comes
out of where it is run; `Retry` runs it again, up to the class's ``max_retries``. With pytest there are the
fixtures of `enricher.jobs.pytest_fixtures`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from enricher.job_store import FINISHED, Call, Enqueue
from enricher.jobs import client, errors, results
from enricher.jobs.context import AsyncJob, Job, SyncJob, current
from enricher.jobs.definition import Definition, task_name
from enricher.jobs.fakes import FakeJob, FakeStore
from enricher.jobs.payload import MAX_PAYLOAD
from enricher.jobs.worker import Worker, definition_of, imported_worker
from enricher.log import log

T = TypeVar("T")


class FakeJobs:
    """The jobs of a test, in the order in which they were enqueued; see `fake`."""

    max_payload = MAX_PAYLOAD

    def __init__(self, *, inline: bool = False) -> None:
        self._inline = inline
        self._store = FakeStore()

    @property
    def all(self) -> list[FakeJob]:
        """Every job."""
        return list(self._store.jobs.values())

    @property
    def waiting(self) -> list[FakeJob]:
        """Those that have not run."""
        return [each for each in self.all if each.state not in (*FINISHED, "running")]

    def of(self, worker: type[Worker]) -> list[FakeJob]:
        """The jobs of this class."""
        return [each for each in self.all if each.task == task_name(worker)]

    def clear(self) -> None:
        """Forget all of them."""
        self._store = FakeStore()

    def drain(self) -> int:
        """Run what waits, and what that enqueues, until nothing waits; how many runs it took."""
        runs = 0
        while waiting := self.waiting:
            self._run(waiting[0])
            runs += 1
        return runs

    async def drain_async(self) -> int:
        """As `drain`, with async jobs in the loop that runs."""
        runs = 0
        while waiting := self.waiting:
            await self._run_async(waiting[0])
            runs += 1
        return runs

    # -- one run -----------------------------------------------------------------------------------

    def _run(self, job: FakeJob) -> None:
        with self._running(job) as run:
            run.value = run.perform()
            if run.definition.kind == "async":
                run.value = _waited_for(run.value)

    async def _run_async(self, job: FakeJob) -> None:
        with self._running(job) as run:
            run.value = run.perform()
            if run.definition.kind == "async":
                run.value = await run.value

    @contextmanager
    def _running(self, job: FakeJob) -> Iterator[_FakeRun]:
        worker = imported_worker(job.task)
        if worker is None:
            raise LookupError(f"no class of task {job.task!r} is imported: import it, so that it can run")
        definition = definition_of(worker)
        job.state, job.attempt = "running", job.attempt + 1
        run = _FakeRun(definition, job, self)
        try:
            with current(run.job):
                yield run
            result = results.success(job.id, run.value, children=[each.id for each in run.job.children])
        except errors.Cancel as error:
            self._store.end(job, "cancelled", results.revoked(job.id, error.why))
        except Exception as error:
            if isinstance(error, errors.Retry) and job.attempt <= definition.max_retries:
                job.state = "retrying"
                self._store.results[job.id] = results.retry(job.id, error)
                return
            self._store.end(job, "failed", results.failure(job.id, error))
            raise
        else:
            self._store.end(job, "succeeded", result)
            self.answer(Enqueue(tuple(run.job.children)))

    # -- the store ---------------------------------------------------------------------------------

    def blocking(self) -> _Blocking:
        return _Blocking(self)

    def in_loop(self) -> _InLoop:
        return _InLoop(self)

    def answer(self, call: Call[T]) -> T:
        """What a store answers, of which the jobs of a call that enqueues have run, if they are to."""
        known = self._store.answer(call)
        if isinstance(call, Enqueue):
            for job in self._to_run(known):
                self._run(job)
        return known  # type: ignore[no-any-return]

    async def answer_async(self, call: Call[T]) -> T:
        """As `answer`, with async jobs in the loop that runs."""
        known = self._store.answer(call)
        if isinstance(call, Enqueue):
            for job in self._to_run(known):
                await self._run_async(job)
        return known  # type: ignore[no-any-return]

    def result(self, id: str) -> bytes | None:  # noqa: A002
        """The stored result of a job that has ended."""
        job = self._store.jobs.get(id)
        if job is not None and job.state not in FINISHED:
            raise errors.WrongPlace(f"job {id} has not run: call drain() first, or use inline()")
        return self._store.results.get(id)

    def _to_run(self, ids: list[str]) -> Iterator[FakeJob]:
        while self._inline:
            job = next((job for job in map(self._store.jobs.__getitem__, ids) if job in self.waiting), None)
            if job is None:
                return
            yield job


class _FakeRun:
    """A run under way: its class, what `job()` gives, and at last what `perform` has returned."""

    def __init__(self, definition: Definition, job: FakeJob, jobs: FakeJobs) -> None:
        args, kwargs = definition.arguments.decode(job.request.payload)
        self.definition = definition
        self.perform: Callable[[], Any] = lambda: definition.perform(*args, **kwargs)
        self.value: Any = None
        outlet = _Outlet(job)
        self.job: Job
        if definition.kind == "async":
            self.job = AsyncJob(job.run(), outlet, _InLoop(jobs))
        else:
            self.job = SyncJob(job.run(), outlet, jobs.answer)


class _Outlet:
    def __init__(self, job: FakeJob) -> None:
        self._job = job

    def progress(self, progress: bytes) -> None:
        self._job.progress = progress

    def log(self, message: str, fields: Mapping[str, Any]) -> None:
        log.summary(message, job=self._job.id, task=self._job.task, **fields)


class _Blocking:
    """The jobs of a test as a `BlockingJobStore`."""

    def __init__(self, jobs: FakeJobs) -> None:
        self._jobs = jobs

    def ask(self, call: Call[T]) -> T:
        return self._jobs.answer(call)

    def wait(self, id: str, timeout: float | None) -> bytes | None:  # noqa: A002
        return self._jobs.result(id)

    def close(self) -> None: ...


class _InLoop:
    """The jobs of a test as a `JobStore`."""

    def __init__(self, jobs: FakeJobs) -> None:
        self._jobs = jobs

    async def ask(self, call: Call[T]) -> T:
        return await self._jobs.answer_async(call)

    async def wait(self, id: str, timeout: float | None) -> bytes | None:  # noqa: A002
        return self._jobs.result(id)

    async def close(self) -> None: ...


_active: list[FakeJobs] = []


@contextmanager
def fake() -> Iterator[FakeJobs]:
    """Inside of it jobs are collected, in every thread of the process, and run by `drain`."""
    with _installed(FakeJobs()) as jobs:
        yield jobs


@contextmanager
def inline() -> Iterator[FakeJobs]:
    """Inside of it each job runs at once, in the code that enqueues it."""
    with _installed(FakeJobs(inline=True)) as jobs:
        yield jobs


def drain() -> int:
    """Run what waits in the innermost `fake`; see `FakeJobs.drain`."""
    if not _active:
        raise errors.WrongPlace("drain() was called outside of fake(): there is nothing to run")
    return _active[-1].drain()


@contextmanager
def _installed(jobs: FakeJobs) -> Iterator[FakeJobs]:
    _active.append(jobs)
    try:
        with client.replaced(jobs):
            yield jobs
    finally:
        _active.remove(jobs)


def _waited_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns. Where a loop runs in this thread it has another thread, with a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()
