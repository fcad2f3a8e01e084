"""streaq: a worker process that subscribes and runs its own tasks (``streaq run ...with_streaq:worker``)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from streaq import Worker

from benchmarks.peers import subscriber
from benchmarks.peers.landing import REDIS_URL, Landing

AT_ONCE = 16


@asynccontextmanager
async def connect() -> AsyncGenerator[Landing]:
    """Clients belong to the loop that runs now; so does the subscriber."""
    subscriber.start(enqueue)
    yield Landing()


worker: Worker[Landing] = Worker(
    redis_url=REDIS_URL,
    concurrency=AT_ONCE,
    prefetch=4 * AT_ONCE,
    lifespan=connect,
    anyio_kwargs={"use_uvloop": True},
)


@worker.task(silent=True, ttl=0)
async def enrich(topic: str, text: str) -> None:
    """One message."""
    await worker.context.land(topic, text.encode())


async def enqueue(topic: str, text: str) -> None:
    """A task that runs as soon as a slot is free."""
    await enrich.enqueue(topic, text)
