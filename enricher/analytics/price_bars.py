"""Bars of open, high, low and close from ticks, by the time of each tick and not by the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

import msgspec

from enricher.analytics.arguments import (
    AMOUNT,
    POSITIVE,
    minute_of_day,
    moment_us,
    number,
    number_or_none,
    whole_number,
    zone_of,
)
from enricher.analytics.bar_boundaries import Opening, bar_edges
from enricher.analytics.sub_bars import Cell, RunningBar
from enricher.clock import to_date

_DAY = 1440


class Bar(msgspec.Struct, frozen=True):
    """The ticks from ``start`` up to but not including ``end`` (aware, UTC).

    ``volume`` sums the sizes, ``vwap`` is the mean price by size; None without a size.
    """

    start: datetime
    end: datetime
    open: float
    high: float
    low: float
    close: float
    ticks: int
    volume: float | None
    vwap: float | None


def ohlc(
    ticks: Iterable[Sequence[Any]], minutes: int, *, zone: str = "UTC", session_open: str | None = None
) -> list[Bar]:
    """The bars of these ticks, ascending in time; a bar without a tick is left out.

    A tick is (time, price) or (time, price, size), in any order; of one moment the later in the list is the
    later tick. Times are datetimes or ISO 8601 texts; without an offset they are read in ``zone``. Bars are
    ``minutes`` long (1 to 1440) and begin on whole multiples since 1970 UTC; those of 60 minutes and more
    begin at ``session_open`` (HH:MM in ``zone``), if it is given.

    >>> bars = ohlc([("2025-10-14T09:15:00", 100.0, 5), ("2025-10-14T09:15:40", 101.5, 5)], minutes=1)
    >>> bars[0].open, bars[0].high, bars[0].close, bars[0].volume, bars[0].vwap
    (100.0, 101.5, 101.5, 10, 100.75)
    """
    minutes = whole_number("minutes", minutes, 1, _DAY)
    where = zone_of("zone", zone)
    session = None
    if session_open is not None:
        session = Opening(where, minute_of_day("session_open", session_open) % _DAY * 60)
    cells: dict[int, tuple[int, Cell]] = {}
    for order, tick in enumerate(ticks):
        us, price, size = _read(tick, where)
        start, end = bar_edges(us, minutes, session)
        if start not in cells:
            cells[start] = end, Cell(0, start)
        cell = cells[start][1]
        cell.add(us, price, order)
        if size is not None:
            cell.trade(price, size)
    return [_bar(start, end, cell) for start, (end, cell) in sorted(cells.items(), key=lambda item: item[0])]


def _read(tick: Sequence[Any], zone: tzinfo) -> tuple[int, float, float | None]:
    if not hasattr(tick, "__getitem__") or isinstance(tick, Mapping) or not 2 <= len(tick) <= 3:
        raise ValueError(f"a tick is {tick!r}: expected (time, price) or (time, price, size)")
    size = number_or_none("size", tick[2], AMOUNT) if len(tick) == 3 else None
    return moment_us("time", tick[0], zone), number("price", tick[1], POSITIVE), size


def _bar(start: int, end: int, cell: Cell) -> Bar:
    running = RunningBar(end)
    running.cells.append(cell)
    content = running.content()
    return Bar(
        to_date(start), to_date(end), content.open, content.high, content.low, content.close,
        content.num_ticks, content.volume, content.vwap,
    )  # fmt: skip
