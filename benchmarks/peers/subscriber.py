"""The subscriber that frameworks without a pub/sub source need: each message becomes a job of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import redis.asyncio

from benchmarks.peers.landing import REDIS_URL, RESP, TOPICS

Enqueue = Callable[[str, str], Awaitable[object]]

_running: set[asyncio.Task[None]] = set()


def start(enqueue: Enqueue) -> None:
    """Subscribe in a task of the running loop, for good; ``enqueue(topic, text)`` makes a job."""
    task = asyncio.get_running_loop().create_task(_forward(enqueue))
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _forward(enqueue: Enqueue) -> None:
    # A pause of the feed is no fault: redis-py's default gives a silent connection up after 5 s.
    client = redis.asyncio.Redis.from_url(
        REDIS_URL, protocol=RESP, decode_responses=True, socket_timeout=None
    )
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(*TOPICS)
    while True:
        # Without a timeout redis-py spares a timer for every message.
        message = await pubsub.get_message(timeout=None)
        if message is not None:
            await enqueue(message["channel"], message["data"])
