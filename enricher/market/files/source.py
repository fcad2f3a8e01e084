"""A file to be recognised and read: unpacked, decoded, and looked at as JSON or as a table."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import orjson

from enricher.errors import EnricherError
from enricher.market.feed.packed import name_inside, open_packed, unreadable
from enricher.market.feed.recording import BadRecord
from enricher.market.files.dialect import Dialect, sniffed
from enricher.market.files.row import Row
from enricher.market.files.values import Cell

_HEAD = 1 << 18  # bytes that are looked at to recognise a file
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Source:
    """One file. What recognising asks for is worked out once: the head, the JSON document, the dialect.

    ``path`` names it in messages, ``name`` is that of the data (of the file in a zip file). ``encoding``,
    ``delimiter``, ``decimal`` and ``header`` are what is known beforehand, None where it is to be found out.
    ``skip`` is called with the reason for each row that is left out, ``doubt`` with what may be wrong.
    """

    def __init__(
        self,
        path: Path,
        *,
        encoding: str | None = None,
        delimiter: str | None = None,
        decimal: str | None = None,
        header: bool | None = None,
    ) -> None:
        self.path = path
        self._delimiter, self._decimal, self._header = delimiter, decimal, header
        self._encoding = encoding
        self._line: int | None = None
        self.skip: Callable[[str], None] = _unheard
        self.doubt: Callable[[str], None] = _unheard

    @cached_property
    def name(self) -> str:
        return name_inside(self.path)

    @cached_property
    def _head(self) -> bytes:
        pieces: list[bytes] = []
        try:
            with open_packed(self.path) as file:
                while sum(map(len, pieces)) < _HEAD and (piece := file.read1(_HEAD)):  # type: ignore[attr-defined]
                    pieces.append(piece)
        except EOFError:
            pass  # what there is before the cut is looked at; reading says where it ends
        except unreadable() as error:
            raise EnricherError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from error
        return b"".join(pieces)

    @cached_property
    def encoding(self) -> str:
        """As given, else by the byte order mark, else by where Latin text has its zero bytes, else UTF-8."""
        if self._encoding is not None:
            return self._encoding
        marked = next((name for bom, name in _BOMS if self._head.startswith(bom)), None)
        if marked is not None:
            return marked
        even, odd = self._head[0:200:2].count(0), self._head[1:200:2].count(0)
        if max(even, odd) * 4 > min(len(self._head), 200):
            return "utf-16-le" if odd > even else "utf-16-be"
        return "utf-8"

    @cached_property
    def head(self) -> str:
        """The beginning of the text, at most 256 kB of it; raises BadRecord where it is none."""
        try:
            return codecs.getincrementaldecoder(self.encoding)().decode(self._head)
        except UnicodeDecodeError as error:
            line = self._head.count(b"\n", 0, error.start) + 1
            self._undecodable(line, error)

    @cached_property
    def first_line(self) -> str:
        """The first line of the head that is not blank, stripped; empty where there is none."""
        return next((line.strip() for line in self.head.splitlines() if line.strip()), "")

    @cached_property
    def is_json(self) -> bool:
        """Whether it begins as a JSON object or list."""
        return self.first_line.startswith(("{", "["))

    @cached_property
    def is_json_lines(self) -> bool:
        """Whether its first line is one whole JSON value, and others follow."""
        lines = [line for line in self.head.splitlines() if line.strip()][:2]
        return self.is_json and len(lines) > 1 and _parses(lines[0])

    @cached_property
    def _document(self) -> tuple[Any, BadRecord | None]:
        try:
            with open_packed(self.path) as file:
                data = file.read()
        except EOFError:
            return None, BadRecord(self.path, None, "file", "its end", "a compressed stream that is cut off")
        except unreadable() as error:
            raise EnricherError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from error
        try:
            text = data if self.encoding == "utf-8" else data.decode(self.encoding).encode()
            return loads(text), None
        except orjson.JSONDecodeError as error:
            return None, BadRecord(self.path, error.lineno, f"column {error.colno}", "JSON", error.msg)
        except UnicodeDecodeError as error:
            return None, BadRecord(self.path, None, "text", f"text in {self.encoding}", str(error))

    @property
    def document(self) -> Any:
        """The JSON object or list that the file is as a whole; None where it is no JSON, or JSON Lines."""
        return self._document[0] if self.is_json and not self.is_json_lines else None

    def root(self) -> Cell:
        """The same as a cell; raises BadRecord saying what is wrong with the JSON."""
        value, problem = self._document
        if problem is not None:
            raise problem
        return Cell(self.path, self._line, "$", value)

    def documents(self) -> Iterator[Source]:
        """The file as one JSON document, or each line of JSON Lines as one."""
        if not self.is_json_lines:
            yield self
            return
        for cell in self.objects():
            line = copy(self)
            line._line, line._document, line.is_json_lines = cell.line, (cell.value, None), False
            yield line

    @cached_property
    def sample(self) -> dict[str, Any]:
        """The first JSON object of JSON Lines, or of a document that is a list, or the document itself.

        Empty where there is none.
        """
        found: Any = None
        if self.is_json_lines:
            found = loads(self.first_line)
        elif self.is_json:
            found = self.document
        if isinstance(found, list):
            found = next(iter(found), None)
        return found if isinstance(found, dict) else {}

    def objects(self) -> Iterator[Cell]:
        """The JSON values of the file: one a line of JSON Lines, the items of a list, else the document."""
        return (cell for cell, _ in self.texts())

    def texts(self) -> Iterator[tuple[Cell, bytes]]:
        """The same, each with its JSON: as it stands in its line, else written anew."""
        if not self.is_json_lines:
            root = self.root()
            for cell in root.items() if isinstance(root.value, list) else (root,):
                yield cell, json.dumps(cell.value, ensure_ascii=False, separators=(",", ":")).encode()
            return
        for number, line in self.lines():
            if not line.strip():
                continue
            try:
                yield Cell(self.path, number, "$", loads(line)), line.strip().encode()
            except orjson.JSONDecodeError as error:
                raise BadRecord(self.path, number, f"column {error.colno}", "JSON", error.msg) from error

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines of the text by number from 1, without their ends; BadRecord where it is cut off."""
        number = 0
        try:
            with open_packed(self.path) as file, io.TextIOWrapper(file, self.encoding) as text:
                for number, line in enumerate(text, 1):
                    yield number, line.rstrip("\n")
        except EOFError as error:
            self._cut_off(number, error)
        except UnicodeDecodeError as error:
            self._undecodable(number + 1, error)
        except unreadable() as error:
            raise BadRecord(self.path, number + 1, "line", "what can be unpacked", str(error)) from error

    @cached_property
    def dialect(self) -> Dialect:
        """How its table is written, by its first rows and what is known beforehand."""
        return sniffed(self.head, delimiter=self._delimiter, decimal=self._decimal, header=self._header)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of its table in lower case; empty without a header, and for JSON."""
        return () if self.is_json else self.dialect.names

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """The rows of its table by line, header and all, every cell stripped; blank lines are left out."""
        number = 0
        try:
            with open_packed(self.path) as file, io.TextIOWrapper(file, self.encoding, newline="") as text:
                lines = _Lines(text)
                reader = csv.reader(lines, delimiter=self.dialect.delimiter, strict=True)
                if self.dialect.preamble:
                    next(reader, None)
                for row in reader:
                    number = reader.line_num
                    if row:
                        yield number, [cell.strip() for cell in row]
                if not lines.last.endswith(("\n", "\r")):
                    self.doubt(f"{self.path}: line {number} has no end: was its last value cut off, too?")
        except EOFError as error:
            self._cut_off(number, error)
        except UnicodeDecodeError as error:
            self._undecodable(number + 1, error)
        except csv.Error as error:
            raise BadRecord(self.path, number + 1, "row", "CSV", str(error)) from error
        except unreadable() as error:
            raise BadRecord(self.path, number + 1, "row", "what can be unpacked", str(error)) from error

    def rows(self) -> Iterator[Row]:
        """The rows of its table below the header, each as long as it; raises BadRecord for another."""
        rows = self.cells()
        dialect = self.dialect
        width = 0
        header = list(dialect.header)
        for line, cells in rows:
            if not width:
                width = len(cells)
                if dialect.has_header:
                    continue
            if not any(cells):
                self.skip("a row without any value")
                continue
            if cells == header:
                self.skip("a header between rows")
                continue
            while len(cells) > width and not cells[-1]:
                cells.pop()
            if len(cells) != width:
                other = "the header" if dialect.has_header else "the first row"
                expected = f"{width} cells, as {other} has"
                raise BadRecord(self.path, line, "row", expected, f"{len(cells)}: {cells}")
            yield Row(self.path, line, dialect, cells)

    def _cut_off(self, number: int, error: EOFError) -> NoReturn:
        found = f"a compressed stream that is cut off ({error})"
        raise BadRecord(self.path, number + 1, "line", "the end of the file", found) from error

    def _undecodable(self, line: int, error: UnicodeDecodeError) -> NoReturn:
        expected = f"text in {self.encoding} (--encoding)"
        raise BadRecord(self.path, line, "row", expected, str(error)) from error


class _Lines:
    """The lines of a text, and the ``last`` of those that were asked for."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self.last = "\n"

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.last = line
            yield line


def loads(text: str | bytes) -> Any:
    """The value of a JSON text, with the NaN and Infinity of Python if need be; raises JSONDecodeError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            value = json.loads(text)
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
            return value  # noqa: TRY300  with two reasons to raise what was said first
        except (ValueError, RecursionError):
            raise error from None


def _unheard(text: str) -> None:
    """Where nobody wants to know."""


def _parses(text: str) -> bool:
    try:
        loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
