"""One run of a job: the class is found, `perform` is called, and out comes the `End` of the run.

    async       in the loop, cancelled at its limits
    sync        in a thread of its own, or with ``isolation = "process"`` in a child

A run ends as succeeded, retrying, failed or cancelled; at a stop it is handed back. The handler of the route
returns one effect, so that whatever belongs to the end of a run is written at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import anyio

from enricher.engine.effects import Effect
from enricher.engine.isolation import apart, current_task
from enricher.engine.router import Context
from enricher.job_store import End, JobError, Run
from enricher.jobs import results
from enricher.jobs.client import Stores, bound
from enricher.jobs.context import Job, running
from enricher.jobs.definition import Definition
from enricher.jobs.errors import SoftTimeLimitExceeded, TimeLimitExceeded
from enricher.jobs.metrics import Ended
from enricher.jobs.outcome import Drop, Fail, TryAgain, UnknownTask, judge, judge_unknown
from enricher.jobs.processes import JobProcesses
from enricher.jobs.threads import JobThreads
from enricher.log import log

Find = Callable[[str], Definition | None]


class JobRunner:
    """Runs jobs whose classes ``find`` knows by the names of their tasks.

    ``time_limit`` and ``result_ttl`` (seconds) hold where a class does not say. It is the handler of the
    routes, and the `enricher.job_store.Runner` of the source.
    """

    def __init__(
        self,
        find: Find,
        threads: JobThreads,
        processes: JobProcesses,
        stores: Stores,
        ended: Ended,
        *,
        time_limit: float,
        result_ttl: int,
    ) -> None:
        self._find = find
        self._threads = threads
        self._processes = processes
        self._stores = stores
        self._ended = ended
        self._time_limit = time_limit
        self._result_ttl = result_ttl
        self._stopping = False
        # Runs under way: what ends them, and why it was asked to.
        self._under_way: dict[str, tuple[asyncio.Task[Any], Job, Run]] = {}
        self._cancelled: set[str] = set()

    async def __call__(self, run: Run, _: Context) -> Sequence[Effect]:
        """The end of a run."""
        definition = self._find(run.task)
        if run.cancelling:
            return [self._dropped(run, definition, "")]
        if definition is None:
            known = UnknownTask(f"no class is registered for task {run.task!r} in this worker")
            return [self._after(run, None, judge_unknown(run.attempt), known)]
        began = perf_counter()
        end = await self._end(run, definition)
        self._ended.note(run.task, end, perf_counter() - began)
        return [end]

    async def _end(self, run: Run, definition: Definition) -> End:
        hard = definition.time_limit or self._time_limit
        try:
            store, sync = self._stores.in_loop(), definition.kind == "sync"
            options = {"time_limit": hard, "max_payload": self._stores.max_payload}
            async with running(run, store, sync=sync, **options) as job:
                self._under_way[run.id] = current_task(), job, run
                with bound(self._stores):
                    value = await self._perform(run, definition, job, hard)
            result = results.success(run.id, value, children=[child.id for child in job.children])
        except Exception as error:  # noqa: BLE001  a job may fail in any way; it is judged
            return await self._failed(run, definition, error)
        except asyncio.CancelledError as error:
            if self._stopping:
                return End(run=run, state="waiting")
            if run.id in self._cancelled:
                return self._dropped(run, definition, "")
            raise RuntimeError("the job let out the cancellation of something it waited for") from error
        finally:
            # Another run of the job may have begun here, after this one was taken for dead.
            if run.id in self._under_way and self._under_way[run.id][2] is run:
                del self._under_way[run.id]
                self._cancelled.discard(run.id)
        ttl = definition.result_ttl or self._result_ttl
        return End(run=run, state="succeeded", result=result, result_ttl=ttl, children=tuple(job.children))

    async def _perform(self, run: Run, definition: Definition, job: Job, hard: float) -> Any:
        soft = definition.soft_time_limit
        if definition.isolation == "process":
            store = self._stores.in_loop()
            return await self._processes.run(run, definition, job, store, soft=soft, hard=hard)
        args, kwargs = definition.arguments.decode(run.payload)
        if definition.kind == "async":
            return await self._in_loop(partial(definition.perform, *args, **kwargs), run, soft, hard)
        return await self._threads.run(
            partial(definition.perform, *args, **kwargs), name=run.id, soft=soft, hard=hard
        )

    async def _in_loop(
        self, perform: Callable[[], Awaitable[Any]], run: Run, soft: float | None, hard: float
    ) -> Any:
        try:
            return await apart(perform, timeout=min(soft or hard, hard), name=run.task)
        except TimeoutError as error:
            if "took longer than" not in str(error):
                raise
            kind = SoftTimeLimitExceeded if soft is not None and soft < hard else TimeLimitExceeded
            raise kind(min(soft or hard, hard)) from error

    # -- how runs end ------------------------------------------------------------------------------

    async def _failed(self, run: Run, definition: Definition, error: Exception) -> End:
        if run.id in self._cancelled:
            return self._dropped(run, definition, "")
        verdict = judge(definition, run.attempt, error)
        if isinstance(verdict, TryAgain):
            # A thread past its hard limit may go on: no other run begins beside it.
            await self._threads.ended(run.id)
        return self._after(run, definition, verdict, error)

    def _after(
        self, run: Run, definition: Definition | None, verdict: TryAgain | Fail | Drop, error: Exception
    ) -> End:
        if isinstance(verdict, Drop):
            return self._dropped(run, definition, verdict.why)
        problem = results.job_error(error, run.id)
        told = str(problem)[:500]
        ttl = (definition and definition.result_ttl) or self._result_ttl
        if isinstance(verdict, TryAgain):
            log.info("job_retried", task=run.task, job=run.id, attempt=run.attempt, error=told)
            return End(
                run=run,
                state="retrying",
                delay_ms=int(verdict.delay * 1000),
                error=problem,
                result=results.retry(run.id, error),
                result_ttl=ttl,
            )
        log.warning("job_failed", task=run.task, job=run.id, attempt=run.attempt, error=told)
        return End(
            run=run, state="failed", error=problem, result=results.failure(run.id, error), result_ttl=ttl
        )

    def _dropped(self, run: Run, definition: Definition | None, why: str) -> End:
        ttl = (definition and definition.result_ttl) or self._result_ttl
        error = JobError("JobCancelled", why, "enricher.jobs.errors")
        return End(
            run=run, state="cancelled", error=error, result=results.revoked(run.id, why), result_ttl=ttl
        )

    # -- what the source asks ----------------------------------------------------------------------

    @property
    def abandoned(self) -> int:
        return self._threads.abandoned

    def cancel(self, id: str) -> None:  # noqa: A002
        if id not in self._under_way:
            return
        task, job, _ = self._under_way[id]
        self._cancelled.add(id)
        job.cancelled = True
        if not self._threads.cancel(id) and not self._processes.cancel(id):
            task.cancel()

    def lapse(self, run: Run) -> bool:
        if run.id not in self._under_way or self._under_way[run.id][2].number != run.number:
            return False
        self.cancel(run.id)
        return True

    def goes_on(self, id: str) -> bool:  # noqa: A002
        return not self._threads.returned(id)

    def failure(self, run: Run, stage: str, text: str, error: Exception | None) -> End:
        problem = JobError(type(error).__name__ if error else "Refused", f"{stage}: {text}")
        return End(
            run=run,
            state="failed",
            error=problem,
            result=results.failure(run.id, problem),
            result_ttl=self._result_ttl,
        )

    async def stop(self) -> Collection[str]:
        self._stopping = True
        # Nobody may wait for them any more: the engine lets go of its handlers before.
        going_on = self._threads.running()
        ending = [task for id_, (task, *_) in self._under_way.items() if id_ not in going_on]
        for task in ending:
            task.cancel()
        if ending:
            with anyio.move_on_after(2):
                await asyncio.wait(ending)
        return going_on

