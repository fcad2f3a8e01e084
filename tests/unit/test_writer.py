"""Group commit: two stages in order, batches as they gather, outages waited out, refusals narrowed down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from enricher.config import WriterSettings
from enricher.engine.circuit_breaker import CircuitBreaker
from enricher.engine.effects import Insert, KeyClaim, Publish, SetKey
from enricher.engine.ports import Answer, Claimed, Delivery, Refused, Write
from enricher.engine.router import Route
from enricher.engine.stats import Stats
from enricher.engine.writer import Writer
from enricher.errors import SinkUnavailable
from tests.memory import MemoryDeadLetters, MemoryDocuments, MemoryLive
from tests.rig import QUICK, Clock, Rig, Steered, echo, key_of, turns, until


def numbered(number: int) -> Write:
    """A write that stores and publishes a number."""
    body = json.dumps({"k": "a", "n": number}).encode()
    return Write([Insert("c", {"_id": number}), Publish("out", body)], Delivery("t", body, 0))


class Running:
    """A writer on memory sinks, outside any pool."""

    def __init__(self, **limits: Any) -> None:
        self.stored, self.shown = MemoryDocuments(), MemoryLive()
        self.documents, self.live = Steered(self.stored), Steered(self.shown)
        self.stats, self.settled, self.refused = Stats(), list[Write](), list[tuple[Write, Refused]]()
        self.answers: list[Answer] = []
        self.writer = Writer(
            [self.documents, self.live, Steered(MemoryDeadLetters())],
            limits=WriterSettings(**limits),
            most=50_000,
            most_bytes=64 * 1024 * 1024,
            backoff=QUICK,
            stats=self.stats,
            clock=Clock(),
        )
        self.writer.settle = self._settle
        self.writer.refuse = lambda write, answer: self.refused.append((write, answer))
        self.writer.is_stale = lambda owner: False
        self.writer.on_room = lambda: None
        self._task: asyncio.Task[None] | None = None

    def _settle(self, batch: Sequence[Write], answers: Mapping[int, Answer]) -> None:
        self.settled += batch
        self.answers += answers.values()

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self.writer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def settles(self, number: int) -> None:
        await until(lambda: len(self.settled) >= number, f"{number} settled writes")

    @property
    def published(self) -> list[int]:
        return [json.loads(body)["n"] for _, body in self.shown.published]


async def test_a_write_that_was_submitted_is_as_large_as_the_body_of_its_delivery() -> None:
    running = Running()
    group = running.writer.group(["documents", "live"])
    room, writes = group.room_bytes, [Write((), Delivery("t", b"12345", 0)), Write(())]
    group.submit(writes)
    assert [write.body_size for write in writes] == [5, 0]
    assert group.room_bytes == room - 5



async def test_a_lone_write_is_committed_at_once() -> None:
    async with Running() as run:
        run.writer.group(("documents", "live")).submit([numbered(1)])
        await run.settles(1)
    assert (run.documents.batches, run.live.batches) == ([1], [1])


async def test_writes_that_come_often_share_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enricher.engine.writer.monotonic", lambda: 0.0)
    async with Running(gather=0.1) as run:
        group = run.writer.group(("documents", "live"))
        for number in range(60):
            group.submit([numbered(number)])
            await turns(20)
        await run.settles(60)
    assert len(run.documents.batches) < 30
    assert run.published == list(range(60))


async def test_what_gathers_during_a_commit_makes_the_next_batch() -> None:
    async with Running(max_batch=10) as run:
        group = run.writer.group(("documents", "live"))
        run.documents.open_gate.clear()
        group.submit([numbered(0)])
        await until(lambda: run.documents.active)
        group.submit(numbered(n) for n in range(1, 25))
        run.documents.open_gate.set()
        await run.settles(25)
    assert run.documents.batches == [1, 10, 10, 4]
    assert run.published == list(range(25))


async def test_a_batch_is_bounded_by_bytes_but_never_empty() -> None:
    async with Running(max_batch_bytes=50) as run:
        group = run.writer.group(("documents",))
        group.submit(Write([], Delivery("t", b"x" * size, 0)) for size in (20, 20, 20, 500, 10))
        await run.settles(5)
    assert run.documents.batches == [2, 1, 1, 1]


async def test_documents_land_before_anything_is_visible() -> None:
    async with Running() as run:
        run.documents.open_gate.clear()
        run.writer.group(("documents", "live")).submit([numbered(1)])
        await turns()
        assert run.published == []
        run.documents.open_gate.set()
        await run.settles(1)
    assert run.published == [1]


async def test_the_next_batch_is_stored_while_the_one_before_becomes_visible() -> None:
    async with Running(max_batch=1) as run:
        run.live.open_gate.clear()
        group = run.writer.group(("documents", "live"))
        group.submit(numbered(n) for n in range(6))
        await until(lambda: run.live.active)
        await turns()
        # One in the visible sinks, one waiting behind it, one stored and waiting to be handed over.
        assert len(run.documents.batches) == 3
        assert group.room == 2 - 3
        run.live.open_gate.set()
        await run.settles(6)
    assert run.published == list(range(6))
    assert run.live.most_active == run.documents.most_active == 1


async def test_an_outage_is_waited_out_and_nothing_is_refused() -> None:
    async with Running(max_batch=4) as run:
        run.documents.down = True
        run.writer.group(("documents", "live")).submit(numbered(n) for n in range(10))
        await until(lambda: run.documents.attempts > 3)
        assert run.writer.outages == {"documents": "switched off"}
        assert run.settled == []
        run.documents.down = False
        await run.settles(10)
        assert run.writer.outages == {}
    assert run.published == list(range(10))
    assert run.refused == []
    assert run.stats.counters["documents_failures"] >= 3


async def test_after_failures_a_commit_goes_on_in_parts_that_grow_again() -> None:
    sizes: list[int] = []

    class Slow(MemoryLive):
        async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
            sizes.append(len(writes))
            if len(sizes) <= 3:
                raise SinkUnavailable(self.name, "too slow")
            return {0: Claimed()}

    breaker = CircuitBreaker(Slow(), QUICK, Clock(), Stats())
    answers = await breaker.commit([numbered(n) for n in range(64)])
    assert sizes == [64, 32, 16, 8, 16, 32, 8]
    assert answers == {}  # the claims may be those of its own first try


async def test_who_only_waited_for_a_probe_has_its_duplicates_named() -> None:
    asked = 0

    class Away(MemoryLive):
        async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            if asked == 1:
                raise SinkUnavailable(self.name, "away")
            return {0: Claimed()}

    breaker = CircuitBreaker(Away(), QUICK, Clock(), Stats())
    first = asyncio.create_task(breaker.commit([numbered(1)]))
    await until(lambda: breaker.down_since is not None)
    assert await breaker.commit([numbered(2)]) == {0: Claimed()}
    assert await first == {}


async def test_during_an_outage_one_group_probes_at_a_time() -> None:
    async with Running() as run:
        run.live.down = True
        groups = [run.writer.group(names) for names in (("live",), ("documents", "live"))]
        groups.append(run.writer.group(("dead_letters", "live")))
        for number, group in enumerate(groups):
            group.submit([Write([Publish("out", b'{"n": %d}' % number)])])
        await until(lambda: run.live.attempts > 3)
        run.live.most_active = 0
        before = run.live.attempts
        await until(lambda: run.live.attempts > before + 5)
        assert run.live.most_active == 1
        run.live.down = False
        await run.settles(3)
    assert sorted(run.published) == [0, 1, 2]


async def test_what_landed_before_its_reply_was_lost_is_no_duplicate() -> None:
    class Forgetful(MemoryLive):
        replies = 0

        async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
            answers = await super().commit(writes)
            self.replies += 1
            if self.replies == 1:
                raise SinkUnavailable("live", "reply lost")
            return answers

    async with Running() as run:
        run.live.inner = run.shown = Forgetful()
        group = run.writer.group(("live",))
        claimed = [KeyClaim("claim", 1, 60), Publish("out", b'{"n": 1}')]
        group.submit([Write(claimed, Delivery("t", b"", 0))])
        await run.settles(1)
        assert run.answers == []
        group.submit([Write(claimed, Delivery("t", b"", 0))])
        await run.settles(2)
    assert len(run.answers) == 1
    assert run.published == [1]


@pytest.mark.parametrize("size", [2, 7, 64])
async def test_an_error_that_nobody_understands_is_narrowed_down_to_its_write(size: int) -> None:
    def is_bad(write: Write) -> bool:
        effect = write.effects[0]
        return isinstance(effect, Insert) and effect.document["_id"] in {0, 5}

    async with Running() as run:
        run.documents.chokes_on = is_bad
        run.writer.group(("documents", "live")).submit(numbered(n) for n in range(size))
        bad = [n for n in (0, 5) if n < size]
        await run.settles(size - len(bad))
        await until(lambda: len(run.refused) == len(bad))
        assert run.writer.unfinished == 0
    assert [write.effects[0].document["_id"] for write, _ in run.refused] == bad  # type: ignore[attr-defined]
    assert {(a.reason, a.error_type) for _, a in run.refused} == {
        ("something in here is indigestible", "RuntimeError")
    }
    assert run.published == [n for n in range(size) if n not in bad]


async def test_narrowing_down_calls_nobody_a_duplicate() -> None:
    class ChokesLate(MemoryLive):
        async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
            answers = await super().commit(writes[:-1])
            if any(isinstance(e, SetKey) for e in writes[-1].effects):
                raise RuntimeError("the last one is bad")
            return {**answers, **await super().commit(writes[-1:])}

    async with Running() as run:
        run.live.inner = run.shown = ChokesLate()
        writes = [Write([KeyClaim("k", n, 60), Publish("out", b'{"n": %d}' % n)]) for n in range(3)]
        run.writer.group(("live",)).submit([*writes, Write([SetKey("k", b"", 0)])])
        await run.settles(3)
    assert run.answers == []
    assert run.published == [0, 1, 2]
    assert len(run.refused) == 1


async def test_a_write_that_was_refused_becomes_visible_nowhere() -> None:
    async with Running() as run:
        run.documents.refuses = lambda write: True
        run.writer.group(("documents", "live")).submit([numbered(1), numbered(2)])
        await until(lambda: len(run.refused) == 2)
        await turns()
        assert run.writer.unfinished == 0
    assert run.live.attempts == 0
    assert run.settled == []


async def test_answers_stay_with_their_writes_when_others_are_refused() -> None:
    async with Running() as run:
        group = run.writer.group(("live",))

        def claimed(number: int) -> Write:
            return Write([KeyClaim("k", number, 60)], Delivery("t", b"%d" % number, 0))

        group.submit([claimed(2)])
        await run.settles(1)
        run.live.refuses = lambda write: write.delivery is not None and write.delivery.body == b"1"
        seen: list[tuple[bytes, bool]] = []
        again = run.writer.group(("live", "documents"))
        run.writer.settle = lambda batch, answers: seen.extend(
            (w.delivery.body, i in answers) for i, w in enumerate(batch) if w.delivery is not None
        )
        again.submit([claimed(1), claimed(2), claimed(3)])
        await until(lambda: len(seen) == 2)
    assert seen == [(b"2", True), (b"3", False)]


async def test_a_slow_sink_of_one_group_does_not_hold_another() -> None:
    async with Running() as run:
        run.documents.open_gate.clear()
        run.writer.group(("documents", "live")).submit([numbered(1)])
        run.writer.group(("live",)).submit([Write([Publish("out", b'{"n": 2}')])])
        await run.settles(1)
        assert run.published == [2]
        run.documents.open_gate.set()
        await run.settles(2)


async def test_a_group_of_two_visible_sinks_waits_for_both() -> None:
    async with Running() as run:
        run.live.open_gate.clear()
        run.writer.group(("live", "dead_letters")).submit([Write([Publish("out", b'{"n": 1}')])])
        await turns()
        assert run.settled == []
        run.live.open_gate.set()
        await run.settles(1)


async def test_a_group_whose_sink_is_unknown_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(LookupError, match="no sink named serch; known sinks: dead_letters, documents, live"):
        Running().writer.group(("serch",))


async def test_the_same_sinks_make_the_same_group() -> None:
    writer = Running().writer
    assert writer.group(("live", "documents")) is writer.group(["documents", "live"])


async def test_what_is_abandoned_is_handed_out_once_and_never_settled() -> None:
    async with Running(max_batch=1) as run:
        run.live.open_gate.clear()
        run.writer.group(("documents", "live")).submit(numbered(n) for n in range(5))
        await until(lambda: run.live.active and len(run.documents.batches) == 3)
        left = run.writer.abandon()
        assert sorted(w.effects[0].document["_id"] for w in left) == [0, 1, 2, 3, 4]  # type: ignore[attr-defined]
        run.live.open_gate.set()
        await turns()
        assert run.settled == []
        assert run.writer.abandon() == []


async def test_effects_without_a_message_are_committed_too() -> None:
    rig = Rig(Route(topic="t", handler=echo, key=key_of))
    async with rig.engine:
        rig.engine.emit(SetKey("progress", b"1", 0))
        await until(lambda: rig.shown.keys)
    assert rig.shown.keys == {"progress": b"1"}


async def test_refused_effects_without_a_message_are_counted() -> None:
    rig = Rig(Route(topic="t", handler=echo))
    async with rig.engine:
        rig.live.refuses = lambda write: True
        rig.engine.emit(SetKey("progress", b"1", 0))
        await until(lambda: rig.engine.stats.counters["refused_effects"])
    assert rig.letters.letters == []


async def test_of_refused_effects_those_that_are_not_to_blame_land() -> None:
    rig = Rig(Route(topic="t", handler=echo))
    async with rig.engine:
        rig.live.refuses = lambda write: any(getattr(e, "key", "") == "bad" for e in write.effects)
        rig.engine.emit(SetKey("good", b"1", 0), SetKey("bad", b"2", 0), SetKey("fine", b"3", 0))
        await until(lambda: len(rig.shown.keys) == 2)
    assert rig.shown.keys == {"good": b"1", "fine": b"3"}
    assert rig.engine.stats.counters["refused_effects"] == 1
