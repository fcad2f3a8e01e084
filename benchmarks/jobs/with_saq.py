"""SAQ: results are kept in the job's record."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import redis.asyncio
import uvloop
from saq import CronJob
from saq.queue.redis import RedisQueue

from benchmarks.jobs.work import AT_ONCE, REDIS_URL, RESULT_TTL, cron, in_context, late, noop

uvloop.install()
queue = RedisQueue(redis.asyncio.Redis.from_url(REDIS_URL), dump=orjson.dumps, load=orjson.loads)


def noop_in_thread(_: Any, **named: Any) -> Any:
    """The job as a plain function."""
    return noop(**named)


settings = {
    "queue": queue,
    "functions": [("async", in_context(noop)), ("thread", noop_in_thread), ("late", in_context(late))],
    "cron_jobs": [CronJob(in_context(cron), "* * * * *")],
    "concurrency": AT_ONCE,
}


class Client:
    """As `benchmarks.jobs.client.Client`."""

    async def one(self, job: str, *arguments: object) -> None:
        await queue.enqueue(job, ttl=RESULT_TTL, **dict(zip(("number", "name"), arguments, strict=False)))

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        await asyncio.gather(*(self.one(job, *row) for row in rows))

    async def at(self, job: str, due_us: int) -> None:
        await queue.enqueue(job, ttl=RESULT_TTL, scheduled=due_us // 1_000_000, number=due_us)
