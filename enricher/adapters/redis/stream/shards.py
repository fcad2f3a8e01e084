"""Shards: several processes share the keys of routes with state, each key in one of them.

Every shard ``i/n`` has a consumer group of its own that reads the whole stream and keeps its own keys. Which
process has a shard is for its `Hold` to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

import msgspec

from enricher.engine.ports import Delivery, Intake, Source
from enricher.engine.router import Router


class Shard(msgspec.Struct, frozen=True):
    """Part ``index`` (from 0) of ``count``.

    >>> Shard.parse("1/4"), str(Shard(1, 4))
    (Shard(index=1, count=4), '1/4')
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard of a setting ``i/n``; ValueError if it is none."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(f"{text!r} is no shard: i/n with i from 0 to n-1, such as 0/4")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def siblings(self) -> list[Shard]:
        """All shards, this one included."""
        return [Shard(index, self.count) for index in range(self.count)]

    def owns(self, key: str) -> bool:
        """Whether ``key`` is one of this shard's."""
        return crc32(key.encode("utf-8", "surrogatepass")) % self.count == self.index

    def keeps(self, router: Router, topic: str, body: bytes) -> bool:
        """Whether a message is one of this shard's, by the key of its route.

        One without a route or whose key cannot be read belongs to some shard too, that of its bytes.
        """
        route = router.match(topic)
        key = None
        if route is not None and route.key is not None:
            with suppress(Exception):
                key = route.key(body)
        return self.owns(key) if key is not None else crc32(body) % self.count == self.index


class OwnMessages:
    """Runs ``source`` (pub/sub) and passes on what is the shard's own."""

    def __init__(self, source: Source, shard: Shard, router: Router) -> None:
        self.name = source.name
        self._source = source
        self._shard = shard
        self._router = router

    async def run(self, intake: Intake) -> None:
        """Run the source."""
        await self._source.run(_Sieve(intake, self._shard, self._router))

    async def stop_intake(self) -> None:
        """Stop the source."""
        await self._source.stop_intake()

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    def health(self) -> Mapping[str, Any]:
        """The source's."""
        return self._source.health()


class _Sieve:
    """An intake that lets through what is the shard's own."""

    def __init__(self, intake: Intake, shard: Shard, router: Router) -> None:
        self._intake = intake
        self._shard = shard
        self._router = router

    def _keeps(self, delivery: Delivery) -> bool:
        return self._shard.keeps(self._router, delivery.topic, delivery.body)

    def offer(self, delivery: Delivery) -> bool:
        return self._intake.offer(delivery) if self._keeps(delivery) else True

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        self._intake.offer_all([delivery for delivery in deliveries if self._keeps(delivery)])

    async def put(self, delivery: Delivery) -> None:
        if self._keeps(delivery):
            await self._intake.put(delivery)

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        if self._keeps(delivery):
            self._intake.set_aside(delivery, stage, error, task_name)

    def full_for(self, delivery: Delivery) -> bool:
        return self._keeps(delivery) and self._intake.full_for(delivery)
