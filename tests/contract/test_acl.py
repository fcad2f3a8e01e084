"""A user whose rights are taken away is in an outage: it is said once, with what is missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from enricher.adapters.redis.claims import Idempotency
from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.sink import RedisLive
from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.group import StreamGroup
from enricher.dead_letters import DeadLetterSink, ListLetterStore, StreamLetterStore
from enricher.engine.circuit_breaker import CircuitBreaker
from enricher.engine.claims import State
from enricher.engine.effects import Ack, Delay, Publish, SetClaim, SetMember
from enricher.engine.ports import Write
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable
from tests.contract.test_letter_stores import letter
from tests.contract.test_sink_failures import claimed
from tests.contract.test_sinks import WatchedRedis, watched_redis, writes
from tests.rig import PATIENCE, QUICK, Clock, until

ALL = ("reset", "on", ">secret", "~*", "&*", "+@all")


class Ruled:
    """A user of a server, whose rights may change, and the server's administrator."""

    def __init__(self, watched: WatchedRedis, client: Redis) -> None:
        self.watched = watched
        self.admin = watched.client
        self.client = client

    async def may(self, *rules: str) -> None:
        await self.admin.execute_command("ACL", "SETUSER", "app", *rules)  # type: ignore[no-untyped-call]
        if rules[0] in ("off", "resetpass"):
            await self.admin.client_kill_filter(user="app")


@pytest.fixture
async def ruled(any_redis_url: str) -> AsyncIterator[Ruled]:
    url = any_redis_url.replace("//", "//app:secret@")
    async with watched_redis(any_redis_url) as watched, redis_client(url, socket_timeout=PATIENCE) as client:
        found = Ruled(watched, client)
        await found.may(*ALL)
        yield found
        await watched.client.execute_command("ACL", "DELUSER", "app")  # type: ignore[no-untyped-call]


async def waits_for(
    ruled: Ruled,
    breaker: CircuitBreaker,
    batch: list[Write],
    rules: tuple[str, ...],
    back: tuple[str, ...] = ALL,
) -> str:
    """Commit ``batch`` under these rules, which lasts until they are put ``back``; the reason said."""
    await ruled.may(*rules)
    with capture_logs() as lines:
        commit = asyncio.create_task(breaker.commit(batch))
        await until(lambda: commit.done() or breaker.down_since is not None)
        failures = breaker._stats.counters
        await until(lambda: commit.done() or failures[f"{breaker.name}_failures"] > 5)
        assert not commit.done()
        await ruled.may(*back)
        assert await commit == {}
    said = [line for line in lines if line["event"].startswith("outage")]
    assert [line["event"] for line in said] == ["outage_begin", "outage_end"]
    return str(said[0]["reason"])


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("-publish",), "(?i)publish"),
        (("-set",), r"(?i)\bset\b"),
        (("-sadd",), "(?i)sadd"),
        (("-expire",), "(?i)expire"),
        (("-srem", "-publish"), "(?i)srem"),
        (("-del", "-publish"), "(?i)publish|del"),
        (("-zadd",), "(?i)zadd"),
        (("-evalsha",), "evalsha"),
        (("-@scripting",), "evalsha"),
        (("resetkeys", "~claim*", "~minute", "~z"), "key"),
        (("resetchannels", "&other"), r"channel.*\(PUBLISH out\)"),
        (("off",), "(?i)wrongpass|invalid username"),
        (("resetpass", ">another"), "(?i)wrongpass|invalid username"),
    ],
)
async def test_a_right_that_is_taken_away_is_an_outage_in_which_nothing_is_refused_or_told_twice(
    ruled: Ruled, rules: tuple[str, ...], missing: str
) -> None:
    breaker = CircuitBreaker(RedisLive(ruled.client), QUICK, Clock(), Stats())
    await breaker.open()
    assert await breaker.commit(writes(claimed(1))) == {}
    batch = writes(*(claimed(n, SetMember("z", f"{n}C", "", b"a", 1.0, n)) for n in range(2, 22)))
    with_reason = await waits_for(ruled, breaker, batch, rules)
    assert re.search(missing, with_reason), with_reason
    assert await ruled.watched.published() == [("out", b"%d" % n) for n in range(1, 22)]


async def test_a_forgotten_script_that_may_not_be_loaded_again_is_said(ruled: Ruled) -> None:
    breaker = CircuitBreaker(RedisLive(ruled.client), QUICK, Clock(), Stats())
    await breaker.open()
    await ruled.admin.script_flush()
    assert "script" in await waits_for(ruled, breaker, writes(claimed(1)), ("-script",))


async def test_of_two_channels_the_one_that_is_open_hears_once(ruled: Ruled) -> None:
    breaker = CircuitBreaker(RedisLive(ruled.client, record="told"), QUICK, Clock(), Stats())
    await breaker.open()
    both = [Publish("out", b"a"), Publish("out:more", b"b"), SetClaim("minute", "m", 600)]
    await waits_for(ruled, breaker, writes(both), ("resetchannels", "&out"))
    assert await ruled.watched.published() == [("out", b"a"), ("out:more", b"b")]
    assert await ruled.admin.xlen("told") == 2


@pytest.mark.parametrize("missing", ["-xack", "-xpending", "-xinfo", "~keys"])
async def test_what_cannot_be_acknowledged_is_not_told_before_it_can(ruled: Ruled, missing: str) -> None:
    await ruled.admin.xgroup_create("s", "g", "0", mkstream=True)
    ids = [(await ruled.admin.xadd("s", {"n": n})).decode() for n in range(3)]
    await ruled.admin.xreadgroup("g", "me", {"s": ">"})
    batch = writes(*([Publish("out", id_.encode()), Ack("s", "g", id_)] for id_ in ids))
    breaker = CircuitBreaker(RedisLive(ruled.client), QUICK, Clock(), Stats())
    await breaker.open()
    rules = ("resetkeys", "~s", "~s:g:early") if missing == "~keys" else (missing,)
    await waits_for(ruled, breaker, batch, rules)
    assert await ruled.watched.published() == [("out", id_.encode()) for id_ in ids]
    assert (await ruled.admin.xpending("s", "g"))["pending"] == 0
    assert await ruled.admin.get("s:g:cursor") == ids[-1].encode()


@pytest.mark.parametrize("kind", [ListLetterStore, StreamLetterStore])
@pytest.mark.parametrize(
    "rules", [("-set",), ("-srem",), ("resetkeys", "~letters"), ("-lpush", "-xadd"), ("-evalsha",)]
)
async def test_a_dead_letter_that_may_not_be_stored_is_stored_once_when_it_may(
    ruled: Ruled, kind: type[ListLetterStore] | type[StreamLetterStore], rules: tuple[str, ...]
) -> None:
    store = kind(ruled.client, "letters")
    breaker = CircuitBreaker(DeadLetterSink(store), QUICK, Clock(), Stats())
    assert await breaker.commit([Write([letter(1)])]) == {}
    await waits_for(ruled, breaker, [Write([letter(2)])], rules)
    assert [found.task_id async for found in store.letters()] == ["letter-0002", "letter-0001"]


async def test_a_letter_that_may_not_be_replaced_stays(ruled: Ruled) -> None:
    store = StreamLetterStore(ruled.client, "letters")
    await store.add(letter(1))
    (found,) = await store.peek(1)
    await ruled.may("-xadd")
    with pytest.raises(ResponseError):
        await store.replace(found, found.raw)
    assert await store.count() == 1


@pytest.mark.parametrize("rules", [("-smismember",), ("-get",), ("resetkeys", "~processed:*")])
async def test_claims_of_mails_that_may_not_be_asked_are_an_outage_that_is_said_once(
    ruled: Ruled, rules: tuple[str, ...]
) -> None:
    seen = Idempotency(ruled.client, connection=RawConnection(ruled.client, timeout=PATIENCE))
    assert (await seen.begin("a", "t", 60_000)).state is State.OURS
    await ruled.may(*rules)
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(SinkUnavailable, match="claims is unavailable"):
                await seen.begin("a", "other", 60_000)
        await ruled.may(*ALL)
        assert (await seen.begin("a", "other", 60_000)).state is State.BUSY
    assert [line["event"] for line in lines] == ["outage_begin", "outage_end"]
    await seen.close()


async def test_what_may_not_be_removed_from_the_delay_set_is_not_moved(ruled: Ruled) -> None:
    keys = GroupKeys("s", "g")
    sink = RedisLive(ruled.client)
    await sink.open()
    await sink.commit(writes(Delay(keys.later, 0, {b"n": b"1"})))
    group = StreamGroup(ruled.client, keys, "me")
    await ruled.may("-zrem")
    for _ in range(3):
        with pytest.raises(ResponseError):
            await group.come_back("again")
    assert await ruled.admin.xlen("again") == 0
    await ruled.may(*ALL)
    assert await group.come_back("again") == 1

