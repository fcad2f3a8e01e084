"""A message taken apart: its headers, and the parts that hold no others, decoded.

One pass over the bytes, whatever is in them: lines that begin with two hyphens are looked at in order, and
compared with the boundaries of the multiparts that are open there. Nothing is refused: ``defects`` names what
is wrong, and what is in no part is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from enricher.mail import defects as wrong
from enricher.mail.charsets import plain
from enricher.mail.defects import Defects
from enricher.mail.headers import Fields, Header, blank_line, first_field, read_header, without_marks
from enricher.mail.parameters import split
from enricher.mail.transfer import AS_THEY_ARE, decoded

# After the end of a line, for which it can be searched quickly: no part begins with the first byte.
_DASHES = re.compile(rb"\n--([^\n]*)")
_MULTIPART = re.compile(r'(multipart/[\w-]+);\s+boundary="([!#-\[\]-~]+)"', re.ASCII)
_AFTER_ENCODING = re.compile("[;,(]")
_SPACE = re.compile(r"\s+")
DEEPEST = 50
_MOST_PARTS = 1000
_LONGEST_TYPE = 10_000
_SHORT = 60
_ABOUT = ("content-type", "content-transfer-encoding", "content-disposition", "content-id")
_LONGEST_BOUNDARY = 1000


class Part(msgspec.Struct, frozen=True):
    """A part that holds no others: its fields, its type (``kind``) with parameters, its bytes, decoded.

    ``about`` has what fields say of it, by their names in lower case, as it stands in the first of each.
    """

    headers: Fields
    about: dict[str, str]
    kind: str
    parameters: dict[str, str]
    data: bytes
    defects: tuple[str, ...] = ()


class Apart(msgspec.Struct, frozen=True):
    """A message: its headers, its parts (where there are more, the first thousand and one), and what is wrong
    with its header and with those that hold others."""

    headers: Fields
    parts: Sequence[Part]
    defects: tuple[str, ...] = ()


def take_apart(raw: bytes) -> Apart:
    """The message in ``raw``."""
    return _Walk(raw).read()


class _Level(NamedTuple):
    """A multipart that is open: its boundary, the type of its parts that name none."""

    boundary: bytes
    kind: str


class _Separator(NamedTuple):
    """A line that separates parts of the ``level``, or closes it."""

    level: int
    closes: bool
    start: int
    end: int


class _Walk:
    """Goes through a message once."""

    def __init__(self, raw: bytes) -> None:
        self._raw, odd = without_marks(raw)
        self._start, more = first_field(self._raw)
        self._defects: Defects = dict.fromkeys((*odd, *more))
        self._lines = _DASHES.finditer(self._raw)
        self._line: re.Match[bytes] | None = None
        self._ended = False
        self._levels: list[_Level] = []
        self._named: dict[bytes, int] = {}
        self._next: _Separator | None = None
        self._parts: list[Part] = []

    def read(self) -> Apart:
        headers = self._entity(self._header(self._start), "text/plain", self._start)
        while (at := self._next_part()) is not None and len(self._parts) <= _MOST_PARTS:
            self._entity(self._header(at), self._levels[-1].kind, at)
        return Apart(headers, self._parts, tuple(self._defects))

    # -- one part --------------------------------------------------------------------------------------

    def _header(self, at: int) -> Header:
        """The header that begins at ``at``: no line of an open boundary belongs to it."""
        raw = self._raw
        if raw.startswith((b"\n", b"\r\n"), at):
            return Header([], at + (1 if raw[at] == 10 else 2))
        start = at
        while True:
            separator = self._dashes(start) if self._levels else None
            stop = len(raw) if separator is None else separator.start() + 1
            blank = blank_line(raw, max(start - 1, at), stop)
            if blank is not None:
                return read_header(raw, at, *blank, stop)
            if separator is None or self._separates(separator) is not None:
                return read_header(raw, at, stop, stop, stop)
            start = separator.end() + 1

    def _entity(self, header: Header, kind: str, at: int) -> Fields:
        """Open a multipart, or take in a part that holds no others."""
        fields, body, odd = header
        about: dict[str, str] = {}
        for name, value in fields:
            if name[:1] in "Cc" and (low := name.lower()) in _ABOUT and low not in about:
                about[low] = value
        defects: Defects = dict.fromkeys(odd)
        kind, parameters = _content_type(about.get("content-type"), kind, defects)
        encoding = about.get("content-transfer-encoding", "").lower()
        if encoding not in AS_THEY_ARE and encoding not in ("quoted-printable", "base64"):
            encoding = _AFTER_ENCODING.split(plain(encoding), maxsplit=1)[0].strip(" \t\"'")
        if kind.startswith("multipart/"):
            if self._opened(kind, parameters, encoding, body, defects):
                self._defects.update(defects)
                return fields
            kind = "text/plain"  # its boundary never came: what there is, is text
        separator = self._next = self._separator(body)
        end = len(self._raw)
        if separator is not None:
            end = self._without_last_break(body, separator.start)  # that one belongs to the boundary
        if separator is None or separator.start > at:
            data = decoded(self._raw[body:end], encoding, defects)
            self._parts.append(Part(fields, about, kind, parameters, data, tuple(defects)))
        return fields

    def _opened(
        self, kind: str, parameters: dict[str, str], encoding: str, body: int, defects: Defects
    ) -> bool:
        boundary = _SPACE.sub(" ", parameters.get("boundary", "")).rstrip()
        if not boundary or len(boundary) > _LONGEST_BOUNDARY:
            defects[wrong.NO_BOUNDARY] = defects[wrong.NO_PARTS] = None
            return False
        if len(self._levels) == DEEPEST:
            defects[wrong.TOO_MANY_LEVELS] = None
            return False
        if encoding not in AS_THEY_ARE:
            defects[wrong.ENCODED_MULTIPART] = None
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        level = len(self._levels)
        self._levels.append(_Level(boundary.encode(), default))
        self._named[boundary.encode()] = level
        first = self._next = self._separator(body)
        if first is not None and first.level == level and not first.closes:
            return True
        self._close(level)
        if first is not None and first.level == level:
            self._dashes(first.end)
        defects[wrong.NO_START] = defects[wrong.NO_PARTS] = None
        return False

    def _without_last_break(self, start: int, end: int) -> int:
        if end > start and self._raw[end - 1] == 10:
            end -= 1
            while end > start and self._raw[end - 1] == 13:
                end -= 1
        return end

    # -- lines that separate ---------------------------------------------------------------------------

    def _next_part(self) -> int | None:
        """Where the next part begins; None where there is none. Levels that end before it are closed."""
        while self._levels:
            separator = self._next
            if separator is None:
                self._defects[wrong.NO_CLOSE] = None
                return None
            level, closes, _, end = separator
            if len(self._levels) > level + 1:
                self._defects[wrong.NO_CLOSE] = None
                self._close(level + 1)
            if not closes:
                return end
            self._close(level)
            self._next = self._separator(end)
        return None

    def _separator(self, start: int) -> _Separator | None:
        """The first line from ``start`` on that belongs to an open boundary."""
        if not self._levels:
            return None
        while (line := self._dashes(start)) is not None:
            found = self._separates(line)
            if found is not None:
                return found
            start = line.end() + 1
        return None

    def _separates(self, line: re.Match[bytes]) -> _Separator | None:
        key = line[1].rstrip(b" \t\r")
        if b"\t" in key:
            key = key.replace(b"\t", b" ")
        level, closes = self._named.get(key), False
        if level is None and key.endswith(b"--"):
            level, closes = self._named.get(key[:-2]), True
        return None if level is None else _Separator(level, closes, line.start() + 1, line.end() + 1)

    def _dashes(self, start: int) -> re.Match[bytes] | None:
        """The first line from ``start`` on that begins with two hyphens; never one again that is passed."""
        while not self._ended and (self._line is None or self._line.start() + 1 < start):
            self._line = next(self._lines, None)
            self._ended = self._line is None
        return self._line

    def _close(self, level: int) -> None:
        """Close the levels from this one on."""
        del self._levels[level:]
        self._named = {one.boundary: n for n, one in enumerate(self._levels)}


def _content_type(value: str | None, default: str, defects: Defects) -> tuple[str, dict[str, str]]:
    if value is None:
        return default, {}
    multipart = _MULTIPART.fullmatch(value)
    if multipart is not None:
        return multipart[1].lower(), {"boundary": multipart[2]}
    if len(value) > _SHORT:
        kind, parameters, odd = _read_type(value[: _LONGEST_TYPE + 1])
    else:
        kind, parameters, odd = _known_type(value)
    if odd:
        defects.update(dict.fromkeys(odd))
    return kind or default, parameters


def _read_type(value: str) -> tuple[str, dict[str, str], tuple[str, ...]]:
    defects: Defects = {}
    kind, parameters = split(plain(value, defects), defects)
    if kind and kind.count("/") != 1:
        kind = "multipart/mixed" if kind == "multipart" else "text/plain"
    return kind, parameters, tuple(defects)


# A mailbox sees few types that name no boundary, and each a thousand times.
_known_type = lru_cache(256)(_read_type)
