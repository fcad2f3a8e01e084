"""A stream's entries are finished once, acknowledged with their effects, whatever happens to the group."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from enricher.adapters.redis.client import redis_client
from enricher.config import PoolSettings
from enricher.engine.effects import Effect
from enricher.engine.ports import Delivery
from enricher.engine.router import Overload
from enricher.errors import BadMessage
from tests.integration.streams import (
    GROUP,
    OUT,
    STREAM,
    Crew,
    copied,
    finished,
    letters,
    line,
    pending,
    results,
    send,
)
from tests.rig import until
from tests.servers import FaultyProxy, RedisProcess


class Held:
    """A handler that waits until told, and notes what it was given."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[Any] = []

    async def __call__(self, event: Any, context: Any) -> list[Effect]:
        self.seen.append(event)
        await self.open.wait()
        return copied(event, context)


async def test_entries_are_finished_in_order_and_acknowledged(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        await send(client, *range(250))
        async with line(any_redis_url) as found:
            assert await finished(client, 250) == list(range(250))
            await send(client, "later")
            assert (await finished(client, 251))[-1] == "later"
            await until(lambda: found.counts == {"received": 251, "processed": 251}, "the counts")
            await until(lambda: (h := found.source.health())["length"] == 251 and not h["pending"], "figures")
            health = found.source.health()
        assert (health["lag"], health["delayed"], health["dead_letters"]) == (0, 0, 0)
        assert await client.xinfo_consumers(STREAM, GROUP) == []


async def test_an_entry_says_its_topic_and_when_it_was_received(any_redis_url: str) -> None:
    seen: list[tuple[str, int]] = []

    def note(event: Any, context: Any) -> list[Effect]:
        seen.append((context.topic, context.now_us))
        return []

    async with line(any_redis_url, handler=note) as found:
        await found.client.xadd(STREAM, {"body": b"1", "topic": STREAM, "at": b"1700000000000001"})
        await until(lambda: seen)
    assert seen == [(STREAM, 1_700_000_000_000_001)]


async def test_no_more_than_the_prefetch_is_taken_from_the_others(any_redis_url: str) -> None:
    held = Held()
    async with line(any_redis_url, handler=held, prefetch=3, batch=2) as found:
        await send(found.client, *range(10))
        await until(lambda: len(held.seen) == 3)
        await until(lambda: found.source.health().get("pending") == 3)
        assert found.source.health()["lag"] == 7
        held.open.set()
        assert sorted(await finished(found.client, 10)) == list(range(10))


async def test_what_a_full_pool_drops_comes_again(redis_url: str) -> None:
    held, few = Held(), PoolSettings(max_messages=3, concurrency=1)
    async with line(redis_url, handler=held, overload=Overload.DROP_OLDEST, pool=few) as found:
        await send(found.client, *range(6))
        await until(lambda: found.counts.get("dropped", 0) >= 3)
        held.open.set()
        assert sorted(await finished(found.client, 6)) == list(range(6))
        assert await letters(found.client) == []


async def test_what_a_full_pool_drops_is_given_up_before_it_is_taken_again(redis_url: str) -> None:
    held = Held()
    few = PoolSettings(max_messages=3, concurrency=1)
    async with line(
        redis_url, handler=held, tick=0.5, lease=10.0, overload=Overload.DROP_OLDEST, pool=few
    ) as found:
        await until(lambda: found.source.health().get("length") == 0, "the house to rest for half a second")
        await send(found.client, *range(6))
        await until(lambda: found.counts.get("dropped", 0) >= 3)
        held.open.set()
        await until(lambda: not found.engine.pool.count)
        assert len(held.seen) == 3
        held.open.clear()
        await found.client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: len(held.seen) > 3, "another to be handled")
        await until(lambda: not found.source.health()["waiting_alone"], "all to be taken again")
        await asyncio.sleep(0.1)
        again = await found.client.xpending_range(STREAM, GROUP, "-", "+", 10)
        # What was given up only after it had been taken again, another worker could take as well.
        assert [entry["times_delivered"] for entry in again] == [1, 1, 1]
        held.open.set()
        await finished(found.client, 6)
    assert sorted(held.seen) == list(range(6))


async def test_what_a_full_pool_conflates_is_acknowledged(redis_url: str) -> None:
    held = Held()
    async with line(
        redis_url,
        handler=held,
        overload=Overload.CONFLATE,
        conflation=lambda body: "same",
        pool=PoolSettings(max_messages=3, concurrency=1),
    ) as found:
        await send(found.client, *range(6))
        await until(lambda: found.counts.get("conflated", 0) >= 1)
        held.open.set()
        await until(lambda: not found.engine.pool.count)

        async def done() -> bool:
            return await pending(found.client) == 0

        await until(done, "nothing to be pending")
        assert (await results(found.client))[-1] == 5


async def test_other_formats_are_read_by_a_hook(redis_url: str) -> None:
    def read(fields: Any) -> bytes | Delivery:
        if b"two" in fields:
            return Delivery(STREAM, fields[b"two"], 5)
        return json.dumps({k.decode(): v.decode() for k, v in fields.items()}).encode()

    async with line(redis_url, read_entry=read) as found:
        await found.client.xadd(STREAM, {"from": "a", "to": "b"})
        await found.client.xadd(STREAM, {"two": b"2"})
        assert await finished(found.client, 2) == [{"from": "a", "to": "b"}, 2]


async def test_what_cannot_be_read_is_a_dead_letter_at_once_and_whole(any_redis_url: str) -> None:
    async with line(any_redis_url) as found:
        await found.client.xadd(STREAM, {"text": b"\xff", "n": "1"})
        await found.client.xadd(STREAM, {"body": b"1", "at": "yesterday"})
        await send(found.client, 7)
        assert await finished(found.client, 1) == [7]
        second, first = await letters(found.client)
        assert (first["stage"], first["path"], first["attempts"]) == ("decode", "$.body", 1)
        assert json.loads(first["body"]) == {"text": {"base64": "/w=="}, "n": "1"}
        assert second["path"] == "$.at"
        assert found.source.health()["undecodable"] == 2
        await until(lambda: found.counts.get("dead") == 2)


async def test_a_dead_letter_and_its_acknowledgement_are_one(any_redis_url: str) -> None:
    def refuse(event: Any, context: Any) -> list[Effect]:
        raise BadMessage("$", "something better")

    async with line(any_redis_url, handler=refuse) as found:
        (id_,) = await send(found.client, 1)
        await until(lambda: letters(found.client))
        assert await pending(found.client) == 0
        await until(lambda: found.counts == {"received": 1, "dead": 1}, "the counts")
        assert await found.client.get(f"{STREAM}:{GROUP}:cursor") == id_.encode()


async def test_with_dead_letters_in_another_redis_the_letter_comes_first(
    redis_url: str, own_redis: RedisProcess
) -> None:
    def refuse(event: Any, context: Any) -> list[Effect]:
        raise BadMessage("$", "something better")

    own_redis.pause()
    async with line(redis_url, handler=refuse, letters_url=own_redis.url, timeout=0.5) as found:
        await send(found.client, 1)
        await until(lambda: found.engine.outages)
        assert await pending(found.client) == 1
        own_redis.resume()
        async with redis_client(own_redis.url, socket_timeout=60) as elsewhere:
            await until(lambda: letters(elsewhere))
            await until(lambda: not found.source.health()["under_way"])
            assert await pending(found.client) == 0
            assert len(await letters(elsewhere)) == 1


async def test_a_destroyed_group_goes_on_where_it_was_and_finishes_nothing_twice(any_redis_url: str) -> None:
    held = Held()
    async with line(any_redis_url, handler=held, prefetch=2) as found:
        held.open.set()
        await send(found.client, 0, 1)
        await finished(found.client, 2)
        held.open.clear()
        await send(found.client, 2, 3, 4)
        await until(lambda: held.seen[-2:] == [2, 3])
        assert await found.client.xgroup_destroy(STREAM, GROUP)
        await send(found.client, 5)
        held.open.set()
        assert sorted(await finished(found.client, 6)) == [0, 1, 2, 3, 4, 5]
        assert found.source.health()["created_again"] == 1
        await asyncio.sleep(0.2)
        assert await found.client.xlen(OUT) == 6


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (STREAM, f"{STREAM} is a string, not a stream"),
        (f"{STREAM}:{GROUP}:later", "later is a string, not a zset"),
        (f"{STREAM}:{GROUP}:again", "again is a string, not a stream"),
        (f"{STREAM}:{GROUP}:cursor", "cursor holds 'x', which is no id of an entry"),
    ],
)
async def test_a_key_that_holds_something_else_is_named_and_waited_for(
    redis_url: str, key: str, said: str
) -> None:
    async with redis_client(redis_url, socket_timeout=5) as client:
        await client.set(key, "x")
        async with line(redis_url, ready=False) as found:
            await until(lambda: said in found.source.health()["last_error"], "what is wrong")
            assert not found.engine.ready
            await client.delete(key)
            await send(client, 1)
            assert await finished(client, 1) == [1]


async def test_a_deleted_stream_is_read_anew_and_what_was_under_way_is_finished(redis_url: str) -> None:
    held = Held()
    async with line(redis_url, handler=held) as found:
        await send(found.client, 0)
        await until(lambda: held.seen)
        await found.client.delete(STREAM)
        await send(found.client, 1)
        held.open.set()
        assert await finished(found.client, 2) == [0, 1]


async def test_a_group_may_begin_with_what_comes_from_now_on(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        await send(client, "before")
        async with line(redis_url, start="$"):
            await send(client, "after")
            assert await finished(client, 1) == ["after"]


async def test_an_entry_that_another_worker_has_finished_lands_nothing(redis_url: str) -> None:
    held = Held()
    async with line(redis_url, handler=held) as found:
        (id_,) = await send(found.client, 1)
        await until(lambda: held.seen)
        await found.client.xack(STREAM, GROUP, id_)
        held.open.set()
        await until(lambda: found.counts.get("duplicate"))
        assert await results(found.client) == []


async def test_a_commit_whose_reply_got_lost_lands_once(own_redis: RedisProcess) -> None:
    async with (
        FaultyProxy(own_redis.port) as proxy,
        line(own_redis.url, through=proxy.redis_url()) as found,
    ):
        proxy.lose_next_reply(lambda request: b"EVALSHA" in request)
        await send(found.client, 1)
        await until(lambda: proxy.lost_replies)
        assert await finished(found.client, 1) == [1]
        await until(lambda: not found.source.health()["under_way"])
        assert await results(found.client) == [1]
        assert found.counts["processed"] == 1


async def test_entries_whose_delivery_got_lost_on_the_way_come_soon_and_count_once(
    own_redis: RedisProcess,
) -> None:
    async with (
        FaultyProxy(own_redis.port) as proxy,
        line(own_redis.url, through=proxy.redis_url(), lease=30.0, block=0.5) as found,
    ):
        proxy.lose_next_reply(lambda request: b"XREADGROUP" in request)
        await send(found.client, 1, 2, 3)
        await until(lambda: proxy.lost_replies)
        assert sorted(await finished(found.client, 3)) == [1, 2, 3]
        assert await letters(found.client) == []


async def test_an_outage_in_the_middle_loses_nothing_and_repeats_nothing(own_redis: RedisProcess) -> None:
    async with line(own_redis.url, timeout=0.5) as found:
        await send(found.client, *range(500))
        await until(lambda: found.counts.get("received", 0) > 100)
        own_redis.kill()
        await until(lambda: not found.source.health()["ready"])
        own_redis.start()
        await until(lambda: found.source.health()["ready"])
        # Everything was on disk or is appended again: what the server forgot is not the worker's to know.
        known = [json.loads(f[b"body"]) for _, f in await found.client.xrange(STREAM)]
        done = await finished(found.client, len(known))
        assert sorted(done) == sorted(known)
        assert await letters(found.client) == []


async def test_a_frozen_server_is_waited_for(own_redis: RedisProcess) -> None:
    async with line(own_redis.url, timeout=0.3) as found:
        own_redis.pause()
        await until(lambda: not found.source.health()["ready"])
        own_redis.resume()
        await send(found.client, 1)
        assert await finished(found.client, 1) == [1]


async def test_a_server_that_is_away_at_the_start_is_waited_for(own_redis: RedisProcess) -> None:
    own_redis.kill()
    async with line(own_redis.url, ready=False) as found:
        await until(lambda: found.source.health()["last_error"])
        own_redis.start()
        await send(found.client, 1)
        assert await finished(found.client, 1) == [1]


async def test_two_processes_of_a_group_share_the_work(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        with Crew(redis_url, prefetch=5, batch=5) as crew:
            crew.start("left")
            crew.start("right")

            async def both() -> bool:
                found = await client.xinfo_consumers(STREAM, GROUP)
                return {c["name"] for c in found} == {b"left", b"right"}

            await until(lambda: client.exists(STREAM))
            await until(both, "two consumers")
            seen: set[bytes] = set()
            sent = 0

            async def done() -> bool:
                entries = await client.xpending_range(STREAM, GROUP, "-", "+", 100)
                seen.update(e["consumer"] for e in entries)
                return await client.xlen(OUT) >= sent

            # One that is kept from working has its part of what comes later.
            while not sent or seen != {b"left", b"right"}:
                await send(client, *[{"n": n, "seconds": 0.005} for n in range(sent, sent + 100)])
                sent += 100
                await until(done)
            assert sorted(r["n"] for r in await results(client)) == list(range(sent))
