"""Timestamps of messages as exact integers, and back into the style they came in.

Event time is a count of microseconds since 1970 in UTC everywhere in enricher: integers compare,
subtract and bisect exactly, where float seconds lose the last digit and BSON dates the last three.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

SECOND = 1_000_000
MINUTE = 60 * SECOND

_START = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400 * SECOND
# A datetime shows the years 1 to 9999. The outermost are left free, for windows, ranges and zones reach
# beyond a moment, and the first of year 1 is what some programs send for a time they do not know.
_EARLIEST = -718_797 * _DAY
_LATEST = 2_932_532 * _DAY - 1
_LONGEST_DATE = 10
_WRITTEN = frozenset(("-T", "-t", "- ", "-_"))  # fifth and eleventh character of a date and a time
_ISO = re.compile(r"(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d(?:-?\d)?)(?:[Tt _].*)?", re.ASCII | re.DOTALL)
_EPOCH = re.compile(r"[1-9]\d{9}(?:\d{3}){0,3}(?:\.\d+)?", re.ASCII)


class OutsideYears(ValueError):
    """A moment outside the years 2 to 9998 in UTC."""


def event_us(text: str, zone: tzinfo = UTC) -> tuple[int, bool]:
    """The moment of an ISO 8601 text in microseconds since 1970 UTC, and whether it was naive.

    Accepts what `from_text` accepts; digits after the sixth decimal are cut. A naive text is read in
    ``zone`` (the earlier moment where a clock is set back). Raises ``ValueError`` for anything else and for a
    mere date, `OutsideYears` for a moment outside the years 2 to 9998 in UTC.
    """
    us, naive, _ = read_moment(text, zone)
    return us, naive


@lru_cache(maxsize=512)  # the messages of one broadcast share their time
def read_moment(text: str, zone: tzinfo = UTC) -> tuple[int, bool, datetime]:
    """As `event_us`, and the same moment as an aware ``datetime``, in the zone it was written in."""
    if text[4:11:6] in _WRITTEN:  # as nearly all are: not by another call
        moment = datetime.fromisoformat(text)
    else:
        moment = from_text(text)
        if len(text) <= _LONGEST_DATE and _is_date(text):
            raise ValueError(f"a date without a time: {text!r}")
    naive = moment.tzinfo is None
    if naive:
        moment = moment.replace(tzinfo=zone)
    since = moment - _START
    us = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    if not _EARLIEST <= us <= _LATEST:
        raise OutsideYears(f"outside the years 2 to 9998 in UTC: {text!r}")
    return us, naive, moment


def from_text(text: str) -> datetime:
    """The moment of an ISO 8601 text, offset and ``Z`` included, or of a count since 1970 UTC.

    A count has the 10, 13, 16 or 19 digits of seconds, milliseconds, microseconds or nanoseconds (in the
    years 2001 to 2286), and may have decimals. Raises ``ValueError`` for anything else:
    ``datetime.fromisoformat`` alone takes any sign between date and time, and the milliseconds 1743090350654
    for a day of 1743.
    """
    if text[4:11:6] in _WRITTEN:
        return datetime.fromisoformat(text)
    if _EPOCH.fullmatch(text):
        return since_1970(text, len(text.partition(".")[0]) - 10)
    if not _ISO.fullmatch(text):
        raise ValueError(f"no ISO 8601 date and time: {text!r}")
    return datetime.fromisoformat(text)


def since_1970(text: str, digits: int) -> datetime:
    """The moment of a count since 1970, in units of which a second has 10 to the power of ``digits``.

    ``text`` has a sign at most, digits, and decimals after a point; what is below a microsecond is cut.
    Raises ``OverflowError`` beyond the year 9999.
    """
    whole, _, decimals = text.partition(".")
    power = 6 - digits - len(decimals)
    count = int(whole + decimals)
    microseconds: int = count * 10**power if power >= 0 else count // 10**-power
    return _START + timedelta(microseconds=microseconds)


@lru_cache(maxsize=512)  # the messages of one millisecond share the time at which they were processed
def render(us: int, naive: bool, zone: tzinfo = UTC) -> str:
    """A moment as ISO 8601 text: naive in ``zone`` if ``naive``, else UTC with ``+00:00``.

    Decimals appear only when the microseconds are not zero.
    """
    second, micros = divmod(us, SECOND)
    text, offset = _second(second, naive, zone)
    return f"{text}.{micros:06d}{offset}" if micros else text + offset


@lru_cache(maxsize=4096)
def _second(second: int, naive: bool, zone: tzinfo) -> tuple[str, str]:
    # A feed's messages share their seconds, so the costly part is done once for many of them.
    moment = _START + timedelta(seconds=second)
    if not naive:
        return moment.replace(tzinfo=None).isoformat(), "+00:00"
    return moment.astimezone(zone).replace(tzinfo=None).isoformat(), ""


@lru_cache(maxsize=512)
def to_date(us: int) -> datetime:
    """The moment as an aware UTC ``datetime`` (what MongoDB stores)."""
    return _START + timedelta(microseconds=us)


@lru_cache(maxsize=256)
def span_us(seconds: float) -> int:
    """Seconds of a setting in microseconds: one integer for all products, of which there may be many."""
    return int(seconds * SECOND)


def to_millis(us: int) -> int:
    """The moment cut to whole milliseconds, still counted in microseconds.

    The cut goes down, as BSON's does, so text and stored date name the same millisecond.
    """
    return us - us % 1000


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


class Zones:
    """The zone in which naive times of a product are read and written: a default and exceptions."""

    def __init__(self, default: str = "UTC", exceptions: Mapping[str, str] | None = None) -> None:
        self.default = ZoneInfo(default)
        self.exceptions = {product: ZoneInfo(zone) for product, zone in (exceptions or {}).items()}

    def of(self, product: str) -> ZoneInfo:
        """The zone of ``product``."""
        return self.exceptions.get(product, self.default)


def wall_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000
