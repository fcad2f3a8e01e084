"""Publish messages on a schedule, however long one publishing takes: at a rate, or as they were recorded."""

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
from enricher.market.feed.recording import Recorded

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
        return self.counts.total()

    @property
    def rate(self) -> float:
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


async def replay(
    records: Iterable[Recorded],
    publish: Publish,
    speed: float | None = 1.0,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
    progress: Progress | None = None,
) -> Published:
    """Publish ``records`` in their order and return what was done.

    ``speed`` 1 keeps the recorded distances in time, 10 is ten times as fast, None as fast as
    possible. Each record is due at its distance from the first; one that lies before its
    predecessor is due with it. What is due goes out in batches, and a delay is made up for.
    Bodies are published as recorded: their own timestamps do not change.
    """
    if speed is not None and not speed > 0.0:
        raise ValueError(f"speed must be positive, or None for as fast as possible, not {speed!r}")
    done = Published()
    batch: list[Message] = []
    start = clock()
    first_us: int | None = None

    async def flush() -> None:
        if not batch:
            return
        await publish(tuple(batch))
        done.counts.update(channel for channel, _ in batch)
        done.seconds = clock() - start
        batch.clear()
        if progress is not None:
            progress(done)

    for record in records:
        first_us = record.at_us if first_us is None else first_us
        if speed is not None:
            due = start + (record.at_us - first_us) / 1e6 / speed
            if due > clock():
                await flush()
                while (wait := due - clock()) > 0.0:
                    await sleep(wait)
        batch.append((record.topic, record.body))
        if len(batch) >= MAX_BATCH:
            await flush()
    await flush()
    return done
