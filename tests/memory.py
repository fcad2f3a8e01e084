"""A source and sinks inside the process, for tests and benchmarks.

They hold the same promises as the real ones and pass the same contract suites.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from enricher.engine.effects import (
    DEAD_LETTERS,
    DOCUMENTS,
    LIVE,
    Ack,
    Append,
    DeadLetter,
    Delay,
    DropMembers,
    Insert,
    KeyClaim,
    Publish,
    SetClaim,
    SetKey,
    SetMember,
    Upsert,
)
from enricher.engine.ports import Answer, Claimed, Clock, Delivery, Intake, Stored, Write

_KEPT_CLAIMS = 8
_COMPARE = {"$gte": operator.ge, "$gt": operator.gt, "$lte": operator.le, "$lt": operator.lt}


class MemoryDelivery(Delivery):
    """A delivery that tells its sender how it ended."""

    awaited = True
    __slots__ = ("_on_settled",)

    def __init__(
        self, topic: str, body: bytes, received_us: int, on_settled: Callable[[str], None] | None
    ) -> None:
        super().__init__(topic, body, received_us)
        self._on_settled = on_settled

    def settled(self, label: str) -> None:
        """Pass the label on to the sender."""
        if self._on_settled is not None:
            self._on_settled(label)


class MemorySource:
    """Delivers what `send` was given, waiting for room where a route blocks."""

    def __init__(self, clock: Clock, name: str = "memory") -> None:
        self.name = name
        self._clock = clock
        self._waiting: deque[MemoryDelivery] = deque()
        self._arrived = anyio.Event()
        self._stopped = False

    def send(
        self, topic: str, body: bytes, on_settled: Callable[[str], None] | None = None
    ) -> None:
        """Queue a message; ``on_settled`` is called with its label when it has left the engine."""
        self._waiting.append(MemoryDelivery(topic, body, self._clock(), on_settled))
        self._arrived.set()

    async def run(self, intake: Intake) -> None:
        """Hand over in order until `stop_intake`; what was sent before that is still handed over."""
        while True:
            while self._waiting:
                await intake.put(self._waiting.popleft())
            if self._stopped:
                return
            self._arrived = anyio.Event()
            await self._arrived.wait()

    async def stop_intake(self) -> None:
        """Take nothing new."""
        self._stopped = True
        self._arrived.set()

    async def close(self) -> None:
        """Nothing to release."""

    def health(self) -> Mapping[str, Any]:
        """Always ready."""
        return {"ready": True, "waiting": len(self._waiting)}


class _InMemory:
    """What needs no server has nothing to prepare and nothing to release."""

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


class MemoryDocuments(_InMemory):
    """Collections as dictionaries by ``_id``; also reads them back."""

    name = DOCUMENTS
    durable = True

    def __init__(self) -> None:
        self.collections: dict[str, dict[Any, dict[str, Any]]] = {}

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write `Insert` and `Upsert`."""
        answers: dict[int, Answer] = {}
        for index, write in enumerate(writes):
            for effect in write.effects:
                if isinstance(effect, Insert):
                    documents = self._of(effect.collection)
                    stored = documents.get(effect.document["_id"])
                    if stored is None:
                        documents[effect.document["_id"]] = dict(effect.document)
                    elif effect.stored is not None:
                        answers[index] = Stored(stored)
                elif isinstance(effect, Upsert):
                    self._upsert(effect)
                elif effect.sink == self.name:
                    raise TypeError(f"the memory sink cannot write {type(effect).__name__}")
        return answers

    def _of(self, collection: str) -> dict[Any, dict[str, Any]]:
        return self.collections.setdefault(collection, {})

    def _upsert(self, effect: Upsert) -> None:
        documents = self._of(effect.collection)
        stored = documents.get(effect.document["_id"])
        guard = effect.guard
        if stored is None:
            replaced = effect.create
        else:
            replaced = guard is None or (guard in stored and stored[guard] < effect.document[guard])
        if replaced:
            documents[effect.document["_id"]] = dict(effect.document)

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Documents that match equality, ``$in``, ``$gte``, ``$gt``, ``$lte`` and ``$lt``."""
        documents = [d for d in self._of(collection).values() if _matches(d, query)]
        for field, direction in reversed(sort):
            documents.sort(key=lambda d: d[field], reverse=direction < 0)
        return documents[:limit] if limit else documents


def _matches(document: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    return all(_holds(document.get(field), wanted) for field, wanted in query.items())


def _holds(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return bool(value == wanted)
    return all(
        value in operand if name == "$in" else value is not None and _COMPARE[name](value, operand)
        for name, operand in wanted.items()
    )


class MemoryLive(_InMemory):
    """Keys, sorted sets, channels and claims as plain attributes. Nothing expires."""

    name = LIVE
    durable = False

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.versions: dict[str, int] = {}
        self.members: dict[str, dict[str, tuple[int, bytes, float]]] = {}
        self.published: list[tuple[str, bytes]] = []
        self.value_claims: dict[str, list[int]] = {}
        self.member_claims: dict[str, set[str]] = {}
        self.streams: dict[str, list[dict[bytes, bytes]]] = {}
        self.later: dict[str, list[tuple[int, dict[bytes, bytes]]]] = {}
        self.acknowledged: list[Ack] = []

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write the visible effects of each write, publishing only what was not claimed before."""
        answers: dict[int, Answer] = {}
        for index, write in enumerate(writes):
            effects = [effect for effect in write.effects if effect.sink == self.name]
            # A list: every claim is made, also after one that was lost.
            claimed = all([self._claim(effect) for effect in effects])  # noqa: C419
            for effect in effects:
                self._write(effect, claimed)
            if not claimed:
                answers[index] = Claimed()
        return answers

    def _claim(self, effect: object) -> bool:
        if isinstance(effect, KeyClaim):
            values = self.value_claims.setdefault(effect.key, [])
            if effect.value in values:
                return False
            self.value_claims[effect.key] = [effect.value, *values][:_KEPT_CLAIMS]
        elif isinstance(effect, SetClaim):
            members = self.member_claims.setdefault(effect.key, set())
            if effect.member in members:
                return False
            members.add(effect.member)
        return True

    def _write(self, effect: object, claimed: bool) -> None:
        match effect:
            case SetKey(key=key, value=value, version=version):
                if version is None or self.versions.get(key, version) <= version:
                    self.keys[key] = value
                    if version is not None:
                        self.versions[key] = version
            case SetMember(key=key, field=field, member=member, score=score, version=version):
                fields = self.members.setdefault(key, {})
                if field not in fields or fields[field][0] <= version:
                    fields[field] = (version, member, score)
            case DropMembers(key=key, before=before):
                fields = self.members.get(key, {})
                for field in [f for f in fields if f < before]:
                    del fields[field]
            case Publish(channel=channel, message=message):
                if claimed:
                    self.published.append((channel, message))
            case Append(stream=stream, fields=entry, max_length=most):
                if claimed:
                    entries = self.streams.setdefault(stream, [])
                    entries.append(dict(entry))
                    del entries[: max(len(entries) - most, 0) if most else 0]
            case Delay(key=key, delay_ms=delay_ms, fields=entry):
                if claimed:
                    self.later.setdefault(key, []).append((delay_ms, dict(entry)))
            case Ack():
                self.acknowledged.append(effect)
            case KeyClaim() | SetClaim():
                pass
            case _:
                raise TypeError(f"the memory sink cannot write {type(effect).__name__}")

    def sorted_set(self, key: str) -> list[tuple[bytes, float]]:
        """The members of a sorted set, as Redis would list them."""
        scores = {m: s for _, m, s in self.members.get(key, {}).values() if m}
        return sorted(scores.items(), key=lambda item: (item[1], item[0]))


class MemoryDeadLetters(_InMemory):
    """Dead letters in a list, newest first, one per task id."""

    name = DEAD_LETTERS
    durable = False

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self._seen: set[str] = set()

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Keep what is not kept yet."""
        for write in writes:
            for effect in write.effects:
                if isinstance(effect, DeadLetter) and effect.task_id not in self._seen:
                    self._seen.add(effect.task_id)
                    self.letters.insert(0, effect)
        return {}
