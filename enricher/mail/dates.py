"""Dates as mails have them: RFC 5322 3.3, its obsolete forms, ISO 8601, and what else programs write."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from enricher.mail.charsets import words
from enricher.mail.comments import without_comments
from enricher.mail.defects import INVALID_DATE, UNKNOWN_ZONE, Defects

_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "mär": 3, "apr": 4, "may": 5, "mai": 5, "jun": 6, "jul": 7, "aug": 8,
    "sep": 9, "oct": 10, "okt": 10, "nov": 11, "dec": 12, "dez": 12,
}  # fmt: skip
_DAYS = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
# Hours east of Greenwich. What means several zones is not here, but for those of RFC 5322 4.3.
_ZONES = {
    "ut": 0.0, "utc": 0, "gmt": 0, "z": 0, "wet": 0, "edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6,
    "mst": -7, "pdt": -7, "pst": -8, "akdt": -8, "akst": -9, "hst": -10, "adt": -3, "ndt": -2.5,
    "nst": -3.5, "brt": -3, "art": -3, "west": 1, "bst": 1, "cet": 1, "met": 1, "mez": 1, "cest": 2,
    "mest": 2, "mesz": 2, "eet": 2, "eest": 3, "msk": 3, "msd": 4, "sast": 2, "cat": 2, "eat": 3, "pkt": 5,
    "wib": 7, "ict": 7, "hkt": 8, "sgt": 8, "awst": 8, "jst": 9, "kst": 9, "acst": 9.5, "acdt": 10.5,
    "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
}  # fmt: skip
_LONGEST = 200
# What nearly all dates are.
_USUAL = re.compile(
    r"(?:[A-Z][a-z]{2},\s*)?(\d{1,2})\s+([A-Z][a-z]{2})\s+(\d{4})\s+([01]\d|2[0-3]):([0-5]\d):([0-5]\d)\s+"
    r"(?:([+-])(\d\d)([0-5]\d)|GMT|UTC|Z)\s*(?:\([A-Z]{1,5}\))?",
    re.ASCII,
)
_TIME = re.compile(
    r"(?<![\d:])(\d{1,2}):(\d{1,2})(?!\d)(?:[:.](\d{1,2})(?!\d))?(?:[.,](\d{1,9}))?(?:\s*([ap])\.?m\b\.?)?",
    re.IGNORECASE,
)
# 10.00.00 and 10h00, where there is no time with colons.
_POINTS = re.compile(r"(?<![\d.])(\d{1,2})(?:\.(?=\d\d\.\d\d(?![\d.]))|h(?=\d\d\b))(\d\d)(?:\.(\d\d))?()()")
_DAY_FIRST = re.compile(r"(?<!\d)(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\d)")
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:T|\s|$)", re.IGNORECASE)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)?", re.IGNORECASE)
_OFFSET = re.compile(r"(?:\b(?:gmt|utc?|z)\s*)?([+-])\s*(\d{1,2}):?(\d\d)?(?!\d)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]+|\d+")


def read_date(text: str, defects: Defects) -> datetime | None:
    """A date in UTC; None, and a defect, where it is none.

    One without an offset counts as UTC. So does one whose zone nobody knows, which is a defect.
    """
    usual = _USUAL.fullmatch(text)
    try:
        if usual is not None and (month := _MONTHS.get(usual[2].lower())):
            when = datetime(
                int(usual[3]), month, int(usual[1]), int(usual[4]), int(usual[5]), int(usual[6]), tzinfo=UTC
            )
            if not usual[7]:
                return when
            offset = timedelta(hours=int(usual[8]), minutes=int(usual[9]))
            return when - offset if usual[7] == "+" else when + offset
        return _any_date(text, defects)
    except (ValueError, OverflowError):
        defects[INVALID_DATE] = None
        return None


def _any_date(text: str, defects: Defects) -> datetime:
    """Raises ValueError or OverflowError."""
    text = words(text[:_LONGEST])
    bare = _DAY_FIRST.sub(r"\3-\2-\1", without_comments(text))
    compact = _COMPACT.search(bare)
    if compact is not None:
        y, mo, d, h, mi, s = (part or "00" for part in compact.groups())
        bare = f"{y}-{mo}-{d}T{h}:{mi}:{s}{bare[compact.end():]}"
    time = _TIME.search(bare) or _POINTS.search(bare)
    if time is None and len(_NUMBER.findall(_OFFSET.sub("", bare))) > (3 if _ISO.search(bare) else 2):
        raise ValueError("a time that is not read")
    if time is None:
        before, clock, after = bare, timedelta(0), ""
    else:
        before, clock, after = bare[: time.start()], _clock(time), bare[time.end() :]
    day, rest = _day(before, after)
    zone = _zone(rest)
    if zone is None and _WORD.search(rest) is None:
        zone = _zone(" ".join(re.findall(r"\(([^()]*)\)", text)))
        if zone is None:
            zone = timedelta(0)
    if zone is None:
        defects[UNKNOWN_ZONE] = None
        zone = timedelta(0)
    return day + clock - zone


def _clock(time: re.Match[str]) -> timedelta:
    hour, minute, second = int(time[1]), int(time[2]), int(time[3] or 0)
    if time[5]:
        if not 1 <= hour <= 12:
            raise ValueError("an hour of a half day")
        hour = hour % 12 + (12 if time[5].lower() == "p" else 0)
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second)):
        raise ValueError("no time of a day")
    # BSON has milliseconds.
    return timedelta(hours=hour, minutes=minute, seconds=second, milliseconds=int(f"{time[4] or 0:0<3}"[:3]))


def _day(before: str, after: str) -> tuple[datetime, str]:
    """The day, and what is left after the time: where the zone is."""
    iso = _ISO.search(before)
    if iso is not None:
        return datetime(int(iso[1]), int(iso[2]), int(iso[3]), tzinfo=UTC), after
    month: int | None = None
    numbers: list[str] = []
    for word in _WORD.findall(before):
        if word.isdigit():
            numbers.append(word)
        elif month is None:
            month = _MONTHS.get(word[:3].lower())
    if len(numbers) < 2 or month is None:
        # Thu Jan  1 10:00:00 CET 2026; 10:00:00 1 Jan 2026
        for found in _WORD.finditer(after):
            word = found[0]
            if word.isdigit() and after[found.start() - 1 : found.start()] not in ("+", "-", ":"):
                if len(word) == 4 or len(numbers) < 2:
                    numbers.append(word)
                    after = after[: found.start()] + " " * len(word) + after[found.end() :]
            elif month is None and word[:3].lower() in _MONTHS:
                month = _MONTHS[word[:3].lower()]
                after = after[: found.start()] + " " * len(word) + after[found.end() :]
    if month is None or len(numbers) < 2:
        raise ValueError("no day")
    first, second = numbers[:2]
    year, day = (first, second) if len(first) > 2 else (second, first)
    return datetime(_year(year), month, int(day), tzinfo=UTC), after


def _year(text: str) -> int:
    """RFC 5322 4.3: years of two and three digits."""
    year = int(text)
    if len(text) > 4:
        raise ValueError("no year")
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _zone(rest: str) -> timedelta | None:
    """What is said of the zone; None where that is nothing, or nothing known."""
    offset = _OFFSET.search(rest)
    if offset is not None:
        hours, minutes = offset[2], offset[3] or "0"
        if int(hours) > 23 or int(minutes) > 59:
            return None
        span = timedelta(hours=int(hours), minutes=int(minutes))
        return -span if offset[1] == "-" else span
    for word in _WORD.findall(rest):
        low = word.lower()
        if low in _ZONES:
            return timedelta(hours=_ZONES[low])
        if low not in _DAYS:
            return None
    return None
