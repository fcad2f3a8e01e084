"""Where bars begin and end: on whole multiples of their length, or counted from the opening of a market."""

from __future__ import annotations

from datetime import date, datetime, time, tzinfo
from functools import lru_cache
from typing import Final

import msgspec

from enricher.clock import MINUTE, SECOND, to_date

_HOUR: Final = 60  # minutes: bars from this length on count from the opening
_DAY: Final = 1440


class Opening(msgspec.Struct, frozen=True):
    """Where long bars start counting: at a time of day in ``zone``, in seconds from 00:00 on its clocks."""

    zone: tzinfo
    open_seconds: int

    def opening(self, day: int) -> int:
        """The moment of the opening on a day (its ordinal), in microseconds since 1970 UTC."""
        return _opening(self.zone, self.open_seconds, day)

    def around(self, moment_us: int) -> tuple[int, int]:
        """The last opening up to a moment, and the first one after it."""
        day = to_date(moment_us).astimezone(self.zone).toordinal()
        while self.opening(day) > moment_us:
            day -= 1
        # A zone may leave out a day, and the openings of two days are one moment then.
        following = day + 1
        while self.opening(following) <= moment_us:
            following += 1
        return self.opening(day), self.opening(following)


def bar_edges(event_us: int, minutes: int, session: Opening | None = None) -> tuple[int, int]:
    """The first moment of the bar that an event time falls into, and the first one after it, in microseconds.

    Whole multiples of the length since 1970 UTC. Bars of 60 minutes and more count from the opening before
    instead, if a session is given: the last before the next opening is cut short by it where the length
    does not divide the day, and a bar of 1440 minutes lasts from one opening to the next, which is an hour
    less or more where clocks are changed.
    """
    width = minutes * MINUTE
    if session is None or minutes < _HOUR:
        start = event_us - event_us % width
        return start, start + width
    opened, following = session.around(event_us)
    if minutes == _DAY:
        return opened, following
    start = event_us - (event_us - opened) % width
    return start, min(start + width, following)


def bar_start(event_us: int, minutes: int, session: Opening | None = None) -> int:
    """The start of the bar that an event time falls into, see `bar_edges`."""
    return bar_edges(event_us, minutes, session)[0]


@lru_cache(maxsize=1024)
def _opening(zone: tzinfo, open_seconds: int, day: int) -> int:
    minutes, seconds = divmod(open_seconds, 60)
    clock = time(minutes // 60, minutes % 60, seconds)
    return round(datetime.combine(date.fromordinal(day), clock, zone).timestamp()) * SECOND
