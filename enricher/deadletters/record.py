"""What a dead letter looks like in JSON: five fields that old scripts read, and the whole story.

    task_id, task_name, error, args, timestamp    as ever; `args` is a one-element list with the
                                                  message, or its text if it is not JSON
    topic, key, stage, error_type, path, traceback, attempts, first_at, last_at
    body or body_base64                           the original bytes, base64 if they are not UTF-8
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from enricher.engine.effects import DeadLetter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    """The original bytes of a stored dead letter; of an old worker's, its first argument as JSON."""
    if isinstance(text := record.get("body"), str):
        return text.encode("utf-8")
    if isinstance(text := record.get("body_base64"), str):
        return base64.b64decode(text)
    arguments = record.get("args") or [None]
    if not isinstance(arguments, list):
        raise ValueError("args is not a list")  # noqa: TRY004  as any other unreadable entry
    first = arguments[0]
    return first.encode("utf-8") if isinstance(first, str) else msgspec.json.encode(first)


def iso(us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat()
