"""A pool that is full: what is dropped, what replaces what, and who waits."""

from __future__ import annotations

import asyncio
import json

import pytest

from enricher.config import PoolSettings
from enricher.engine.router import Overload, Route
from tests.rig import Rig, Told, echo, fill, key_of, message, turns, until


async def test_when_full_the_oldest_are_dropped_and_every_drop_is_counted() -> None:
    route = Route(topic="t", handler=echo, key=key_of, overload=Overload.DROP_OLDEST)
    rig = Rig(route, pool=PoolSettings(max_messages=10))
    told = fill(rig, range(25))
    assert rig.engine.pool.count == 10
    await rig.take()
    assert rig.numbers("a") == list(range(15, 25))
    assert rig.counts("t") == {"received": 25, "dropped": 15, "processed": 10}
    assert [t.ends for t in told] == [["dropped"]] * 15 + [["processed"]] * 10


async def test_the_key_of_what_goes_for_a_later_one_of_the_same_read_is_never_asked() -> None:
    asked: list[int] = []

    def key(body: bytes) -> str:
        asked.append(json.loads(body)["n"])
        return key_of(body)

    route = Route(topic="t", handler=echo, key=key, overload=Overload.DROP_OLDEST)
    rig = Rig(route, pool=PoolSettings(max_messages=3))
    told = [Told("t", message("a", number)) for number in range(10)]
    rig.engine.pool.offer_all(told)
    assert asked == [7, 8, 9]
    await rig.take()
    assert rig.numbers("a") == [7, 8, 9]
    assert [t.ends for t in told] == [["dropped"]] * 7 + [["processed"]] * 3


async def test_the_bound_in_bytes_holds_too() -> None:
    route = Route(topic="t", handler=echo, key=key_of, overload=Overload.DROP_OLDEST)
    rig = Rig(route, pool=PoolSettings(max_bytes=1000))
    fill(rig, range(10), pad="x" * 80)
    fill(rig, [10], pad="x" * 700)
    assert rig.engine.pool.bytes <= 1000
    await rig.take()
    counts = rig.counts("t")
    assert rig.numbers("a")[-1] == 10
    assert counts["dropped"] + counts["processed"] == 11
    assert (rig.engine.pool.count, rig.engine.pool.bytes) == (0, 0)


async def test_conflation_keeps_the_newest_of_each_key() -> None:
    route = Route(topic="t", handler=echo, key=key_of, overload=Overload.CONFLATE)
    rig = Rig(route, pool=PoolSettings(max_messages=4))
    for number in range(20):
        fill(rig, [number], key="abcd"[number % 4])
    await rig.take()
    assert {k: rig.numbers(k) for k in "abcd"} == {"a": [16], "b": [17], "c": [18], "d": [19]}
    assert rig.counts("t") == {"received": 20, "conflated": 16, "processed": 4}


async def test_conflation_gives_up_the_oldest_of_a_key_and_keeps_the_rest_in_order() -> None:
    route = Route(topic="t", handler=echo, key=key_of, overload=Overload.CONFLATE)
    rig = Rig(route, pool=PoolSettings(max_messages=4))
    told = [*fill(rig, range(3)), *fill(rig, [0], key="b"), *fill(rig, [3, 4])]
    await rig.take()
    assert (rig.numbers("a"), rig.numbers("b")) == ([2, 3, 4], [0])
    assert [t.ends for t in told] == [["conflated"]] * 2 + [["processed"]] * 4
    assert rig.counts("t") == {"received": 6, "conflated": 2, "processed": 4}


async def test_conflation_may_use_a_finer_notion_of_the_same() -> None:
    route = Route(
        topic="t",
        handler=echo,
        key=key_of,
        overload=Overload.CONFLATE,
        conflation=lambda body: body[-4:].decode(),
    )
    rig = Rig(route, pool=PoolSettings(max_messages=2))
    for number, strike in enumerate("xyxyx"):
        fill(rig, [number], strike=strike)
    await rig.take()
    assert rig.numbers("a") == [3, 4]


async def test_conflation_drops_the_oldest_when_there_is_nothing_to_replace() -> None:
    route = Route(topic="t", handler=echo, key=key_of, overload=Overload.CONFLATE)
    rig = Rig(route, pool=PoolSettings(max_messages=2))
    for key in "abc":
        fill(rig, [0], key=key)
    await rig.take()
    assert rig.counts("t") == {"received": 3, "dropped": 1, "processed": 2}
    assert rig.numbers("a") == []


async def test_a_blocking_route_lets_the_source_wait_and_loses_nothing() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of), pool=PoolSettings(max_messages=5))
    rig.live.open_gate.clear()
    async with rig.engine, asyncio.TaskGroup() as tasks:

        async def source() -> None:
            for number in range(40):
                await rig.engine.pool.put(Told("t", message("a", number)))

        tasks.create_task(source())
        await until(lambda: rig.engine.pool.count == 5)
        await turns()
        assert rig.engine.pool.count == 5
        rig.live.open_gate.set()
        await until(lambda: len(rig.numbers("a")) == 40)
    assert rig.numbers("a") == list(range(40))
    assert rig.counts("t") == {"received": 40, "processed": 40}


async def test_a_source_that_cannot_wait_has_the_drop_of_a_blocking_route_counted() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of), pool=PoolSettings(max_messages=5))
    told = fill(rig, range(8))
    assert [t.ends for t in told] == [[]] * 5 + [["dropped"]] * 3
    await rig.take()
    assert rig.counts("t") == {"received": 8, "dropped": 3, "processed": 5}


async def test_messages_being_committed_count_against_the_bound() -> None:
    rig = Rig(
        Route(topic="t", handler=echo, key=key_of, overload=Overload.DROP_OLDEST),
        pool=PoolSettings(max_messages=1),
    )
    async with rig.engine:
        rig.live.open_gate.clear()
        fill(rig, [0])
        await until(lambda: rig.live.active)
        assert fill(rig, [1])[0].ends == ["dropped"]
        rig.live.open_gate.set()
        await rig.drained()
    assert rig.numbers("a") == [0]


@pytest.mark.parametrize(
    "limits",
    [PoolSettings(max_messages=40), PoolSettings(max_bytes=40 * len(message("a", 100)))],
    ids=["messages", "bytes"],
)
async def test_most_of_a_full_pool_waits_where_an_overload_can_reach_it(limits: PoolSettings) -> None:
    route = Route(topic="t", handler=echo, key=key_of, overload=Overload.DROP_OLDEST)
    rig = Rig(route, pool=limits)
    async with rig.engine:
        rig.live.open_gate.clear()
        fill(rig, range(100, 140))
        await until(lambda: rig.live.active)
        told = fill(rig, range(140, 200))
        assert [t.ends for t in told[-30:]] == [[]] * 30
        rig.live.open_gate.set()
        await rig.drained()
    numbers = rig.numbers("a")
    assert numbers == sorted(numbers)
    assert numbers[-30:] == list(range(170, 200))
    assert len(numbers) == 40


async def test_a_message_that_is_too_large_is_set_aside_unread() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of), pool=PoolSettings(max_message_bytes=50))
    async with rig.engine:
        fill(rig, [1], pad="x" * 100)
        fill(rig, [2])
        await rig.drained()
    letter = rig.letters.letters[0]
    assert (letter.stage, letter.path) == ("receive", "$")
    assert "at most 50 bytes" in letter.error
    assert rig.numbers("a") == [2]


async def test_a_route_s_own_limit_of_bytes_counts_instead_of_the_pools() -> None:
    routes = [Route(topic=f"{most}", handler=echo, max_bytes=most) for most in (0, 100, 400)]
    rig = Rig(*routes, pool=PoolSettings(max_message_bytes=200, max_bytes=300))
    async with rig.engine:
        for route in routes:
            for pad in (50, 150, 250, 350):
                rig.offer(route.topic, route.topic, pad, pad="x" * pad)
                await rig.drained()
    taken = {route.topic: rig.numbers(route.topic) for route in routes}
    assert taken == {"0": [50, 150], "100": [50], "400": [50, 150, 250]}
    assert {letter.stage for letter in rig.letters.letters} == {"receive"}


async def test_a_topic_that_nobody_knows_is_set_aside_with_those_that_are() -> None:
    rig = Rig(Route(topic="t", handler=echo))
    async with rig.engine:
        rig.offer("market:trad")
        await rig.drained()
    assert rig.letters.letters[0].error_type == "UnknownTopic"
    assert "known topics t" in rig.letters.letters[0].error
    assert rig.counts("(unknown)") == {"received": 1, "dead": 1}


async def test_topics_of_a_pattern_share_its_counters() -> None:
    rig = Rig(Route(topic="orders.*", handler=echo))
    async with rig.engine:
        for topic in ("orders.eu", "orders.us"):
            rig.offer(topic)
        await rig.drained()
    assert rig.counts("orders.*") == {"received": 2, "processed": 2}


async def test_a_flood_does_not_shut_out_what_its_source_keeps_and_its_route_limits() -> None:
    class Kept(Told):
        kept = True

    flood = Route(topic="t", handler=echo, key=key_of, overload=Overload.DROP_OLDEST)
    limited = Route(topic="jobs", handler=echo, max_concurrency=2)
    rig = Rig(flood, limited, pool=PoolSettings(max_messages=10))
    fill(rig, range(10))
    kept, other = Kept("jobs", message("a", 1)), Told("jobs", message("a", 2))
    assert not rig.engine.pool.full_for(kept)
    assert rig.engine.pool.full_for(other)
    await rig.engine.pool.put(kept)
    assert rig.engine.pool.count == 11
    await rig.take()
    assert kept.ends == ["processed"]
    assert rig.counts("t") == {"received": 10, "processed": 10}
