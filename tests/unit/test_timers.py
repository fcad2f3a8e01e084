"""What waits for a time: messages that are tried again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from enricher.config import PoolSettings
from enricher.engine.effects import Effect, Publish
from enricher.engine.ports import steady_clock
from enricher.engine.router import Context, Route
from tests.rig import (
    NOW_US,
    STEADY,
    Clock,
    Rig,
    Running,
    Streamed,
    Sums,
    failing,
    folding,
    key_of,
    message,
    turns,
    until,
)


async def test_a_retry_leaves_the_slot_and_the_lane() -> None:
    route = Route(topic="t", handler=failing(1, 1), key=key_of, retry=STEADY)
    rig = Rig(route, pool=PoolSettings(concurrency=1))
    async with rig.engine:
        for number in range(4):
            rig.offer("t", "a", number)
        rig.offer("t", "b")
        await until(lambda: rig.numbers("a") == [0, 2, 3] and rig.numbers("b") == [0])
        assert len(rig.engine.stats.in_flight) == 0
        rig.clock.advance(4.9)
        await asyncio.sleep(0.15)
        assert rig.numbers("a") == [0, 2, 3]
        rig.clock.advance(0.1)
        await until(lambda: rig.numbers("a") == [0, 2, 3, 1])
    assert rig.counts("t") == {"received": 5, "retried": 1, "processed": 5}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("hour", [3600, -3600])
async def test_a_retry_comes_after_its_delay_however_the_clock_is_set(hour: int, strict: bool) -> None:
    rig = Rig(Route(topic="t", handler=failing(1, 1), key=key_of, retry=STEADY, strict=strict))
    async with rig.engine:
        rig.offer("t", "a", 1)
        await until(lambda: rig.counts("t").get("retried"))
        rig.clock.set(hour)
        rig.clock.advance(4.9)
        await asyncio.sleep(0.25)
        assert rig.numbers("a") == []
        rig.clock.advance(0.1)
        await rig.drained()
        await until(lambda: rig.numbers("a") == [1])


class Stepped(Sums):
    """A state_store that is told when the clock is set."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def clock_set(self, state: dict[str, Any], step_us: int) -> None:
        self.steps.append(step_us)


@pytest.mark.parametrize("hour", [3600, -3600])
async def test_states_are_told_when_the_clock_is_set_and_are_asked_anew(hour: int) -> None:
    sums, clock = Stepped(), Running()
    rig = Rig(Route(topic="t", handler=folding, key=key_of, state_store=sums), clock=clock)
    async with rig.engine:
        rig.offer("t", "a", 1)
        await rig.drained()
        await asyncio.sleep(0.3)
        assert sums.steps == []
        clock.set(hour)
        await until(lambda: sums.steps)
        assert [round(step / 1e6) for step in sums.steps] == [hour]
        sums.due_us = clock() + 100_000
        clock.set(-hour)
        await until(lambda: len(sums.steps) == 2)
        sums.due_us = clock() + 100_000
        rig.offer("t", "a", 2)
        await until(lambda: sums.clocked)


async def test_a_clock_that_is_moved_by_hand_was_not_set() -> None:
    sums, clock = Stepped(), Clock()
    clock.steady = steady_clock  # type: ignore[method-assign]
    rig = Rig(Route(topic="t", handler=folding, key=key_of, state_store=sums), clock=clock)
    async with rig.engine:
        rig.offer("t", "a", 1)
        await rig.drained()
        for _ in range(3):
            await asyncio.sleep(0.15)
            rig.clock.set(60)
        await asyncio.sleep(0.15)
    assert sums.steps == []


async def test_a_strict_lane_waits_with_its_message_and_the_others_go_on() -> None:
    route = Route(topic="t", handler=failing(2, 1), key=key_of, retry=STEADY, strict=True)
    rig = Rig(route, pool=PoolSettings(concurrency=1))
    async with rig.engine:
        for number in range(4):
            rig.offer("t", "a", number)
        rig.offer("t", "b")
        await until(lambda: rig.numbers("b") == [0])
        for retried, delay in ((1, 5), (2, 10)):
            await until(lambda n=retried: rig.engine.stats.total("retried") == n)
            assert rig.numbers("a") == [0]
            rig.clock.advance(delay)
        await until(lambda: rig.numbers("a") == [0, 1, 2, 3])
        # A message that comes meanwhile waits behind the others.
        rig.offer("t", "a", 4)
        await rig.drained()
    assert rig.numbers("a") == [0, 1, 2, 3, 4]


async def test_pure_handlers_may_be_strict_and_retried_too() -> None:
    def handler(event: Any, context: Context) -> list[Effect]:
        if event["n"] == 1 and context.attempt == 1:
            raise OSError("not yet")
        return [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, key=key_of, retry=STEADY, strict=True))
    async with rig.engine:
        for number in range(3):
            rig.offer("t", "a", number)
        await until(lambda: rig.numbers("a") == [0])
        rig.clock.advance(5)
        await until(lambda: rig.numbers("a") == [0, 1, 2])


async def test_the_clock_event_of_a_state_does_not_end_a_strict_wait() -> None:
    sums = Sums()
    sums.due_us = NOW_US + 1_000_000

    def handler(state: Any, event: Any, context: Context) -> tuple[int, list[Effect]]:
        if event["n"] == 1 and context.attempt == 1:
            raise OSError("not yet")
        return event["n"], [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, key=key_of, retry=STEADY, strict=True, state_store=sums))
    async with rig.engine:
        rig.offer("t", "a", 0)
        rig.offer("t", "a", 1)
        await until(lambda: rig.numbers("a") == [0])
        rig.clock.advance(2)
        await until(lambda: sums.clocked)
        await turns()
        assert rig.numbers("a") == [0]
        rig.clock.advance(3)
        await until(lambda: rig.numbers("a") == [0, 1])


async def test_a_source_that_can_take_the_message_back_keeps_it_during_the_delay() -> None:
    rig = Rig(Route(topic="t", handler=failing(1, 1), key=key_of, retry=STEADY))
    async with rig.engine:
        delivery = Streamed("t", message("a", 1))
        rig.engine.pool.offer(delivery)
        await rig.drained()
    assert rig.shown.published == [("deferred", b"5")]
    assert delivery.ends == ["deferred"]
    assert rig.engine.pool.count == 0


async def test_a_strict_lane_never_gives_its_message_back() -> None:
    rig = Rig(Route(topic="t", handler=failing(1, 1), key=key_of, retry=STEADY, strict=True))
    async with rig.engine:
        for number in (1, 2):
            rig.engine.pool.offer(Streamed("t", message("a", number)))
        await until(lambda: rig.counts("t").get("retried"))
        rig.clock.advance(5)
        await rig.drained()
    assert rig.numbers("a") == [1, 1, 2, 2]
    assert [channel for channel, _ in rig.shown.published] == ["out", "acked"] * 2
