"""From bytes to a JSON object, and what to say when something in it is not as it should be.

Parsing is strict and fast first. Only when that fails does the standard library have a go,
because Python producers write ``NaN`` and ``Infinity``: at top level that is a bad message, in a
leg it is one unknown number.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from enricher.errors import BadMessage
from enricher.storable import check_escapes

LARGEST: Final = 1.7976931348623157e308  # the largest double; beyond it a number is infinite
MAX_DEPTH: Final = 64  # MongoDB refuses 100 levels, orjson 254


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes; every number at its top level is finite, none too deep."""
    raw = object_in(body)
    check_depth(raw, body)
    return raw


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes, however deep it nests; numbers at its top level are finite."""
    try:
        raw = _ANY.decode(body)  # which refuses what is beyond a double
    except (msgspec.DecodeError, UnicodeDecodeError):
        raw = _parse_leniently(body)
        if type(raw) is dict:
            _check_finite(raw)
    except RecursionError as error:
        raise _too_deep() from error
    if type(raw) is not dict:
        raise BadMessage("$", "an object", shown(raw))
    return raw


def check_depth(raw: dict[str, Any], body: bytes) -> None:
    """Raises ``BadMessage`` if the object, which these bytes are, nests beyond `MAX_DEPTH` levels."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _walk_down(raw)


def explained(raw: dict[str, Any], problem: str) -> BadMessage:
    """msgspec's sentence as ours, with the value that stood there."""
    match = _PROBLEM.fullmatch(problem)
    what, path = (match["what"], match["path"] or "$") if match else (problem, "$")
    if missing := _MISSING.fullmatch(what):
        return BadMessage(f"{path}.{missing[1]}", "a value", "nothing")
    value: Any = raw
    for name, index in _STEP.findall(path):
        value = value[int(index)] if index else value[name]
    expected = what
    if kind := _TYPE.fullmatch(what):
        expected = _WORDS.get(kind[1], kind[1])
        if "length" in kind[2]:
            expected = "a text that is not empty"
    elif what.startswith("Invalid enum value"):
        expected = '"CALL" or "PUT"'
    return BadMessage(path, expected, shown(value))


def shown(value: object) -> str:
    """A value as JSON, cut to a length that fits an error message."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


_SHOWN = 60
_NESTING = frozenset((dict, list))
_ANY = msgspec.json.Decoder()
_PROBLEM = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_TYPE = re.compile(r"Expected `([^`]*)`(.*)", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_WORDS = {
    "int | float": "a number",
    "int | float | null": "a number or null",
    "int | str | null": "a whole number, a text or null",
    "str": "a text",
    "array": "a list",
    "array | null": "a list",
    "object": "an object",
}


def _parse_leniently(body: bytes) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadMessage("$", "UTF-8", f"byte {error.start}: {error.reason}") from error
    try:
        raw = json.loads(text)
        # json lets half of a surrogate pair through, which no sink can store as UTF-8.
        check_escapes(body)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise BadMessage("$", "JSON", str(error)) from error
    return raw


def _check_finite(raw: dict[str, Any]) -> None:
    for name, value in raw.items():
        if type(value) is float and not -LARGEST <= value <= LARGEST:
            raise BadMessage(f"$.{name}", "a finite number", shown(value))


def _too_deep() -> BadMessage:
    return BadMessage("$", f"at most {MAX_DEPTH} levels of nesting", "more")


def _walk_down(raw: dict[str, Any]) -> None:
    level: list[Any] = [raw]
    for _ in range(MAX_DEPTH):
        level = [
            value
            for node in level
            for value in (node.values() if type(node) is dict else node)
            if type(value) in _NESTING
        ]
        if not level:
            return
    raise _too_deep()
