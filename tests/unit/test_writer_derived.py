"""Sinks that are derived from what was stored come after it, and what they answer is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from enricher.engine.effects import SEARCH, Effect, Index, Insert, Publish, Upsert
from enricher.engine.ports import Answer, Write
from enricher.engine.router import Context, Route
from enricher.engine.service import Engine
from enricher.errors import SinkUnavailable
from tests.memory import MemoryDeadLetters, MemoryDocuments, MemoryLive
from tests.rig import QUICK, Clock, Steered, Told, message, until


class MemoryIndices:
    """An index in memory, which keeps the newest version of each id."""

    name = SEARCH
    durable = True
    derived = True

    def __init__(self) -> None:
        self.documents: dict[str, Mapping[str, Any]] = {}
        self.seen: list[list[str]] = []

    async def open(self) -> None: ...

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        found = [effect for write in writes for effect in write.effects if isinstance(effect, Index)]
        self.seen.append([effect.id for effect in found])
        self.documents.update((effect.id, effect.document) for effect in found)
        return {}

    async def close(self) -> None: ...


class Indexing:
    """An engine with a route that stores, indexes and publishes what it gets, and one that does not index."""

    def __init__(self) -> None:
        self.stored, self.shown, self.letters = MemoryDocuments(), MemoryLive(), MemoryDeadLetters()
        self.indices = MemoryIndices()
        self.documents, self.search, self.live = map(Steered, (self.stored, self.indices, self.shown))
        self.search.derived = True  # type: ignore[attr-defined]
        self.engine = Engine(
            [
                Route(topic="t", handler=self.handle, sinks=("documents", "live", SEARCH), intake="none"),
                Route(topic="other", handler=self.store, intake="none"),
            ],
            [],
            [self.documents, self.search, self.live, self.letters],
            clock=Clock(),
            reader=self.stored,
            backoff=QUICK,
            drain_deadline=5.0,
        )

    def store(self, event: Any, context: Context) -> list[Effect]:
        return [Insert("others", {"_id": event["n"]}), Publish("others", context.body)]

    def handle(self, event: Any, context: Context) -> list[Effect]:
        id_ = str(event["n"])

        def answered(error: str | None) -> list[Effect]:
            after = Upsert("c", {"_id": id_, "search": error or "indexed"})
            return [after] if error is None else [after, Publish("refused", context.body)]

        return [
            Upsert("c", {"_id": id_, "search": "pending"}),
            Index("c", id_, {"n": event["n"]}, 1, answered),
            Publish("out", context.body),
        ]

    def offer(self, *numbers: int, topic: str = "t") -> None:
        for number in numbers:
            self.engine.pool.offer(Told(topic, message("a", number)))

    async def states(self) -> dict[str, str]:
        return {each["_id"]: each["search"] for each in await self.stored.find("c", {})}

    def published(self, channel: str) -> list[int]:
        return sorted(json.loads(body)["n"] for name, body in self.shown.published if name == channel)


async def test_documents_come_first_then_their_index_then_what_it_says_then_what_is_seen() -> None:
    run = Indexing()
    async with run.engine:
        run.search.open_gate.clear()
        run.offer(1, 2)
        await until(lambda: run.search.active, "the index is asked")
        assert await run.states() == {"1": "pending", "2": "pending"}
        assert run.published("out") == []
        run.search.open_gate.set()
        await until(lambda: run.published("out") == [1, 2], "both are seen")
        assert await run.states() == {"1": "indexed", "2": "indexed"}
    assert run.indices.seen == [["1", "2"]]


async def test_one_that_the_index_refuses_is_set_aside_with_what_its_effect_has_to_say() -> None:
    run = Indexing()
    run.search.refuses = lambda write: any(isinstance(e, Index) and e.id == "2" for e in write.effects)
    async with run.engine:
        run.offer(1, 2, 3)
        await until(lambda: run.letters.letters, "the dead letter")
        await until(lambda: run.published("out") == [1, 3], "the others are seen")
    assert await run.states() == {"1": "indexed", "2": "no", "3": "indexed"}
    assert run.published("refused") == [2]
    (letter,) = run.letters.letters
    assert (letter.stage, letter.error, letter.topic) == ("commit", "no", "t")


async def test_what_is_not_stored_is_not_indexed() -> None:
    run = Indexing()
    run.documents.refuses = lambda write: any(isinstance(e, Index) and e.id == "2" for e in write.effects)
    async with run.engine:
        run.offer(1, 2, 3)
        await until(lambda: run.published("out") == [1, 3], "the others are seen")
    assert sorted(run.indices.documents) == ["1", "3"]


async def test_while_the_index_is_away_other_routes_go_on_and_nobody_is_blamed() -> None:
    run = Indexing()
    async with run.engine:
        run.search.down = True
        run.offer(1, 2)
        await until(lambda: run.engine.outages, "the outage")
        for number in range(300):
            run.offer(number, topic="other")
        await until(lambda: len(run.published("others")) == 300, "the other route's messages")
        assert (run.published("out"), list(run.engine.outages)) == ([], [SEARCH])
        assert run.engine.stalled == []
        run.search.down = False
        await until(lambda: run.published("out") == [1, 2], "both are seen")
    assert run.letters.letters == []


async def test_a_commit_without_anything_to_index_asks_no_index() -> None:
    run = Indexing()
    async with run.engine:
        run.search.down = True
        run.engine.writer.group(("documents", "live", SEARCH)).submit([Write([Insert("d", {"_id": 1})])])
        await until(lambda: "d" in run.stored.collections, "the document")
    assert run.search.attempts == 0


async def test_what_an_answer_leads_to_is_logged_where_it_cannot_be_stored() -> None:
    run = Indexing()
    run.documents.refuses = lambda write: write.delivery is None
    async with run.engine:
        run.offer(1)
        await until(lambda: run.published("out") == [1], "it is seen")
    assert run.engine.stats.counters["refused_effects"] == 1
    assert await run.states() == {"1": "pending"}


async def test_what_an_answer_leads_to_is_written_wherever_it_belongs() -> None:
    run = Indexing()
    run.search.refuses = lambda write: any(isinstance(e, Index) and e.id == "2" for e in write.effects)

    def answered(number: int) -> Callable[[str | None], list[Effect]]:
        def after(error: str | None) -> list[Effect]:
            return [Insert("d", {"_id": number, "error": error}), Publish("after", message("a", number))]

        return after

    async with run.engine:
        for number in (1, 2):
            run.engine.emit(Index("c", str(number), {}, 1, answered(number)))
        await until(lambda: run.published("after") == [1, 2], "both are published")
    assert sorted((each["_id"], each["error"]) for each in await run.stored.find("d", {})) == [
        (1, None),
        (2, "no"),
    ]


async def test_an_engine_is_ready_while_an_index_is_away() -> None:
    run = Indexing()

    async def away() -> None:
        if run.search.down:
            raise SinkUnavailable(SEARCH, "switched off")

    run.search.open = away  # type: ignore[method-assign]
    run.search.down = True
    async with run.engine:
        await run.engine.wait_ready()
        await until(lambda: run.engine.health()["status"] == "degraded", "the outage")
        run.search.down = False
        await until(lambda: run.engine.health()["status"] == "ready", "its end")
