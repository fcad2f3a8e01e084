"""Single values of a file, each knowing where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from enricher.clock import event_us
from enricher.market.feed.recording import BadRecord

# Written out, since strptime's %b follows the locale of whoever runs it.
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and its place: the file, the line (None in JSON), the column or JSON path."""

    path: Path
    line: int | None
    column: str
    value: Any

    def at(self, name: str, value: Any) -> Cell:
        """The member ``name`` of a JSON object."""
        return Cell(self.path, self.line, f"{self.column}.{name}", value)

    def error(self, expected: str) -> BadRecord:
        """What to raise when the value is not what was expected."""
        return BadRecord(self.path, self.line, self.column, expected, self.value)


def number(cell: Cell) -> float:
    """The finite number of a cell; a whole one stays an integer."""
    value = cell.value
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError as error:
                raise cell.error("a number") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise cell.error("a number")
    return value


def integer_or_text(cell: Cell) -> int | str:
    """A cell's digits as a number, anything else as it stands."""
    text = str(cell.value)
    return int(text) if text.isascii() and text.isdigit() else text


def exchange_date(cell: Cell) -> str:
    """A date like 31-Mar-2022 as 2022-03-31."""
    return _exchange_datetime(cell, "a date like 31-Mar-2022", str(cell.value)).date().isoformat()


def exchange_moment(cell: Cell, zone: tzinfo | None) -> tuple[str, int]:
    """A local time like 28-Mar-2022 10:47:19 as ISO text, and in microseconds since 1970 UTC."""
    expected = "a time like 28-Mar-2022 10:47:19"
    day, _, clock = str(cell.value).partition(" ")
    local = _exchange_datetime(cell, expected, day, clock or "-")
    return _rendered(local, zone)


def moment(cell: Cell, pattern: str | None, zone: tzinfo | None) -> tuple[str, int]:
    """A time as ISO text, and in microseconds since 1970 UTC.

    Read by ``pattern`` (``strptime``), else as ISO 8601. An offset of its own is kept.
    """
    text = str(cell.value)
    try:
        if pattern is None:
            event_us(text)  # refuses a mere date
            local = datetime.fromisoformat(text)
        else:
            local = datetime.strptime(text, pattern)  # noqa: DTZ007 - _rendered adds the zone
    except ValueError as error:
        raise cell.error(f"a time ({pattern or 'ISO 8601'})") from error
    return _rendered(local, zone)


def _rendered(local: datetime, zone: tzinfo | None) -> tuple[str, int]:
    if zone is not None and local.tzinfo is None:
        local = local.replace(tzinfo=zone)
    text = local.isoformat()
    return text, event_us(text)[0]


def _exchange_datetime(cell: Cell, expected: str, day: str, clock: str = "") -> datetime:
    try:
        number_of_day, month, year = day.split("-")
        iso = f"{year}-{_MONTHS.index(month.lower()) + 1:02}-{int(number_of_day):02}"
        return datetime.fromisoformat(f"{iso}T{clock}" if clock else iso)
    except ValueError as error:
        raise cell.error(expected) from error
