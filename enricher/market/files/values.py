"""Single values of a file, each knowing where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enricher.market.feed.recording import BadRecord
from enricher.market.files.numbers import PLAIN, Marks
from enricher.market.files.times import Times, date_of
from enricher.messages.json_decoding import LARGEST

ABSENT = frozenset({"", "-", "--", "NA", "N/A", "NAN", "NULL", "NONE", "NIL"})
"""What stands for no value in a table, in upper case."""

_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "text"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and its place: the file, the line (None in a JSON document), the column or JSON path."""

    path: Path
    line: int | None
    column: str
    value: Any

    @property
    def absent(self) -> bool:
        """Whether there is no value: null, NaN, or a text that stands for none."""
        value = self.value
        return value is None or value != value or (isinstance(value, str) and value.upper() in ABSENT)

    def at(self, name: str, value: Any) -> Cell:
        """The member ``name`` of a JSON object, with its value."""
        return Cell(self.path, self.line, f"{self.column}.{name}", value)

    def member(self, name: str, kind: type = object) -> Cell:
        """The member ``name`` of the JSON object that this is; BadRecord where it is none of ``kind``."""
        if not isinstance(self.value, dict):
            raise self.error("an object")
        if name not in self.value:
            raise self.at(name, None).error("a value")
        found = self.at(name, self.value[name])
        if not isinstance(found.value, kind):
            raise found.error(_KINDS[kind])
        return found

    def items(self) -> list[Cell]:
        """The items of the JSON list that this is."""
        if not isinstance(self.value, list):
            raise self.error("a list")
        places = (f"{self.column}[{index}]" for index in range(len(self.value)))
        return [Cell(self.path, self.line, *one) for one in zip(places, self.value, strict=True)]

    def error(self, expected: str) -> BadRecord:
        """What to raise when the value is not what was expected."""
        return BadRecord(self.path, self.line, self.column, expected, self.value)


def number(cell: Cell, marks: Marks = PLAIN) -> int | float:
    """The finite number of a cell, read by ``marks`` where it is text; a whole one stays an integer."""
    value = cell.value
    if isinstance(value, str):
        try:
            value = marks.number(value)
        except ValueError as error:
            raise cell.error(str(error)) from error
    # Compared, for a whole number beyond doubles cannot be asked whether it is finite.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        raise cell.error("a number")
    return value


def amount(
    cell: Cell | None, marks: Marks = PLAIN, *, zero: bool = True, percent: bool = False
) -> int | float | None:
    """A number that may be absent, as None. So may be a 0 where ``zero`` is none (a price that there is not).

    A ``percent`` becomes a decimal: 19.42 is 0.1942.
    """
    if cell is None or cell.absent:
        return None
    value = number(cell, marks)
    if value == 0 and not zero:
        return None
    # Rounded to what a percentage of six decimals can say: 19.42 / 100 is not quite 0.1942.
    return round(value / 100.0, 8) if percent else value


def integer_or_text(cell: Cell) -> int | str:
    """A cell's digits as a number, anything else as it stands."""
    text = str(cell.value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else text


def iso_date(cell: Cell, day_first: bool | None = None) -> str:
    """A date like 31-Mar-2022 as 2022-03-31."""
    try:
        return date_of(str(cell.value), day_first)
    except ValueError as error:
        raise cell.error(_words(error, "a date like 31-Mar-2022 or 2022-03-31")) from error


def moment(cell: Cell, times: Times) -> tuple[str, int]:
    """A time as ISO text, and in microseconds since 1970 UTC. An offset of its own is kept."""
    try:
        return times.read(str(cell.value))
    except ValueError as error:
        raise cell.error(_words(error, "a time that a calendar has")) from error


def _words(error: ValueError, otherwise: str) -> str:
    """Our own words; those of `datetime` speak of arguments."""
    text = str(error)
    return text if text.startswith(("a ", "an ")) else otherwise
