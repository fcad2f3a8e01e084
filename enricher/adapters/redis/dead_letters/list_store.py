"""Dead letters in a Redis list, newest first, as old scripts read them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from enricher.adapters.redis.dead_letters.base import FIRST_PAGE, PAGE, RedisLetterStore
from enricher.adapters.redis.scripts import load
from enricher.dead_letters.record import StoredLetter, encode
from enricher.dead_letters.store import first_after, mark_of
from enricher.engine.effects import DeadLetter
from enricher.texts import as_bytes


class ListLetterStore(RedisLetterStore):
    """The letters of a list, newest first: a replacement takes the very place of what it replaces."""

    kind = "list"

    def entry(self, letter: DeadLetter) -> bytes:
        """The letter as JSON."""
        return encode(letter)

    async def count(self) -> int:
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
            first, page = last + 1, min(2 * page, PAGE)

    async def page(self, after: str = "", most: int = PAGE) -> tuple[list[tuple[str, StoredLetter]], str]:
        length = await self.count()
        first = first_after(after, length)
        last = min(first + most, length) - 1
        if first > last:
            return [], ""
        read = [
            self.read(raw, first + offset)
            for offset, raw in enumerate(await self._range(first - length, last - length))
        ]
        found = [(mark_of(letter, length), letter) for letter in read]
        return found, found[-1][0] if found and last < length - 1 else ""

    async def at(self, position: int) -> StoredLetter | None:
        entries = await self._range(position, position)
        return self.read(entries[0], position) if entries else None

    async def remove(self, letter: StoredLetter) -> bool:
        script = load("dead_letter_list_remove")
        return bool(await script(self.client, (self.key,), letter.raw, letter.position))

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Put ``entry`` in the letter's place and remove ``twin``, at once."""
        arguments = (letter.raw, letter.position, entry, twin.raw if twin else b"")
        return bool(await load("dead_letter_list_replace")(self.client, (self.key,), *arguments))

    async def _range(self, first: int, last: int) -> list[bytes]:
        return [as_bytes(raw) for raw in await self.client.lrange(self.key, first, last)]
