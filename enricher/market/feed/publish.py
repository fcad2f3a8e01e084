"""Publish messages at a rate that a schedule holds, however long one publishing takes."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis

from enricher.market.feed.channels import Message

Publish = Callable[[Sequence[Message]], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]
Progress = Callable[["Published"], None]

MAX_BATCH = 200
SHORTEST_SLEEP = 0.002  # at high rates a few messages gather and share a round trip


@dataclass(slots=True)
class Published:
    """What has been published so far: messages per channel, and the ``seconds`` it took.

    ``behind`` is the largest number of messages by which the schedule was ever missed.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    behind: int = 0

    @property
    def total(self) -> int:
        """All messages."""
        return self.counts.total()

    @property
    def rate(self) -> float:
        """Messages per second, on average."""
        return self.total / self.seconds if self.seconds > 0.0 else 0.0


def redis_publisher(client: Redis) -> Publish:
    """A way to publish a batch in one round trip; errors of the client are passed on.

    Give it a client that repeats nothing by itself, or a lost reply publishes a batch twice.
    """

    async def publish(batch: Sequence[Message]) -> None:
        async with client.pipeline(transaction=False) as pipeline:
            for channel, body in batch:
                pipeline.publish(channel, body)
            await pipeline.execute()

    return publish


async def publish_at_rate(
    messages: Iterable[Message],
    publish: Publish,
    *,
    rate: float | None,
    duration: float | None = None,
    count: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
    progress: Progress | None = None,
) -> Published:
    """Publish ``messages`` at ``rate`` a second and return what was done.

    Message i is due at i / rate seconds after the start: a delay is made up for, it does not lower
    the rate. A message is taken from ``messages`` when it is due, not before, so a lazy source
    stamps it with the time of its publishing. ``rate`` None is as fast as possible. Ends after
    ``count`` messages, after ``duration`` seconds or with ``messages``, whichever comes first.
    ``progress`` is called after each batch.
    """
    if rate is not None and not (0.0 < rate < math.inf):
        raise ValueError(f"rate must be a positive number of messages a second, not {rate!r}")
    limit = math.inf if count is None else count
    if rate is not None and duration is not None:
        limit = min(limit, math.ceil(rate * duration))
    source = iter(messages)
    done = Published()
    start = clock()
    while done.total < limit:
        elapsed = clock() - start
        if rate is None and duration is not None and elapsed >= duration:
            break
        scheduled = math.inf if rate is None else math.floor(elapsed * rate) + 1
        due = min(scheduled, limit) - done.total
        if rate is not None and due < 1:
            await sleep(max(done.total / rate - elapsed, SHORTEST_SLEEP))
            continue
        batch = list(itertools.islice(source, int(min(due, MAX_BATCH))))
        if not batch:
            break
        await publish(batch)
        done.counts.update(channel for channel, _ in batch)
        done.seconds = clock() - start
        if rate is not None:
            done.behind = max(done.behind, int(due) - len(batch))
        if progress is not None:
            progress(done)
    return done
