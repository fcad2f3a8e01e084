"""A message put right before it is tried again: fields set and fields taken out.

    >>> Edit(set=(("price", "21500.5"), ("product", "NIFTY")), drop=("note",)).apply(
    ...     b'{"product": "nifty", "price": "?", "note": 1, "tick_id": 7}')
    b'{"product":"NIFTY","price":21500.5,"tick_id":7}'
"""

from __future__ import annotations

from typing import Any

import msgspec

from enricher.texts import as_text

_Level = dict[str, msgspec.Raw] | list[msgspec.Raw]


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to the JSON of a message, in order: fields to ``set``, then fields to ``drop``.

    With ``message`` that text takes the place of the whole message first.
    A path leads through objects and lists (``calls.0.strike``). A value is JSON (``21500.5``, ``null``,
    ``"text"``), and text that is no JSON stands for itself. What is not touched keeps its bytes, so numbers
    of any size survive. The letter keeps the message as it came.
    """

    set: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    message: str | None = None

    def __post_init__(self) -> None:
        changes = tuple((as_text(path), as_text(value)) for path, value in self.set)
        msgspec.structs.force_setattr(self, "set", changes)
        msgspec.structs.force_setattr(self, "drop", tuple(map(as_text, self.drop)))

    def apply(self, body: bytes) -> bytes:
        """The message with the changes made.

        Raises ValueError where it is not JSON, or has no place for a field.
        """
        if self.message is not None:
            body = self.message.encode()
        for path, value in self.set:
            body = _changed(body, path.split("."), _json(value), path)
        for path in self.drop:
            body = _changed(body, path.split("."), None, path)
        return body

    def __bool__(self) -> bool:
        return bool(self.set or self.drop or self.message is not None)


NO_EDIT = Edit()


def parse_assignment(text: str, such_as: str = "price=21500.5") -> tuple[str, str]:
    """Path and value of ``price=21500.5``. Raises ValueError, which says what would be right."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ValueError(f"expected FIELD=VALUE, such as {such_as}, got {text!r}")
    return path, value


def _json(text: str) -> bytes:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.json.encode(text)
    return text.encode("utf-8")


def _changed(body: bytes, steps: list[str], value: bytes | None, path: str) -> bytes:
    """The JSON with the value that the steps lead to set, or taken out where ``value`` is None."""
    try:
        level: Any = msgspec.json.decode(body, type=_Level)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"cannot change {path!r}: not in an object or list of JSON ({error})") from None
    step, rest = steps[0], steps[1:]
    place: Any = step
    if isinstance(level, list):
        if not step.isdecimal() or int(step) >= len(level):
            raise ValueError(f"cannot change {path!r}: a list of {len(level)} has no item {step!r}")
        place = int(step)
    if rest:
        if isinstance(level, dict) and step not in level:
            raise ValueError(f"cannot change {path!r}: the message has no {step!r}")
        level[place] = msgspec.Raw(_changed(bytes(level[place]), rest, value, path))
    elif value is not None:
        level[place] = msgspec.Raw(value)
    elif isinstance(level, list) or step in level:
        del level[place]
    return msgspec.json.encode(level)
