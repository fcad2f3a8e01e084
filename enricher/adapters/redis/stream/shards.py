"""Shards: several processes share the keys of routes with state, each key in one of them.

Every shard ``i/n`` has a consumer group of its own that reads the whole stream and keeps its own keys. Which
process has a shard is for its `ShardLock` to say.
"""

from __future__ import annotations

from contextlib import suppress
from zlib import crc32

import msgspec

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
