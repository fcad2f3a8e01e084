"""Lanes under one semaphore: order per key, fair shares, and outages."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.config import PoolSettings, WriterSettings
from enricher.engine.effects import Effect, Insert, KeyClaim, Publish, SetKey
from enricher.engine.ports import Write
from enricher.engine.retry import RetryPolicy
from enricher.engine.router import Context, Overload, Route
from tests.rig import (
    NOW_US,
    STEADY,
    Held,
    Rig,
    Streamed,
    Sums,
    Told,
    echo,
    failing,
    fill,
    key_of,
    message,
    stateful,
    turns,
    until,
)


def noting(served: list[str]) -> Callable[..., list[Effect]]:
    """A handler that notes its topic."""

    def handler(event: Any, context: Context) -> list[Effect]:
        served.append(context.topic)
        return []

    return handler


# -- order and fairness --------------------------------------------------------------------------------


async def test_messages_of_one_key_stay_in_order_under_load() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of), writer=WriterSettings(max_batch=16))
    async with rig.engine:
        for number in range(500):
            rig.offer("t", "abc"[number % 3], number)
        await rig.drained()
    for index, key in enumerate("abc"):
        assert rig.numbers(key) == list(range(index, 500, 3))


async def test_handlers_that_wait_keep_the_order_of_their_key_and_overlap_across_keys() -> None:
    held = Held()
    rig = Rig(Route(topic="t", handler=held, key=key_of), pool=PoolSettings(concurrency=8))
    async with rig.engine:
        for number in range(20):
            rig.offer("t", "ab"[number % 2], number)
        await until(lambda: len(held.inside) == 2)
        assert sorted(held.inside) == ["a", "b"]
        held.gate.set()
        await rig.drained()
    assert rig.numbers("a") == list(range(0, 20, 2))


async def test_messages_without_a_key_are_each_on_their_own() -> None:
    held = Held()
    rig = Rig(Route(topic="t", handler=held))
    async with rig.engine:
        for number in range(5):
            rig.offer("t", number=number)
        await until(lambda: len(held.inside) == 5)
        held.gate.set()
        await rig.drained()


async def test_no_more_handlers_run_than_there_are_slots() -> None:
    held = Held()
    rig = Rig(Route(topic="t", handler=held), pool=PoolSettings(concurrency=3))
    async with rig.engine:
        for number in range(10):
            rig.offer("t", number=number)
        await until(lambda: len(held.inside) == 3)
        await turns()
        assert len(rig.engine.stats.in_flight) == 3
        held.gate.set()
        await rig.drained()
    assert held.most == 3


async def test_a_route_has_no_more_slots_than_its_cap() -> None:
    held = Held()
    routes = [Route(topic="capped", handler=held, max_concurrency=2), Route(topic="free", handler=held)]
    rig = Rig(*routes, pool=PoolSettings(concurrency=6))
    async with rig.engine:
        for number in range(10):
            rig.offer("capped", "capped", number)
            rig.offer("free", "free", number)
        await until(lambda: len(held.inside) == 6)
        assert Counter(held.inside) == {"capped": 2, "free": 4}
        held.gate.set()
        await rig.drained()


async def test_a_hot_key_does_not_starve_the_others() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of), pool=PoolSettings(max_batch=10))
    async with rig.engine:
        for number in range(400):
            rig.offer("t", "hot", number)
        rig.offer("t", "cold")
        await rig.drained()
    place = [body for _, body in rig.shown.published].index(message("cold", 0))
    assert place <= 20


async def test_a_hot_key_with_a_waiting_handler_shares_its_slot_too() -> None:
    async def handler(event: Any, context: Context) -> list[Effect]:
        await asyncio.sleep(0)
        return [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, key=key_of), pool=PoolSettings(concurrency=1))
    async with rig.engine:
        for number in range(100):
            rig.offer("t", "hot", number)
        rig.offer("t", "cold")
        await rig.drained()
    assert [body for _, body in rig.shown.published].index(message("cold", 0)) <= 3


@pytest.mark.parametrize("keys", [1, 40])
async def test_slots_are_shared_three_to_one_by_weight(keys: int) -> None:
    served: list[str] = []
    handler = noting(served)

    routes = [Route(topic=t, handler=handler, key=key_of, weight=w) for t, w in (("b", 1), ("a", 3))]
    limits = PoolSettings(max_batch=5, time_slice=10)
    rig = Rig(*routes, pool=limits, writer=WriterSettings(max_batch=10_000))
    for number in range(800):
        for topic in "ab":
            rig.offer(topic, str(number % keys), number)
    await rig.take()
    share = Counter(served[:800])
    assert abs(share["a"] - 600) <= 30


async def test_long_handlers_get_slots_by_weight_too() -> None:
    held = Held()
    routes = [Route(topic=t, handler=held, weight=w) for t, w in (("a", 3), ("b", 1))]
    rig = Rig(*routes, pool=PoolSettings(concurrency=8))
    for number in range(20):
        rig.offer("a", "a", number)
        rig.offer("b", "b", number)
    async with rig.engine:
        await until(lambda: len(held.inside) == 8)
        assert Counter(held.inside) == {"a": 6, "b": 2}
        held.gate.set()
        await rig.drained()


async def test_a_route_that_was_idle_gets_no_credit_for_it() -> None:
    served: list[str] = []

    def handler(event: Any, context: Context) -> list[Effect]:
        served.append(context.topic)
        if len(served) == 200:
            for number in range(200):
                rig.offer("late", str(number), number)
        return []

    routes = [Route(topic=t, handler=handler, key=key_of) for t in ("busy", "late")]
    rig = Rig(*routes, pool=PoolSettings(max_batch=5))
    for number in range(400):
        rig.offer("busy", str(number % 10), number)
    await rig.take()
    assert abs(Counter(served[200:300])["late"] - 50) <= 10


async def test_a_higher_priority_goes_first() -> None:
    served: list[str] = []
    handler = noting(served)

    rig = Rig(*(Route(topic=t, handler=handler, priority=p) for t, p in (("low", 0), ("high", 5))))
    for number in range(50):
        rig.offer("low", number=number)
        rig.offer("high", number=number)
    await rig.take()
    assert served == ["high"] * 50 + ["low"] * 50


async def test_a_flood_of_one_key_is_committed_in_large_batches_and_a_lone_message_at_once() -> None:
    # A turn ends after 5 ms, which a slow machine fills with fewer messages than a batch holds.
    rig = Rig(Route(topic="t", handler=echo, key=key_of), pool=PoolSettings(time_slice=60))
    async with rig.engine:
        rig.offer("t")
        await rig.drained()
        assert rig.live.batches == [1]
        for number in range(2000):
            rig.offer("t", number=number)
        await rig.drained()
    assert sum(rig.live.batches) == 2001
    assert max(rig.live.batches) == 500


# -- outages -------------------------------------------------------------------------------------------


async def test_an_outage_sets_nothing_aside_and_everything_lands_when_it_is_over() -> None:
    rig = Rig(stateful(Sums()), writer=WriterSettings(max_batch=10))
    async with rig.engine:
        rig.documents.down = True
        fill(rig, range(100))
        await until(lambda: rig.documents.attempts > 5)
        assert rig.engine.health()["status"] == "degraded"
        rig.documents.down = False
        await rig.drained()
        assert rig.engine.outages == {}
    assert rig.numbers("a") == list(range(100))
    assert rig.letters.letters == []


@pytest.mark.parametrize("waits", [True, False])
async def test_only_the_routes_that_use_a_sink_wait_for_it(waits: bool) -> None:
    handled: list[int] = []

    def pure(event: Any, context: Context) -> list[Effect]:
        handled.append(event["n"])
        return [Insert("c", {"_id": event["n"]})]

    async def waiting(event: Any, context: Context) -> list[Effect]:
        return pure(event, context)

    routes = [
        Route(topic="stored", handler=waiting if waits else pure, key=key_of),
        Route(topic="shown", handler=echo, key=key_of, sinks=("live",)),
    ]
    rig = Rig(*routes, writer=WriterSettings(max_batch=2), pool=PoolSettings(concurrency=2))
    async with rig.engine:
        rig.documents.down = True
        for number in range(60):
            rig.offer("stored", "ab"[number % 2], number)
        await until(lambda: rig.documents.attempts > 3)
        for number in range(50):
            rig.offer("shown", "s", number)
        await until(lambda: rig.numbers("s") == list(range(50)))
        # Two commits in the stages, two gathering, and what was in the two slots: the others wait unhandled.
        assert len(handled) <= 12
        rig.documents.down = False
        await rig.drained()
    assert sorted(rig.stored.collections["c"]) == list(range(60))


# -- the law -------------------------------------------------------------------------------------------

FATES = ("pass", "pass", "fail", "die", "refuse")


@settings(max_examples=40, deadline=None)
@given(
    traffic=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(FATES)), max_size=40),
    turn_size=st.integers(1, 8),
    batch=st.integers(1, 8),
    slots=st.integers(1, 4),
    waits=st.booleans(),
    outages=st.sets(st.integers(0, 30), max_size=6),
)
def test_effects_of_a_key_land_in_order_and_nothing_is_missing_or_twice(
    traffic: list[tuple[str, str]], turn_size: int, batch: int, slots: int, waits: bool, outages: set[int]
) -> None:
    def decide(event: Any, context: Context) -> list[Effect]:
        if event["do"] == "die":
            raise ValueError("never")
        if event["do"] == "fail" and context.attempt == 1:
            raise OSError("not yet")
        key, n = event["k"], event["n"]
        return [
            Insert("c", {"_id": n}),
            KeyClaim(f"claim:{n}", 1, 60),
            SetKey(f"last:{key}", b"%d" % n, 0),
            Publish("out", context.body),
        ]

    async def waiting(event: Any, context: Context) -> list[Effect]:
        for _ in range(event["n"] % 3):
            await asyncio.sleep(0)
        return decide(event, context)

    def refused(write: Write) -> bool:
        return write.delivery is not None and b'"refuse"' in write.delivery.body

    async def run() -> Rig:
        retry = RetryPolicy(max_retries=1, base=0, jitter="none", exceptions=(OSError,))
        rig = Rig(
            Route(topic="t", handler=waiting if waits else decide, key=key_of, strict=True, retry=retry),
            pool=PoolSettings(concurrency=slots, max_batch=turn_size),
            writer=WriterSettings(max_batch=batch),
        )
        rig.documents.refuses = refused

        class Flaky:
            def __get__(self, sink: Any, owner: Any) -> bool:
                return sink.attempts in outages

        rig.live.__class__ = type("FlakySink", (type(rig.live),), {"down": Flaky()})
        del rig.live.__dict__["down"]
        async with rig.engine:
            for number, (key, do) in enumerate(traffic):
                rig.offer("t", key, number, do=do)
                if number % 7 == 0:
                    await asyncio.sleep(0)
            await rig.drained()
        return rig

    rig = asyncio.run(run())
    fine = [(n, key) for n, (key, do) in enumerate(traffic) if do in ("pass", "fail")]
    for key in "abc":
        mine = [n for n, k in fine if k == key]
        assert rig.numbers(key) == mine
        assert rig.shown.keys.get(f"last:{key}") == (b"%d" % mine[-1] if mine else None)
    assert sorted(rig.stored.collections.get("c", {})) == [n for n, _ in fine]
    assert len(rig.letters.letters) == len(traffic) - len(fine)
    assert (rig.engine.pool.count, rig.engine.pool.bytes) == (0, 0)


async def test_a_key_left_unfinished_gets_its_clock_event_though_no_message_comes() -> None:
    sums = Sums()
    sums.left_over = ("silent",)
    sums.due_us = NOW_US
    rig = Rig(stateful(sums))
    async with rig.engine:
        await until(lambda: sums.clocked)
        await until(lambda: rig.shown.published)
    assert list(sums.loads[0]) == ["silent"]
    assert [channel for channel, _ in rig.shown.published] == ["clock"]


async def test_a_lane_whose_messages_were_all_dropped_while_it_loaded_holds_up_nobody() -> None:
    sums = Sums()
    sums.fails = 1
    rig = Rig(stateful(sums, overload=Overload.DROP_OLDEST), pool=PoolSettings(max_messages=4))
    async with rig.engine:
        fill(rig, [0], "quiet")
        fill(rig, range(4), "busy")
        await rig.drained()
    assert rig.numbers("busy") == [0, 1, 2, 3]
    assert rig.counts("t")["dropped"] == 1


def shouting() -> Rig:
    return Rig(Route(topic="t", handler=echo, key=key_of, events=("done", "done_already")))


async def test_a_slow_handler_is_logged_by_what_its_route_says_else_by_the_setting() -> None:
    def sleeps(event: Any, context: Context) -> list[Effect]:
        time.sleep(0.3)  # the setting says 0.25
        return []

    async def waits(event: Any, context: Context) -> list[Effect]:
        return sleeps(event, context)

    rig = Rig(
        Route(topic="patient", handler=sleeps, slow_handler=60),
        Route(topic="as set", handler=sleeps),
        Route(topic="patient, async", handler=waits, slow_handler=60),
        Route(topic="as set, async", handler=waits),
        Route(topic="hasty", handler=echo, slow_handler=1e-9),
    )
    with structlog.testing.capture_logs() as lines:
        async with rig.engine:
            for route in rig.engine.router.routes:
                rig.offer(route.topic)
            await rig.drained()
    slow = {line["topic"] for line in lines if line["event"] == "slow_handler"}
    assert slow == {"as set", "as set, async", "hasty"}


async def test_messages_are_told_of_at_debug() -> None:
    rig = shouting()
    with structlog.testing.capture_logs() as captured:
        async with rig.engine:
            fill(rig, [0])
            rig.engine.pool.offer(Told("t", b"not json"))
            await rig.drained()
    told = [line["event"] for line in captured if line["log_level"] == "debug"]
    assert sorted(told) == ["done", "task_failed"]


async def test_a_message_that_its_source_keeps_for_later_is_not_told_as_processed() -> None:
    rig = Rig(Route(topic="t", handler=failing(1, 1), key=key_of, retry=STEADY))
    with structlog.testing.capture_logs() as captured:
        async with rig.engine:
            rig.engine.pool.offer(Streamed("t", message("a", 1)))
            await rig.drained()
    assert [line["event"] for line in captured if line["log_level"] == "debug"] == ["retry"]


async def test_a_program_that_has_not_set_up_logging_gets_no_line_per_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rig = shouting()
    await rig.take(0)
    assert "done" not in capsys.readouterr().out
