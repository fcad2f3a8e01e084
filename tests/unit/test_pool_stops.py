"""A pool that stops: what is drained, what is counted as left, and what must not end it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from enricher.config import PoolSettings, WriterSettings
from enricher.engine.router import Context, Overload, Route
from enricher.errors import BadMessage
from enricher.errors import Held as Premature
from tests.memory import MemoryDelivery
from tests.rig import STEADY, Held, Rig, echo, failing, fill, key_of, message, turns, until


async def test_leaving_drains_what_was_taken_in() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of))
    async with rig.engine:
        told = fill(rig, range(300))
    assert rig.numbers("a") == list(range(300))
    assert {end for t in told for end in t.ends} == {"processed"}
    assert not rig.engine.lost


async def test_what_the_deadline_cuts_off_is_counted_wherever_it_was() -> None:
    held = Held()
    routes = [
        Route(topic="retry", handler=failing(9, 0), key=key_of, retry=STEADY),
        Route(topic="strict", handler=failing(9, 0), retry=STEADY, strict=True),
        Route(topic="inside", handler=held, key=key_of),
    ]
    rig = Rig(*routes, writer=WriterSettings(max_batch=1))
    async with rig.engine:
        rig.live.open_gate.clear()
        told = [rig.offer("retry"), rig.offer("strict")]
        told += [rig.offer("inside", "a", n) for n in range(3)]
        await until(lambda: rig.engine.stats.total("retried") == 2 and held.inside)
        await rig.engine.stop(0.05)
        lost = rig.engine.lost
    assert lost == {"retry": 1, "strict": 1, "inside": 3}
    assert [t.ends for t in told] == [["lost"]] * 5


async def test_writes_in_flight_at_the_deadline_are_counted_under_their_topic() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of), writer=WriterSettings(max_batch=1))
    async with rig.engine:
        rig.live.open_gate.clear()
        told = fill(rig, range(20))
        await until(lambda: rig.live.active)
        await rig.engine.stop(0.05)
        assert rig.engine.lost == {"t": 20}
        rig.live.open_gate.set()
        await turns()
    assert [t.ends for t in told] == [["lost"]] * 20


class Lingering:
    """A source that takes its time to close."""

    name = "lingering"

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def run(self, intake: Any) -> None:
        await self.closed.wait()

    async def stop_intake(self) -> None:
        """There is nothing to stop."""

    async def close(self) -> None:
        await self.closed.wait()

    def health(self) -> dict[str, Any]:
        return {"ready": True}


async def test_what_the_deadline_cut_off_is_not_committed_while_the_sources_close() -> None:
    held, source = Held(), Lingering()
    rig = Rig(Route(topic="t", handler=held, key=key_of))
    rig.engine.sources = (source,)
    async with rig.engine:
        told = fill(rig, range(20))
        await until(lambda: bool(held.inside))
        stopping = asyncio.create_task(rig.engine.stop(0.02))
        await until(lambda: bool(rig.engine.lost))
        held.gate.set()
        await turns()
        source.closed.set()
        await stopping
    assert rig.counts("t") == {"received": 20, "lost": 20}
    assert [t.ends for t in told] == [["lost"]] * 20
    assert rig.numbers("a") == []


async def test_a_message_whose_turn_is_given_and_has_not_begun_is_counted_at_a_stop() -> None:
    rig = Rig(Route(topic="t", handler=Held()))  # without a key, nobody else knows its lane
    async with rig.engine:
        await rig.engine.wait_ready()
        told = rig.offer("t")
        for _ in range(50):
            if any(group.running for group in rig.engine.pool._scheduler.groups):
                break
            await asyncio.sleep(0)
        await rig.engine.stop(0)
    assert told.ends == ["lost"]
    assert rig.counts("t") == {"received": 1, "lost": 1}


@pytest.mark.parametrize("key", [None, key_of])
async def test_an_outage_keeps_no_lanes_of_what_was_dropped(key: Any) -> None:
    route = Route(topic="t", handler=echo, key=key, overload=Overload.DROP_OLDEST)
    rig = Rig(route, pool=PoolSettings(max_messages=100))
    async with rig.engine:
        await rig.engine.wait_ready()
        rig.live.down = True
        for n in range(5000):
            rig.offer("t", f"k{n}", n)
            if n % 50 == 0:
                await turns()
        group = rig.engine.pool._scheduler.by_name["t"]
        assert max(len(group.ready), len(group.lanes)) < 400
        rig.live.down = False
        await rig.drained()
    counts = rig.counts("t")
    assert counts["processed"] + counts["dropped"] == counts["received"] == 5000
    assert rig.numbers("k4999") == [4999]




def premature(body: bytes, context: Context) -> object:
    """Bad until somebody mends a setting."""
    raise Premature(BadMessage("$.t", "a time of this zone"), 60.0)


async def test_what_is_held_waits_its_time_and_then_is_a_dead_letter() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of, decode=premature), pool=PoolSettings(max_messages=8))
    async with rig.engine:
        told = fill(rig, range(3))
        await until(lambda: rig.counts("t").get("held") == 2 and rig.letters.letters)
        assert [t.ends for t in told].count([]) == 2  # a quarter of the pool
        rig.clock.advance(61)
        await until(lambda: rig.counts("t").get("dead") == 3)
        late = rig.offer("t")
        await until(lambda: rig.counts("t").get("held") == 3)
        assert not late.ends
    # At a stop it is one at once, and not lost.
    assert late.ends == ["dead"]
    assert not rig.engine.lost
    assert {letter.error_type for letter in rig.letters.letters} == {"BadMessage"}
    assert {letter.stage for letter in rig.letters.letters} == {"decode"}


async def test_what_its_sender_waits_for_is_not_held() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of, decode=premature))
    ends: list[str] = []
    async with rig.engine:
        rig.engine.pool.offer(MemoryDelivery("t", message("a", 0), 0, ends.append))
        await until(lambda: ends)
    assert ends == ["dead"]
    assert "held" not in rig.counts("t")
