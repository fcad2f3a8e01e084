"""What is announced to all workers at once: a job to cancel, an order, or that there may be work."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from enricher.job_store import JobQueueSettings


async def listen(
    client: Redis,
    settings: JobQueueSettings,
    cancel: Callable[[str], None],
    told: Callable[[str, str], None],
    wake: Callable[[], None],
) -> None:
    """Hear of cancelled jobs, orders, earlier due times, and queues that go on, until it is cancelled.

    ``told`` gets a worker's name and the order that it was given.
    """
    async with client.pubsub() as channel:
        await channel.subscribe(f"{settings.prefix}:control")
        while True:
            message = await channel.get_message(timeout=None)
            if message is None or message["type"] != "message":
                continue
            word, _, rest = message["data"].decode().partition(" ")
            if word == "cancel":
                cancel(rest)
            elif word == "told":
                order, _, worker = rest.partition(" ")
                told(worker, order)
            else:
                wake()
