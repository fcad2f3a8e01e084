"""What a dead letter looks like in JSON: five fields that old scripts read, and the whole story.

    task_id, task_name, error, args, timestamp    as ever; `args` is a one-element list with the
                                                  message, or its text if it is not JSON
    topic, key, stage, error_type, path, traceback, attempts, first_at, last_at
    body or body_base64                           the original bytes, base64 if they are not UTF-8

Entries of others are read as far as they go: those of the old worker have the first five fields, those of
an old intake of mails `original_data`, `error`, `retry_count` and `failed_at`.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from enricher.clock import to_date
from enricher.engine.effects import DeadLetter


class StoredLetter(msgspec.Struct, frozen=True):
    """A stored entry: its ``position`` (0 is the newest), its exact bytes, and what they say.

    ``record`` is empty where the entry is not a JSON object. ``topic`` is None where neither the entry nor
    the name of its task tells it. ``id`` is the store's own name for the entry; a list has none.
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
    def error_type(self) -> str:
        """The kind of error; empty in an entry of an old worker."""
        return self._text("error_type")

    @property
    def stage(self) -> str:
        """Where it went wrong; empty in an entry of an old worker."""
        return self._text("stage")

    @property
    def attempts(self) -> int:
        """How often the message was tried, at least once."""
        attempts = self.record.get("attempts")
        if isinstance(attempts, int) and attempts > 0:
            return attempts
        retries = self._text("retry_count")
        return int(retries) + 1 if retries.isdecimal() and len(retries) < 10 else 1

    @property
    def at_us(self) -> int | None:
        """When it was tried last (microseconds since 1970 UTC); None if the entry does not tell."""
        return _us(self._text("timestamp") or self._text("failed_at"))

    @property
    def first_us(self) -> int | None:
        """When it was tried first; None if the entry does not tell."""
        return _us(self._text("first_at"))

    @property
    def body(self) -> bytes:
        """The message as it came (from an old worker: as JSON says it again). Raises ValueError."""
        return body_of(self.record)

    @property
    def message(self) -> Any:
        """The message as plain values; its text where it is not JSON, None where there is none."""
        arguments = self.record.get("args")
        if isinstance(arguments, list) and arguments:
            return arguments[0]
        try:
            return msgspec.json.decode(self.body)
        except (ValueError, RecursionError):
            return None

    def _text(self, field: str) -> str:
        value = self.record.get(field)
        return "" if value is None else str(value)


def _us(text: str) -> int | None:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1e6)


def encode(letter: DeadLetter) -> bytes:
    """The JSON object that is stored."""
    record: dict[str, Any] = {
        "task_id": letter.task_id,
        "task_name": letter.task_name,
        "error": _text(letter.error),
        "args": [_argument(letter.body)],
        "timestamp": iso(letter.last_us),
        "topic": _text(letter.topic),
        "key": None if letter.key is None else _text(letter.key),
        "stage": letter.stage,
        "error_type": letter.error_type,
        "path": None if letter.path is None else _text(letter.path),
        "traceback": _text(letter.traceback),
        "attempts": letter.attempts,
        "first_at": iso(letter.first_us),
        "last_at": iso(letter.last_us),
    }
    try:
        record["body"] = letter.body.decode("utf-8")
    except UnicodeDecodeError:
        record["body_base64"] = base64.b64encode(letter.body).decode("ascii")
    return msgspec.json.encode(record)


def _text(value: str) -> str:
    """The text with half surrogate pairs (of file names, of the operating system's errors) written out."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _argument(body: bytes) -> msgspec.Raw | str:
    # Valid JSON is passed on byte for byte, so numbers of any size survive.
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
    return msgspec.Raw(body)


def body_of(record: dict[str, Any]) -> bytes:
    """The original bytes of a stored dead letter; of an old worker's, its first argument as JSON.

    Raises ValueError where the entry holds no message.
    """
    if isinstance(text := record.get("body"), str):
        return text.encode("utf-8")
    if isinstance(text := record.get("body_base64"), str):
        return base64.b64decode(text)
    if isinstance(text := record.get("original_data"), str):
        return text.encode("utf-8")
    arguments = record.get("args") or [None]
    if not isinstance(arguments, list):
        raise ValueError("args is not a list")  # noqa: TRY004  as any other unreadable entry
    first = arguments[0]
    return first.encode("utf-8") if isinstance(first, str) else msgspec.json.encode(first)


def iso(us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    return to_date(us).isoformat()
