"""The breaker: whose fault is an error that nobody understands? The server's, while nothing else lands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from enricher.engine import failed_batch
from enricher.engine.circuit_breaker import CircuitBreaker
from enricher.engine.effects import Insert, KeyClaim, Publish, SetKey, Upsert
from enricher.engine.failed_batch import HELD_BACK, MANY, PATIENCE, TRIES, FailedBatch, Written
from enricher.engine.ports import Answer, Failed, Refused, Write
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable, WriteRefused
from tests.memory import MemoryDocuments, MemoryLive
from tests.rig import QUICK, Clock, Rig, Sums, fill, message, stateful, until


class Trouble(Exception):
    """An error on no list."""


class Picky(MemoryDocuments):
    """Raises (or, with ``answers``, answers) for the writes that ``fails`` says."""

    def __init__(self, *, answers: bool = False) -> None:
        super().__init__()
        self.fails: Callable[[Write], bool] = lambda write: False
        self.answers = answers
        self.attempts: list[int] = []

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        self.attempts.append(len(writes))
        await asyncio.sleep(0)
        bad = [i for i, write in enumerate(writes) if self.fails(write)]
        if bad and not self.answers:
            raise Trouble("what is this?")
        await super().commit([write for i, write in enumerate(writes) if i not in bad])
        return {i: Failed("what is this?", "Code 1") for i in bad}


def number(write: Write) -> Any:
    return write.effects[0].document["_id"]  # type: ignore[attr-defined]


def inserts(*numbers: int, collection: str = "c") -> list[Write]:
    return [Write([Insert(collection, {"_id": n})]) for n in numbers]


def gate_of(sink: Any) -> CircuitBreaker:
    return CircuitBreaker(sink, QUICK, Clock(), Stats())


@pytest.mark.parametrize("answers", [False, True])
async def test_while_nothing_lands_it_is_one_outage_in_which_a_batch_is_not_tried_one_by_one(
    answers: bool,
) -> None:
    sink = Picky(answers=answers)
    sink.fails = lambda write: True
    breaker = gate_of(sink)
    with capture_logs() as lines:
        commit = asyncio.create_task(breaker.commit(inserts(*range(500))))
        await until(lambda: breaker.down_since is not None)
        assert len(sink.attempts) < 15
        await until(lambda: len(sink.attempts) > 40)
        assert sink.attempts[20:] == [1] * (len(sink.attempts) - 20)
        assert not commit.done()
        sink.fails = lambda write: False
        assert await commit == {}
    assert len(sink.collections["c"]) == 500
    assert [line["event"] for line in lines] == ["outage_begin", "outage_end"]
    assert lines[0]["reason"] == "what is this?"


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("bad", [{0}, {3}, {0, 1}, {0, 3, 4}])
async def test_what_goes_on_failing_while_others_land_is_refused_without_an_outage(
    bad: set[int], answers: bool
) -> None:
    sink = Picky(answers=answers)
    sink.fails = lambda write: number(write) in bad
    with capture_logs() as lines:
        found = await gate_of(sink).commit(inserts(*range(8)))
    assert set(found) == bad
    assert all(isinstance(answer, Refused) for answer in found.values())
    assert set(sink.collections["c"]) == set(range(8)) - bad
    assert lines == []


async def test_the_last_of_a_batch_is_refused_since_those_before_it_can_still_be_written() -> None:
    sink = Picky()
    sink.fails = lambda write: number(write) == 7
    assert set(await gate_of(sink).commit(inserts(*range(8)))) == {7}


@pytest.mark.parametrize("answers", [False, True])
async def test_an_outage_that_begins_in_the_middle_of_a_batch_refuses_nothing(answers: bool) -> None:
    sink = Picky(answers=answers)
    # What is stored already passes as a duplicate, as a server does that is out of room for new documents.
    sink.fails = lambda write: number(write) >= 4 and (answers or len(sink.attempts) > 1)
    if not answers:
        sink.fails = lambda write: len(sink.attempts) == 1 or len(sink.collections["c"]) >= 4
    breaker = gate_of(sink)
    commit = asyncio.create_task(breaker.commit(inserts(*range(8))))
    await until(lambda: breaker.down_since is not None)
    await until(lambda: len(sink.attempts) > 40)
    assert not commit.done()
    sink.fails = lambda write: False
    assert await commit == {}
    assert set(sink.collections["c"]) == set(range(8))


async def test_one_that_fails_alone_waits_until_another_like_it_lands_through_whatever_group() -> None:
    sink = Picky()
    sink.fails = lambda write: number(write) == 1
    breaker = gate_of(sink)
    commit = asyncio.create_task(breaker.commit(inserts(1)))
    await until(lambda: len(sink.attempts) > 10)
    assert await breaker.commit(inserts(5, collection="other")) == {}
    assert await breaker.commit([Write([Upsert("c", {"_id": 6})])]) == {}
    tried = len(sink.attempts)
    await until(lambda: len(sink.attempts) > tried + 10)
    assert breaker.down_since is not None
    assert not commit.done()
    assert await breaker.commit(inserts(2)) == {}
    assert isinstance((await commit)[0], Refused)
    assert breaker.down_since is None


@pytest.mark.parametrize("bad", [[1], [1, 2, 3]])
async def test_what_lands_of_other_kinds_refuses_one_after_a_while_but_not_many(
    monkeypatch: pytest.MonkeyPatch, bad: list[int]
) -> None:
    sink = Picky()
    sink.fails = lambda write: number(write) in bad
    breaker = gate_of(sink)
    commit = asyncio.create_task(breaker.commit(inserts(*bad)))
    await until(lambda: breaker.down_since is not None)
    assert await breaker.commit(inserts(5, collection="other")) == {}
    assert not commit.done()
    monkeypatch.setattr(failed_batch, "PATIENCE", 0.0)
    if len(bad) == 1:
        assert isinstance((await commit)[0], Refused)
    else:
        tried = len(sink.attempts)
        await until(lambda: len(sink.attempts) > tried + 20)
        sink.fails = lambda write: False
        assert await commit == {}
    assert breaker.down_since is None


@pytest.mark.parametrize("error", [WriteRefused("no"), TypeError("no"), UnicodeError("no")])
async def test_a_value_that_no_server_takes_is_refused_though_nothing_else_lands(error: Exception) -> None:
    class Strict(MemoryDocuments):
        async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
            raise error

    with capture_logs() as lines:
        found = await gate_of(Strict()).commit(inserts(1, 2))
    assert {(i, a.reason, a.error_type) for i, a in found.items() if isinstance(a, Refused)} == {
        (i, "no", type(error).__name__) for i in (0, 1)
    }
    assert lines == []


async def test_a_visible_sink_is_given_nothing_of_a_lane_before_what_is_in_doubt() -> None:
    rig = Rig(stateful(Sums()))
    broken = message("a", 1)

    class Shown(MemoryLive):
        down = True

        async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
            if self.down and any(w.delivery is not None and w.delivery.body == broken for w in writes):
                raise Trouble("what is this?")
            return await super().commit(writes)

    rig.live.inner = rig.shown = shown = Shown()
    async with rig.engine:
        fill(rig, [1, 2, 3])
        fill(rig, [4], "b")
        await until(lambda: rig.numbers("b") == [4] or rig.live.attempts > 50)
        assert rig.numbers("a") == []
        shown.down = False
        await rig.drained()
    assert sorted(rig.numbers("a")) == rig.numbers("a")


async def test_the_message_that_comes_next_shows_whose_fault_it_is() -> None:
    rig = Rig(stateful(Sums()))
    rig.documents.chokes_on = lambda w: w.delivery is not None and w.delivery.body == message("a", 1)
    async with rig.engine:
        fill(rig, [1])
        await until(lambda: rig.engine.health()["status"] == "degraded")
        assert rig.letters.letters == []
        fill(rig, [2])
        await rig.drained()
        assert rig.engine.health()["status"] != "degraded"
    assert [letter.body for letter in rig.letters.letters] == [message("a", 1)]
    assert rig.numbers("a") == [2]
    assert "indigestible" in rig.letters.letters[0].traceback


async def test_what_was_told_before_a_failure_is_not_the_write_of_a_repeat() -> None:
    """A witness of a visible sink must carry a claim."""
    told: list[int] = []

    class Once(MemoryLive):
        async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
            if any(isinstance(e, SetKey) for w in writes for e in w.effects):
                raise Trouble("what is this?")
            told.append(len(writes))
            return await super().commit(writes)

    breaker = gate_of(Once())
    plain = Write([Publish("out", b"")])
    commit = asyncio.create_task(breaker.commit([plain, plain, Write([SetKey("k", b"", 0)])]))
    await until(lambda: breaker.down_since is not None)
    assert told == [1, 1]
    assert await breaker.commit([Write([KeyClaim("k", 1, 60)])]) == {}
    assert set(await commit) == {2}


UNKNOWN = Failed("what is this?", "Trouble")


def batch_of(writes: Sequence[Write], written: Written | None = None) -> FailedBatch:
    return FailedBatch(writes, written or Written("documents"), in_order=False)


def test_an_outage_waits_with_half_of_the_batch() -> None:
    batch = batch_of(inserts(*range(8)))
    assert batch.take(SinkUnavailable("documents", "no route to host"), 0.0) == "no route to host"
    assert batch.look(0.0, down=True) == (True, "")
    batch.choose(0.0)
    assert list(batch.chosen) == [0, 1, 2, 3]
    assert batch.fails(0.0)
    assert batch.take({}, 0.0) == ""
    assert batch.look(0.0, down=False) == (False, "")
    batch.choose(0.0)
    assert list(batch.chosen) == [4, 5, 6, 7]
    batch.take({}, 0.0)
    assert not batch.left
    assert batch.answers == {}


def test_a_value_that_cannot_be_encoded_is_halved_down_to_and_refused() -> None:
    batch, tries = batch_of(inserts(*range(8))), 0
    error = WriteRefused("too long")
    batch.take(error, 0.0)
    while batch.left:
        tries += 1
        assert batch.look(0.0, down=False) == (False, "")
        batch.choose(0.0)
        batch.take(error if 5 in batch.chosen else {}, 0.0)
    assert set(batch.answers) == {5}
    assert tries < 10


def test_a_suspect_waits_until_another_like_it_is_written() -> None:
    written = Written("documents")
    batch = batch_of(inserts(0), written)
    assert batch.take(OSError("what is this?"), 0.0) == ""
    assert batch.look(0.0, down=False) == (True, "what is this?")
    assert batch.exhausted(0.0)
    written.note(inserts(0, collection="another")[0])
    assert batch.exhausted(1.0)
    written.note(inserts(0)[0])
    assert not batch.fails(1.0)
    for failures in range(TRIES):
        assert batch.look(1.0, down=True) == (False, "")
        assert batch.choose(1.0) == failures
        batch.take({0: UNKNOWN}, 1.0)
    assert batch.answers == {0: Refused("what is this?", "Trouble")}


def test_a_write_of_another_kind_is_proof_after_a_while_unless_many_are_suspects() -> None:
    for number in (1, MANY):
        written = Written("documents")
        batch = batch_of(inserts(*range(number)), written)
        batch.take(dict.fromkeys(range(number), UNKNOWN), 0.0)
        written.note(inserts(0, collection="another")[0])
        assert batch.fails(PATIENCE)
        assert batch.fails(PATIENCE + 1) == (number == MANY)


def test_what_was_written_last_is_tried_again_before_the_sink_is_called_down() -> None:
    batch = batch_of(inserts(0, 1))
    batch.take(OSError("?"), 0.0)
    for outcome in ({}, OSError("?")):
        batch.look(0.0, down=False)
        batch.choose(0.0)
        batch.take(outcome, 0.0)
    assert batch.look(0.0, down=False) == (False, "")
    batch.choose(0.0)
    assert list(batch.chosen) == [0]
    assert batch.take({}, 0.0) == ""
    assert not batch.fails(0.0)


def test_what_follows_a_suspect_in_its_lane_is_held_back_for_a_minute() -> None:
    writes = [Write([SetKey("k", b"", 0), KeyClaim("c", 1, 60)], owner=owner) for owner in "aab"]
    batch = FailedBatch(writes, Written("live"), in_order=True)
    batch.take(OSError("?"), 0.0)
    batch.choose(0.0)
    batch.take(OSError("?"), 0.0)
    batch.choose(0.0)
    assert list(batch.chosen) == [2]
    batch.choose(HELD_BACK + 1)
    assert list(batch.chosen) == [1]
