"""Times as files write them, told apart by what stands in their first rows.

Without a format given, a time is one of:

- a date and a clock time: ``2026-08-13T09:15:00.5+05:30``, ``20260813 091500``, ``2026.08.13 09:15``,
  ``13-Aug-2026 9:15:00 AM``, and with the day or the month first where a number above 12 tells which;
- seconds, milliseconds, microseconds or nanoseconds since 1970 UTC, of 10, 13, 16 or 19 digits.

What may be two moments (day or month first, a year of two digits) needs a format. A time that no trade of a
file can have, before 1971 or after 2199, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from enricher.clock import event_us, since_1970

EPOCHS: Final = {"epoch": 0, "epoch-ms": 3, "epoch-us": 6, "epoch-ns": 9}
"""Formats of times since 1970 by name, and how many digits they have after those of the seconds."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL_MONTHS = re.compile(
    r"jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?",
    re.IGNORECASE,
)
_DATE = (
    r"(?:(?P<y>\d{4})(?P<s>[-/.])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})"
    r"|(?P<ymd>\d{8})"
    r"|(?P<first>\d{1,2})(?P<t>[-/.])(?P<second>\d{1,2})(?P=t)(?P<year>\d{4})"
    r"|(?P<day>\d{1,2})[- /]?(?P<month>[A-Za-z]{3,9})[- /,]{0,2}(?P<of>\d{4})"
    r"|(?P<named>[A-Za-z]{3,9}) (?P<at>\d{1,2}),? (?P<in>\d{4}))"
)
_CLOCK = (
    r"(?:(?P<h>\d{1,2}):(?P<min>\d\d)(?::(?P<sec>\d\d)(?:[.,:](?P<frac>\d{1,9}))?)?"
    r"|(?P<hms>\d{6})(?:[.,](?P<rest>\d{1,9})|(?P<part>\d{3}|\d{6}))?)"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_ZONE = r"(?: ?(?P<zone>Z|z|UTC|GMT|[+-]\d\d:?\d\d(?::?\d\d)?|[+-]\d\d))?"
_MOMENT = re.compile(rf"{_DATE}(?:T|t|_|[ ,]{{1,2}}){_CLOCK}{_ZONE}", re.ASCII)
_COMPACT = re.compile(r"(\d{8})(\d{6}(?:\d{3})?)", re.ASCII)
_ONLY_DATE = re.compile(_DATE, re.ASCII)
_ONLY_CLOCK = re.compile(_CLOCK, re.ASCII)
_EPOCH = re.compile(r"[1-9]\d{9}(?:\d{3}|\d{6}|\d{9})?(?:\.\d*)?", re.ASCII)
_DIGITS = re.compile(r"-?\d{1,20}(?:\.\d*)?", re.ASCII)
_ROUNDED = re.compile(r"\d(?:[.,]\d+)?[eE]\+?\d+", re.ASCII)
_SERIAL = re.compile(r"[1-9]\d{4}\.\d+", re.ASCII)
_SHORT_CLOCK = re.compile(r"\d{5}|\d{8}", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 1971, 2199


@dataclass(frozen=True, slots=True)
class Times:
    """How the times of a file are read: by a ``pattern`` (`strptime`, or of `EPOCHS`), else as they show.

    ``day_first`` says which of two numbers is the day where both may be, None where nothing tells.
    """

    pattern: str | None = None
    zone: tzinfo | None = None
    day_first: bool | None = None

    def read(self, text: str) -> tuple[str, int]:
        """A time as ISO 8601 text, and in microseconds since 1970 UTC; ValueError says what is right.

        A text without an offset stays without one, unless there is a ``zone``. Moments since 1970 are UTC,
        and shown in the ``zone``.
        """
        if self.pattern in EPOCHS:
            moment = _since_1970(text, EPOCHS[self.pattern], self.zone)
        elif self.pattern is not None:
            moment = self._by_pattern(text)
        elif _EPOCH.fullmatch(text):
            moment = _since_1970(text, len(text.partition(".")[0]) - 10, self.zone)
        else:
            moment = self._shown(text)
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            way = self.pattern or "its look"
            raise ValueError(f"a time from {_FIRST_YEAR} to {_LAST_YEAR}; by {way} it is {moment}")
        if moment.tzinfo is None and self.zone is not None:
            moment = moment.replace(tzinfo=self.zone)
        shown = moment.isoformat()
        return shown, event_us(shown)[0]

    def _by_pattern(self, text: str) -> datetime:
        pattern = self.pattern or ""
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007 - `read` adds the zone
        except ValueError as error:
            raise ValueError(f"a time ({pattern})") from error

    def _shown(self, text: str) -> datetime:
        if text[4:5] == "-" and text[10:11] in ("T", " "):
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                pass  # written in another way, or wrong: told below
        found = _MOMENT.fullmatch(text)
        if found is None and (compact := _COMPACT.fullmatch(text)):
            found = _MOMENT.fullmatch(f"{compact[1]} {compact[2]}")
        if found is None:
            raise ValueError(_why_not(text))
        try:
            return _moment(found, self.day_first)
        except OverflowError:
            raise ValueError("a time that a calendar has") from None


def is_time(text: str) -> bool:
    """Whether a text is a time, a date or a clock time."""
    return is_moment(text) or any(known.fullmatch(text) for known in (_ONLY_DATE, _ONLY_CLOCK))


def is_moment(text: str) -> bool:
    """Whether a text is a date and a clock time, or a count since 1970."""
    return any(known.fullmatch(text) for known in (_MOMENT, _EPOCH, _COMPACT))


def is_date(text: str) -> bool:
    """Whether a text is a date without a clock time."""
    return _ONLY_DATE.fullmatch(text) is not None


def is_clock(text: str) -> bool:
    """Whether a text is a clock time without a date."""
    return _ONLY_CLOCK.fullmatch(text) is not None or _SHORT_CLOCK.fullmatch(text) is not None


def joined(day: str, clock: str) -> str:
    """A date and a clock time as one text; a clock time of digits gets back the zero that it lost (91500)."""
    return f"{day} {clock.zfill(len(clock) + 1) if _SHORT_CLOCK.fullmatch(clock) else clock}"


def order_in(pattern: str | None) -> bool | None:
    """Whether a `strptime` pattern has the day before the month; None where it has not both."""
    at = [-1 if pattern is None else pattern.find(part) for part in ("%d", "%m")]
    return None if -1 in at else at[0] < at[1]


def day_first(texts: Iterable[str]) -> bool | None:
    """Whether dates like 13/08/2026 have the day first, by those with a number above 12; None if none has."""
    told: set[bool] = set()
    for text in texts:
        found = _ONLY_DATE.match(text)
        if found is not None and found["first"] is not None:
            if int(found["first"]) > 12:
                told.add(True)
            if int(found["second"]) > 12:
                told.add(False)
    return told.pop() if len(told) == 1 else None


def date_of(text: str, first: bool | None = None) -> str:
    """A date in any of the ways above as YYYY-MM-DD; raises ValueError saying what is right."""
    found = _ONLY_DATE.fullmatch(text)
    if found is None:
        raise ValueError("a date like 31-Mar-2022 or 2022-03-31")
    year, month, day = _day(found, first)
    return datetime(year, month, day, tzinfo=UTC).date().isoformat()


def _since_1970(text: str, digits: int, zone: tzinfo | None) -> datetime:
    if not _DIGITS.fullmatch(text):
        lost = ", which has lost digits" if _ROUNDED.fullmatch(text) else ""
        raise ValueError(f"a number of units since 1970{lost}")
    try:
        return since_1970(text, digits).astimezone(zone or UTC)
    except OverflowError:
        raise ValueError(f"a time from {_FIRST_YEAR} to {_LAST_YEAR} (is its unit another?)") from None


def _moment(found: re.Match[str], first: bool | None) -> datetime:
    year, month, day = _day(found, first)
    if found["hms"]:
        hour, minute, second = (int(found["hms"][at : at + 2]) for at in (0, 2, 4))
    else:
        hour, minute, second = int(found["h"]), int(found["min"]), int(found["sec"] or 0)
    if half := found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("an hour from 1 to 12 before AM or PM")
        hour = hour % 12 + (12 if half in "pP" else 0)
    microsecond = int((found["frac"] or found["rest"] or found["part"] or "").ljust(6, "0")[:6])
    moment = datetime(year, month, day, hour, minute, second, microsecond)  # noqa: DTZ001 - it may be local
    zone = found["zone"]
    if zone is None:
        return moment
    if zone in ("Z", "z", "UTC", "GMT"):
        return moment.replace(tzinfo=UTC)
    return datetime.fromisoformat(moment.isoformat() + (zone if len(zone) > 3 else f"{zone}:00"))


def _day(found: re.Match[str], first: bool | None) -> tuple[int, int, int]:
    if found["y"]:
        return int(found["y"]), int(found["m"]), int(found["d"])
    if found["ymd"]:
        return int(found["ymd"][:4]), int(found["ymd"][4:6]), int(found["ymd"][6:])
    if found["first"]:
        one, two = int(found["first"]), int(found["second"])
        if first is None and (one > 12) == (two > 12):
            mark = found["t"]
            raise ValueError(
                f"a date that says whether day or month is first: give --time-format, with "
                f"%d{mark}%m{mark}%Y or %m{mark}%d{mark}%Y"
            )
        is_day = one > 12 if first is None else first
        return int(found["year"]), two if is_day else one, one if is_day else two
    name, day, year = (found["month"], found["day"], found["of"])
    if name is None:
        name, day, year = found["named"], found["at"], found["in"]
    if not _FULL_MONTHS.fullmatch(name):
        raise ValueError("a month by its English name")
    return int(year), _MONTHS.index(name[:3].lower()) + 1, int(day)


def _why_not(text: str) -> str:
    if is_date(text):
        return "a time, not a date alone (--time-column)"
    if _SERIAL.fullmatch(text):
        return "a time, not the days of a spreadsheet (have it write dates and times)"
    if is_clock(text):
        return "a time with its date (--date-column)"
    if _ROUNDED.fullmatch(text):
        return "a time whose digits are all there"
    if _DIGITS.fullmatch(text):
        return "a time (--time-format epoch, epoch-ms, epoch-us, epoch-ns or a pattern says of which unit)"
    return "a time (ISO 8601, or as --time-format says)"
