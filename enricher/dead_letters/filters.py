"""Which dead letters are meant: by error, topic, stage, time and field."""

from __future__ import annotations

import re
from datetime import UTC
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from enricher.clock import from_text
from enricher.config import PositiveSeconds
from enricher.config.values import WrongValueError, read
from enricher.dead_letters.edits import parse_assignment
from enricher.dead_letters.record import StoredLetter
from enricher.texts import as_text

ABSENT = object()


class FieldFilter(msgspec.Struct, frozen=True):
    """What a field must be: ``path`` leads to it, and ``value`` is its text or a glob pattern.

    The path (``product``, ``calls.0.strike``) leads into the message, and if there is no such field there,
    into the letter (``error_type``, ``task_name``). Numbers are compared as numbers: 1 is 1.0.
    """

    path: str
    value: str

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "path", as_text(self.path))
        msgspec.structs.force_setattr(self, "value", as_text(self.value))

    def matches(self, letter: StoredLetter) -> bool:
        value = value_at(letter.message, self.path)
        if value is ABSENT:
            value = value_at(letter.record, self.path)
        if value is ABSENT:
            return False
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                if float(self.value) == value:
                    return True
            except ValueError:
                pass
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return fnmatchcase(text, self.value)


def value_at(value: Any, path: str) -> Any:
    """What ``path`` leads to in plain values; ABSENT where it leads nowhere."""
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return ABSENT
    return value


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a dead letter must be like; whatever is left at its default lets everything through.

    ``error`` is a part of the error's text in any case, ``pattern`` a regular expression searched in it,
    ``topic`` a name or glob pattern, ``stage`` the exact stage, ``fields`` fields that must all match.
    ``since_us`` and ``until_us`` (microseconds since 1970 UTC, both inclusive) bound the time of the last
    attempt; a letter without a readable time is outside of every bound.
    """

    error: str = ""
    pattern: str = ""
    topic: str = ""
    stage: str = ""
    since_us: int | None = None
    until_us: int | None = None
    fields: tuple[FieldFilter, ...] = ()

    def __post_init__(self) -> None:
        for name in ("error", "pattern", "topic", "stage"):
            msgspec.structs.force_setattr(self, name, as_text(getattr(self, name)))

    def matches(self, letter: StoredLetter) -> bool:
        if self.error and self.error.casefold() not in letter.error.casefold():
            return False
        if self.pattern and not re.search(self.pattern, letter.error):
            return False
        if self.topic and not fnmatchcase(letter.topic or "", self.topic):
            return False
        if self.stage and letter.stage != self.stage:
            return False
        return self._in_time(letter) and all(field.matches(letter) for field in self.fields)

    def _in_time(self, letter: StoredLetter) -> bool:
        if self.since_us is None and self.until_us is None:
            return True
        at_us = letter.at_us
        if at_us is None:
            return False
        return (self.since_us is None or at_us >= self.since_us) and (
            self.until_us is None or at_us <= self.until_us
        )


EVERY = LetterFilter()


def parse_moment(text: str, now_us: int, *, local: bool = False) -> int:
    """Microseconds since 1970 UTC of ISO 8601 text, or of ``2h``: so long ago.

    Without an offset the text is UTC, or with ``local`` the time of this machine's zone. Raises ValueError,
    which says what would be right.
    """
    try:
        when = from_text(text)
    except ValueError:
        try:
            ago: float = read(text, PositiveSeconds, is_text=True)
        except WrongValueError:
            example = "2025-10-14T09:15:00 (local)" if local else "2025-10-14T09:15:00Z"
            right = f"a time such as {example}, or a while ago such as 90s, 2h, 1d"
            raise ValueError(f"expected {right}, got {text!r}") from None
        return now_us - int(ago * 1e6)
    if when.tzinfo is None and not local:
        when = when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1e6)


def parse_field(text: str) -> FieldFilter:
    """The filter of ``product=NIFTY``. Raises ValueError, which says what would be right."""
    return FieldFilter(*parse_assignment(text, such_as="product=NIFTY"))
