"""States are restored at the start, one by one, and a key's first message has its turn among the others'."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from enricher.engine.ports import Delivery
from tests.rig import Rig, Sums, stateful, until

KEYS = ("a", "b", "c", "d", "e", "f")


class Slow(Sums):
    """Loads the state of a key once it may, after some turns of the loop; some make no sense."""

    def __init__(self, *left_over: str, steps: int = 0, broken: Sequence[str] = ()) -> None:
        super().__init__()
        self.left_over = left_over
        self.steps = steps
        self.broken = broken
        self.open = {key: asyncio.Event() for key in left_over}

    async def restore(self, reader: Any, wanted: Mapping[str, Delivery]) -> Mapping[str, dict[str, Any]]:
        for key in wanted:
            if key in self.broken:
                raise ValueError("what is stored makes no sense")
            if key in self.open:
                await self.open[key].wait()
        for _ in range(self.steps):
            await asyncio.sleep(0)
        return await super().restore(reader, wanted)


async def test_what_is_restored_works_while_others_are_and_readiness_waits_for_all() -> None:
    sums = Slow(*KEYS)
    rig = Rig(stateful(sums))
    async with rig.engine as engine:
        await until(lambda: engine.health()["restoring"] == {"done": 0, "total": 6})
        await until(lambda: engine.health()["status"] == "restoring")
        # A new key waits for none of those that are restored; one of these is next when it has a message.
        for number, key in enumerate(("new", "f", "a")):
            rig.offer("t", key, number)
        await until(lambda: rig.numbers("new") == [0])
        for key in "bc":
            sums.open[key].set()
        sums.open["f"].set()
        await until(lambda: rig.numbers("f") == [1])
        assert engine.health()["restoring"]["done"] in (2, 3)
        assert not engine.ready
        assert rig.numbers("a") == []
        for key in KEYS:
            sums.open[key].set()
        await engine.wait_ready()
        await rig.drained()
        assert rig.numbers("a") == [2]
        assert (engine.health()["status"], engine.health()["restoring"]) == ("ready", None)
    assert sorted(key for wanted in sums.loads for key in wanted) == sorted((*KEYS, "new"))


async def test_a_state_that_makes_no_sense_keeps_nobody_from_being_ready() -> None:
    sums = Slow("a", "b", broken="a")
    sums.open["b"].set()
    rig = Rig(stateful(sums))
    async with rig.engine as engine:
        await engine.wait_ready()
        rig.offer("t", "b")
        await until(lambda: rig.numbers("b") == [0])


async def test_first_messages_of_new_keys_do_not_wait_behind_a_flood() -> None:
    rig = Rig(stateful(Slow(steps=20)))
    async with rig.engine as engine:
        await engine.wait_ready()
        rig.offer("t", "hot", -1)
        await rig.drained()
        for number in range(3600):
            rig.offer("t", "hot", number)
            if number % 9 == 0:
                rig.offer("t", f"new{number}")
        await rig.drained()
    order = [body for _, body in rig.shown.published][1:]
    assert len(order) == 4000
    places = [place for place, body in enumerate(order) if b"new" in body]
    assert len(places) == 400
    assert statistics.median(places) < 900
    assert rig.numbers("hot") == list(range(-1, 3600))
