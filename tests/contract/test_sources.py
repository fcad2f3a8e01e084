"""What every source promises, asked of memory, pub/sub and streams, and what pub/sub does about gaps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client, sibling_client
from enricher.adapters.redis.dead_letters.list_store import ListLetterStore
from enricher.adapters.redis.pubsub import Gap, PubSubSource
from enricher.adapters.redis.stream.source import StreamSource
from enricher.config import StreamSettings
from enricher.dead_letters.sink import DeadLetterSink
from enricher.engine.ports import Clock, Delivery, Source
from enricher.engine.retry import Backoff
from tests.integration.test_docs_adapters import adapters_page
from tests.memory import MemorySource
from tests.rig import PATIENCE, Running, until
from tests.servers import RedisProcess, redis_binaries


def wall_clock() -> int:
    return time.time_ns() // 1000


class Taken:
    """An intake that keeps what it is given."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def offer(self, delivery: Delivery) -> bool:
        self.deliveries.append(delivery)
        return True

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.offer(delivery)

    async def put(self, delivery: Delivery) -> None:
        await asyncio.sleep(0)
        self.offer(delivery)

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        raise AssertionError(f"{stage}: {error}")

    def full_for(self, delivery: Delivery) -> bool:
        return False

    @property
    def messages(self) -> list[tuple[str, bytes]]:
        return [(d.topic, d.body) for d in self.deliveries]


class Finished(Taken):
    """An intake that is done with everything at once."""

    def offer(self, delivery: Delivery) -> bool:
        taken = super().offer(delivery)
        delivery.settled("processed")
        return taken


class Fed:
    """A running source, what it delivered, and a way to send it something."""

    def __init__(
        self,
        source: Source,
        send: Callable[[str, bytes], Awaitable[object]],
        taken: Taken | None = None,
    ) -> None:
        self.source = source
        self.send = send
        self.taken = taken or Taken()
        self.task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Fed]:
        self.task = asyncio.create_task(self.source.run(self.taken))
        try:
            await until(lambda: self.source.health()["ready"], "the source to be ready")
            yield self
        finally:
            await self.source.stop_intake()
            await asyncio.wait_for(self.task, PATIENCE)
            await self.source.close()


CHANNELS = ("market:a", "market:b")
QUICK = Backoff(base=0.01, max_delay=0.05, jitter="none")


def pubsub_source(
    client: Redis,
    *,
    gaps: list[Gap] | None = None,
    patterns: tuple[str, ...] = (),
    interval: float = 1.0,
    timeout: float = 30.0,
    clock: Clock = wall_clock,
) -> PubSubSource:
    return PubSubSource(
        lambda: sibling_client(client, protocol=2),
        client,
        channels=CHANNELS,
        patterns=patterns,
        instance="test",
        clock=clock,
        canary_interval=interval,
        canary_timeout=timeout,
        backoff=QUICK,
        on_gap=None if gaps is None else gaps.append,
    )


def stream_source(client: Redis) -> StreamSource:
    return StreamSource(
        client,
        "intake",
        group="tests",
        consumer="test",
        dead_letters=DeadLetterSink(ListLetterStore(client, "dlq")),
        clock=wall_clock,
        settings=StreamSettings(block=0.1),
        tick=0.02,
        backoff=QUICK,
    )


@asynccontextmanager
async def documented(path: Path) -> AsyncIterator[Fed]:
    """The source of docs/adapters.md."""

    def write(line: bytes) -> None:
        with path.open("ab") as file:
            file.write(line)

    async def add(topic: str, body: bytes) -> None:
        write(topic.encode() + b"\t" + body + b"\n")

    write(b"")

    async with Fed(adapters_page()["FileSource"](path), add).running() as found:
        yield found


@pytest.fixture(
    params=["memory", "documented", *redis_binaries(), *(f"stream of {name}" for name in redis_binaries())]
)
async def fed(
    request: pytest.FixtureRequest, redis_processes: dict[str, RedisProcess], tmp_path: Path
) -> AsyncIterator[Fed]:
    if request.param == "documented":
        async with documented(tmp_path / "lines") as found:
            yield found
        return
    if request.param == "memory":
        source = MemorySource(wall_clock)

        async def send(topic: str, body: bytes) -> None:
            source.send(topic, body)

        async with Fed(source, send).running() as found:
            yield found
        return
    server = redis_processes[request.param.removeprefix("stream of ")]
    client = redis_client(server.url, socket_timeout=PATIENCE)
    if request.param.startswith("stream"):
        server.flush()

        async def append(topic: str, body: bytes) -> None:
            await client.xadd("intake", {"topic": topic, "body": body})

        async with Fed(stream_source(client), append, Finished()).running() as found:
            yield found
        await client.aclose()
        return
    async with Fed(pubsub_source(client), client.publish).running() as found:
        yield found
    await client.aclose()


async def test_messages_are_delivered_whole_and_in_order(fed: Fed) -> None:
    sent = [(CHANNELS[n % 2], b"\xff\x00 %d" % n) for n in range(200)]
    for topic, body in sent:
        await fed.send(topic, body)
    await until(lambda: len(fed.taken.deliveries) == 200)
    assert fed.taken.messages == sent


async def test_a_delivery_carries_the_clock_at_receipt(fed: Fed) -> None:
    before = wall_clock()
    await fed.send("market:a", b"x")
    await until(lambda: fed.taken.deliveries)
    assert before <= fed.taken.deliveries[0].received_us <= wall_clock()


async def test_an_empty_message_is_a_message(fed: Fed) -> None:
    await fed.send("market:a", b"")
    await until(lambda: fed.taken.messages == [("market:a", b"")])


async def test_after_stopping_nothing_new_is_taken_and_reading_ends(fed: Fed) -> None:
    await fed.send("market:a", b"1")
    await until(lambda: fed.taken.deliveries)
    await fed.source.stop_intake()
    assert fed.task is not None
    await asyncio.wait_for(asyncio.shield(fed.task), PATIENCE)
    await fed.send("market:a", b"2")
    await asyncio.sleep(0.02)
    assert fed.taken.messages == [("market:a", b"1")]


async def test_a_source_says_who_it_is(fed: Fed) -> None:
    assert fed.source.name in {"memory", "pubsub", "stream intake", "file lines"}


# -- memory --------------------------------------------------------------------------------------------


async def test_what_was_sent_in_memory_before_the_stop_is_still_delivered() -> None:
    source, taken, ends = MemorySource(wall_clock), Taken(), list[str]()
    for number in range(5):
        source.send("t", b"%d" % number, ends.append)
    await source.stop_intake()
    await asyncio.wait_for(source.run(taken), PATIENCE)
    assert [body for _, body in taken.messages] == [b"0", b"1", b"2", b"3", b"4"]
    taken.deliveries[0].settled("processed")
    assert ends == ["processed"]


# -- pub/sub -------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(
    server: RedisProcess,
    gaps: list[Gap] | None = None,
    *,
    patterns: tuple[str, ...] = (),
    interval: float = 1.0,
    timeout: float = 30.0,
    clock: Clock = wall_clock,
) -> AsyncIterator[Fed]:
    client = redis_client(server.url, socket_timeout=min(timeout, 5.0))
    source = pubsub_source(
        client, gaps=gaps, patterns=patterns, interval=interval, timeout=timeout, clock=clock
    )
    async with (
        redis_client(server.url, socket_timeout=PATIENCE) as patient,
        Fed(source, patient.publish).running() as found,
    ):
        yield found
    await client.aclose()


async def test_a_pattern_delivers_under_the_name_of_the_channel(own_redis: RedisProcess) -> None:
    async with listening(own_redis, patterns=("orders.*",)) as fed:
        await fed.send("orders.eu", b"1")
        await fed.send("other", b"2")
        await fed.send("market:b", b"3")
        await until(lambda: len(fed.taken.deliveries) == 2)
    assert fed.taken.messages == [("orders.eu", b"1"), ("market:b", b"3")]


async def test_a_first_connection_is_no_gap_and_the_canary_no_message(own_redis: RedisProcess) -> None:
    gaps: list[Gap] = []
    async with listening(own_redis, gaps, interval=0.01) as fed:
        assert isinstance(fed.source, PubSubSource)
        first = fed.source.canary_us
        await until(lambda: fed.source.canary_us != first, "a canary")  # type: ignore[attr-defined]
    assert (gaps, fed.taken.messages) == ([], [])


@pytest.mark.parametrize("hour_us", [3_600_000_000, -3_600_000_000])
async def test_a_clock_that_is_set_is_no_silence_and_hides_none(
    own_redis: RedisProcess, hour_us: int
) -> None:
    gaps: list[Gap] = []
    clock = Running()
    async with listening(own_redis, gaps, interval=0.05, timeout=2.0, clock=clock) as fed:
        assert isinstance(fed.source, PubSubSource)
        source = fed.source

        async def canary() -> None:
            last = source.canary_us
            await until(lambda: source.canary_us != last, "a canary")

        await canary()
        clock.now_us += hour_us
        for _ in range(3):
            await canary()
        assert gaps == []
        own_redis.pause()
        await until(lambda: not source.health()["ready"], "the silence to be noticed")
        own_redis.resume()
        await gap_after(fed, gaps)


async def gap_after(fed: Fed, gaps: list[Gap]) -> None:
    """Wait for the gap of the one interruption, and for messages to come again."""
    await until(lambda: len(gaps) >= len(CHANNELS), "the gaps")
    await until(lambda: fed.source.health()["ready"])
    await fed.send("market:a", b"after")
    await until(lambda: ("market:a", b"after") in fed.taken.messages)
    assert sorted(gap.channel for gap in gaps) == sorted(CHANNELS)
    assert all(gap.from_us < gap.to_us and gap.reason for gap in gaps)
    assert fed.source.health()["reconnects"] == 1


async def test_a_connection_that_the_server_ends_leaves_a_gap_per_channel(own_redis: RedisProcess) -> None:
    gaps: list[Gap] = []
    async with listening(own_redis, gaps) as fed:
        own_redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        await gap_after(fed, gaps)


async def test_a_server_that_was_killed_is_waited_for_and_leaves_a_gap(own_redis: RedisProcess) -> None:
    gaps: list[Gap] = []
    async with listening(own_redis, gaps) as fed:
        own_redis.kill()
        killed = wall_clock()
        await until(lambda: not fed.source.health()["ready"])
        own_redis.start()
        await gap_after(fed, gaps)
    assert all(gap.from_us <= killed + 1_000_000 for gap in gaps)


async def test_a_frozen_server_is_found_out_by_the_canary(own_redis: RedisProcess) -> None:
    gaps: list[Gap] = []
    async with listening(own_redis, gaps, interval=0.05, timeout=0.3) as fed:
        own_redis.pause()
        await until(lambda: not fed.source.health()["ready"], "the canary to be missed")
        own_redis.resume()
        await until(lambda: gaps and fed.source.health()["ready"])
    assert {gap.channel for gap in gaps} == set(CHANNELS)


async def test_a_server_that_is_away_at_the_start_is_waited_for(own_redis: RedisProcess) -> None:
    own_redis.kill()
    client = redis_client(own_redis.url, socket_timeout=PATIENCE)
    gaps: list[Gap] = []
    fed = Fed(pubsub_source(client, gaps=gaps), client.publish)
    starting = asyncio.create_task(fed.source.run(fed.taken))
    await until(lambda: fed.source.health()["last_error"])
    assert not fed.source.health()["ready"]
    own_redis.start()
    await until(lambda: fed.source.health()["ready"])
    await fed.send("market:a", b"x")
    await until(lambda: fed.taken.messages == [("market:a", b"x")])
    await fed.source.stop_intake()
    await asyncio.wait_for(starting, PATIENCE)
    await client.aclose()
    assert gaps == []


async def test_stopping_does_not_wait_for_a_server_that_is_away(own_redis: RedisProcess) -> None:
    async with listening(own_redis) as fed:
        own_redis.kill()
        await until(lambda: not fed.source.health()["ready"])
        await fed.source.stop_intake()
        assert fed.task is not None
        await asyncio.wait_for(fed.task, PATIENCE)


async def test_subscriptions_that_overlap_deliver_a_message_once(own_redis: RedisProcess) -> None:
    async with listening(own_redis, patterns=("market:*", "market:c*")) as fed:
        for channel in ("market:a", "market:c", "market:d"):
            await fed.send(channel, channel.encode())
        await until(lambda: len(fed.taken.deliveries) >= 3)
        await fed.send("market:b", b"last")
        await until(lambda: ("market:b", b"last") in fed.taken.messages)
    topics = [topic for topic, _ in fed.taken.messages]
    assert sorted(topics) == ["market:a", "market:b", "market:c", "market:d"]


async def test_a_reader_that_is_behind_is_not_cut_off_by_its_own_canary(own_redis: RedisProcess) -> None:
    gaps: list[Gap] = []
    async with listening(own_redis, gaps=gaps, interval=0.05, timeout=1.0) as fed:
        offer = fed.taken.offer

        def slowly(delivery: Delivery) -> bool:
            time.sleep(0.002)
            return offer(delivery)

        fed.taken.offer = slowly  # type: ignore[method-assign]
        async with redis_client(own_redis.url, socket_timeout=PATIENCE) as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(750):
                pipeline.publish("market:a", b"%d" % number)
            await pipeline.execute()
        await until(lambda: len(fed.taken.deliveries) >= 750)
    assert [int(body) for _, body in fed.taken.messages] == list(range(750))
    assert gaps == []


# -- streams -------------------------------------------------------------------------------------------
