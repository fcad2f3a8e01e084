"""What becomes of messages that a sink refuses or has already, and of the state they were folded into."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from enricher.config import WriterSettings
from enricher.engine.effects import Effect, KeyClaim, Publish, SetKey, Upsert
from enricher.engine.ports import Answer, Delivery, Write
from enricher.engine.router import Context, Route
from tests.rig import NOW_US, STEADY, Rig, Sums, Told, echo, fill, folding, key_of, message, stateful, until


async def test_a_refused_write_is_set_aside_with_stage_commit_and_the_others_land() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of))
    rig.live.refuses = lambda w: w.delivery is not None and w.delivery.body == message("a", 2)
    told = await rig.take(*range(5))
    letter = rig.letters.letters[0]
    assert (letter.stage, letter.error, letter.error_type) == ("commit", "no", "Refusal")
    assert letter.body == message("a", 2)
    assert rig.numbers("a") == [0, 1, 3, 4]
    assert [t.ends for t in told] == [["processed"]] * 2 + [["dead"]] + [["processed"]] * 2


async def test_a_dead_letter_that_its_store_refuses_is_let_go_and_counted_as_lost() -> None:
    rig = Rig(Route(topic="t", handler=echo))
    rig.dead_letters.refuses = lambda write: True
    async with rig.engine:
        delivery = Told("t", b"{")
        rig.engine.pool.offer(delivery)
        await rig.drained()
    assert delivery.ends == ["lost"]
    assert rig.counts("t") == {"received": 1, "lost": 1}


async def test_a_duplicate_claim_counts_as_a_duplicate() -> None:
    def handler(event: Any, context: Context) -> list[Effect]:
        return [KeyClaim("claim", event["n"], 60), Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, key=key_of))
    told = await rig.take(1, 1, 2)
    assert rig.numbers("a") == [1, 2]
    assert [t.ends for t in told] == [["processed"], ["duplicate"], ["processed"]]


async def test_state_is_loaded_once_per_key_in_batches_before_the_first_fold() -> None:
    sums = Sums()
    rig = Rig(stateful(sums))
    fill(rig, range(3), "a")
    fill(rig, range(3), "b")
    async with rig.engine:
        await rig.drained()
        fill(rig, [3], "a")
        await rig.drained()
    assert [sorted(wanted) for wanted in sums.loads] == [["a", "b"]]
    assert [d["before"] for d in rig.stored.collections["folded"].values() if d["k"] == "a"] == [0, 1, 2, 3]


async def test_state_that_cannot_be_loaded_is_waited_for() -> None:
    sums = Sums()
    sums.fails = 2
    rig = Rig(stateful(sums))
    await rig.take(*range(2))
    assert len(sums.loads) == 3
    assert rig.numbers("a") == [0, 1]


async def test_a_server_that_is_away_is_asked_for_the_state_of_one_lane_at_a_time() -> None:
    sums = Sums()
    sums.fails = 3
    rig = Rig(stateful(sums))
    async with rig.engine:
        for key in "abcdef":
            fill(rig, [0], key)
        await rig.drained()
    assert [len(wanted) for wanted in sums.loads] == [6, 1, 1, 1, 2, 3]


class Picky(Sums):
    """Cannot load the state of key a."""

    async def restore(self, reader: Any, wanted: Mapping[str, Delivery]) -> Mapping[str, dict[str, Any]]:
        if "a" in wanted:
            raise ValueError("what is stored makes no sense")
        return await super().restore(reader, wanted)


async def test_a_state_that_cannot_be_loaded_holds_up_no_other_lane() -> None:
    rig = Rig(stateful(Picky()))
    async with rig.engine:
        for key in "abc":
            fill(rig, [0], key)
        await until(lambda: rig.numbers("b") == rig.numbers("c") == [0])
        await rig.engine.stop(0)
    assert rig.numbers("a") == []
    assert rig.engine.lost == {"t": 1}


async def test_a_message_that_was_folded_already_is_only_acknowledged() -> None:
    rig = Rig(stateful(Sums()))
    told = await rig.take(1, 1)
    assert rig.numbers("a") == [1]
    assert [t.ends for t in told] == [["processed"], ["duplicate"]]


async def test_what_another_life_had_folded_is_committed_again_but_not_folded() -> None:
    rig = Rig(stateful(Sums()))
    rig.stored.collections["folded"] = {
        f"a{n}": {"_id": f"a{n}", "k": "a", "n": n, "before": n} for n in range(3)
    }
    await rig.take(1, 3)
    bodies = [body for _, body in rig.shown.published]
    assert bodies == [message("a", 1, before=1), message("a", 3, before=3)]


async def test_a_late_message_is_counted_by_its_state_store() -> None:
    rig = Rig(stateful(Sums()))
    await rig.take(-1)
    assert rig.counts("t")["late"] == 1


async def test_messages_without_a_key_do_not_reach_a_stateful_handler() -> None:
    rig = Rig(Route(topic="t", handler=folding, key=lambda body: None, state_store=Sums()))
    await rig.take(1)
    assert rig.letters.letters[0].error_type == "BadMessage"


async def test_after_a_refusal_the_state_is_loaded_anew_from_what_was_stored() -> None:
    sums = Sums()
    rig = Rig(stateful(sums))
    rig.documents.refuses = lambda w: w.delivery is not None and w.delivery.body == message("a", 1)
    async with rig.engine:
        for number in range(4):
            fill(rig, [number])
            await rig.drained()
    assert len(sums.loads) == 2
    assert [d["before"] for d in rig.stored.collections["folded"].values()] == [0, 1, 2]


class Totals(Sums):
    """Shows the sum of its numbers after each turn, and when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = False

    def fold(self, state: dict[str, Any], change: int) -> str | None:
        self.changed = True
        return super().fold(state, change)

    def show_again(self, state: dict[str, Any]) -> None:
        self.changed = True

    def show(self, state: dict[str, Any], now_us: int) -> list[Effect]:
        numbers = state["primed"] + state["folded"]
        if not (self.changed and numbers):
            return []
        self.changed = False
        return [SetKey("total", b"%d" % sum(numbers), 0), Upsert("totals", {"_id": "a", "n": sum(numbers)})]


@pytest.mark.parametrize("sizes", [WriterSettings(), WriterSettings(max_batch=1, backlog=100)])
@pytest.mark.parametrize("refused", [{4}, {1, 3}, {0, 1, 2, 3, 4}])
async def test_what_was_refused_is_never_shown_and_goes_from_the_state_though_no_message_follows(
    refused: set[int], sizes: WriterSettings
) -> None:
    rig = Rig(stateful(Totals()), writer=sizes)
    bodies = {message("a", n): n for n in range(5)}
    rig.documents.refuses = lambda w: w.delivery is not None and bodies.get(w.delivery.body) in refused
    shown = set[bytes]()
    passed_on = rig.shown.commit

    async def watched(writes: Sequence[Write]) -> Mapping[int, Answer]:
        shown.update(e.value for w in writes for e in w.effects if isinstance(e, SetKey))
        return await passed_on(writes)

    rig.shown.commit = watched  # type: ignore[method-assign]
    left = set(range(5)) - refused
    async with rig.engine:
        fill(rig, range(5))
        await rig.drained()
        await until(lambda: rig.shown.keys == ({"total": b"%d" % sum(left)} if left else {}))
        await until(lambda: not left or rig.stored.collections["totals"]["a"]["n"] == sum(left))
        await until(lambda: rig.engine.writer.unfinished == 0)
    assert shown <= {b"%d" % sum(n for n in left if n <= last) for last in range(5)}


@pytest.mark.parametrize("refused", [{1}, {0, 1}, {0, 3}, {0, 1, 2, 3}])
async def test_a_lane_with_refused_writes_in_flight_goes_on_whichever_ends_last(refused: set[int]) -> None:
    rig = Rig(stateful(Sums()), writer=WriterSettings(max_batch=1, backlog=100))
    bodies = {message("a", n): n for n in range(4)}

    def refuses(write: Write) -> bool:
        number = None if write.delivery is None else bodies.get(write.delivery.body)
        if number == 2:
            fill(rig, [4, 5])  # they come when some are refused and others are still in flight
        return number in refused

    rig.documents.refuses = refuses
    async with rig.engine:
        fill(rig, range(4))
        await rig.drained()
        fill(rig, [6])
        await rig.drained()
    assert rig.numbers("a") == [n for n in range(7) if n not in refused]


async def test_a_refusal_does_not_wake_or_lose_a_lane_that_waits_for_a_strict_retry() -> None:
    def handler(state: Any, event: Any, context: Context) -> tuple[int, list[Effect]]:
        if event["n"] == 1 and context.attempt == 1:
            raise OSError("not yet")
        change, effects = folding(state, event, context)
        return change, effects

    route = Route(topic="t", handler=handler, key=key_of, state_store=Sums(), strict=True, retry=STEADY)
    rig = Rig(route)
    rig.documents.refuses = lambda w: w.delivery is not None and w.delivery.body == message("a", 0)
    async with rig.engine:
        fill(rig, range(3))
        await until(lambda: rig.letters.letters)
        await asyncio.sleep(0.15)
        assert rig.numbers("a") == []
        rig.clock.advance(5)
        await until(lambda: rig.numbers("a") == [1, 2])


async def test_a_change_that_cannot_be_folded_is_set_aside_and_the_state_loaded_anew() -> None:
    sums = Sums()
    sums.breaks_on = 1
    rig = Rig(stateful(sums))
    await rig.take(*range(3))
    assert rig.letters.letters[0].stage == "fold"
    assert rig.numbers("a") == [0, 2]
    assert len(sums.loads) == 2


async def test_topics_with_one_state_store_share_the_lane_of_a_key() -> None:
    sums = Sums()
    routes = [Route(topic=t, handler=folding, key=key_of, state_store=sums) for t in ("t", "u")]
    rig = Rig(*routes)
    for number in range(6):
        rig.offer("tu"[number % 2], "a", number)
    await rig.take()
    assert rig.numbers("a") == list(range(6))
    assert len(sums.loads) == 1


async def test_a_state_gets_its_clock_event_and_an_idle_one_is_forgotten() -> None:
    sums = Sums()
    sums.due_us = NOW_US + 2_000_000
    rig = Rig(stateful(sums), evict_after=60)
    async with rig.engine:
        fill(rig, [0])
        await rig.drained()
        rig.clock.advance(2)
        await until(lambda: sums.clocked)
        assert sums.clocked == [NOW_US + 2_000_000]
        await until(lambda: rig.numbers("clock") == [0])
        assert rig.engine.pool.lanes == 1
        rig.clock.advance(61)
        await until(lambda: rig.engine.pool.lanes == 0)
        fill(rig, [1])
        await rig.drained()
    assert len(sums.loads) == 2


async def test_a_state_store_that_cannot_show_again_costs_its_own_state_alone() -> None:
    totals = Totals()
    totals.show_again = None  # type: ignore[assignment]  # cannot be called
    rig = Rig(stateful(totals))
    rig.documents.refuses = lambda w: w.delivery is not None and w.delivery.body == message("a", 1)
    async with rig.engine:
        fill(rig, [0, 1])
        await rig.drained()
        await until(lambda: rig.engine.writer.unfinished == 0)
        assert rig.engine.stats.counters["state_failures"] == 1
        fill(rig, [2])
        await rig.drained()
    assert rig.shown.keys == {"total": b"2"}


@pytest.mark.parametrize("step", ["show", "on_time"])
async def test_a_state_store_that_fails_costs_its_own_state_and_nothing_else(step: str) -> None:
    sums = Sums()
    sums.due_us = NOW_US + 1_000_000

    def fails(state: Any, now_us: int) -> list[Effect]:
        sums.due_us = None
        delattr(sums, step)
        raise ZeroDivisionError

    setattr(sums, step, fails)
    rig = Rig(stateful(sums))
    async with rig.engine:
        fill(rig, [0, 1])
        await rig.drained()
        rig.clock.advance(1)
        await until(lambda: rig.engine.stats.counters["state_failures"] == 1)
        fill(rig, [2])
        await rig.drained()
    assert rig.numbers("a") == [0, 1, 2]
    assert len(sums.loads) == 2
    assert rig.letters.letters == []


async def test_a_distrusted_state_that_nobody_asks_for_is_forgotten() -> None:
    sums = Sums()
    sums.breaks_on = 0
    rig = Rig(stateful(sums))
    async with rig.engine:
        fill(rig, [1, 0])
        await rig.drained()
        rig.clock.advance(3600)
        await until(lambda: rig.engine.pool.lanes == 0)
