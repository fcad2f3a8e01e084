"""How a table in a text file is written: its delimiter, whether it has a header, its numbers' marks."""

from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import dataclass

from enricher.market.files.numbers import Marks, is_number, marks_of
from enricher.market.files.times import is_time

_DELIMITERS = (";", "\t", "|", ",")
_ROWS = 100  # of the head, that a guess is made from
_COLUMNS = 100
_GROUPED = re.compile(r"[1-9]\d{0,2}\.\d{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dialect:
    """``header`` are the names of the columns as written (empty without a header), ``names`` in lower case.

    ``rows`` are the first rows below the header, their cells stripped. ``preamble`` says that the first line
    is Excel's ``sep=;``.
    """

    delimiter: str
    header: tuple[str, ...]
    names: tuple[str, ...]
    has_header: bool
    marks: Marks
    rows: tuple[tuple[str, ...], ...]
    preamble: bool = False

    def index(self, column: int | str) -> int | None:
        """The place of a column, from 0; None where there is none."""
        if isinstance(column, int):
            return column if 0 <= column < self.width else None
        name = column.casefold()
        return self.names.index(name) if name in self.names else None

    def described(self) -> str:
        """What was found, for a reader of guesses."""
        delimiter = {"\t": "tab", " ": "blank"}.get(self.delimiter, repr(self.delimiter))
        header = "a header" if self.has_header else "no header"
        sure = "" if self.marks.sure else " (nothing tells another)"
        return f"delimiter {delimiter}, {header}, decimal mark {self.marks.decimal!r}{sure}"

    def doubt(self) -> str | None:
        """What may be wrong: a point that may group thousands, where commas may be decimal marks."""
        if self.marks.sure or self.delimiter != ";":
            return None
        found = next((cell for row in self.rows for cell in row if _GROUPED.fullmatch(cell)), None)
        return found and f"{found} is read as {self.marks.number(found)} (--decimal , if its point groups)"

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.header) if self.has_header else max(map(len, self.rows[:1]), default=0)


def sniffed(head: str, *, delimiter: str | None, decimal: str | None, header: bool | None) -> Dialect:
    """The dialect of a table by the beginning of its text, but for what is given.

    The delimiter is the one by which most cells below the first row are numbers, times or empty.
    """
    first = head[:16].lstrip().split("\n", 1)[0].rstrip("\r")
    preamble = len(first) == len("sep=;") and first.lower().startswith("sep=")
    if preamble:
        head = head.lstrip().split("\n", 1)[-1]
        delimiter = delimiter or first[-1]
    tables = [(mark, _table(head, mark)) for mark in (_DELIMITERS if delimiter is None else (delimiter,))]
    mark, rows = max(tables, key=lambda one: _told(one[1]))
    named = bool(rows) and not any(map(_is_value, rows[0][:_COLUMNS])) if header is None else header
    names = rows[0] if named and rows else ()
    below = tuple(rows[1:] if named else rows)
    cells = itertools.chain.from_iterable(row[:_COLUMNS] for row in below)
    marks = marks_of(cells) if decimal is None else Marks(decimal)
    lower = tuple(name.casefold() for name in names)
    return Dialect(mark, names, lower, named, marks, below, preamble)


def _table(head: str, delimiter: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if any(map(str.strip, row)):
                rows.append(tuple(cell.strip() for cell in row))
            if len(rows) > _ROWS:
                break
    except csv.Error:
        pass  # reading the file says what and where
    return rows


def _told(rows: list[tuple[str, ...]]) -> tuple[float, int]:
    """How well a table reads with its delimiter: the share of its cells that are values, and its width."""
    below = [row[:_COLUMNS] for row in rows[1:] or rows]
    cells = sum(map(len, below))
    width = max(map(len, rows), default=0)
    if width < 2:
        return 0.0, 0
    return sum(not cell or _is_value(cell) for row in below for cell in row) / cells, width


def _is_value(cell: str) -> bool:
    return is_number(cell) or is_time(cell)
