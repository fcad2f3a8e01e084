"""Dead letters in a Redis stream.

An entry carries its letter in field ``letter``; without one its other fields, as a JSON object, stand for
it. Entries of a stream cannot be changed, so a letter that failed again becomes the newest.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from enricher.adapters.redis.sink import packed_entry
from enricher.dead_letters.record import StoredLetter, encode
from enricher.dead_letters.redis_list import ACKNOWLEDGE_ALL, FIRST_PAGE, PAGE, RedisLetterStore
from enricher.dead_letters.store import NO_TOPICS
from enricher.engine.effects import DeadLetter
from enricher.texts import as_bytes

LETTER = b"letter"
MoreFields = Callable[[DeadLetter], Mapping[bytes, bytes]]
_Entries = list[tuple[bytes, dict[bytes, bytes]]]

# As PUSH of the list; the entry is a MessagePack list of names and values.
APPEND = (
    ACKNOWLEDGE_ALL
    + """
local over, new = 0, 0
if redis.call('EXISTS', KEYS[2]) == 0 then
  new = 1
  redis.call('SET', KEYS[2], '1', 'XX')  -- sets nothing: whoever may not set it must not append, either
  redis.call('SREM', KEYS[4], '')  -- removes nothing, for the same reason
  redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(ARGV[1])))
  redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
  if redis.call('SREM', KEYS[4], ARGV[2]) == 0 then
    over = redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[4])
    if over > 0 then redis.call('INCRBY', KEYS[3], over) end
  end
end
acknowledge_all(5)
return {redis.call('XLEN', KEYS[1]), over, new}
"""
)

# KEYS: stream. ARGV: id, id of the twin (or empty), fields of the entry that follows.
REPLACE = """
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(ARGV[3])))
redis.call('XDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then redis.call('XDEL', KEYS[1], ARGV[2]) end
return 1
"""


def _is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _entries(reply: Any) -> _Entries:
    return [
        (as_bytes(id_), {as_bytes(name): as_bytes(value) for name, value in fields.items()})
        for id_, fields in reply
    ]


class StreamLetterStore(RedisLetterStore):
    """The letters of a stream, by entry id.

    ``more`` gives a new entry further fields, for readers that expect names of their own.
    """

    kind = "stream"
    add_script = APPEND

    def __init__(
        self,
        client: Redis,
        key: str,
        topics: Mapping[str, str] = NO_TOPICS,
        *,
        more: MoreFields | None = None,
        **limits: Any,
    ) -> None:
        super().__init__(client, key, topics, **limits)
        self._more = more
        self._replace = client.register_script(REPLACE)

    def entry(self, letter: DeadLetter) -> bytes:
        """The fields of the entry, packed."""
        more = {} if self._more is None else self._more(letter)
        fields = {as_bytes(name): as_bytes(value) for name, value in more.items()}
        return packed_entry({**fields, LETTER: encode(letter)})

    async def count(self) -> int:
        """How many there are."""
        return int(await self.client.xlen(self.key))

    async def letters(self) -> AsyncIterator[StoredLetter]:
        """All that are there at the start, newest first: what arrives later has a higher id."""
        last, position, page = "+", 0, FIRST_PAGE
        while found := await self._before(last, page):
            page = min(2 * page, PAGE)
            for id_, fields in found:
                yield self._letter(id_, fields, position)
                position += 1
            last = "(" + found[-1][0].decode()

    async def at(self, position: int) -> StoredLetter | None:
        """The letter at ``position`` (0 is the newest), if there is one."""
        last, left = "+", position
        while found := await self._before(last, min(left + 1, PAGE)):
            if left < len(found):
                id_, fields = found[left]
                return self._letter(id_, fields, position)
            left -= len(found)
            last = "(" + found[-1][0].decode()
        return None

    async def remove(self, letter: StoredLetter) -> bool:
        """Remove exactly this entry; False if it is no longer there."""
        return bool(await self.client.xdel(self.key, letter.id))

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Append ``entry`` and remove the letter and ``twin``, at once.

        What a reader of the old entry expects beside the letter goes on with the new one.
        """
        found = _entries(await self.client.xrange(self.key, letter.id, letter.id))
        if not found:
            return False
        fields = {**found[0][1], LETTER: entry}
        arguments = [letter.id, b"" if twin is None else twin.id, packed_entry(fields)]
        return bool(await self._replace(keys=[self.key], args=arguments))

    async def _before(self, last: str, most: int) -> _Entries:
        return _entries(await self.client.xrevrange(self.key, last, "-", count=most))

    def _letter(self, id_: bytes, fields: Mapping[bytes, bytes], position: int) -> StoredLetter:
        raw = fields.get(LETTER)
        if raw is None:
            plain: dict[str, Any] = {
                name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
                for name, value in fields.items()
            }
            body = fields.get(b"body", fields.get(b"original_data"))
            if body is not None and b"body_base64" not in fields and not _is_text(body):
                plain["body_base64"] = b64encode(body).decode()
                plain.pop("body", None)
            raw = msgspec.json.encode(plain)
        return self.read(raw, position, id_)
