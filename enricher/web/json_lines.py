"""JSON as lines to be read, with one place marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

_MOST_LINES = 2_000
_LONGEST = 2_000


class Line(msgspec.Struct, frozen=True):
    """A line with its ``depth``; ``marked`` where it is the place, or leads into it."""

    depth: int
    text: str
    marked: bool = False


def lines(value: Any, path: str = "") -> list[Line]:
    """The lines of a plain value; ``path`` (``$.calls[0].strike``) says which are marked.

    Where the path goes further than the value, for a field is missing, the last part that is there is marked.
    """
    steps = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path)
    wanted = [name or int(number) for name, number in steps]
    found: list[Line] = []
    for line in _lines(value, "", "", 0, wanted if path else None):
        found.append(line)
        if len(found) == _MOST_LINES:
            found.append(Line(0, "..."))
            break
    return found


def _lines(value: Any, name: str, end: str, depth: int, wanted: list[Any] | None) -> Iterator[Line]:
    """``wanted`` is the way from here to the marked place, None where that is elsewhere."""
    keys: list[Any]
    if isinstance(value, dict):
        keys, brackets = list(value), "{}"
    elif isinstance(value, list):
        keys, brackets = list(range(len(value))), "[]"
    else:
        keys, brackets = [], ""
    # Here, or what is to be marked is not there.
    here = wanted is not None and (not wanted or wanted[0] not in keys)
    if not keys:
        text = brackets or msgspec.json.encode(value, enc_hook=str).decode()
        yield Line(depth, f"{name}{text[:_LONGEST]}{end}", here)
        return
    yield Line(depth, f"{name}{brackets[0]}", here)
    for number, key in enumerate(keys):
        label = f"{msgspec.json.encode(key).decode()}: " if isinstance(value, dict) else ""
        way = wanted[1:] if wanted and wanted[0] == key else None
        comma = "," if number < len(keys) - 1 else ""
        yield from _lines(value[key], label, comma, depth + 1, way)
    yield Line(depth, f"{brackets[1]}{end}", here)
