"""taskiq over streams: results kept, acknowledged once they are saved; the scheduler is a second process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from taskiq import TaskiqScheduler
from taskiq.schedule_sources import LabelScheduleSource
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListRedisScheduleSource, RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.jobs.work import REDIS_URL, RESULT_TTL, coroutine, cron, late, noop

results = RedisAsyncResultBackend[object](
    REDIS_URL, result_ex_time=RESULT_TTL, prefix_str="result", serializer=ORJSONSerializer()
)
# Its sockets wait without a limit: redis-py's default of 5 s may end a blocking read for good.
broker = RedisStreamBroker(REDIS_URL, socket_timeout=None, consumer_id="0")
broker = broker.with_result_backend(results).with_serializer(ORJSONSerializer())
moments = ListRedisScheduleSource(REDIS_URL)
scheduler = TaskiqScheduler(broker, [LabelScheduleSource(broker), moments])

jobs = {
    "async": broker.task(task_name="async")(coroutine(noop)),
    "thread": broker.task(task_name="thread")(noop),
    "process": broker.task(task_name="process")(noop),
    "late": broker.task(task_name="late")(coroutine(late)),
    "cron": broker.task(task_name="cron", schedule=[{"cron": "* * * * *"}])(cron),
}


class Client:
    """As `benchmarks.jobs.client.Client`."""

    async def one(self, job: str, *arguments: object) -> None:
        await jobs[job].kiq(*arguments)

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        await asyncio.gather(*(jobs[job].kiq(*row) for row in rows))

    async def at(self, job: str, due_us: int) -> None:
        await jobs[job].schedule_by_time(moments, datetime.fromtimestamp(due_us / 1e6, UTC), due_us)
