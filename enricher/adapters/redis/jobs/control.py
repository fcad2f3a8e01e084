"""What is announced to all workers at once: a job to cancel, or that there may be something to begin."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from enricher.job_store import JobQueueSettings


async def listen(
    client: Redis, settings: JobQueueSettings, cancel: Callable[[str], None], wake: Callable[[], None]
) -> None:
    """Hear of cancelled jobs, of earlier due times, and of queues that go on, until it is cancelled."""
    async with client.pubsub() as channel:
        await channel.subscribe(f"{settings.prefix}:control")
        while True:
            message = await channel.get_message(timeout=None)
            if message is None or message["type"] != "message":
                continue
            word, _, job = message["data"].decode().partition(" ")
            if word == "cancel":
                cancel(job)
            else:
                wake()
