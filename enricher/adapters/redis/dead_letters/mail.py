"""Dead letters of mails as other programs read and write them: entries with fields of their own names.

An entry has ``original_data`` (the fields of the mail's entry as a JSON object), ``error``, ``retry_count``,
``message_id`` and ``failed_at`` (ISO 8601, UTC). Those of a worker also have ``letter``, the whole story as
JSON: `StreamLetterStore` reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from enricher.adapters.redis.dead_letters.stream_store import StreamLetterStore
from enricher.errors import EnricherError
from enricher.texts import as_bytes, as_text, for_json, from_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM = "email_ingestion_dlq"


class MailLetter(msgspec.Struct, frozen=True):
    """A dead letter; ``id`` is its entry's. ``original_data`` are the mail's fields as they came."""

    id: str
    message_id: str
    original_data: dict[str, str | bytes]
    error: str
    retry_count: int
    failed_at: str


class MailLetters:
    """The dead letters in ``stream`` of the Redis of ``client`` (asyncio).

    letters = MailLetters(client)
    for letter in await letters.peek(10):
        await letters.reprocess(letter.id, "email_ingestion_stream")

    Errors of the client are passed on.
    """

    def __init__(self, client: Redis, stream: str = STREAM) -> None:
        self._store = StreamLetterStore(client, stream)
        self.stream = self._store.key

    async def send(
        self, message_id: str, original_data: Mapping[str, Any], error: BaseException | str, retry_count: int
    ) -> str:
        """Set a mail aside; the id of its dead letter."""
        text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else as_text(error)
        fields: dict[Any, Any] = {
            "original_data": msgspec.json.encode(for_json(original_data)),
            "error": text.encode("utf-8", "backslashreplace"),
            "retry_count": int(retry_count),
            "message_id": as_text(message_id).encode("utf-8", "backslashreplace"),
            "failed_at": datetime.now(UTC).isoformat(),
        }
        return as_text(await self._store.client.xadd(self.stream, fields))

    async def peek(self, count: int = 10) -> list[MailLetter]:
        """The oldest ``count`` dead letters, oldest first."""
        return [_letter(id_, fields) for id_, fields in await self._store.entries("-", "+", count)]

    async def reprocess(self, letter_id: str, target_stream: str) -> str:
        """Move a mail back to ``target_stream``, at once; the id of its new entry.

        Both streams are in one Redis. Raises `EnricherError` if the dead letter is not there, or cannot be
        turned into an entry again: then it stays.
        """
        letter_id = as_text(letter_id)
        entries = await self._store.entries(letter_id, letter_id)
        data = _letter(*entries[0]).original_data if entries else {}
        if entries and not data:
            raise EnricherError(f"dead letter {letter_id} in {self.stream} has no fields to send again")
        fields = {as_bytes(name): as_bytes(value) for name, value in data.items()}
        added = await self._store.move(letter_id, as_text(target_stream), fields) if entries else None
        if added is None:
            raise EnricherError(f"no dead letter {letter_id} in {self.stream}")
        return as_text(added)

    async def discard(self, letter_id: str) -> bool:
        """Remove a dead letter; False if it is not there."""
        return bool(await self._store.client.xdel(self.stream, letter_id))

    async def count(self) -> int:
        """How many there are."""
        return await self._store.count()


def _letter(id_: bytes, fields: Mapping[bytes, bytes]) -> MailLetter:
    texts = {as_text(name): as_text(value) for name, value in fields.items()}
    try:
        data = msgspec.json.decode(texts.get("original_data", ""))
    except msgspec.DecodeError:
        data = None
    number = texts.get("retry_count", "0")
    return MailLetter(
        id=as_text(id_),
        message_id=texts.get("message_id", ""),
        original_data={n: from_json(v) for n, v in data.items()} if isinstance(data, dict) else {},
        error=texts.get("error", ""),
        retry_count=int(number) if number.isdecimal() else 0,
        failed_at=texts.get("failed_at", ""),
    )
