"""Types of events: a body is read as one of them, or refused with everything that is wrong, path by path.

A type is a msgspec Struct, a dataclass, or a pydantic model where pydantic is installed. What is wrong has
the shape that clients of FastAPI know: ``{"type": ..., "loc": ["body", "user", "age"], "msg": ...}``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_type_hints

import msgspec

from enricher.errors import BadMessage, ConfigError
from enricher.events.nodes import plain
from enricher.storable import misfit

Detail = dict[str, Any]

_PATH = re.compile(r"\.([^.\[\]`$]+)|\[(\d+|\.\.\.)\]")
_AT = re.compile(r" - at `(.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*?)`")

_MOST_DETAILS = 100
_LONGEST = 300


class InvalidEvent(BadMessage):
    """A body that no type of events takes; ``details`` has up to 100 things that are wrong."""

    def __init__(self, details: Sequence[Detail]) -> None:
        self.details = list(details[:_MOST_DETAILS])
        first = self.details[0]
        path = "$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"][1:])
        super().__init__(path, "an event", first["msg"])


class Checked(msgspec.Struct, frozen=True):
    """An event that was read: its type, itself, and what of it is stored."""

    type: str
    event: Any
    data: Any


class EventTypes:
    """Reads bodies as one of ``schemas`` {name: type}.

    The field ``type_field`` of a body names its type; without it, it is the one type that fits. Text is read
    as a number where a number is wanted, unless ``strict``. Raises `ConfigError` for what is no type of
    events.
    """

    def __init__(
        self, schemas: Mapping[str, type], *, strict: bool = False, type_field: str = "type"
    ) -> None:
        self._readers = {name: _reader(name, schema, strict) for name, schema in schemas.items()}
        self._type_field = type_field

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the types."""
        return tuple(self._readers)

    def read(self, body: bytes) -> Checked:
        """The event in a body. Raises `InvalidEvent`."""
        value = _json(body)
        if not isinstance(value, dict):
            raise InvalidEvent([detail("model_attributes_type", (), "Input should be a JSON object")])
        name = self._named(value)
        if name is not None:
            return self._checked(name, self._readers[name](value))
        found: dict[str, Any] = {}
        wrong: dict[str, InvalidEvent] = {}
        for each, read in self._readers.items():
            try:
                found[each] = read(value)
            except InvalidEvent as error:
                wrong[each] = error
        if len(found) == 1:
            ((only, event),) = found.items()
            return self._checked(only, event)
        if found:
            fitting = " and ".join(found)
            text = f"Input fits {fitting}: name its type in the field {self._type_field!r}"
            raise InvalidEvent([detail("union_tag_not_found", (), text)])
        if len(wrong) == 1:
            raise next(iter(wrong.values()))
        if not wrong:
            raise InvalidEvent([detail("value_error", (), "No type of events is registered here")])
        raise min(wrong.values(), key=_distance)

    def event_of(self, name: str, data: Any) -> Any:
        """An event that was stored, typed again. Raises `InvalidEvent`, LookupError for an unknown type."""
        return self._readers[name](data)

    def _named(self, value: Mapping[str, Any]) -> str | None:
        named = value.get(self._type_field)
        if isinstance(named, str) and named in self._readers:
            return named
        if named is None or len(self._readers) == 1:
            return None
        known = ", ".join(map(repr, self._readers))
        text = f"Input should be {known}"
        raise InvalidEvent([detail("literal_error", (self._type_field,), text)])

    def _checked(self, name: str, event: Any) -> Checked:
        try:
            data = plain(event)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEvent([detail("value_error", (), str(error))]) from error
        wrong = misfit(data)
        if wrong is not None:
            path, expected, found = wrong
            raise InvalidEvent([detail("value_error", _parts(path[1:]), f"Expected {expected}, got {found}")])
        return Checked(name, event, data)


def _distance(error: InvalidEvent) -> tuple[int, int]:
    """How far a body is from a type: the one is meant of which it has most; then, of which less is wrong."""
    return sum(each["type"] == "missing" for each in error.details), len(error.details)


def detail(kind: str, path: Sequence[str | int], text: str) -> Detail:
    """One thing that is wrong; what is long in it is cut, for the answer must not be longer than the body."""
    parts = [part[:_LONGEST] if isinstance(part, str) else part for part in path[:_LONGEST]]
    return {"type": kind, "loc": ["body", *parts], "msg": text[:_LONGEST]}


def _json(body: bytes) -> Any:
    """A body as plain JSON, each key once. Raises `InvalidEvent`."""
    try:
        value = msgspec.json.decode(body)
        # That one takes the last of several: whoever has read the body before us may have taken the first.
        _keys_once(body.decode())
    except _KeyTwice:
        raise InvalidEvent([_key_twice(body)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidEvent([_not_json(body, error)]) from error
    except RecursionError as error:
        raise InvalidEvent([detail("json_invalid", (), "JSON is nested too deeply")]) from error
    return value


class _KeyTwice(Exception):
    """The key ``name`` is in an object twice."""

    def __init__(self, name: str) -> None:
        self.name = name


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise _KeyTwice(names.most_common(1)[0][0])
    return found


# Numbers are not read: one of many digits would take long, or raise.
_keys_once = json.JSONDecoder(object_pairs_hook=_once, parse_int=len, parse_float=len).decode


def _key_twice(body: bytes) -> Detail:
    """Where a key is twice."""

    def marked(pairs: list[tuple[str, Any]]) -> Any:
        try:
            return _once(pairs)
        except _KeyTwice as error:
            return error

    whole = json.loads(body, object_pairs_hook=marked, parse_int=len)
    looked_at: list[tuple[tuple[str | int, ...], Any]] = [((), whole)]
    for path, value in looked_at:
        if isinstance(value, _KeyTwice):
            return detail("json_duplicate_key", (*path, value.name), "Key should be there once")
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        looked_at += [
            ((*path, at), each) for at, each in inside if isinstance(each, dict | list | _KeyTwice)
        ]
    raise AssertionError("no key is twice")


def _not_json(body: bytes, error: Exception) -> Detail:
    try:
        json.loads(body)
    except json.JSONDecodeError as found:
        return {
            "type": "json_invalid",
            "loc": ["body", found.pos],
            "msg": "JSON decode error",
            "ctx": {"error": found.msg},
        }
    except (UnicodeDecodeError, RecursionError, ValueError) as found:
        error = found
    return detail("json_invalid", (), f"JSON in UTF-8 was expected: {error}")


def _reader(name: str, schema: Any, strict: bool) -> Callable[[Any], Any]:
    if hasattr(schema, "model_validate"):
        return _pydantic_reader(schema, strict)
    if isinstance(schema, type) and (issubclass(schema, msgspec.Struct) or dataclasses.is_dataclass(schema)):
        return _msgspec_reader(schema, strict)
    expected = "a msgspec Struct, a dataclass or a pydantic model"
    raise ConfigError(f"events of type {name!r}", "event", schema, expected)


def _pydantic_reader(schema: Any, strict: bool) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            return schema.model_validate(value, strict=strict or None)
        except ValueError as error:
            found: Iterable[Mapping[str, Any]] = getattr(error, "errors", list)()
            details = [detail(e["type"], e["loc"], e["msg"]) for e in found]
            raise InvalidEvent(details or [detail("value_error", (), str(error))]) from error

    return read


def _msgspec_reader(schema: Any, strict: bool) -> Callable[[Any], Any]:
    fields = _fields(schema)

    def read(value: Any) -> Any:
        try:
            return msgspec.convert(value, schema, strict=strict)
        except msgspec.ValidationError as error:
            raise InvalidEvent(_every(value, str(error))) from error

    def _every(value: Any, text: str) -> list[Detail]:
        """msgspec stops at the first mistake: the fields are tried one by one."""
        found: list[Detail] = []
        for name, (kind, required) in fields.items():
            if name not in value:
                if required:
                    found.append(detail("missing", (name,), "Field required"))
                continue
            try:
                msgspec.convert(value[name], kind, strict=strict)
            except msgspec.ValidationError as error:
                found.append(_detail(str(error), (name,)))
        return found or [_detail(text, ())]

    return read


def _fields(schema: Any) -> dict[str, tuple[Any, bool]]:
    """The type of each field, and whether it must be there."""
    if issubclass(schema, msgspec.Struct):
        return {each.encode_name: (each.type, each.required) for each in msgspec.structs.fields(schema)}
    hints = get_type_hints(schema, include_extras=True)
    missing = dataclasses.MISSING
    return {
        each.name: (hints[each.name], each.default is missing and each.default_factory is missing)
        for each in dataclasses.fields(schema)
        if each.init
    }


def _parts(path: str) -> list[str | int]:
    """The parts of a path such as ``.user.ages[2]``."""
    return [name or (int(at) if at.isdigit() else at) for name, at in _PATH.findall(path)]


def _detail(text: str, before: Sequence[str | int]) -> Detail:
    """What msgspec says, as FastAPI would."""
    at = _AT.search(text)
    path = [*before, *_parts(at[1] if at else "")]
    said = _AT.sub("", text)
    missing = _MISSING.search(said)
    if missing:
        return detail("missing", [*path, missing[1]], "Field required")
    kind = "type_error" if said.startswith("Expected `") else "value_error"
    return detail(kind, path, said)
