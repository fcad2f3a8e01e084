"""arq: results kept. It polls, every 10 ms here: its default of 500 ms would be the longest wait of all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import uvloop
from arq import create_pool, func
from arq.connections import ArqRedis, RedisSettings
from arq.cron import cron as every

from benchmarks.jobs.work import AT_ONCE, REDIS_URL, RESULT_TTL, cron, in_context, late, noop

LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"arq": {"level": "WARNING"}}}
"""Without it arq writes two lines for every job."""

uvloop.install()


class WorkerSettings:
    """arq reads these by name."""

    functions = (func(in_context(noop), name="async"), func(in_context(late), name="late"))
    cron_jobs = (every(in_context(cron), microsecond=0),)
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    max_jobs = AT_ONCE
    keep_result = RESULT_TTL
    poll_delay = 0.01
    log_results = False


class Client:
    """As `benchmarks.jobs.client.Client`."""

    _pool: ArqRedis | None = None

    async def one(self, job: str, *arguments: object, due: datetime | None = None) -> None:
        if self._pool is None:
            self._pool = await create_pool(WorkerSettings.redis_settings)
        await self._pool.enqueue_job(job, *arguments, _defer_until=due)

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        for at in range(0, len(rows), 50):
            await asyncio.gather(*(self.one(job, *row) for row in rows[at : at + 50]))

    async def at(self, job: str, due_us: int) -> None:
        await self.one(job, due_us, due=datetime.fromtimestamp(due_us / 1e6, UTC))
