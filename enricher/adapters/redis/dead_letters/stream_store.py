"""Dead letters in a Redis stream.

An entry carries its letter in field ``letter``; without one its other fields, as a JSON object, stand for
it. Entries of a stream cannot be changed, so a letter that failed again becomes the newest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from enricher.adapters.redis.dead_letters.base import FIRST_PAGE, PAGE, RedisLetterStore
from enricher.adapters.redis.scripts import load
from enricher.adapters.redis.sink import packed_entry
from enricher.dead_letters.record import StoredLetter, encode
from enricher.dead_letters.store import NO_TOPICS
from enricher.engine.effects import DeadLetter
from enricher.texts import as_bytes, for_json

LETTER = b"letter"
MoreFields = Callable[[DeadLetter], Mapping[bytes, bytes]]
Entries = list[tuple[bytes, dict[bytes, bytes]]]


class StreamLetterStore(RedisLetterStore):
    """The letters of a stream, by entry id.

    ``more`` gives a new entry further fields, for readers that expect names of their own.
    """

    kind = "stream"

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

    def entry(self, letter: DeadLetter) -> bytes:
        """The fields of the entry, packed."""
        more = {} if self._more is None else self._more(letter)
        fields = {as_bytes(name): as_bytes(value) for name, value in more.items()}
        return packed_entry({**fields, LETTER: encode(letter)})

    async def count(self) -> int:
        return int(await self.client.xlen(self.key))

    async def letters(self) -> AsyncIterator[StoredLetter]:
        """All that are there at the start, newest first: what arrives later has a higher id."""
        last, position, page = "+", 0, FIRST_PAGE
        while entries := await self.entries("-", last, page, newest_first=True):
            page = min(2 * page, PAGE)
            for id_, fields in entries:
                yield self._letter(id_, fields, position)
                position += 1
            last = "(" + entries[-1][0].decode()

    async def page(self, after: str = "", most: int = PAGE) -> tuple[list[tuple[str, StoredLetter]], str]:
        entries = await self.entries("-", f"({_id_of(after)}" if after else "+", most, newest_first=True)
        found = [(id_.decode(), self._letter(id_, fields, -1)) for id_, fields in entries]
        return found, found[-1][0] if len(found) == most else ""

    async def marked(self, mark: str) -> StoredLetter | None:
        entries = await self.entries(_id_of(mark), _id_of(mark))
        return self._letter(*entries[0], -1) if entries else None

    async def remove(self, letter: StoredLetter) -> bool:
        return bool(await self.client.xdel(self.key, letter.id))

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Append ``entry`` and remove the letter and ``twin``, at once.

        What a reader of the old entry expects beside the letter goes on with the new one.
        """
        entries = await self.entries(letter.id, letter.id)
        if not entries:
            return False
        return await self.move(letter.id, self.key, {**entries[0][1], LETTER: entry}, twin) is not None

    async def move(
        self, id_: str | bytes, stream: str, fields: Mapping[bytes, bytes], twin: StoredLetter | None = None
    ) -> str | bytes | None:
        """Append ``fields`` to ``stream`` and remove the entry ``id_``, at once.

        The id of the new entry; None, and nothing changed, if the old one is not there.
        """
        arguments = (id_, b"" if twin is None else twin.id, packed_entry(fields))
        moved: str | bytes | None = await load("dead_letter_stream_replace")(
            self.client, (self.key, stream), *arguments
        )
        return moved

    async def entries(
        self, first: str | bytes, last: str | bytes, count: int | None = None, *, newest_first: bool = False
    ) -> Entries:
        """Ids and fields of at most ``count`` entries, whatever the client decodes."""
        if newest_first:
            reply: Any = await self.client.xrevrange(self.key, last, first, count)
        else:
            reply = await self.client.xrange(self.key, first, last, count)
        return [
            (as_bytes(id_), {as_bytes(name): as_bytes(value) for name, value in fields.items()})
            for id_, fields in reply
        ]

    def _letter(self, id_: bytes, fields: Mapping[bytes, bytes], position: int) -> StoredLetter:
        return self.read(fields.get(LETTER) or plain_record(fields), position, id_)


def _id_of(mark: str) -> str:
    # What is a mark of a list names no entry of a stream.
    return mark.partition(".")[0]


def plain_record(fields: Mapping[bytes, bytes]) -> bytes:
    """An entry without a letter as JSON: its fields as text; a body that is none in ``body_base64``."""
    record: dict[str, Any] = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()
    }
    body = for_json(fields.get(b"body", fields.get(b"original_data", b"")))
    if b"body_base64" not in fields and not isinstance(body, str):
        record["body_base64"] = body["base64"]
        record.pop("body", None)
    return msgspec.json.encode(record)
