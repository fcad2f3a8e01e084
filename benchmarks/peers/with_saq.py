"""SAQ: a worker process that subscribes and runs its own jobs (``saq ...with_saq.settings``)."""

from __future__ import annotations

from typing import Any

import orjson
import redis.asyncio
import uvloop
from saq.queue.redis import RedisQueue

from benchmarks.peers import subscriber
from benchmarks.peers.landing import REDIS_URL, RESP, Landing

AT_ONCE = 16

uvloop.install()
queue = RedisQueue(
    redis.asyncio.Redis.from_url(REDIS_URL, protocol=RESP), dump=orjson.dumps, load=orjson.loads
)


async def connect(context: dict[str, Any]) -> None:
    """Clients belong to the loop that runs now; so does the subscriber."""
    context["landing"] = Landing()
    subscriber.start(enqueue)


async def enqueue(topic: str, text: str) -> None:
    """A job whose record goes as soon as it is done."""
    await queue.enqueue("enrich", topic=topic, text=text, ttl=-1)


async def enrich(context: dict[str, Any], *, topic: str, text: str) -> None:
    """One message."""
    await context["landing"].land(topic, text.encode())


settings = {"queue": queue, "functions": [enrich], "concurrency": AT_ONCE, "startup": connect}
