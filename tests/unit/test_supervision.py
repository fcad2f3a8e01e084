"""A part of the engine that ends is said at once; work that waits without moving is a stall."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from enricher.config import PoolSettings
from enricher.engine.effects import Effect, Publish
from enricher.engine.retry import RetryPolicy
from enricher.engine.router import Context, Route, Slots
from enricher.engine.stalls import Stalls, Waiting
from enricher.errors import EngineFailed, EnricherError, SinkUnavailable
from tests.rig import (
    STEADY,
    Held,
    Rig,
    Streamed,
    Sums,
    echo,
    failing,
    key_of,
    message,
    stateful,
    turns,
    until,
)
from tests.unit.test_service import Source


async def bug(*_: object) -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError("a bug")


async def stray(*_: object) -> None:
    await asyncio.sleep(0)
    raise asyncio.CancelledError


async def nothing(*_: object) -> None:
    return None


PARTS: dict[str, Callable[[Rig, Any], None]] = {
    "writer": lambda rig, end: setattr(rig.engine.writer, "run", end),
    "group": lambda rig, end: [setattr(g, "run", end) for g in rig.engine.writer._groups.values()],  # type: ignore[func-returns-value]
    "durable": lambda rig, end: [setattr(g, "_run_durable", end) for g in rig.engine.writer._groups.values()],  # type: ignore[func-returns-value]
    "visible": lambda rig, end: [setattr(g, "_run_visible", end) for g in rig.engine.writer._groups.values()],  # type: ignore[func-returns-value]
    "pool": lambda rig, end: setattr(rig.engine.pool, "run", end),
    "timers": lambda rig, end: setattr(rig.engine.pool._turns.timers, "run", end),
    "turn": lambda rig, end: setattr(rig.engine.pool._turns, "_serve_waiting", end),
    "source": lambda rig, end: setattr(rig.engine.sources[0], "run", end),
    "program's": lambda rig, end: None,
}
# A stage that returns is one that nobody cancels: its loop has no end.
ENDS = [(part, end) for part in PARTS for end in (bug, stray)]
ENDS += [(part, nothing) for part in ("writer", "group", "pool", "timers", "source")]


@pytest.mark.parametrize(("part", "end"), ENDS)
async def test_a_part_that_ends_is_said_at_once_and_ends_the_block(part: str, end: Any) -> None:
    rig = Rig(Route(topic="t", handler=Held()))
    rig.engine.sources = (Source("feed"),)
    PARTS[part](rig, end)
    told: list[Any] = []
    before = asyncio.all_tasks()

    async def program() -> None:
        async with rig.engine:
            told.append(rig.offer("t"))
            if part == "program's":
                rig.engine.begin("host's", end)
            try:
                await asyncio.sleep(60)
            finally:
                assert not rig.engine.ready
                assert rig.engine.health()["status"] == "failed"
                assert [line["log_level"] for line in lines if line["event"] == "engine_failed"]
                with anyio.CancelScope(shield=True):
                    await rig.engine.stop(0)

    with capture_logs() as lines, pytest.raises(EngineFailed) as failed:
        await program()
    if end is bug:
        assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert [t.ends for t in told] == [["lost"]]
    assert asyncio.all_tasks() == before


async def test_whoever_waits_for_an_engine_that_fails_is_told() -> None:
    rig = Rig(Route(topic="t", handler=echo))
    rig.engine.sources = (Source("never", ready=False),)
    waiting: list[asyncio.Task[None]] = []

    async def program() -> None:
        async with rig.engine:
            waiting.append(asyncio.create_task(rig.engine.wait_ready()))
            await turns(3)
            rig.engine.begin("host's", bug)
            await asyncio.sleep(60)

    for who in (program(), waiting):
        with pytest.raises(EnricherError, match="host's ended: ZeroDivisionError: a bug"):
            await (who[0] if isinstance(who, list) else who)


async def test_a_source_that_fails_takes_nothing_from_what_was_taken_in() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of))
    rig.engine.sources = (Source("feed"),)

    async def program() -> None:
        async with rig.engine:
            for number in range(300):
                rig.offer("t", number=number)
            rig.engine.begin("feed", bug)
            await asyncio.sleep(60)

    with pytest.raises(EngineFailed):
        await program()
    assert rig.numbers("a") == list(range(300))
    assert not rig.engine.lost


def waits(what: str, progress: int = 0) -> Waiting:
    return Waiting(what, "nobody knows", progress)


@pytest.mark.parametrize(
    ("looks", "stalled"),
    [
        ([(0, [waits("a")]), (4, [waits("a")]), (8, [waits("a")])], []),
        ([(0, [waits("a")]), (4, [waits("a")]), (8, [waits("a")]), (10, [waits("a")])], ["a"]),
        ([(0, [waits("a", 1)]), (4, [waits("a", 1)]), (8, [waits("a", 2)]), (12, [waits("a", 2)])], []),
        ([(0, [waits("a")]), (4, []), (8, [waits("a")]), (12, [waits("a")])], []),
        ([(0, [waits("a")]), (5, [waits("a"), waits("b")]), (10, [waits("b"), waits("a")])], ["a"]),
        # Nobody looked, so nobody could move either: a handler held the loop, or the machine slept.
        ([(0, [waits("a")]), (4, [waits("a")]), (60, [waits("a")])], []),
    ],
)
def test_what_waits_without_a_move_for_so_long_is_stalled(
    looks: Sequence[tuple[float, list[Waiting]]], stalled: list[str]
) -> None:
    found, stalls = [], Stalls(10.0)
    for now, waiting in looks:
        found = [one.what for one in stalls.look(waiting, 1000 + now)]
    assert found == stalled


class Watched(Rig):
    """A rig that calls it a stall after a moment."""

    def __init__(self, *routes: Route, **more: Any) -> None:
        super().__init__(*routes, **more)
        self.engine._health.stalls = Stalls(0.1)

    @property
    def status(self) -> str:
        return str(self.engine.health()["status"])


async def test_lanes_that_get_no_turn_are_a_stall_that_ends_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Watched(Route(topic="t", handler=echo, key=key_of))
    with capture_logs() as lines:
        async with rig.engine:
            await rig.engine.wait_ready()
            pick = rig.engine.pool._scheduler.pick
            monkeypatch.setattr(type(rig.engine.pool._scheduler), "pick", lambda self: None)
            rig.offer("t", "one")
            await until(lambda: rig.status == "stalled")
            assert not rig.engine.ready
            monkeypatch.setattr(type(rig.engine.pool._scheduler), "pick", lambda self: pick())
            rig.engine.writer.on_room()
            await until(lambda: rig.status == "ready")
            assert rig.engine.ready
    (line,) = [line for line in lines if line["event"] == "stalled"]
    assert (line["log_level"], line["what"], list(line["lanes"])) == ("error", "lanes of t", ["one"])
    assert [line for line in lines if line["event"] == "stall_ended"]


async def test_handlers_past_their_time_in_every_slot_are_a_stall_and_those_within_are_none() -> None:
    held = Held()
    limited = Route(topic="limited", handler=held, timeout=60)
    rig = Watched(Route(topic="t", handler=held), limited, pool=PoolSettings(concurrency=2))
    async with rig.engine:
        await rig.engine.wait_ready()
        for topic in ("t", "limited", "t"):
            rig.offer(topic)
        await until(lambda: len(held.inside) == 2)
        assert rig.engine.pool.waiting(-2) == []  # one of them has its own time
        held.gate.set()
        await rig.drained()
        held.gate.clear()
        for _ in range(3):
            rig.offer("t")
        await until(lambda: rig.status == "stalled")
        assert "every handler is past its time: t" in rig.engine.health()["stalled"][0]
        held.gate.set()
        await until(lambda: rig.status == "ready")


async def test_that_every_slot_of_a_share_is_held_is_no_stall_of_other_routes_and_explains_none() -> None:
    held, quick = Held(), Route(topic="quick", handler=echo, key=key_of)
    job = Route(topic="job", handler=held, timeout=60, slots=Slots("jobs", 1))
    rig = Watched(Route(topic="t", handler=held), job, quick, pool=PoolSettings(concurrency=1))
    async with rig.engine:
        await rig.engine.wait_ready()
        for _ in range(2):
            rig.offer("job")
        rig.offer("quick")
        await until(lambda: rig.counts("quick").get("processed"))
        assert rig.engine.pool.waiting(-2) == []  # the job has its own time
        rig.offer("t")
        rig.offer("t")
        await until(lambda: len(held.inside) == 2)
        (waiting,) = rig.engine.pool.waiting(-2)
        assert waiting.what == "lanes of t"
        assert waiting.why.endswith("every handler is past its time: t")
        held.gate.set()
        await rig.drained()


async def test_a_state_that_cannot_be_loaded_is_an_outage_said_once_or_else_a_stall() -> None:
    class Broken(Sums):
        error: Exception | None = None

        async def restore(self, reader: Any, wanted: Any) -> Any:
            if self.error is not None:
                raise self.error
            return await super().restore(reader, wanted)

    sums = Broken()
    rig = Watched(stateful(sums))
    async with rig.engine:
        await rig.engine.wait_ready()
        sums.error = SinkUnavailable("documents", "not authorized")
        with capture_logs() as lines:

            def said() -> list[str]:
                return [line["event"] for line in lines if line["log_level"] != "debug"]

            rig.offer("t", "one")
            await until(lambda: rig.status == "degraded")
            assert rig.engine.health()["outages"] == {"documents": "not authorized"}
            await until(said)
            sums.error = None
            await until(lambda: rig.status == "ready" and len(said()) > 1)
        assert said() == ["states_unread", "states_read_again"]
        sums.error = KeyError("a bug")
        rig.offer("t", "two")
        await until(lambda: rig.status == "stalled")
        assert rig.engine.health()["stalled"] == ["state of sums: KeyError: 'a bug'"]
        sums.error = None
        await until(lambda: rig.status == "ready")
        await rig.drained()


@pytest.mark.parametrize("keys", ["aa", "ab"])
async def test_handlers_that_swallow_their_timeout_are_a_stall_where_messages_wait_for_them(
    keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enricher.engine.waits.GRACE", 0.01)
    gate = asyncio.Event()

    async def swallows(event: Any, context: Context) -> list[Effect]:
        while not gate.is_set():
            with suppress(asyncio.CancelledError):
                await gate.wait()
        return [Publish("out", context.body)]

    slow = Route(topic="t", handler=swallows, key=key_of, timeout=0.01, max_concurrency=1)
    rig = Watched(slow, Route(topic="beside", handler=echo, key=key_of))
    async with rig.engine:
        await rig.engine.wait_ready()
        rig.offer("t", keys[0])
        await turns()
        assert rig.engine.pool.waiting(60) == []
        rig.offer("t", keys[1], 1)
        await until(lambda: rig.status == "stalled")
        assert rig.engine.health()["stalled"] == ["messages of t: handlers go on past their timeout"]
        gate.set()
        await until(lambda: rig.status == "ready")
        await rig.drained()


async def test_a_commit_that_does_not_end_is_a_stall_and_an_outage_is_none() -> None:
    rig = Watched(Route(topic="t", handler=echo, key=key_of))
    async with rig.engine:
        await rig.engine.wait_ready()
        rig.live.open_gate.clear()
        rig.offer("t")
        await until(lambda: rig.status == "stalled")
        rig.live.open_gate.set()
        await until(lambda: rig.status == "ready")
        rig.live.down = True
        rig.offer("t")
        await until(lambda: rig.status == "degraded")
        await asyncio.sleep(0.3)
        assert rig.status == "degraded"
        rig.live.down = False
        await until(lambda: rig.status == "ready")


async def test_caps_retries_and_rest_are_no_stall() -> None:
    held = Held()
    rig = Watched(
        Route(topic="capped", handler=held, max_concurrency=1),
        Route(topic="strict", handler=failing(9, 0), retry=STEADY, strict=True, key=key_of),
    )
    async with rig.engine:
        await rig.engine.wait_ready()
        for topic in ("capped", "strict"):
            for number in range(3):
                rig.offer(topic, number=number)
        await until(lambda: held.inside and rig.counts("strict").get("retried"))
        await asyncio.sleep(0.4)
        assert rig.status == "ready"
        held.gate.set()
        await rig.engine.stop(0)


async def test_messages_that_cannot_begin_since_every_thread_hangs_go_back_to_who_has_them() -> None:
    release = threading.Event()

    def hangs(event: Any, context: Context) -> list[Effect]:
        assert release.wait(60)
        return [Publish("out", context.body)]

    class Kept(Streamed):
        kept = True

    once = RetryPolicy(max_retries=0)
    route = Route(topic="t", handler=hangs, blocking=True, timeout=0.05, key=key_of, retry=once)
    rig = Watched(route, Route(topic="beside", handler=echo, key=key_of))
    rig.engine.pool._core.pipeline._blocking_threads = 2
    async with rig.engine:
        told = [Kept("t", message(f"k{n % 20}", n)) for n in range(100)]
        for delivery in told:
            rig.engine.pool.offer(delivery)
        plain = rig.offer("t", "plain", 1)
        await until(lambda: rig.status == "stalled")
        assert rig.engine.pool.stuck("t")
        assert not rig.engine.pool.stuck("beside")
        rig.offer("beside", "b", 1)
        await until(lambda: rig.counts("beside").get("processed"))
        await until(lambda: sum(bool(delivery.ends) for delivery in told) == 100)
        assert not plain.ends  # nobody else has it
        assert rig.counts("t")["dead"] == 2
        assert rig.counts("t")["handed_back"] >= 98
        assert {delivery.attempts for delivery in told} == {0, 1}
        release.set()
        await until(lambda: rig.status == "ready" and not rig.engine.pool.stuck("t"))
        rig.clock.advance(2)
        await rig.drained()
        await until(lambda: bool(plain.ends))
    assert plain.ends == ["processed"]


def test_another_thread_sees_that_the_loop_stands() -> None:
    seen: list[Any] = []

    async def host() -> None:
        rig = Watched(Route(topic="t", handler=echo))
        async with rig.engine:
            await rig.engine.wait_ready()
            assert rig.engine._health.looked is not None
            rig.engine._health.looked -= 60
            await asyncio.to_thread(lambda: seen.append((rig.status, rig.engine.ready)))

    asyncio.run(host())
    assert seen == [("stalled", False)]
