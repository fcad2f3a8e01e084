"""The synthetic feed and a recording reach a subscriber of a real server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import redis.asyncio as redis

from enricher.market.feed.channels import Message
from enricher.market.feed.publish import Published, publish_at_rate, redis_publisher, replay
from enricher.market.feed.recording import Recorded, RecordingReader, write_recording
from enricher.market.feed.synthetic import SyntheticMarket


async def received(client: redis.Redis, count: int, ready: asyncio.Event) -> list[Message]:
    """The first ``count`` messages of the market's channels."""
    messages: list[Message] = []
    async with client.pubsub() as subscription:
        await subscription.psubscribe("market:*")
        async for message in subscription.listen():
            if message["type"] == "psubscribe":
                ready.set()
            elif message["type"] == "pmessage":
                messages.append((message["channel"].decode(), message["data"]))
                if len(messages) == count:
                    break
    return messages


async def test_a_subscriber_gets_the_synthetic_feed_in_order_and_whole(any_redis_url: str) -> None:
    market, twin = SyntheticMarket(2), SyntheticMarket(2)
    sent: Published
    async with redis.Redis.from_url(any_redis_url) as client, asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        reading = tasks.create_task(received(client, 300, ready))
        await ready.wait()
        sent = await publish_at_rate(
            market.stream(lambda: 0), redis_publisher(client), rate=2_000.0, count=300
        )
        messages = await reading
    assert sent.total == 300
    assert messages == [m for m, _ in zip(twin.stream(lambda: 0), range(300), strict=False)]


async def test_a_recording_is_replayed_to_a_subscriber_as_it_was(redis_url: str, tmp_path: Path) -> None:
    now_us = time.time_ns() // 1000
    recorded = [
        Recorded(now_us + 1_000 * i, channel, body)
        for i, (channel, body) in enumerate(SyntheticMarket(2).mix(now_us))
    ]
    write_recording(tmp_path / "feed.jsonl.zst", recorded)
    async with redis.Redis.from_url(redis_url) as client, asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        reading = tasks.create_task(received(client, len(recorded), ready))
        await ready.wait()
        records = RecordingReader(tmp_path / "feed.jsonl.zst")
        await replay(records, redis_publisher(client), speed=10.0)
        messages = await reading
    assert messages == [(record.topic, record.body) for record in recorded]
