"""streaq: results kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streaq import Worker

from benchmarks.jobs.work import AT_ONCE, REDIS_URL, RESULT_TTL, coroutine, cron, late, noop

worker: Worker[None] = Worker(
    redis_url=REDIS_URL, concurrency=AT_ONCE, anyio_kwargs={"use_uvloop": True}
)
kept: dict[str, Any] = {"silent": True, "ttl": RESULT_TTL}
jobs: dict[str, Any] = {
    "async": worker.task(name="async", **kept)(coroutine(noop)),
    "thread": worker.task(name="thread", **kept)(noop),
    "late": worker.task(name="late", **kept)(coroutine(late)),
    "cron": worker.cron("* * * * *", name="cron", silent=True)(coroutine(cron)),
}


class Client:
    """As `benchmarks.jobs.client.Client`."""

    _open = False

    async def _made(self, job: str, *arguments: object) -> Any:
        if not self._open:
            await worker.__aenter__()
            self._open = True
        return jobs[job].enqueue(*arguments)

    async def one(self, job: str, *arguments: object) -> None:
        await (await self._made(job, *arguments)).start()

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        await worker.enqueue_many([await self._made(job, *row) for row in rows])

    async def at(self, job: str, due_us: int) -> None:
        await (await self._made(job, due_us)).start(schedule=datetime.fromtimestamp(due_us / 1e6, UTC))
