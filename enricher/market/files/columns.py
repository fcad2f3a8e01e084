"""Which column of a table is which: by its name in any spelling, or by what stands in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from enricher.market.files.contract import Column, Notes, OptionNeeded, Options
from enricher.market.files.row import Row
from enricher.market.files.source import Source
from enricher.market.files.times import Times, day_first, is_clock, is_date, is_moment, joined
from enricher.market.files.values import Cell, moment

TIMES = (
    "timestamp", "time", "datetime", "ts", "epoch", "unixtime", "exchangetimestamp", "exchangetime",
    "lasttradetime", "tradetime", "ltt", "date",
)  # fmt: skip
DATES = ("date", "tradedate", "day", "dt")
CLOCKS = ("time", "tradetime", "clock")
PRICES = (
    "price", "ltp", "lasttradedprice", "lastprice", "lasttradeprice", "last", "tradeprice", "tradedprice",
    "close",
)  # fmt: skip
PRODUCTS = ("product", "symbol", "ticker", "tradingsymbol", "instrument", "scrip", "stock")
VOLUMES = (
    "volume", "vol", "ltq", "lasttradedquantity", "lasttradedqty", "lastqty", "lastquantity", "tradedqty",
    "tradedquantity", "qty", "quantity", "size",
)  # fmt: skip
TICK_IDS = ("tickid",)
_NAMES, _SHOWN = 30, 40  # of columns that an error shows, and their letters
_PUNCTUATION = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class TimeColumns:
    """Where the times of a table are: one column, or two that are joined, and how they are read."""

    time: Column
    date: Column | None
    times: Times

    def of(self, row: Row) -> tuple[str, int]:
        """The time of a row as ISO text, and in microseconds since 1970 UTC."""
        clock = row[self.time]
        if self.date is None:
            return moment(clock, self.times)
        day = row[self.date]
        text = joined(str(day.value), str(clock.value))
        place = f"{day.column} and {clock.column.removeprefix('column ')}"
        return moment(Cell(row.path, row.line, place, text), self.times)

    def described(self) -> str:
        """What was found, for a reader of guesses."""
        where = f"column {self.time}" if self.date is None else f"columns {self.date} and {self.time}"
        order = {True: ", day first", False: ", month first", None: ""}[self.times.day_first]
        return f"times in {where}{order}"


def spelling(name: str) -> str:
    """A name by its letters and digits, in lower case."""
    return _PUNCTUATION.sub("", name.casefold())


def spelt(source: Source, names: Iterable[str]) -> str | None:
    """The first of these names that a column has, as written; names are compared by letters and digits."""
    written: dict[str, list[str]] = {}
    for name in source.dialect.header:
        written.setdefault(spelling(name), []).append(name)
    found = next((written[name] for name in names if name in written), [None])
    if len(found) > 1:
        raise OptionNeeded(f"{source.path}: {len(found)} columns are {found[0]}: give the number of one")
    return found[0]


def column_of(source: Source, given: Column | None, names: Iterable[str]) -> Column | None:
    """The column that is given, else the first that has one of these names."""
    return spelt(source, names) if given is None else given


def time_columns(source: Source, options: Options, names: Iterable[str] = TIMES) -> TimeColumns | None:
    """Where the times are: as given, by name, or without a header by what stands there. None: nowhere."""
    time, day = options.time_column, options.date_column
    if not source.dialect.has_header:
        time, day = _shown(source, time, day)
    elif time is None:
        time = spelt(source, names)
    if time is None:
        return None
    if day is None and source.dialect.has_header and options.time_column is None:
        time, day = _paired(source, time)
    column = time if day is None else day
    order = None if options.time_format else day_first(values(source, column))
    return TimeColumns(time, day, Times(options.time_format, options.zone, order))


def values(source: Source, column: Column) -> list[str]:
    """What stands in a column of the first rows, but for empty cells."""
    dialect = source.dialect
    index = dialect.index(column)
    return [] if index is None else [row[index] for row in dialect.rows if index < len(row) and row[index]]


def explain_dialect(source: Source, notes: Notes) -> None:
    """How the table is written, and what is doubtful about it."""
    notes.guess(source.dialect.described())
    if doubt := source.dialect.doubt():
        notes.doubt(f"{source.path}: {doubt}")


def all_are(kind: Callable[[str], bool], cells: list[str]) -> bool:
    """Whether there are cells, and each is of this kind."""
    return bool(cells) and all(map(kind, cells))


def needed(source: Source, what: str, option: str) -> OptionNeeded:
    """What to raise when no column is found."""
    dialect = source.dialect
    names = [name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..." for name in dialect.header[:_NAMES]]
    more = f" and {len(dialect.header) - _NAMES} more" if len(dialect.header) > _NAMES else ""
    known = ", ".join(names) + more if dialect.has_header else f"0 to {dialect.width - 1} (no header)"
    return OptionNeeded(f"{source.path}: which column has the {what}? Give {option}; the columns are {known}")


def _paired(source: Source, time: str | Column) -> tuple[Column, Column | None]:
    """A column of clock times with the one of dates that stands beside it, and the other way round."""
    cells = values(source, time)
    if all_are(is_clock, cells) and not all_are(is_moment, cells):
        day = spelt(source, DATES)
        if day is not None and all_are(is_date, values(source, day)):
            return time, day
        if day is not None and all_are(is_moment, values(source, day)):
            return day, None
    elif all_are(is_date, cells):
        clock = spelt(source, CLOCKS)
        if clock is not None and all_are(is_clock, values(source, clock)):
            return clock, time
    return time, None


def _shown(source: Source, time: Column | None, day: Column | None) -> tuple[Column | None, Column | None]:
    if time is not None or day is not None:
        return time, day
    width = source.dialect.width
    for index in range(width):
        cells = values(source, index)
        if all_are(is_moment, cells):
            return index, None
        if index + 1 < width and all_are(is_date, cells) and all_are(is_clock, values(source, index + 1)):
            return index + 1, index
    return 0, None
