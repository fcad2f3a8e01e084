"""What the stores of dead letters in Redis have in common, whether list or stream.

Beside its entries a store with key ``K`` has ``K:seen:{task_id}`` (stored once), ``K:evicted`` (how many
have fallen off the old end, ever) and ``K:expected`` (the ids that must push nothing out).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from redis.asyncio import Redis

from enricher.adapters.redis.scripts import load
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.store import NO_TOPICS, AcknowledgingStore, Added
from enricher.engine.effects import DeadLetter
from enricher.texts import as_text

PAGE = 200
# What is looked for is often among the newest: the first pages are short.
FIRST_PAGE = 16


async def acknowledge_only(client: Redis, acks: Sequence[str]) -> None:
    """Acknowledge stream entries (stream, group, id ...) whose dead letters are stored elsewhere."""
    await load("acknowledge_only", "ack", "acknowledge_all")(client, (), *acks)


class RedisLetterStore(AcknowledgingStore):
    """The dead letters under ``key`` in the Redis of ``client`` (asyncio), which stays the caller's.

    ``max_length`` entries are kept; older ones fall off and are counted. The same delivery is not stored
    twice within ``guard_ttl`` seconds. Letters are text, and so a client that decodes replies will do, but
    only one that leaves them as bytes can read whatever else may be there.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        client: Redis,
        key: str,
        topics: Mapping[str, str] = NO_TOPICS,
        *,
        max_length: int = 100_000,
        guard_ttl: int = 86_400,
    ) -> None:
        self.client = client
        self.key = as_text(key)
        self.name = f"{self.kind} {self.key}"
        self.topics = {as_text(task): as_text(topic) for task, topic in topics.items()}
        self._max_length = max_length
        self._guard_ttl = guard_ttl

    @abstractmethod
    def entry(self, letter: DeadLetter) -> bytes:
        """The letter as the script takes it."""

    async def add(self, letter: DeadLetter, acks: Sequence[str] = ()) -> Added:
        """Store ``letter`` once; in the same script acknowledge stream entries (stream, group, id ...)."""
        keys = (self.key, self._guard(letter.task_id), f"{self.key}:evicted", f"{self.key}:expected")
        limits = (self._guard_ttl, self._max_length)
        script = load("dead_letter_add", "ack", "acknowledge_all")
        length, evicted, new = await script(
            self.client, keys, self.kind, self.entry(letter), letter.task_id, *limits, *acks
        )
        return Added(length, evicted, bool(new))

    async def fresh(self, task_id: str) -> StoredLetter | None:
        if not await self.client.exists(self._guard(task_id)):
            return None
        return await super().fresh(task_id)

    async def expect(self, task_id: str) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            pipeline.sadd(f"{self.key}:expected", task_id)
            pipeline.expire(f"{self.key}:expected", self._guard_ttl)
            await pipeline.execute()

    async def forget(self, task_id: str) -> None:
        await self.client.srem(f"{self.key}:expected", task_id)

    async def evicted(self) -> int:
        return int(await self.client.get(f"{self.key}:evicted") or 0)

    def _guard(self, task_id: str) -> str:
        return f"{self.key}:seen:{as_text(task_id)}"
