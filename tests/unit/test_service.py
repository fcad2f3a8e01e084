"""The engine as one service: what ends, and what is left, when a part or the host does not play along."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from enricher.engine.effects import Effect, Insert, Publish
from enricher.engine.ports import Answer, Delivery, Intake, Write
from enricher.engine.router import Context, Route
from enricher.engine.service import Engine
from enricher.errors import EngineFailed, EnricherError
from tests.memory import MemoryDeadLetters, MemoryDocuments, MemoryLive
from tests.rig import Rig, echo, turns, until


class Source:
    """A source that notes what it is told, and fails at ``fails``."""

    def __init__(
        self, name: str, fails: str = "", error: BaseException | None = None, *, ready: bool = True
    ) -> None:
        self.name = name
        self.fails = fails
        self.error = error
        self.told: list[str] = []
        self._ready = ready

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if what == self.fails:
            raise self.error or OSError(f"{self.name} cannot {what}")

    async def run(self, intake: Intake) -> None:
        self._tell("run")
        await anyio.sleep_forever()

    async def stop_intake(self) -> None:
        self._tell("stop intake")

    async def close(self) -> None:
        self._tell("close")

    def health(self) -> Mapping[str, Any]:
        return {"ready": self._ready}


def engine_of(*sources: Source) -> Engine:
    sinks = [MemoryDocuments(), MemoryLive(), MemoryDeadLetters()]
    return Engine([Route(topic="t", handler=echo)], sources, sinks, clock=lambda: 0)


async def test_a_source_that_cannot_run_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    sources = [Source("good"), Source("bad", "run"), Source("another")]
    with pytest.raises(EngineFailed, match="bad cannot run"):
        async with engine_of(*sources):
            await asyncio.sleep(60)
    assert asyncio.all_tasks() == before
    assert [source.told for source in sources] == [["run", "stop intake", "close"]] * 3


@pytest.mark.parametrize("fails", ["stop intake", "close"])
async def test_a_part_that_fails_to_end_keeps_no_other_from_ending(fails: str) -> None:
    sources = [Source("first", fails), Source("second", fails), Source("third")]
    before = asyncio.all_tasks()
    with pytest.raises(OSError, match=f"first cannot {fails}"):
        async with engine_of(*sources):
            await turns()
    assert [source.told for source in sources] == [["run", "stop intake", "close"]] * 3
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(), TimeoutError()])
async def test_nor_does_one_that_lets_out_more_than_an_error(error: BaseException) -> None:
    sources = [Source("first", "close", error), Source("second")]
    with pytest.raises(type(error)):
        async with engine_of(*sources):
            await turns()
    assert [source.told for source in sources] == [["run", "stop intake", "close"]] * 2


async def test_one_that_goes_on_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Source):
        async def close(self) -> None:
            self._tell("close")
            await anyio.sleep_forever()

    monkeypatch.setattr("enricher.engine.service._END", 0.01)
    sources = [Slow("slow"), Source("second")]
    with pytest.raises(TimeoutError):
        async with engine_of(*sources):
            await turns()
    assert [source.told for source in sources] == [["run", "stop intake", "close"]] * 2


class Noting(MemoryLive):
    """A sink that notes what it has committed, and its end."""

    def __init__(self, noted: list[str]) -> None:
        super().__init__()
        self._noted = noted

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        self._noted += ["committed"] * len(writes)
        return await super().commit(writes)

    async def close(self) -> None:
        self._noted.append("sink closed")


def engine_with(noted: list[str], *services: tuple[str, Callable[[], Awaitable[None]]]) -> Engine:
    async def slow(event: Any, context: Context) -> list[Effect]:
        await turns(5)
        return [Publish("out", context.body)]

    sinks = [MemoryDocuments(), Noting(noted), MemoryDeadLetters()]
    return Engine([Route(topic="t", handler=slow)], [], sinks, clock=lambda: 0, services=services)


async def test_a_service_goes_on_during_the_drain_and_ends_before_the_sinks_close() -> None:
    noted: list[str] = []

    async def serve() -> None:
        noted.append("serves")
        try:
            await anyio.sleep_forever()
        finally:
            noted.append("service ended")

    async with engine_with(noted, ("a service", serve)) as engine:
        await until(lambda: noted == ["serves"], "the service")
        engine.pool.offer(Delivery("t", b"{}", 0))
    assert noted == ["serves", "committed", "service ended", "sink closed"]


async def test_a_handler_that_is_cut_off_has_ended_before_anybody_else_may_have_its_message() -> None:
    noted: list[str] = []

    async def cleans_up(event: Any, context: Context) -> list[Effect]:
        noted.append("begun")
        try:
            await anyio.sleep_forever()
        finally:
            await turns(20)
            noted.append("cleaned up")

    source = Source("source")
    source.told = noted
    sinks = [MemoryDocuments(), MemoryLive(), MemoryDeadLetters()]
    async with Engine([Route(topic="t", handler=cleans_up)], [source], sinks, clock=lambda: 0) as engine:
        engine.pool.offer(Delivery("t", b"{}", 0))
        await until(lambda: "begun" in noted)
        await engine.stop(0)
    assert noted == ["run", "begun", "stop intake", "cleaned up", "close"]


async def test_a_service_that_raises_ends_the_engine_and_one_that_returns_does_not() -> None:
    noted: list[str] = []
    gate = asyncio.Event()

    async def brief() -> None:
        noted.append("returned")

    async def broken() -> None:
        await gate.wait()
        raise ValueError("no such schedule")

    async def serve() -> None:
        async with engine_with(noted, ("brief", brief), ("broken", broken)) as engine:
            await engine.wait_ready()
            assert noted == ["returned"]
            gate.set()
            await asyncio.sleep(60)

    with pytest.raises(EngineFailed, match="its broken ended: ValueError: no such schedule"):
        await serve()
    assert noted[-1] == "sink closed"


async def test_what_a_service_raises_on_its_way_out_is_raised_once_all_have_ended() -> None:
    noted: list[str] = []

    async def clumsy() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("cannot end")

    with pytest.raises(ValueError, match="cannot end"):
        async with engine_with(noted, ("clumsy", clumsy)):
            await turns()
    assert noted == ["sink closed"]


async def test_a_sink_whose_opening_is_cancelled_is_not_taken_for_open() -> None:
    engine = engine_of()

    async def stray() -> None:
        raise asyncio.CancelledError

    engine.sinks[0].open = stray  # type: ignore[method-assign]
    with pytest.raises(EngineFailed, match="opening of the sinks ended"):
        async with engine:
            await asyncio.sleep(60)


async def test_a_stop_that_is_cancelled_is_finished_by_the_end_of_the_block() -> None:
    release = asyncio.Event()

    async def waits(event: Any, context: Context) -> list[Effect]:
        await release.wait()
        return []

    rig = Rig(Route(topic="t", handler=waits))
    async with asyncio.timeout(5):
        async with rig.engine:
            delivery = rig.offer("t")
            with anyio.move_on_after(0.01) as scope:
                await rig.engine.stop()
            assert scope.cancelled_caught
            release.set()
    assert delivery.ends == ["processed"]
    assert not rig.engine.lost


async def test_everybody_who_stops_it_returns_once_it_is_closed() -> None:
    source = Source("only")
    async with engine_of(source) as engine:
        await asyncio.gather(engine.stop(), engine.stop(), engine.wait_stopped())
        await engine.stop()
    assert source.told == ["run", "stop intake", "close"]


async def test_who_waits_for_an_engine_that_is_stopped_before_it_was_ready_is_told() -> None:
    async with engine_of(Source("slow", ready=False)) as engine:
        waiting = asyncio.create_task(engine.wait_ready())
        await turns()
        assert not waiting.done()
        await engine.stop()
        with pytest.raises(EnricherError, match="stopped before it was ready"):
            await waiting


async def test_effects_are_refused_once_nothing_is_committed_any_more() -> None:
    rig = Rig(Route(topic="t", handler=echo))
    async with rig.engine:
        rig.engine.emit(Insert("steps", {"_id": 1}))
        await rig.engine.stop()
        with pytest.raises(EnricherError, match="effects are no longer committed"):
            rig.engine.emit(Insert("steps", {"_id": 2}))
    assert list(rig.stored.collections["steps"]) == [1]


async def test_emitted_effects_that_an_outage_outlasts_are_counted_in_the_log() -> None:
    rig = Rig(Route(topic="t", handler=echo))
    with capture_logs() as lines:
        async with rig.engine:
            rig.documents.down = True
            rig.engine.emit(Insert("steps", {"_id": 1}), Publish("out", b""))
            rig.engine.emit(Insert("steps", {"_id": 2}))
            await until(lambda: rig.engine.outages, "the outage")
    assert [line for line in lines if line["event"] == "effects_lost"] == [
        {"event": "effects_lost", "log_level": "error", "total": 3, "kinds": {"Insert": 2, "Publish": 1}}
    ]
