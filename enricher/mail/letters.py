"""The mail route's dead letters: entries of a stream that people and other programs read.

An entry has ``original_data`` (the fields of the mail's entry as a JSON object; see `entries`), ``error``,
``retry_count``, ``message_id`` and ``failed_at`` (ISO 8601, UTC). Those of the worker also have ``letter``,
the whole story as JSON: stage, type of error, traceback, attempts.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

from enricher.engine.effects import DeadLetter
from enricher.errors import BadMessage, EnricherError
from enricher.mail.entries import identity_of
from enricher.texts import as_text, for_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM = "email_ingestion_dlq"
_Entries = list[tuple[bytes | str, dict[Any, Any]]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# KEYS: dead letters, stream. ARGV: id, fields of the entry. Replies the new entry's id; nothing if the dead
# letter is no longer there.
REPROCESS = """
redis.call('XDEL', KEYS[1], '0-0')  -- removes nothing: whoever may not remove it must not send it, either
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return false end
local sent = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], ARGV[1])
return sent
"""


def letter_fields(letter: DeadLetter) -> dict[bytes, bytes]:
    """What the entry of a dead letter has beside ``letter``."""
    try:
        message_id = identity_of(letter.body) or ""
    except (msgspec.DecodeError, UnicodeDecodeError, BadMessage, RecursionError):
        message_id = ""
    failed_at = (_EPOCH + timedelta(microseconds=letter.last_us)).isoformat()
    return {
        b"original_data": letter.body,
        b"error": f"{letter.error_type}: {letter.error}".encode("utf-8", "backslashreplace"),
        b"retry_count": b"%d" % max(letter.attempts - 1, 0),
        b"message_id": message_id.encode("utf-8", "backslashreplace"),
        b"failed_at": failed_at.encode(),
    }


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
        self.stream = as_text(stream)
        self._client = client
        self._reprocess = client.register_script(REPROCESS)

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
        return as_text(await self._client.xadd(self.stream, fields))

    async def peek(self, count: int = 10) -> list[MailLetter]:
        """The oldest ``count`` dead letters, oldest first."""
        return await self._range("-", "+", count)

    async def reprocess(self, letter_id: str, target_stream: str) -> str:
        """Move a mail back to ``target_stream``, at once; the id of its new entry.

        Both streams are in one Redis. Raises `EnricherError` if the dead letter is not there, or cannot be
        turned into an entry again: then it stays.
        """
        letter_id, target_stream = as_text(letter_id), as_text(target_stream)
        found = await self._range(letter_id, letter_id, 1)
        if not found:
            raise EnricherError(f"no dead letter {letter_id} in {self.stream}")
        letter = found[0]
        if not letter.original_data:
            raise EnricherError(f"dead letter {letter_id} in {self.stream} has no fields to send again")
        fields = [part for name, value in letter.original_data.items() for part in (name, value)]
        added = await self._reprocess(keys=[self.stream, target_stream], args=[letter_id, *fields])
        if not added:
            raise EnricherError(f"no dead letter {letter_id} in {self.stream}")
        return as_text(added)

    async def discard(self, letter_id: str) -> bool:
        """Remove a dead letter; False if it is not there."""
        return bool(await self._client.xdel(self.stream, letter_id))

    async def count(self) -> int:
        """How many there are."""
        return int(await self._client.xlen(self.stream))

    async def _range(self, first: str, last: str, count: int) -> list[MailLetter]:
        entries = await self._client.xrange(self.stream, first, last, count)
        return [_letter(id_, fields) for id_, fields in cast("_Entries", entries)]


def _letter(id_: bytes | str, fields: Mapping[Any, Any]) -> MailLetter:
    texts = {as_text(name): as_text(value) for name, value in fields.items()}
    try:
        data = msgspec.json.decode(texts.get("original_data", ""))
    except msgspec.DecodeError:
        data = None
    number = texts.get("retry_count", "0")
    return MailLetter(
        id=as_text(id_),
        message_id=texts.get("message_id", ""),
        original_data={n: _sent(v) for n, v in data.items()} if isinstance(data, dict) else {},
        error=texts.get("error", ""),
        retry_count=int(number) if number.isdecimal() else 0,
        failed_at=texts.get("failed_at", ""),
    )


def _sent(value: Any) -> str | bytes:
    """A value of the JSON object as it stood in the entry."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and list(value) == ["base64"]:
        try:
            return b64decode(cast("str", value["base64"]), validate=True)
        except (Base64Error, ValueError, TypeError):
            pass
    return msgspec.json.encode(value)
