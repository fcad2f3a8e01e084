"""The bridge: what channels say stands in the stream, in order and once, also when somebody dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client, sibling_client
from enricher.adapters.redis.pubsub import PubSubSource
from enricher.adapters.redis.stream.appender import BridgeLimits
from enricher.adapters.redis.stream.bridge import StreamBridge
from enricher.engine.ports import Delivery
from tests.integration.streams import QUICK, wall_clock
from tests.memory import MemorySource
from tests.rig import until
from tests.servers import FaultyProxy, RedisProcess

STREAM = "intake"


class Nobody:
    """An intake that nothing may reach: a bridge delivers to the stream only."""

    def offer(self, delivery: Delivery) -> bool:
        raise AssertionError("the bridge delivered something itself")

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.offer(delivery)

    async def put(self, delivery: Delivery) -> None:
        self.offer(delivery)

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        self.offer(delivery)

    def full_for(self, delivery: Delivery) -> bool:
        return False


@asynccontextmanager
async def bridge(
    url: str, *, instance: str = "one", memory: MemorySource | None = None, **limits: Any
) -> AsyncIterator[StreamBridge]:
    """A running bridge from channels ``a`` and ``b``, or from a source in memory."""
    client = redis_client(url, socket_timeout=1)
    source = memory or PubSubSource(
        lambda: sibling_client(client, protocol=2),
        client,
        channels=("a", "b"),
        instance=instance,
        clock=wall_clock,
        canary_interval=0.1,
        canary_timeout=30.0,
        backoff=QUICK,
    )
    made = StreamBridge(
        source,
        client,
        STREAM,
        instance=instance,
        clock=wall_clock,
        limits=BridgeLimits(**{"lease": 0.6, "timeout": 1.0, **limits}),
        backoff=QUICK,
    )
    running = asyncio.create_task(made.run(Nobody()))
    try:
        yield made
    finally:
        await made.stop_intake()
        await made.close()
        running.cancel()
        await asyncio.wait([running])
        await client.aclose()


async def dies(found: StreamBridge, client: Redis) -> None:
    """As dead as a process can be within another: it appends nothing more, and its lease has run out."""
    found.appender._append_once = asyncio.Event().wait  # type: ignore[assignment,method-assign]
    await client.pexpire(f"{STREAM}:bridge", 1)


async def said(client: Redis) -> list[tuple[bytes, bytes]]:
    """(topic, body) in the order of the stream."""
    return [(fields[b"topic"], fields[b"body"]) for _, fields in await client.xrange(STREAM)]


async def publish(client: Redis, first: int, last: int) -> list[tuple[bytes, bytes]]:
    """Publish numbers on both channels in turn; what the stream should say."""
    messages = [(b"ab"[n % 2 : n % 2 + 1], b"\xff%d" % n) for n in range(first, last)]
    async with client.pipeline(transaction=False) as pipeline:
        for channel, body in messages:
            pipeline.publish(channel, body)
        await pipeline.execute()
    return messages


async def test_messages_stand_in_the_stream_in_order_with_topic_and_time(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client, bridge(any_redis_url) as found:
        await until(lambda: found.health()["ready"] and found.appender.holds)
        before = wall_clock()
        expected = await publish(client, 0, 2000)
        await until(lambda: found.appender.appended == 2000)
        assert await said(client) == expected
        at = [int(fields[b"at"]) for _, fields in await client.xrange(STREAM)]
        assert before - 1000 <= at[0] <= at[-1] <= wall_clock()
        assert at == sorted(at)


async def test_what_was_heard_is_appended_before_the_end(redis_url: str) -> None:
    memory = MemorySource(wall_clock)
    async with redis_client(redis_url, socket_timeout=60) as client:
        async with bridge(redis_url, memory=memory, batch=7) as found:
            await until(lambda: found.appender.holds)
            for number in range(100):
                memory.send("a", b"%d" % number)
        assert [body for _, body in await said(client)] == [b"%d" % n for n in range(100)]
        assert not await client.exists(f"{STREAM}:bridge")


async def test_a_batch_whose_reply_got_lost_is_appended_once(own_redis: RedisProcess) -> None:
    memory = MemorySource(wall_clock)
    async with (
        FaultyProxy(own_redis.port) as proxy,
        bridge(proxy.redis_url(), memory=memory) as found,
        redis_client(own_redis.url, socket_timeout=60) as client,
    ):
        await until(lambda: found.appender.holds)
        proxy.lose_next_reply(lambda request: b"body-1" in request)
        for number in range(3):
            memory.send("a", b"body-%d" % number)
        await until(lambda: found.appender.appended == 3)
        assert proxy.lost_replies == 1
        assert [body for _, body in await said(client)] == [b"body-0", b"body-1", b"body-2"]


async def test_an_outage_is_bridged_by_the_buffer_which_is_bounded(own_redis: RedisProcess) -> None:
    memory = MemorySource(wall_clock)
    async with (
        bridge(own_redis.url, memory=memory, max_messages=50, batch=10) as found,
        redis_client(own_redis.url, socket_timeout=60) as client,
    ):
        await until(lambda: found.appender.holds)
        own_redis.kill()
        for number in range(100):
            memory.send("a", b"%d" % number)
        await until(lambda: found.appender.dropped >= 40 and not found.health()["ready"])
        assert found.lost == {"a": 50}
        own_redis.start()
        await until(lambda: found.health()["ready"] and not found.health()["buffered"])
        bodies = [int(body) for _, body in await said(client)]
        assert bodies == sorted(bodies)
        assert bodies[-50:] == list(range(50, 100))
        assert len(bodies) + found.appender.dropped == 100
        assert not found.lost


async def test_one_of_two_appends_and_the_other_goes_on_when_it_dies(redis_url: str) -> None:
    async with (
        redis_client(redis_url, socket_timeout=60) as client,
        bridge(redis_url, instance="first", lease=600.0) as first,
    ):
        await until(lambda: first.appender.holds and first.health()["ready"])
        async with bridge(redis_url, instance="second") as second:
            await until(lambda: second.health()["ready"])
            await publish(client, 0, 100)
            await until(lambda: first.appender.appended == 100)
            assert (second.appender.holds, second.appender.appended) == (False, 0)
            await dies(first, client)
            await until(lambda: second.appender.holds, "the second to take over")
            # What it had kept comes first, and stands there twice.
            messages = await publish(client, 100, 200)

            async def appended() -> bool:
                return messages[-1] in await said(client)

            await until(appended, "the last message")
        numbers = [int(body[1:]) for _, body in await said(client)]
        assert list(dict.fromkeys(numbers)) == list(range(200))


async def test_what_a_slow_holder_had_not_appended_is_kept_by_the_other_however_long_ago(
    redis_url: str,
) -> None:
    ours, theirs = MemorySource(wall_clock), MemorySource(wall_clock)
    async with (
        redis_client(redis_url, socket_timeout=60) as client,
        bridge(redis_url, instance="first", memory=theirs, lease=600.0) as first,
    ):
        await until(lambda: first.appender.holds)
        async with bridge(redis_url, instance="second", memory=ours, lease=0.3) as second:
            for number in range(20):
                if number == 10:
                    await until(lambda: first.appender.appended == 10)
                    # From here on it renews its lease, and gets to nothing else.
                    first.appender._next_batch = list  # type: ignore[method-assign]
                for source in (ours, theirs):
                    source.send("a", b"%d" % number)
            await asyncio.sleep(1.0)
            assert first.appender.holds
            await dies(first, client)
            await until(lambda: second.appender.holds, "the second to take over")
            await until(lambda: not second.appender.waiting)
        numbers = {int(body) for _, body in await said(client)}
        assert numbers == set(range(20))


async def test_one_that_has_just_come_leaves_it_to_whoever_heard_what_the_dead_one_did_not_append(
    redis_url: str,
) -> None:
    may_ask = asyncio.Event()
    theirs, ours, new = (MemorySource(wall_clock) for _ in range(3))
    async with (
        redis_client(redis_url, socket_timeout=60) as client,
        bridge(redis_url, instance="first", memory=theirs) as first,
    ):
        await until(lambda: first.appender.holds)
        async with bridge(redis_url, instance="second", memory=ours) as second:
            for number in range(10):
                for source in (theirs, ours):
                    source.send("a", b"%d" % number)
            await until(lambda: first.appender.appended == 10)
            ask = second.appender._append_once

            async def ask_later(link: Any) -> None:
                await may_ask.wait()
                await ask(link)

            first.appender._append_once = asyncio.Event().wait  # type: ignore[assignment,method-assign]
            second.appender._append_once = ask_later  # type: ignore[method-assign]
            ours.send("a", b"10")

            async def free() -> bool:
                return not await client.exists(f"{STREAM}:bridge")

            await until(free, "the lease to run out")
            async with bridge(redis_url, instance="third", memory=new, lease=4.0) as third:
                for source in (ours, new):
                    source.send("a", b"11")
                await until(lambda: third.appender.connection.works)
                may_ask.set()
                await until(lambda: second.appender.holds and not second.appender.waiting)
        assert {int(body) for _, body in await said(client)} == set(range(12))


async def test_one_that_is_alone_waits_for_nobody_for_long(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        for life in range(2):
            memory = MemorySource(wall_clock)
            async with bridge(redis_url, memory=memory) as found:
                memory.send("a", b"%d" % life)
                await until(lambda found=found: found.appender.appended == 1)
        assert [body for _, body in await said(client)] == [b"0", b"1"]


async def test_the_stream_may_be_kept_at_a_length(redis_url: str) -> None:
    memory = MemorySource(wall_clock)
    async with (
        redis_client(redis_url, socket_timeout=60) as client,
        bridge(redis_url, memory=memory, max_length=100) as found,
    ):
        await until(lambda: found.appender.holds)
        for number in range(1000):
            memory.send("a", b"%d" % number)
        await until(lambda: found.appender.appended == 1000)
        assert await client.xlen(STREAM) <= 300
