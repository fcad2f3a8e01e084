"""What is tried next of a batch that failed, and who is to blame: by outcomes and times, without a sink."""

from __future__ import annotations

from collections.abc import Sequence

from enricher.engine.effects import Insert, KeyClaim, SetKey
from enricher.engine.failed_batch import HELD_BACK, MANY, PATIENCE, TRIES, FailedBatch, Written
from enricher.engine.ports import Failed, Refused, Write
from enricher.errors import SinkUnavailable, WriteRefused

UNKNOWN = Failed("what is this?", "Trouble")


def inserts(number: int, collection: str = "c") -> list[Write]:
    return [Write([Insert(collection, {"_id": n})]) for n in range(number)]


def batch_of(writes: Sequence[Write], written: Written | None = None) -> FailedBatch:
    return FailedBatch(writes, written or Written("documents"), in_order=False)


def test_an_outage_waits_with_half_of_the_batch() -> None:
    batch = batch_of(inserts(8))
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
    batch, tries = batch_of(inserts(8)), 0
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
    batch = batch_of(inserts(1), written)
    assert batch.take(OSError("what is this?"), 0.0) == ""
    assert batch.look(0.0, down=False) == (True, "what is this?")
    assert batch.exhausted(0.0)
    written.note(inserts(1, "another")[0])
    assert batch.exhausted(1.0)
    written.note(inserts(1)[0])
    assert not batch.fails(1.0)
    for failures in range(TRIES):
        assert batch.look(1.0, down=True) == (False, "")
        assert batch.choose(1.0) == failures
        batch.take({0: UNKNOWN}, 1.0)
    assert batch.answers == {0: Refused("what is this?", "Trouble")}


def test_a_write_of_another_kind_is_proof_after_a_while_unless_many_are_suspects() -> None:
    for number in (1, MANY):
        written = Written("documents")
        batch = batch_of(inserts(number), written)
        batch.take(dict.fromkeys(range(number), UNKNOWN), 0.0)
        written.note(inserts(1, "another")[0])
        assert batch.fails(PATIENCE)
        assert batch.fails(PATIENCE + 1) == (number == MANY)


def test_what_was_written_last_is_tried_again_before_the_sink_is_called_down() -> None:
    batch = batch_of(inserts(2))
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
