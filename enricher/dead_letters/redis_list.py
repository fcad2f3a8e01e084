"""Dead letters in Redis: what list and stream have in common, and the list.

Beside its entries a store with key ``K`` has ``K:seen:{task_id}`` (stored once), ``K:evicted`` (how many
have fallen off the old end, ever) and ``K:expected`` (the ids that must push nothing out).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from redis.asyncio import Redis

from enricher.adapters.redis.scripts import load
from enricher.dead_letters.record import StoredLetter, encode
from enricher.dead_letters.store import NO_TOPICS, Added, LetterStore
from enricher.engine.effects import DeadLetter
from enricher.texts import as_bytes, as_text

PAGE = 200
FIRST_PAGE = 16

# ARGV from `first` on: stream, group and id of every entry to acknowledge.
ACKNOWLEDGE_ALL = (
    load("ack").text
    + """
local function acknowledge_all(first)
  for i = first, #ARGV, 3 do acknowledge(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
  advance()
end
"""
)

ACKNOWLEDGE_ONLY = ACKNOWLEDGE_ALL + "acknowledge_all(1)"

# KEYS: list, guard, evicted, expected. ARGV: entry, task id, guard's lifetime (s), longest list, acks.
# Replies the length, how many entries fell off, and whether the letter was new.
PUSH = (
    ACKNOWLEDGE_ALL
    + """
local over, new = 0, 0
local most = tonumber(ARGV[4])
if redis.call('EXISTS', KEYS[2]) == 0 then
  new = 1
  redis.call('SET', KEYS[2], '1', 'XX')  -- sets nothing: whoever may not set it must not push, either
  redis.call('SREM', KEYS[4], '')  -- removes nothing, for the same reason
  over = redis.call('LPUSH', KEYS[1], ARGV[1]) - most
  redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
  local expected = redis.call('SREM', KEYS[4], ARGV[2]) == 1
  if over > 0 and not expected then
    redis.call('LTRIM', KEYS[1], 0, most - 1)
    redis.call('INCRBY', KEYS[3], over)
  else
    over = 0
  end
end
acknowledge_all(5)
return {redis.call('LLEN', KEYS[1]), over, new}
"""
)

# KEYS: list. ARGV: entry, its position. Looks from the end that is nearer.
REMOVE = """
local count = 1
if tonumber(ARGV[2]) * 2 > redis.call('LLEN', KEYS[1]) then count = -1 end
return redis.call('LREM', KEYS[1], count, ARGV[1])
"""

# KEYS: list. ARGV: entry, its position, its replacement, its twin (or empty). The twin goes only where the
# entry stays.
REPLACE = """
local rank = 1
if tonumber(ARGV[2]) * 2 > redis.call('LLEN', KEYS[1]) then rank = -1 end
local at = redis.call('LPOS', KEYS[1], ARGV[1], 'RANK', rank)
if not at then return 0 end
redis.call('LSET', KEYS[1], at, ARGV[3])
if ARGV[4] ~= '' then redis.call('LREM', KEYS[1], 1, ARGV[4]) end
return 1
"""


class RedisLetterStore(LetterStore):
    """The dead letters under ``key`` in the Redis of ``client`` (asyncio), which stays the caller's.

    ``max_length`` entries are kept; older ones fall off and are counted. The same delivery is not stored
    twice within ``guard_ttl`` seconds. Letters are text, and so a client that decodes replies will do, but
    only one that leaves them as bytes can read whatever else may be there.
    """

    kind = ""
    add_script = ""

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
        self._add = client.register_script(self.add_script)

    @abstractmethod
    def entry(self, letter: DeadLetter) -> bytes:
        """The letter as the script takes it."""

    async def add(self, letter: DeadLetter, acks: Sequence[str] = ()) -> Added:
        """Store ``letter`` once; in the same script acknowledge stream entries (stream, group, id ...)."""
        keys = [self.key, self._guard(letter.task_id), f"{self.key}:evicted", f"{self.key}:expected"]
        limits = [self._guard_ttl, self._max_length]
        found = await self._add(keys=keys, args=[self.entry(letter), letter.task_id, *limits, *acks])
        length, evicted, new = cast("list[int]", found)
        return Added(length, evicted, bool(new))

    async def fresh(self, task_id: str) -> StoredLetter | None:
        """The letter that was added under this id a short while ago, if it is there."""
        if not await self.client.exists(self._guard(task_id)):
            return None
        return await super().fresh(task_id)

    async def expect(self, task_id: str) -> None:
        """The letter of this id, should it come, pushes nothing out."""
        async with self.client.pipeline(transaction=False) as pipeline:
            pipeline.sadd(f"{self.key}:expected", task_id)
            pipeline.expire(f"{self.key}:expected", self._guard_ttl)
            await pipeline.execute()

    async def forget(self, task_id: str) -> None:
        """The letter of this id is no longer expected."""
        await self.client.srem(f"{self.key}:expected", task_id)

    async def evicted(self) -> int:
        """How many have ever fallen off the old end."""
        return int(await self.client.get(f"{self.key}:evicted") or 0)

    def _guard(self, task_id: str) -> str:
        return f"{self.key}:seen:{as_text(task_id)}"


class ListLetterStore(RedisLetterStore):
    """The letters of a list, newest first: a replacement takes the very place of what it replaces."""

    kind = "list"
    add_script = PUSH

    def __init__(
        self, client: Redis, key: str, topics: Mapping[str, str] = NO_TOPICS, **limits: Any
    ) -> None:
        super().__init__(client, key, topics, **limits)
        self._remove = client.register_script(REMOVE)
        self._replace = client.register_script(REPLACE)

    def entry(self, letter: DeadLetter) -> bytes:
        """The letter as JSON."""
        return encode(letter)

    async def count(self) -> int:
        """How many there are."""
        return await self.client.llen(self.key)

    async def letters(self) -> AsyncIterator[StoredLetter]:
        """All that are there at the start, newest first.

        Pages are counted from the old end, so letters that arrive meanwhile move nothing.
        """
        length, first, page = await self.count(), 0, FIRST_PAGE
        while first < length:
            last = min(first + page, length) - 1
            for offset, raw in enumerate(await self._range(first - length, last - length)):
                yield self.read(raw, first + offset)
            # What is looked for is often among the newest: the first pages are short.
            first, page = last + 1, min(2 * page, PAGE)

    async def at(self, position: int) -> StoredLetter | None:
        """The letter at ``position`` (0 is the newest), if there is one."""
        found = await self._range(position, position)
        return self.read(found[0], position) if found else None

    async def remove(self, letter: StoredLetter) -> bool:
        """Remove exactly this entry; False if it is no longer there."""
        return bool(await self._remove(keys=[self.key], args=[letter.raw, letter.position]))

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Put ``entry`` in the letter's place and remove ``twin``, at once."""
        arguments: list[bytes | int] = [letter.raw, letter.position, entry, twin.raw if twin else b""]
        return bool(await self._replace(keys=[self.key], args=arguments))

    async def _range(self, first: int, last: int) -> list[bytes]:
        return [as_bytes(raw) for raw in await self.client.lrange(self.key, first, last)]
