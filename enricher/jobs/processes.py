"""Where jobs run that ask for a process of their own: kept warm, one job at a time, and killed for sure.

A child is a Python that is started anew, never a fork of this process, and leads a process group: whatever it
starts goes with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import anyio

from enricher.job_store import JobStore, Run
from enricher.jobs.child_process import ChildProcess, start
from enricher.jobs.context import Job
from enricher.jobs.definition import Definition, module_name
from enricher.jobs.errors import Cancel, TimeLimitExceeded
from enricher.jobs.frames import Begin, Throw
from enricher.jobs.idle import Idle
from enricher.jobs.payload import MAX_PAYLOAD

CANCEL_GRACE = 5.0
"""Seconds that a job which was cancelled has to end, before its process is killed."""

CLOSE_GRACE = 1.0
"""Seconds that children without a job have to end by themselves when the worker stops."""


class JobProcesses:
    """Runs jobs in at most ``limit`` child processes; to be closed.

    A child without a job ends after ``idle`` seconds, each after ``max_tasks`` jobs. ``settings`` by their
    full names are those by which a job enqueues others, "jobs.url" among them (none: as its environment
    says). POSIX only.
    """

    def __init__(
        self,
        limit: int,
        *,
        idle: float = 60.0,
        max_tasks: int = 10_000,
        settings: Mapping[str, Any] | None = None,
        max_payload: int = MAX_PAYLOAD,
    ) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._max_tasks = max_tasks
        self._settings = dict(settings or {})
        self._max_payload = max_payload
        self._idle: Idle[ChildProcess] = Idle(idle, ChildProcess.let_go)
        self._running: dict[str, tuple[ChildProcess, Run]] = {}
        self._children: set[ChildProcess] = set()

    async def run(
        self,
        run: Run,
        definition: Definition,
        job: Job,
        store: JobStore,
        *,
        soft: float | None = None,
        hard: float | None = None,
    ) -> Any:
        """What `perform` returns in a child, as JSON (`msgspec.Raw`). Raises what it raises.

        ``job`` gets its children and its progress. After ``soft`` seconds `SoftTimeLimitExceeded` is raised
        in the child. It is killed after ``hard`` seconds, with `TimeLimitExceeded`; when it holds more than
        its class's ``max_memory`` bytes, with `MemoryLimitExceeded`; and when the caller is cancelled.
        `ProcessDied` for one that ends by itself, `Cancel` when `cancel` has ended it, `JobFailed` for an
        exception whose class is not imported here.
        """
        async with self._slots:
            child = await self._child()
            mine = self._running[run.id] = child, run
            timers = self._limits(child, run, soft, hard)
            begin = Begin(
                module=module_name(definition.cls),
                name=definition.cls.__qualname__,
                run=run,
                time_limit=hard,
                max_payload=self._max_payload,
            )
            try:
                return await child.run(begin, job, store, definition.max_memory)
            finally:
                for timer in timers:
                    timer.cancel()
                # Another run of the job may have begun, after this one was taken for dead.
                if self._running.get(run.id) is mine:
                    del self._running[run.id]
                self._keep(child)

    def cancel(self, id: str) -> bool:  # noqa: A002
        """Raise `Cancelled` in the job with that id, and kill it if it does not end; False: none runs."""
        if id not in self._running:
            return False
        child, run = self._running[id]
        child.send(Throw((id, run.number), cancel=True))
        asyncio.get_running_loop().call_later(CANCEL_GRACE, self._kill, child, run)
        return True

    async def serve(self) -> None:
        """Run until cancelled, and leave no child behind."""
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):  # who cancels the scope cancels each wait in it
                await self.close()

    async def close(self) -> None:
        """Kill the children that run jobs, let the others end; return when all have ended."""
        for child, _ in self._running.values():
            child.kill(Cancel("the worker stopped"))
        self._idle.clear()
        children = list(self._children)
        with anyio.move_on_after(CLOSE_GRACE):
            for child in children:
                await child.ended()
        for child in children:
            child.kill(Cancel("the worker stopped"))
            await child.ended()

    async def _child(self) -> ChildProcess:
        """One that has no job, the last used first, or a new one."""
        while (kept := self._idle.take()) is not None:
            if kept.usable:
                return kept
        self._children = {child for child in self._children if child.runs}
        child = await start(self._settings)
        self._children.add(child)
        return child

    def _keep(self, child: ChildProcess) -> None:
        if child.usable and child.jobs < self._max_tasks:
            self._idle.keep(child)
        else:
            child.let_go()

    def _limits(
        self, child: ChildProcess, run: Run, soft: float | None, hard: float | None
    ) -> list[asyncio.TimerHandle]:
        loop, timers = asyncio.get_running_loop(), []
        if soft is not None:
            throw = Throw((run.id, run.number), cancel=False)
            timers.append(loop.call_later(soft, child.send, throw))
        if hard is not None:
            timers.append(loop.call_later(hard, child.kill, TimeLimitExceeded(hard)))
        return timers

    def _kill(self, child: ChildProcess, run: Run) -> None:
        if self._running.get(run.id) == (child, run):
            child.kill(Cancel("cancelled while it ran"))
