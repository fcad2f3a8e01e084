"""Publish a recording again, in the rhythm in which it was received."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from enricher.market.feed.channels import Message
from enricher.market.feed.publish import MAX_BATCH, Progress, Publish, Published, Sleep
from enricher.market.feed.recording import Recorded


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
