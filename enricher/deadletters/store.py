"""The dead letters as people work with them: look, find, remove one, replace one.

`LetterStore` is the interface; `DeadLetterStore` here is the list, `StreamLetterStore` the stream.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from enricher.deadletters.record import body_of
from enricher.errors import EnricherError

PAGE = 200
SHORTEST_PREFIX = 4

# KEYS: list. ARGV: entry, its replacement, its twin (or empty). The twin goes only where the entry stays.
REPLACE = """
local at = redis.call('LPOS', KEYS[1], ARGV[1])
if not at then return 0 end
redis.call('LSET', KEYS[1], at, ARGV[2])
if ARGV[3] ~= '' then redis.call('LREM', KEYS[1], 1, ARGV[3]) end
return 1
"""


class UnknownLetter(EnricherError):
    """No dead letter, or more than one, answers to a name."""


class StoredLetter(msgspec.Struct, frozen=True):
    """A stored entry: its ``position`` (0 is the newest), its exact bytes, and what they say.

    ``record`` is empty where the entry is not a JSON object. ``topic`` is None where neither the entry nor
    the name of its task tells it. ``id`` is that of a stream's entry; a list's have none.
    """

    position: int
    raw: bytes
    record: dict[str, Any]
    topic: str | None
    id: bytes = b""

    @property
    def readable(self) -> bool:
        """Whether the entry is a dead letter at all."""
        return bool(self.record)

    @property
    def task_id(self) -> str:
        """The letter's id; of an entry that has none, a digest of its bytes."""
        return self._text("task_id") or hashlib.sha256(self.raw).hexdigest()[:32]

    @property
    def error(self) -> str:
        """What went wrong, in words."""
        return self._text("error")

    @property
    def stage(self) -> str:
        """Where it went wrong; empty in an entry of an old worker."""
        return self._text("stage")

    @property
    def attempts(self) -> int:
        """How often the message was tried, at least once."""
        found = self.record.get("attempts")
        return found if isinstance(found, int) and found > 0 else 1

    @property
    def at_us(self) -> int | None:
        """When it was tried last (microseconds since 1970 UTC); None if the entry does not tell."""
        try:
            when = datetime.fromisoformat(self._text("timestamp"))
        except ValueError:
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return round(when.timestamp() * 1e6)

    @property
    def body(self) -> bytes:
        """The message as it came (from an old worker: as JSON says it again)."""
        return body_of(self.record)

    def _text(self, field: str) -> str:
        found = self.record.get(field)
        return "" if found is None else str(found)


class LetterStore(ABC):
    """The dead letters under ``key`` in the Redis of ``client``.

    ``topics`` are the topics by task name; they tell the topic of an old worker's entries, which name only
    their task. Errors of the client are passed on.
    """

    def __init__(self, client: Redis, key: str, topics: Mapping[str, str]) -> None:
        self._client = client
        self._key = key
        self._topics = topics

    @abstractmethod
    async def count(self) -> int:
        """How many there are."""

    @abstractmethod
    def letters(self) -> AsyncIterator[StoredLetter]:
        """All that are there at the start, newest first, whatever arrives meanwhile."""

    @abstractmethod
    async def at(self, position: int) -> StoredLetter | None:
        """The letter at ``position`` (0 is the newest), if there is one."""

    @abstractmethod
    async def remove(self, letter: StoredLetter) -> bool:
        """Remove exactly this entry; False if it is no longer there."""

    @abstractmethod
    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Put ``entry`` in place of the letter and remove ``twin``, at once.

        False, and nothing changed, if the letter is no longer there.
        """

    async def get(self, name: str) -> StoredLetter:
        """The letter at a position (``0``: the newest), or of a task id or the unique start of one.

        Raises `UnknownLetter`.
        """
        if name.isascii() and name.isdigit() and len(name) <= 9:
            position = int(name)
            found_there = await self.at(position)
            if found_there is not None:
                return found_there
            raise UnknownLetter(f"no dead letter at position {name}; there are {await self.count()}")
        if len(name) < SHORTEST_PREFIX:
            raise UnknownLetter(f"{name!r}: at least {SHORTEST_PREFIX} characters of a task id are needed")
        found: list[StoredLetter] = []
        async for letter in self.letters():
            if letter.task_id == name:
                return letter
            if letter.task_id.startswith(name):
                found.append(letter)
        if not found:
            raise UnknownLetter(f"no dead letter {name!r}; `enricher dlq list` shows their ids and positions")
        if len(found) > 1:
            raise UnknownLetter(f"{len(found)} dead letters begin with {name!r}; give more of the id")
        return found[0]

    def read(self, raw: bytes, position: int = -1, id: bytes = b"") -> StoredLetter:  # noqa: A002
        """The letter that an entry is."""
        try:
            found = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = None
        record = found if isinstance(found, dict) else {}
        return StoredLetter(position, raw, record, self._topic(record), id)

    def _topic(self, record: Mapping[str, Any]) -> str | None:
        if isinstance(topic := record.get("topic"), str) and topic:
            return topic
        # An old worker may have registered its tasks with their module in front.
        name = str(record.get("task_name") or "").rpartition(".")[2]
        return self._topics.get(name)


class DeadLetterStore(LetterStore):
    """The letters of a list: a replacement takes the very place of what it replaces."""

    def __init__(self, client: Redis, key: str, topics: Mapping[str, str]) -> None:
        super().__init__(client, key, topics)
        self._replace = client.register_script(REPLACE)

    async def count(self) -> int:
        """How many there are."""
        return await self._client.llen(self._key)

    async def letters(self) -> AsyncIterator[StoredLetter]:
        """All that are there at the start, newest first.

        Pages are counted from the old end, so letters that arrive meanwhile move nothing.
        """
        length = await self.count()
        for first in range(0, length, PAGE):
            last = min(first + PAGE, length) - 1
            for offset, raw in enumerate(await self._range(first - length, last - length)):
                yield self.read(raw, first + offset)

    async def at(self, position: int) -> StoredLetter | None:
        """The letter at ``position`` (0 is the newest), if there is one."""
        found = await self._range(position, position)
        return self.read(found[0], position) if found else None

    async def remove(self, letter: StoredLetter) -> bool:
        """Remove exactly this entry; False if it is no longer there."""
        return bool(await self._client.lrem(self._key, 1, letter.raw))  # type: ignore[arg-type]

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Put ``entry`` in the letter's place and remove ``twin``, at once."""
        arguments = [letter.raw, entry, b"" if twin is None else twin.raw]
        return bool(await self._replace(keys=[self._key], args=arguments))

    async def _range(self, first: int, last: int) -> list[bytes]:
        return await cast("Awaitable[list[bytes]]", self._client.lrange(self._key, first, last))
