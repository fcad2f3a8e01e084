"""dramatiq: one process of eight threads, results kept. It has no schedule of its own."""

from __future__ import annotations

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.jobs import work

broker = RedisBroker(url=work.REDIS_URL)
backend = RedisBackend(url=work.REDIS_URL, use_namespace_prefix_keys=True)
broker.add_middleware(Results(backend=backend, result_ttl=work.RESULT_TTL * 1000))
dramatiq.set_broker(broker)

jobs = {
    name: dramatiq.actor(function, actor_name=name, store_results=True)
    for name, function in (("thread", work.noop), ("late", work.late))
}


class Client:
    """As `benchmarks.jobs.client.Client`."""

    async def one(self, job: str, *arguments: object) -> None:
        jobs[job].send(*arguments)

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        dramatiq.group([jobs[job].message(*row) for row in rows]).run()

    async def at(self, job: str, due_us: int) -> None:
        delay = max(0, due_us // 1000 - time.time_ns() // 1_000_000)
        jobs[job].send_with_options(args=(due_us,), delay=delay)
