"""What dead workers leave: taken over, processed alone, at last set aside; retries outlive everybody."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.engine.effects import Effect
from enricher.engine.retry import RetryPolicy
from tests.integration.streams import (
    GROUP,
    STREAM,
    Crew,
    copied,
    finished,
    letters,
    line,
    pending,
    results,
    send,
    wall_clock,
)
from tests.rig import until
from tests.servers import FaultyProxy, RedisProcess

LATER = f"{STREAM}:{GROUP}:later"


async def left_behind(client: Redis, *bodies: object, consumer: str = "dead", times: int = 1) -> list[str]:
    """Entries that a consumer was given ``times`` times and never finished, a long while ago."""
    await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    ids = await send(client, *bodies)
    await client.xreadgroup(GROUP, consumer, {STREAM: ">"})
    await client.xclaim(STREAM, GROUP, consumer, 0, ids, idle=600_000, retrycount=times, justid=True)
    return ids


async def for_ever(event: Any, context: Any) -> list[Effect]:
    """A handler that never ends."""
    await asyncio.Event().wait()
    return []


async def test_entries_of_a_worker_that_was_killed_are_taken_over(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        with Crew(redis_url, lease=0.2) as crew:
            crew.start("doomed")
            await send(client, *[{"n": n, "seconds": 600} for n in range(3)])

            async def given() -> bool:
                return bool(await client.exists(f"{STREAM}:{GROUP}:cursor")) and await pending(client) == 3

            await until(given, "a worker with three entries")
            crew.kill()
        async with line(redis_url, lease=0.2):
            assert sorted(r["n"] for r in await finished(client, 3)) == [0, 1, 2]

            async def alone() -> bool:
                return [c["name"] for c in await client.xinfo_consumers(STREAM, GROUP)] == [b"one"]

            await until(alone, "the dead worker to be struck off")


async def test_what_was_left_is_processed_in_companies_apart_and_at_the_last_delivery_alone(
    any_redis_url: str,
) -> None:
    under_way: list[int] = []
    together: dict[int, set[int]] = {}

    async def handler(event: Any, context: Any) -> list[Effect]:
        under_way.append(event)
        await asyncio.sleep(0.02)
        together[event] = set(under_way)
        await asyncio.sleep(0.02)
        under_way.remove(event)
        return copied(event, context)

    async with redis_client(any_redis_url, socket_timeout=60) as client:
        ids = await left_behind(client, *range(50))
        await client.xclaim(STREAM, GROUP, "dead", 0, ids[:3], idle=600_000, retrycount=2, justid=True)
        await send(client, *range(50, 100))
        async with line(any_redis_url, handler=handler) as found:
            assert len(await finished(client, 100)) == 100
            assert found.source.health()["recovered"] == 50
        assert [together[n] for n in range(3)] == [{0}, {1}, {2}]
        for company in (set(range(3, 50)), set(range(50, 100))):
            assert all(together[n] <= company for n in company)
            assert max(len(together[n]) for n in company) > 1
        first = [event for event in await results(client) if event < 50]
        assert sorted(first[-3:]) == [0, 1, 2]


async def test_workers_killed_again_and_again_blame_no_entry_for_it(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        ids = await left_behind(client, *[{"n": n} for n in range(3)])
        for _ in range(5):
            # A life too short to try again what two others did not finish.
            await client.xclaim(STREAM, GROUP, "one", 0, ids, idle=600_000, retrycount=2, justid=True)
            async with line(redis_url, consumer="one", lease=600.0) as found:
                await send(client, {"n": -1})
                await until(lambda found=found: found.counts.get("processed"), "a new entry")
                assert found.source.health()["waiting_alone"] == 3
        async with line(redis_url, consumer="one"):
            await finished(client, 8)
        assert await letters(client) == []


async def test_an_entry_that_kills_whoever_has_it_is_set_aside_and_the_innocent_are_not(
    redis_url: str,
) -> None:
    innocent = [{"n": n, "seconds": 0.1} for n in range(1, 14)]
    async with redis_client(redis_url, socket_timeout=60) as client:
        with Crew(redis_url, lease=0.4) as crew:
            await send(client, *innocent[:6], {"n": 0, "do": "die"}, *innocent[6:])
            worker = crew.start("one")
            await until(lambda: worker.poll() is not None, "the worker to die of what it had read")
            found = await client.xpending_range(STREAM, GROUP, "-", "+", 100)
            assert [entry["times_delivered"] for entry in found] == [1] * 14
            for company in (b"1", b"3"):
                worker = crew.start("one")
                await until(lambda worker=worker: worker.poll() is not None, "the worker to die of a company")
                found = await client.xpending_range(STREAM, GROUP, "-", "+", 100)
                assert [entry["times_delivered"] for entry in found] == [1] * 14
                assert await client.hvals(f"{STREAM}:{GROUP}:exposed") == [company] * 14
            for delivery in (2, 3):
                worker = crew.start("one")
                await until(lambda worker=worker: worker.poll() is not None, "the worker to die of the one")
                found = await client.xpending_range(STREAM, GROUP, "-", "+", 100)
                assert max(entry["times_delivered"] for entry in found) == delivery
        async with line(redis_url, lease=0.4):
            (letter,) = await until(lambda: letters(client))
            assert (letter["stage"], letter["error_type"], letter["attempts"]) == ("poison", "Poison", 3)
            assert json.loads(letter["body"]) == {"n": 0, "do": "die"}
            assert sorted(r["n"] for r in await finished(client, 13)) == list(range(1, 14))
            assert len(await letters(client)) == 1


async def test_all_that_a_dead_worker_left_is_taken_over_at_once(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        await left_behind(client, *range(350))
        async with line(any_redis_url, lease=500.0):  # so there is one look at what others hold
            assert sorted(await finished(client, 350)) == list(range(350))


async def test_a_company_that_comes_to_its_end_leaves_no_trace(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        await left_behind(client, *range(50))
        async with line(any_redis_url) as found:
            await finished(client, 50)

            async def cleared() -> bool:
                return not await client.exists(f"{STREAM}:{GROUP}:exposed")

            await until(cleared, "the exposed to be forgotten")
            assert found.source.health()["recovered"] == 50


async def test_a_company_that_is_handed_back_was_delivered_as_often_as_before(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        await left_behind(client, *range(20))
        async with line(any_redis_url, handler=for_ever, drain=0.05) as found:
            await until(lambda: found.source.health()["under_way"] == 20, "the company")
        waiting = await client.xpending_range(STREAM, GROUP, "-", "+", 100)
        assert [entry["times_delivered"] for entry in waiting] == [1] * 20
        async with line(any_redis_url, consumer="next"):
            assert sorted(await finished(client, 20)) == list(range(20))


async def test_an_entry_within_the_cap_is_processed_and_one_beyond_it_is_poison(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        await left_behind(client, "last chance", times=2)
        async with line(any_redis_url):
            assert await finished(client, 1) == ["last chance"]
        await client.xgroup_destroy(STREAM, GROUP)
        await client.flushall()
        await left_behind(client, "too often", times=3)
        async with line(any_redis_url) as found:
            (letter,) = await until(lambda: letters(client))
            assert (letter["stage"], letter["attempts"]) == ("poison", 3)
            assert await pending(client) == 0
            assert found.source.health()["poison"] == 1
            await until(lambda: found.counts.get("dead") == 1, "the count")
        assert await results(client) == []


async def test_a_worker_that_comes_back_under_its_name_has_its_entries_at_once(redis_url: str) -> None:
    async with redis_client(redis_url, socket_timeout=60) as client:
        await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        await send(client, 1, 2)
        await client.xreadgroup(GROUP, "one", {STREAM: ">"})
        async with line(redis_url, consumer="one", lease=600.0):
            assert sorted(await finished(client, 2)) == [1, 2]


async def test_a_slow_worker_keeps_what_it_has(any_redis_url: str) -> None:
    calls: list[str] = []

    async def slow(event: Any, context: Any) -> list[Effect]:
        calls.append(event)
        await asyncio.sleep(1.6)
        return copied(event, context)

    async with (
        line(any_redis_url, handler=slow, consumer="slow", lease=0.3) as found,
        redis_client(any_redis_url, socket_timeout=60) as client,
    ):
        await send(client, "long")
        await until(lambda: calls)
        # Twice it looks for what has lain about for a second, and finds nothing.
        async with line(any_redis_url, consumer="greedy", lease=1.0):
            assert await finished(client, 1) == ["long"]
        assert (calls, found.source.health()["lapsed"]) == (["long"], 0)


async def test_a_worker_whose_loop_is_held_up_for_three_leases_keeps_what_it_has(redis_url: str) -> None:
    begun: list[Any] = []

    async def another(event: Any, context: Any) -> list[Effect]:
        begun.append(event["n"])
        return copied(event, context)

    async with redis_client(redis_url, socket_timeout=60) as client:
        with Crew(redis_url, lease=2) as crew:
            crew.start("held up")
            await until(lambda: client.exists(f"{STREAM}:{GROUP}:cursor"), "the worker")
            await send(client, {"n": 0, "blocks": 6})
            await until(lambda: pending(client), "an entry under way")
            async with line(redis_url, handler=another, consumer="two", lease=2):
                assert await finished(client, 1) == [{"n": 0, "blocks": 6}]
    assert begun == []


async def test_a_worker_that_lost_its_lease_finishes_nothing_twice(redis_url: str) -> None:
    go_on = asyncio.Event()

    async def stuck(event: Any, context: Any) -> list[Effect]:
        await go_on.wait()
        return copied(event, context)

    async with line(redis_url, handler=stuck, consumer="stuck", lease=600.0, drain=0.2) as found:
        (id_,) = await send(found.client, "x")
        await until(lambda: found.source.health()["under_way"])
        await found.client.xclaim(STREAM, GROUP, "nobody", 0, [id_], idle=900_000, justid=True)
        async with line(redis_url, consumer="other"):
            assert await finished(found.client, 1) == ["x"]
        go_on.set()
        await until(lambda: found.counts.get("duplicate"))
        assert await results(found.client) == ["x"]


async def test_entries_deleted_while_pending_are_counted_as_lost(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        ids = await left_behind(client, 1, 2, 3)
        await client.xdel(STREAM, ids[1])
        async with line(any_redis_url) as found:
            await until(lambda: found.source.health()["lost"] == 1)
            assert sorted(await finished(client, 2)) == [1, 3]


async def test_what_is_deleted_while_a_worker_has_it_is_finished(any_redis_url: str) -> None:
    go_on = asyncio.Event()

    async def waits(event: Any, context: Any) -> list[Effect]:
        await go_on.wait()
        return copied(event, context)

    async with line(any_redis_url, handler=waits, lease=0.2) as found:
        (id_,) = await send(found.client, "gone")
        await until(lambda: found.source.health()["under_way"])
        await found.client.xdel(STREAM, id_)

        async def dropped() -> bool:
            return await pending(found.client) == 0

        await until(dropped, "the renewal to drop it from the pending")
        go_on.set()
        assert await finished(found.client, 1) == ["gone"]
        assert found.source.health()["lost"] == 0


async def test_what_a_stopping_worker_hands_back_is_no_further_delivery(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        for life in range(4):
            async with line(
                any_redis_url, handler=for_ever, consumer=f"life-{life}", lease=30.0, drain=0.05
            ) as found:
                if not life:
                    await send(client, "x")
                await until(lambda found=found: found.source.health()["under_way"], "the entry")
            assert (found.engine.lost, found.engine.handed_back) == ({}, {STREAM: 1})
            assert "lost" not in found.counts
        async with line(any_redis_url, lease=30.0):
            assert await finished(client, 1) == ["x"]
        assert await letters(client) == []


# -- retries -------------------------------------------------------------------------------------------

AGAIN = RetryPolicy(max_retries=2, base=0.3, factor=1.0, jitter="none")
TOMORROW = RetryPolicy(max_retries=2, base=86_400.0, max_delay=86_400.0, factor=1.0, jitter="none")


async def tomorrow_comes(client: Redis) -> None:
    """What waits to be tried again is due."""
    ((entry, _),) = await client.zrange(LATER, 0, -1, withscores=True)
    await client.zadd(LATER, {entry: 1})


def failing(times: int, calls: list[tuple[Any, int]]) -> Any:
    """A handler that fails ``times`` times for messages that say so."""

    def handler(event: Any, context: Any) -> list[Effect]:
        calls.append((event, context.attempt))
        if event == "fails" and context.attempt <= times:
            raise OSError("the other side is busy")
        return copied(event, context)

    return handler


async def test_a_retry_waits_in_the_delay_set_and_blocks_nobody(any_redis_url: str) -> None:
    calls: list[tuple[Any, int]] = []
    async with line(any_redis_url, handler=failing(1, calls), retry=TOMORROW) as found:
        await send(found.client, "fails", "a", "b")
        assert await finished(found.client, 2) == ["a", "b"]
        assert await found.client.zcard(LATER) == 1
        await until(lambda: found.source.health()["under_way"] == 0)
        await tomorrow_comes(found.client)
        assert await finished(found.client, 3) == ["a", "b", "fails"]
        assert await found.client.zcard(LATER) == 0
    assert calls == [("fails", 1), ("a", 1), ("b", 1), ("fails", 2)]


async def test_workers_whose_clocks_differ_share_their_delays(any_redis_url: str) -> None:
    calls: list[tuple[Any, int]] = []
    handler, days = failing(1, calls), 2 * 86_400_000_000
    async with line(
        any_redis_url, handler=handler, retry=TOMORROW, clock=lambda: wall_clock() - days
    ) as behind:
        before, _ = await behind.client.time()
        await send(behind.client, "fails")
        await until(lambda: behind.counts.get("deferred"))
        ((_, due_ms),) = await behind.client.zrange(LATER, 0, -1, withscores=True)
        after, _ = await behind.client.time()
        assert before + 86_400 <= due_ms / 1000 <= after + 86_401
    async with line(any_redis_url, handler=handler, clock=lambda: wall_clock() + days) as ahead:
        await send(ahead.client, "a")
        assert await finished(ahead.client, 1) == ["a"]
        await until(lambda: ahead.source.health()["delayed"] and ahead.source.health()["length"] == 2)
        await asyncio.sleep(0.1)
        assert await ahead.client.zcard(LATER) == 1
        await tomorrow_comes(ahead.client)
        assert await finished(ahead.client, 2) == ["a", "fails"]


async def test_a_retry_outlives_the_worker_and_knows_how_often_it_was_tried(any_redis_url: str) -> None:
    calls: list[tuple[Any, int]] = []
    async with line(any_redis_url, handler=failing(9, calls), retry=AGAIN) as found:
        (id_,) = await send(found.client, "fails")
        await until(lambda: calls)
        await until(lambda: found.counts.get("deferred"))
    async with line(any_redis_url, handler=failing(9, calls), retry=AGAIN, consumer="next") as found:
        (letter,) = await until(lambda: letters(found.client))
        assert await pending(found.client, f"{STREAM}:{GROUP}:again") == 0
    assert [attempt for _, attempt in calls] == [1, 2, 3]
    assert (letter["attempts"], letter["stage"], letter["body"]) == (3, "enrich", '"fails"')
    assert letter["first_at"] < letter["last_at"]
    assert id_


async def test_an_entry_that_came_back_and_was_left_is_taken_over_too(redis_url: str) -> None:
    calls: list[tuple[Any, int]] = []
    again = f"{STREAM}:{GROUP}:again"
    async with line(redis_url, handler=failing(1, calls), retry=TOMORROW) as found:
        await send(found.client, "fails")
        await until(lambda: found.counts.get("deferred"))
    async with redis_client(redis_url, socket_timeout=60) as client:
        await tomorrow_comes(client)
        async with line(redis_url, handler=for_ever, consumer="brief", drain=0.01) as brief:
            await until(lambda: brief.source.health()["under_way"])
        left = await client.xreadgroup(GROUP, "dead", {again: ">"})
        assert (left, await pending(client, again)) == ([], 1)
        async with line(redis_url, handler=failing(1, calls), retry=AGAIN, consumer="next"):
            assert await finished(client, 1) == ["fails"]
    assert calls[-1] == ("fails", 2)


async def test_what_is_no_entry_in_the_delay_set_holds_nobody_up(any_redis_url: str) -> None:
    async with line(any_redis_url) as found:
        await found.client.zadd(LATER, {b"\xc1nonsense": 1, b"\x93\x01\x02\x03": 2})
        await until(lambda: found.client.exists(f"{LATER}:unreadable"))
        await send(found.client, 1)
        assert await finished(found.client, 1) == [1]
        assert await found.client.llen(f"{LATER}:unreadable") == 2


# -- trimming ------------------------------------------------------------------------------------------


async def test_only_what_all_groups_have_acknowledged_is_trimmed(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        await client.config_set("stream-node-max-entries", 1)
        try:
            await client.xgroup_create(STREAM, "others", "0", mkstream=True)
            ids = await send(client, *range(10))
            ((_, read),) = await client.xreadgroup("others", "x", {STREAM: ">"}, count=6)
            await client.xack(STREAM, "others", *[id_ for id_, _ in read[:4]])
            async with line(any_redis_url, trim=True, retention=0.0, lease=0.1):
                await finished(client, 10)

                async def trimmed() -> bool:
                    return await client.xlen(STREAM) < 10

                await until(trimmed, "the stream to be trimmed")
            assert (await client.xrange(STREAM))[0][0].decode() == ids[4]
        finally:
            await client.config_set("stream-node-max-entries", 100)


async def test_what_was_acknowledged_is_kept_for_a_while_however_old_it_is(any_redis_url: str) -> None:
    async with redis_client(any_redis_url, socket_timeout=60) as client:
        await client.config_set("stream-node-max-entries", 1)
        try:
            for number in range(1, 10):
                await client.xadd(STREAM, {"body": b"1"}, id=f"{number}-0")
            async with line(any_redis_url, trim=True, retention=600.0, lease=0.1):
                await finished(client, 9)
                await asyncio.sleep(0.5)
                assert await client.xlen(STREAM) == 9

            async def trimmed() -> bool:
                return await client.xlen(STREAM) < 9

            async with line(any_redis_url, trim=True, retention=0.2, lease=0.1):
                await until(trimmed, "the stream to be trimmed")
        finally:
            await client.config_set("stream-node-max-entries", 100)


async def test_a_commit_whose_reply_was_lost_is_known_by_its_entry_while_others_trim(
    own_redis: RedisProcess,
) -> None:
    limits: dict[str, Any] = {"trim": True, "retention": 0.0, "lease": 0.5}

    def commit(request: bytes) -> bool:
        """Whether this is one; then nobody gets through from now on."""
        proxy.refuse = b"EVALSHA" in request
        return proxy.refuse

    async with FaultyProxy(own_redis.port) as proxy, redis_client(own_redis.url, socket_timeout=60) as client:
        await client.config_set("stream-node-max-entries", 1)
        async with line(own_redis.url, through=proxy.redis_url(), consumer="cut off", **limits) as cut:
            await send(client, 0)
            await finished(client, 1)
            proxy.lose_next_reply(commit)
            (id_,) = await send(client, 1)
            await until(lambda: proxy.lost_replies)
            proxy.cut()
            async with line(own_redis.url, handler=for_ever, consumer="other", drain=0.05, **limits) as other:
                await send(client, 2)
                await until(lambda: other.source.health()["under_way"])
                await asyncio.sleep(1.5)  # in which the other one trims three times
                assert await client.xrange(STREAM, id_, id_) != []
                proxy.heal()
                await until(lambda: cut.counts["processed"] == 2, "the commit to be repeated")
                assert await results(client) == [0, 1]


async def test_a_stream_may_be_kept_at_a_length(redis_url: str) -> None:
    async with line(redis_url, max_length=100, lease=0.2) as found:
        await send(found.client, *range(1000))

        async def short() -> bool:
            return await found.client.xlen(STREAM) <= 200

        await until(short, "the stream to be trimmed")
