"""The dead letters of a stream as people work with them.

An entry carries its letter in field ``letter``; without one its other fields, as a JSON object, stand for
it. Entries of a stream cannot be changed, so a letter that failed again becomes the newest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from enricher.deadletters.store import PAGE, LetterStore, StoredLetter
from enricher.sinks.redis import packed_entry

LETTER = b"letter"
_Entries = list[tuple[bytes, dict[bytes, bytes]]]

# KEYS: stream. ARGV: id, id of the twin (or empty), fields of the entry that follows.
REPLACE = """
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
if ARGV[2] ~= '' then redis.call('XDEL', KEYS[1], ARGV[2]) end
redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(ARGV[3])))
return 1
"""


class StreamLetterStore(LetterStore):
    """The letters of a stream, by entry id."""

    def __init__(self, client: Redis, key: str, topics: Mapping[str, str]) -> None:
        super().__init__(client, key, topics)
        self._replace = client.register_script(REPLACE)

    async def count(self) -> int:
        """How many there are."""
        return int(await self._client.xlen(self._key))

    async def letters(self) -> AsyncIterator[StoredLetter]:
        """All that are there at the start, newest first: what arrives later has a higher id."""
        last, position = "+", 0
        while found := await self._before(last, PAGE):
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
        return bool(await self._client.xdel(self._key, letter.id))

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Append ``entry`` and remove the letter and ``twin``, at once.

        What a reader of the old entry expects beside the letter goes on with the new one.
        """
        found = cast("_Entries", await self._client.xrange(self._key, letter.id, letter.id))
        if not found:
            return False
        fields = {**found[0][1], LETTER: entry}
        arguments = [letter.id, b"" if twin is None else twin.id, packed_entry(fields)]
        return bool(await self._replace(keys=[self._key], args=arguments))

    async def _before(self, last: str, most: int) -> _Entries:
        return cast("_Entries", await self._client.xrevrange(self._key, last, "-", count=most))

    def _letter(self, id_: bytes, fields: Mapping[bytes, bytes], position: int) -> StoredLetter:
        raw = fields.get(LETTER)
        if raw is None:
            plain: dict[str, Any] = {
                name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
                for name, value in fields.items()
            }
            raw = msgspec.json.encode(plain)
        return self.read(raw, position, id_)
