"""What can be stored of plain values, and where something is that cannot.

MongoDB takes text in UTF-8, whole numbers of 64 bits and names of fields without NUL. JSON escapes can spell
half of a surrogate pair, which is no text; what a program makes may be anything. Looked into only where
something is known to be wrong, or may be: it costs a step for every value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from enricher.errors import BadMessage

MAX_DEPTH = 100
_INT64 = 2**63
_KNOWN = (bytes, float, type(None), datetime)
_HALF = "half of a surrogate pair"
_SHOWN = 60


class Misfit(NamedTuple):
    """``path`` of a value that cannot be stored, what was ``expected`` there and what was ``found``."""

    path: str
    expected: str
    found: str


def misfit(value: Any, path: str = "$", *, texts_only: bool = False, depth: int = 0) -> Misfit | None:
    """The first thing in ``value`` that cannot be stored, None if there is none.

    With ``texts_only`` nothing but texts and names is looked at.
    """
    if isinstance(value, str):
        return None if is_text(value) else Misfit(path, "text", _HALF)
    if isinstance(value, (Mapping, list, tuple)):
        if depth == MAX_DEPTH:
            return Misfit("$", f"at most {MAX_DEPTH} levels of nesting", "more")
        if not isinstance(value, Mapping):
            inside = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
        else:
            inside = []
            for name, each in value.items():
                if not isinstance(name, str):
                    return Misfit(path, "names that are text", repr(name)[:_SHOWN])
                shown = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
                inside.append((f"{path}.{shown}", each))
                if "\0" in name or not is_text(name):
                    return Misfit(inside[-1][0], "a name that is text without NUL", "another")
        for at, each in inside:
            found = misfit(each, at, texts_only=texts_only, depth=depth + 1)
            if found is not None:
                return found
    elif texts_only:
        return None
    elif isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            return Misfit(path, "a whole number of 64 bits", f"one of {value.bit_length()} bits")
    elif not isinstance(value, _KNOWN) and not type(value).__module__.startswith(("bson", "uuid", "re")):
        return Misfit(path, "a value that MongoDB knows", type(value).__name__)
    return None


def check_storable(value: Any, path: str = "$", *, texts_only: bool = False) -> None:
    """Raises `BadMessage` with the path of what cannot be stored; see `misfit`."""
    found = misfit(value, path, texts_only=texts_only)
    if found is not None:
        raise BadMessage(*found)


def check_escapes(body: bytes) -> None:
    """Raises `BadMessage` with the path of what escapes in JSON spell that is no text.

    Strict parsers refuse it too, but say at which byte.
    """
    if b"\\u" not in body:
        return
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    check_storable(value, texts_only=True)


def is_text(value: str) -> bool:
    """Whether it can be written down: half a surrogate pair cannot."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
