"""The header of a message or a part: its fields, and where the body begins.

One state machine over the lines of the header decides it, in one pass. A line is a field, the rest of the
field before it (a fold), the end of the header, or nothing of the kind. A line that is nothing does not end
the header where fields that mail programs write follow: it is kept, under an empty name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from enricher.mail.defects import (
    BYTE_ORDER_MARK,
    ENVELOPE_LINE,
    FIRST_LINE_FOLDED,
    INVALID_HEADER,
    LEADING_BLANK_LINES,
    LINE_ENDS,
    NO_SEPARATOR,
    OBSOLETE_HEADER,
)

Fields = list[tuple[str, str]]
"""Names and values in order: values with their folds, bytes above 127 as surrogates."""

# What nearly all fields are: RFC 5322 3.6.8, without blanks before the colon. A line that is none is taken
# whole: otherwise a field would be looked for from each of its characters.
_PLAIN = re.compile(r"([!-9;-~]++):[ \t]*+([^\r\n]*+(?:\r?\n[ \t][^\r\n]*+)*)\r?\n|[^\n]*+\n")
_NO_FIELD = ("", "")
_SHORT = 100_000  # characters at a time: other threads get their turn in between
MOST_FIELDS = 1000
# No name is longer: a line may have many millions of characters.
_ANY = re.compile(r"([^\x00-\x20\x7f:]{1,10000}+)([ \t]*):[ \t]*(.*)", re.DOTALL)
# What no sentence begins with: names with a hyphen, and the usual ones without.
_USUAL = re.compile(
    r"(?:[A-Z][A-Z0-9]{0,70}(?:-[A-Z0-9]{1,70}){1,20}|from|to|cc|bcc|subject|date|sender|received|comments|keywords|lines"
    r"|status|priority|importance|sensitivity|organi[sz]ation|precedence|newsgroups|path|xref)[ \t]*:",
    re.IGNORECASE,
)
_ENVELOPE = ("From ", ">From ")
# Letters of two bytes, without a mark before them.
_WIDE = re.compile(rb"((?:[!-~]\0){4})|(?:\0[!-~]){4}")
# Marks of the byte order, blanks and characters without width, as names have them that were copied.
_UNSEEN = re.compile("[\ufeff\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u2069\u3000]+")
_BLANK_LINES = re.compile(rb"(?:[ \t]*\r?\n)+")
_BLANK_LINE = re.compile(rb"\n\r*\n")
_LONE_CR = re.compile(r"\r(?!\r*\n)([!-9;-~]+[ \t]*:)?")


class Header(NamedTuple):
    """``fields`` in order, where in the bytes the ``body`` begins, and what is wrong."""

    fields: Fields
    body: int
    defects: tuple[str, ...] = ()


def without_marks(raw: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The message with line ends that end lines, without a mark before its first field, and what was odd."""
    defects: list[str] = []
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raw = raw.decode("utf-16", "replace").encode()
        defects.append(BYTE_ORDER_MARK)
    elif b"\0" in raw[:4] and (wide := _WIDE.match(raw)) is not None:
        raw = raw.decode("utf-16-le" if wide[1] else "utf-16-be", "replace").encode()
        defects.append(BYTE_ORDER_MARK)
    elif raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
        defects.append(BYTE_ORDER_MARK)
    end = raw.find(b"\n")
    cr = raw.find(b"\r", 0, None if end < 0 else end)
    if 0 <= cr != end - 1:
        defects.append(LINE_ENDS)
        if end > 0 and not raw[cr:end].strip(b"\r"):
            raw = raw.replace(b"\r\r\r\n", b"\r\n").replace(b"\r\r\n", b"\r\n")
        else:  # the first line ends with a CR alone, and so do the others
            raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return raw, tuple(defects)


def first_field(raw: bytes) -> tuple[int, tuple[str, ...]]:
    """Where a message begins: after an mbox's ``From`` line, and after blank lines that fields follow."""
    start = 0
    defects: tuple[str, ...] = ()
    blank = _BLANK_LINES.match(raw, 0, _SHORT)
    if blank is not None and _USUAL.match(raw[blank.end() : blank.end() + 80].decode("latin-1")):
        start, defects = blank.end(), (LEADING_BLANK_LINES,)
    if raw.startswith((b"From ", b">From "), start):
        start = raw.find(b"\n", start) + 1 or len(raw)
    return start, defects


def header_of(raw: bytes) -> bytes:
    """The header of a message as it stands there, down to its blank line."""
    raw, _ = without_marks(raw)
    start, _ = first_field(raw)
    if raw.startswith((b"\n", b"\r\n"), start):
        return b""
    blank = blank_line(raw, start, len(raw))
    return raw[start : None if blank is None else blank[0]]


def blank_line(raw: bytes, start: int, stop: int) -> tuple[int, int] | None:
    """Where a header that begins at ``start`` ends, and its body begins; None without a blank line."""
    found = _BLANK_LINE.search(raw, start, stop)
    return None if found is None else (found.start() + 1, found.end())


def read_header(raw: bytes, start: int, end: int, body: int, stop: int) -> Header:
    """The header between ``start`` and ``end``; the ``body`` begins there, unless it began before.

    A header without a blank line after it has ``end == body``. At ``stop`` the body may be over.
    """
    block = raw[start:end].decode("ascii", "surrogateescape")
    if len(block) <= _SHORT and (not block or block[-1] == "\n"):
        fields: Fields = _PLAIN.findall(block)
        if _NO_FIELD not in fields:
            return Header(fields, body)
    more = body > end and bool(raw[body : min(stop, body + 1000)].strip())
    return _Odd(block, more).read(start, body)


class _Odd:
    """Reads a header line by line, where something in it is no plain field."""

    def __init__(self, block: str, more: bool) -> None:
        self._block, self._at = block, 0
        self._names: list[str] = []
        self._values: list[list[str]] = []
        self._more = more  # there is a blank line, and a body after it
        self._defects: dict[str, None] = {}
        self._last: int | None = None

    def read(self, start: int, body: int) -> Header:
        """The whole header; ``start`` is where the block stands in the message."""
        block = self._block
        if "\r" in block and _LONE_CR.search(block):
            # As long as it was: positions in it are positions in the message.
            block = self._block = _LONE_CR.sub(lambda m: f"\n{m[1]}" if m[1] else " ", block)
            self._defects[LINE_ENDS] = None
        # One more than anybody looks at.
        while self._at < len(block) and len(self._names) <= MOST_FIELDS:
            end = block.find("\n", self._at) + 1 or len(block)
            line = block[self._at : end].rstrip("\r\n")
            if not self._take(line, end):
                self._defects[NO_SEPARATOR] = None
                body = start + self._at
                break
            self._at = end
        fields = [(name, "\n".join(lines)) for name, lines in zip(self._names, self._values, strict=True)]
        return Header(fields, body, tuple(self._defects))

    def _take(self, line: str, end: int) -> bool:
        """Read a line on; False where it is the body's first."""
        if line[:1] in (" ", "\t"):
            if self._values:
                self._values[-1].append(line)
                return True
            self._defects[FIRST_LINE_FOLDED] = None
            line = line.lstrip(" \t")
            if not line:
                return True
        field = _ANY.match(line)
        if field is not None:
            name, blanks, value = field.groups()
            if blanks:
                self._defects[OBSOLETE_HEADER] = None
            if not name.isascii():
                self._defects[INVALID_HEADER] = None
                seen = _UNSEEN.sub("", name.encode("utf-8", "surrogateescape").decode("utf-8", "ignore"))
                name = seen if seen.isascii() and seen else name
            self._names.append(name)
            self._values.append([value])
            return True
        if line.startswith(_ENVELOPE):
            self._defects[ENVELOPE_LINE] = None
        elif self._body_begins(end):
            return False
        else:
            self._defects[INVALID_HEADER] = None
        self._names.append("")
        self._values.append([line])
        return True

    def _body_begins(self, end: int) -> bool:
        """Whether a line that is no field belongs to the body: if no usual field follows it in the block,
        unless it is the only one before the blank line, and there is a body after that."""
        if self._last is None:
            self._last = self._last_usual()
        if self._at < self._last:
            return False
        return not (self._more and self._names and not self._block[end : end + 1000].strip())

    def _last_usual(self) -> int:
        """Where the last usual field begins among the lines that anybody looks at; -1 if there is none."""
        at, last = self._at, -1
        for _ in range(2 * MOST_FIELDS):
            if _USUAL.match(self._block, at):
                last = at
            at = self._block.find("\n", at) + 1
            if not at:
                break
        return last
