"""Entries that are appended, delayed and acknowledged by a commit: in memory and in Redis alike."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.sink import RedisLive
from enricher.adapters.redis.stream.group import after
from enricher.engine.effects import Ack, Append, Delay, KeyClaim, Publish, SetClaim, SetKey
from enricher.engine.ports import Claimed, Refused, Write
from enricher.errors import ConfigError
from tests.contract.test_sinks import writes
from tests.memory import MemoryLive
from tests.servers import RedisProcess, redis_binaries

ODD = {b"body": b"\xff\x00", b"": b"", b"many": b"x" * 70_000}


@pytest.fixture(params=["memory", *redis_binaries()])
async def live(
    request: pytest.FixtureRequest, redis_processes: dict[str, RedisProcess]
) -> AsyncIterator[tuple[MemoryLive | RedisLive, Redis | None]]:
    if request.param == "memory":
        yield MemoryLive(), None
        return
    redis_processes[request.param].flush()
    async with redis_client(redis_processes[request.param].url, socket_timeout=60) as client:
        sink = RedisLive(client)
        await sink.open()
        yield sink, client


async def entries(
    sink: MemoryLive | RedisLive, client: Redis | None, stream: str
) -> list[dict[bytes, bytes]]:
    if client is None:
        assert isinstance(sink, MemoryLive)
        return sink.streams.get(stream, [])
    return [fields for _, fields in await client.xrange(stream)]


Live = tuple[MemoryLive | RedisLive, Redis | None]


async def test_entries_are_appended_whole_and_in_order(live: Live) -> None:
    sink, client = live
    batch = writes(Append("s", ODD), [Append("s", {b"n": b"1"}), Append("s", {b"n": b"2"})])
    assert await sink.commit(batch) == {}
    assert await entries(sink, client, "s") == [ODD, {b"n": b"1"}, {b"n": b"2"}]


async def test_an_entry_is_appended_once_per_claim(live: Live) -> None:
    sink, client = live
    write = [Append("s", {b"n": b"1"}), SetClaim("claims", "m", 60)]
    assert await sink.commit(writes(write)) == {}
    assert await sink.commit(writes(write)) == {0: Claimed()}
    assert await entries(sink, client, "s") == [{b"n": b"1"}]


async def test_a_stream_is_kept_at_about_a_length(live: Live) -> None:
    sink, client = live
    await sink.commit(writes(*(Append("s", {b"n": b"%d" % n}, 10) for n in range(500))))
    kept = await entries(sink, client, "s")
    assert 10 <= len(kept) < 200
    assert kept[-1] == {b"n": b"499"}


async def test_an_entry_waits_in_the_delay_set_until_its_time(live: Live) -> None:
    sink, client = live
    before = await server_ms(client)
    assert await sink.commit(writes(Delay("later", 60_123, ODD))) == {}
    if client is None:
        assert isinstance(sink, MemoryLive)
        assert sink.later == {"later": [(60_123, ODD)]}
    else:
        ((_, due),) = await client.zrange("later", 0, -1, withscores=True)
        assert before + 60_123 <= due <= await server_ms(client) + 60_123


async def server_ms(client: Redis | None) -> int:
    """The time of the server in milliseconds since 1970."""
    if client is None:
        return 0
    seconds, micros = await client.time()
    return int(seconds) * 1000 + int(micros) // 1000


@pytest.fixture(params=list(redis_binaries()))
async def group(
    request: pytest.FixtureRequest, redis_processes: dict[str, RedisProcess]
) -> AsyncIterator[tuple[RedisLive, Redis, list[str]]]:
    """A sink, and three entries that were delivered and not acknowledged."""
    redis_processes[request.param].flush()
    async with redis_client(redis_processes[request.param].url, socket_timeout=60) as client:
        sink = RedisLive(client)
        await sink.open()
        await client.xgroup_create("s", "g", "0", mkstream=True)
        ids = [(await client.xadd("s", {"n": n})).decode() for n in range(3)]
        await client.xreadgroup("g", "c", {"s": ">"})
        yield sink, client, ids


async def waiting(client: Redis) -> list[str]:
    return [e["message_id"].decode() for e in await client.xpending_range("s", "g", "-", "+", 10)]


Group = tuple[RedisLive, Redis, list[str]]


async def test_an_acknowledgement_lands_with_its_write_and_the_cursor_follows(group: Group) -> None:
    sink, client, ids = group
    assert await sink.commit(writes([SetKey("k", b"1", 0), Ack("s", "g", ids[1])])) == {}
    assert (await waiting(client), await client.get("k")) == ([ids[0], ids[2]], b"1")
    assert await client.get("s:g:cursor") == f"({ids[0]}".encode()
    await sink.commit(writes(Ack("s", "g", ids[0]), Ack("s", "g", ids[2])))
    assert await client.get("s:g:cursor") == ids[2].encode()


async def test_a_write_that_is_refused_is_not_acknowledged(group: Group) -> None:
    sink, client, ids = group
    await client.set("text", "not a stream")
    answers = await sink.commit(
        writes([Append("text", {b"a": b"b"}), Ack("s", "g", ids[0])], [Ack("s", "g", ids[1])])
    )
    assert isinstance(answers[0], Refused)
    assert await waiting(client) == [ids[0], ids[2]]


async def test_what_was_acknowledged_before_lands_nothing_not_even_a_claim(group: Group) -> None:
    sink, client, ids = group
    out = Append("out", {b"a": b"b"})
    write = [SetClaim("claims", "m", 60), out, Publish("c", b""), Ack("s", "g", ids[0])]
    await client.xack("s", "g", ids[0])
    assert await sink.commit(writes(write)) == {0: Claimed()}
    assert await client.exists("claims", "out") == 0


async def test_what_the_stream_has_lost_lands_nevertheless(group: Group) -> None:
    sink, client, ids = group
    await client.xdel("s", ids[0])
    await client.xack("s", "g", ids[0])
    assert await sink.commit(writes([Append("out", {b"a": b"b"}), Ack("s", "g", ids[0])])) == {}
    assert await client.xlen("out") == 1


async def test_what_is_committed_while_its_group_is_gone_lands_once(group: Group) -> None:
    sink, client, ids = group
    write = [Append("out", {b"a": b"b"}), Ack("s", "g", ids[1])]
    await client.xgroup_destroy("s", "g")
    assert await sink.commit(writes(write)) == {}
    assert await sink.commit(writes(write)) == {0: Claimed()}
    await client.xgroup_create("s", "g", "0")
    assert await sink.commit(writes([Append("out", {b"a": b"c"}), Ack("s", "g", ids[2])])) == {}
    await client.xreadgroup("g", "c", {"s": ">"})
    assert await sink.commit(writes(write, [Ack("s", "g", ids[2])])) == {0: Claimed(), 1: Claimed()}
    assert (await client.xlen("out"), await waiting(client)) == (2, [ids[0]])


async def test_a_duplicate_is_acknowledged_too(group: Group) -> None:
    sink, client, ids = group
    for id_, answers in ((ids[0], {}), (ids[1], {0: Claimed()})):
        write = [SetClaim("claims", "m", 60), Append("out", {b"a": b"b"}), Ack("s", "g", id_)]
        assert await sink.commit(writes(write)) == answers
    assert (await waiting(client), await client.xlen("out")) == ([ids[2]], 1)


@pytest.mark.parametrize(
    ("cursor", "begin"),
    [("5-7", "5-7"), ("(5-7", "5-6"), ("(5-0", f"4-{2**64 - 1}"), ("(0-1", "0-0")],
)
def test_a_cursor_says_behind_which_id_a_group_begins(cursor: str, begin: str) -> None:
    assert after(cursor) == begin


# -- what is published is recorded; who may commit is checked ------------------------------------------


async def test_what_is_published_is_recorded_with_what_it_is_known_by(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        sink = RedisLive(client, record="a 'record'\\", record_length=1000)
        await sink.open()
        await client.xgroup_create("in", "g", "0", mkstream=True)
        id_ = (await client.xadd("in", {"body": b"1"})).decode()
        await client.xreadgroup("g", "c", {"in": ">"})
        batch = writes(
            [Publish("out", b"1"), KeyClaim("claim", 5, 60)],
            [Publish("out", b"2"), Publish("other", b"3"), SetClaim("claims", "m", 60)],
            [Publish("out", b"4"), Ack("in", "g", id_)],
            Publish("out", b"\xff"),
        )
        for _ in range(2):
            await sink.commit(batch)
        found = [tuple(fields.values()) for _, fields in await client.xrange("a 'record'\\")]
        once = [
            (b"out", b"claim 5", b"1"),
            (b"out", b"claims m", b"2"),
            (b"other", b"claims m", b"3"),
            (b"out", f"in g {id_}".encode(), b"4"),
        ]
        assert found == [*once, (b"out", b"", b"\xff"), (b"out", b"", b"\xff")]
        await sink.close()


async def test_the_record_is_kept_at_about_a_length(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        sink = RedisLive(client, record="record", record_length=10)
        await sink.open()
        await sink.commit(writes(*(Publish("out", b"%d" % n) for n in range(500))))
        assert 10 <= await client.xlen("record") < 200
        await sink.close()


async def test_a_record_that_cannot_be_one_is_refused_at_the_start(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        await client.set("record", "something else")
        with pytest.raises(ConfigError, match="record_effects"):
            await RedisLive(client, record="record").open()


def of_a_lane(write: Write, *, with_state: bool) -> Write:
    """The write as one of a route with a state store, or without."""
    write.stateful = with_state
    return write


async def test_behind_a_fence_nothing_of_a_lane_with_state_lands(any_redis_url: str) -> None:
    number = 7
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        sink = RedisLive(client, fence=lambda: ("fence", number))
        await sink.open()

        async def commit(*, with_state: bool) -> object:
            effects = [SetKey("k", b"%d" % number, 0), Append("s", {b"n": b"1"}), KeyClaim("c", number, 60)]
            batch = writes(effects)
            return await sink.commit([of_a_lane(write, with_state=with_state) for write in batch])

        assert await commit(with_state=True) == {0: Claimed()}
        assert not await client.keys("*")
        await client.set("fence", 7)
        assert await commit(with_state=True) == {}
        assert await client.get("k") == b"7"
        number = 6
        assert await commit(with_state=True) == {0: Claimed()}
        assert (await client.get("k"), await client.get("c"), await client.xlen("s")) == (b"7", b"7", 1)
        assert await commit(with_state=False) == {}
        assert await client.xlen("s") == 2
        await sink.close()
