"""The jobs of one server, for a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redis.asyncio import Redis

from enricher.adapters.redis.jobs.client import AsyncStore
from enricher.adapters.redis.jobs.sink import JobSink
from enricher.adapters.redis.jobs.source import JobSource
from enricher.adapters.redis.jobs.started import StartedResults
from enricher.adapters.redis.run_store import RedisRunStore
from enricher.engine.ports import Clock, Sink
from enricher.engine.retry import Backoff
from enricher.job_store import Description, JobQueueSettings, JobStore, Runner, Shares
from enricher.runs import Run, RunStore

R = TypeVar("R", bound=Run)


class RedisJobQueues:
    """`enricher.job_store.JobQueues`; the clients belong to who made them."""

    def __init__(
        self,
        settings: JobQueueSettings,
        client: Redis,
        results: Redis,
        *,
        worker: str,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self.store: JobStore = AsyncStore(settings, client, results)
        self.sink: Sink = JobSink(settings, client, results)
        self._settings = settings
        self._client = client
        self._results = results
        self._worker = worker
        self._clock = clock
        self._backoff = backoff

    def runs(self, kind: type[R]) -> RunStore[R]:
        key = f"{self._settings.prefix}:control:run"
        return RedisRunStore(self._client, key, kind, "the server of the jobs")

    def source(
        self,
        runner: Runner,
        shares: Shares,
        *,
        description: Description = lambda: b"{}",
        end: Callable[[], None] = lambda: None,
    ) -> JobSource:
        apart = self._results is not self._client
        return JobSource(
            self._client,
            self._settings,
            worker=self._worker,
            shares=shares,
            runner=runner,
            clock=self._clock,
            backoff=self._backoff,
            description=description,
            end=end,
            started=StartedResults(self._results, self._settings.result_ttl) if apart else None,
        )
