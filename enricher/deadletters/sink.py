"""The sinks of dead letters: a Redis list or a Redis stream, one entry per delivery.

A write that sets a message aside also acknowledges it. Both land in one script where the entry's stream is
in the same Redis. Where it is in another, the letter is stored first and the entry acknowledged after it,
so that a crash between the two leaves an entry that comes again and finds its letter stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import structlog
from redis.asyncio import Redis

from enricher.deadletters.record import encode
from enricher.engine.effects import DEAD_LETTERS, Ack, Answer, DeadLetter, Write
from enricher.errors import SinkUnavailable
from enricher.sinks.redis import ACKNOWLEDGE, packed_entry

log = structlog.get_logger("enricher")

# ARGV from `first` on: stream, group and id of every entry to acknowledge.
_ACKNOWLEDGE_ALL = (
    ACKNOWLEDGE
    + """
local function acknowledge_all(first)
  for i = first, #ARGV, 3 do acknowledge(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
  advance()
end
"""
)

ACKNOWLEDGE_ONLY = _ACKNOWLEDGE_ALL + "acknowledge_all(1)"

# KEYS: list, guard. ARGV: entry, guard's lifetime (s), longest list, acks. Replies how many entries fell off.
PUSH = (
    _ACKNOWLEDGE_ALL
    + """
local over = 0
if redis.call('EXISTS', KEYS[2]) == 0 then
  over = redis.call('LPUSH', KEYS[1], ARGV[1]) - tonumber(ARGV[3])
  redis.call('SET', KEYS[2], '1', 'EX', ARGV[2])
  if over > 0 then redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[3]) - 1) end
end
acknowledge_all(4)
return math.max(over, 0)
"""
)

# The same for a stream; the entry is a MessagePack list of names and values.
APPEND = (
    _ACKNOWLEDGE_ALL
    + """
local over = 0
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(ARGV[1])))
  redis.call('SET', KEYS[2], '1', 'EX', ARGV[2])
  over = redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[3])
end
acknowledge_all(4)
return over
"""
)


class DeadLetterSink(ABC):
    """Lands `DeadLetter` and the `Ack` beside it. A letter's guard key (task_id) makes repeating harmless.

    ``max_length`` entries are kept; the oldest fall off and are counted in ``evicted``. There is no place
    for a dead letter that cannot be stored, so every failure is an outage: it is logged and repeated.
    ``streams`` is the Redis of the entries to acknowledge where it is another one than ``client``'s.
    """

    name = DEAD_LETTERS
    durable = False
    script = ""

    def __init__(
        self,
        client: Redis,
        key: str,
        *,
        max_length: int = 100_000,
        guard_ttl: int = 86_400,
        on_evicted: Callable[[int], None] | None = None,
        server: str = "",
        streams: Redis | None = None,
    ) -> None:
        self.server = server
        self.evicted = 0
        self._client = client
        self._key = key
        self._max_length = max_length
        self._guard_ttl = guard_ttl
        self._on_evicted = on_evicted
        self._store_script = client.register_script(self.script)
        self._acknowledge = None if streams is None else streams.register_script(ACKNOWLEDGE_ONLY)

    @abstractmethod
    def entry(self, letter: DeadLetter) -> bytes:
        """The letter as the script takes it."""

    @abstractmethod
    async def count(self) -> int:
        """How many dead letters there are. Errors of the client are passed on."""

    async def open(self) -> None:  # noqa: B027
        """Nothing to prepare."""

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Store the letters, in order."""
        for write in writes:
            acks = [part for e in write.effects if isinstance(e, Ack) for part in (e.stream, e.group, e.id)]
            for effect in write.effects:
                if isinstance(effect, DeadLetter):
                    await self._store(effect, acks)
        return {}

    async def _store(self, letter: DeadLetter, acks: Sequence[str]) -> None:
        keys = [self._key, f"{self._key}:seen:{letter.task_id}"]
        arguments: list[bytes | str | int] = [self.entry(letter), self._guard_ttl, self._max_length]
        try:
            if self._acknowledge is None:
                over = await self._store_script(keys=keys, args=[*arguments, *acks])
            else:
                over = await self._store_script(keys=keys, args=arguments)
                if acks:
                    await self._acknowledge(args=acks)
        except Exception as error:
            raise SinkUnavailable(self.name, f"{type(error).__name__}: {error}") from error
        if over:
            self.evicted += int(over)
            if self._on_evicted is not None:
                self._on_evicted(int(over))
            log.warning("dead_letters_evicted", key=self._key, evicted=int(over))
        log.warning(
            "dead_letter",
            task_id=letter.task_id,
            task_name=letter.task_name,
            topic=letter.topic,
            stage=letter.stage,
            path=letter.path,
            error=letter.error[:500],
        )

    async def close(self) -> None:  # noqa: B027
        """Nothing: the client belongs to who made it."""


class RedisDeadLetters(DeadLetterSink):
    """Dead letters in a list, newest first; an entry is the letter as JSON."""

    script = PUSH

    def entry(self, letter: DeadLetter) -> bytes:
        """The letter as JSON."""
        return encode(letter)

    async def count(self) -> int:
        """The length of the list."""
        return int(await self._client.llen(self._key))


class StreamDeadLetters(DeadLetterSink):
    """Dead letters in a stream, newest last; field ``letter`` of an entry is the letter as JSON.

    ``more`` gives an entry further fields, for readers that expect names of their own.
    """

    script = APPEND

    def __init__(
        self,
        client: Redis,
        key: str,
        *,
        more: Callable[[DeadLetter], Mapping[bytes, bytes]] | None = None,
        max_length: int = 100_000,
        guard_ttl: int = 86_400,
        on_evicted: Callable[[int], None] | None = None,
        server: str = "",
        streams: Redis | None = None,
    ) -> None:
        super().__init__(
            client,
            key,
            max_length=max_length,
            guard_ttl=guard_ttl,
            on_evicted=on_evicted,
            server=server,
            streams=streams,
        )
        self._more = more

    def entry(self, letter: DeadLetter) -> bytes:
        """The fields of the entry, packed."""
        more = {} if self._more is None else self._more(letter)
        return packed_entry({**more, b"letter": encode(letter)})

    async def count(self) -> int:
        """The length of the stream."""
        return int(await self._client.xlen(self._key))


class LettersByTopic:
    """Lands each dead letter in the store of its topic, all others in ``others``."""

    name = DEAD_LETTERS
    durable = False

    def __init__(self, others: DeadLetterSink, stores: Mapping[str, DeadLetterSink]) -> None:
        self.server = others.server
        self._others = others
        self._stores = dict(stores)

    async def open(self) -> None:
        """Open every store."""
        for store in (self._others, *self._stores.values()):
            await store.open()

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Store the letters, in order."""
        for write in writes:
            for effect in write.effects:
                if isinstance(effect, DeadLetter):
                    await self._stores.get(effect.topic, self._others).commit((write,))
                    break
        return {}

    async def count(self) -> int:
        """How many dead letters there are in all stores."""
        return sum([await store.count() for store in (self._others, *self._stores.values())])

    async def close(self) -> None:
        """Close every store."""
        for store in (self._others, *self._stores.values()):
            await store.close()
