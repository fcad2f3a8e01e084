"""Whether the times of a feed are those of another zone: a decision on how far they lie from the clock.

Zones differ by multiples of 15 minutes. The times of a feed that is read in the wrong zone lie ahead of the
clock or behind it by one such multiple, less what a message takes to come; a replay of old messages lies
behind by anything, and not for long by the same unless it is as fast as the recording. Times are in
microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from enricher.clock import MINUTE, SECOND, to_date

QUARTER: Final = 15 * MINUTE
FARTHEST: Final = 14 * 60 * MINUTE
"""No two zones that anybody mixes up differ by more."""

# A feed may be delayed by 10 to 30 minutes besides. What is ahead by less than an hour may be a clock.
_AHEAD_LATE, _AHEAD_EARLY = 5 * MINUTE, MINUTE
_AHEAD_DELAYED = 11 * MINUTE
_DELAYS = (QUARTER, 2 * QUARTER)
# What lies behind is accepted all the same, and may be a replay: the line is to be right.
_BEHIND_LATE, _BEHIND_EARLY = 15 * SECOND, 5 * SECOND
_AHEAD_ENOUGH, _BEHIND_ENOUGH = 3, 5
_BEHIND_LASTING, _BEHIND_SPREAD = 10 * SECOND, 5 * SECOND
# Where exchanges are at home, the best known first: of nearly every offset that a zone has one.
_EXCHANGES = (
    "Asia/Kolkata", "Europe/London", "Europe/Berlin", "America/New_York", "America/Chicago",
    "Asia/Tokyo", "Asia/Hong_Kong", "Asia/Shanghai", "Asia/Singapore", "Australia/Sydney",
    "America/Toronto", "America/Sao_Paulo", "Asia/Dubai", "Asia/Riyadh", "Europe/Istanbul",
    "Europe/Moscow", "Africa/Johannesburg", "Africa/Cairo", "Africa/Lagos", "Africa/Nairobi",
    "Asia/Karachi", "Asia/Colombo", "Asia/Dhaka", "Asia/Jakarta", "Asia/Bangkok", "Asia/Seoul",
    "Asia/Kathmandu", "Asia/Kabul", "Asia/Tehran", "Asia/Yangon", "Australia/Adelaide",
    "Australia/Darwin", "Australia/Perth", "Pacific/Auckland", "America/Denver",
    "America/Los_Angeles", "America/Bogota", "America/Buenos_Aires", "America/St_Johns",
    "Pacific/Honolulu",
)  # fmt: skip
_MOST = 5


def offset_of(ahead_us: int) -> int:
    """The multiple of 15 minutes that a time lies ahead of the clock (behind: below 0); 0 if it is none."""
    late, early = (_AHEAD_LATE, _AHEAD_EARLY) if ahead_us > 0 else (_BEHIND_LATE, _BEHIND_EARLY)
    if ahead_us > 60 * MINUTE:
        late = _AHEAD_DELAYED
    offset = -((early - ahead_us) // QUARTER) * QUARTER
    return offset if ahead_us >= offset - late and 0 < abs(offset) <= FARTHEST else 0


class Run(msgspec.Struct, frozen=True):
    """The first messages of a topic as long as all lie off by the same multiple of 15 minutes.

    ``least_us`` and ``most_us`` are how far ahead they lie, ``first_us`` and ``last_us`` when they came.
    """

    offset_us: int
    count: int
    least_us: int
    most_us: int
    first_us: int
    last_us: int

    @property
    def certain(self) -> bool:
        """Whether this is another zone, as far as anybody can tell."""
        if self.offset_us > 0:
            return self.count >= _AHEAD_ENOUGH
        lasting = self.last_us - self.first_us >= _BEHIND_LASTING
        return self.count >= _BEHIND_ENOUGH and lasting and self.most_us - self.least_us <= _BEHIND_SPREAD

    @property
    def delayed(self) -> bool:
        """Whether it is likelier that the feed is delayed: few zones lie so little behind another."""
        return -self.offset_us in _DELAYS


def lengthened(run: Run | None, ahead_us: int, now_us: int) -> Run | None:
    """The run with one more message; None when that is off by no multiple of 15 minutes, or by another."""
    offset = offset_of(ahead_us)
    if not offset or (run is not None and run.offset_us != offset):
        return None
    if run is None:
        return Run(offset, 1, ahead_us, ahead_us, now_us, now_us)
    least, most = min(run.least_us, ahead_us), max(run.most_us, ahead_us)
    return Run(offset, run.count + 1, least, most, run.first_us, now_us)


def zones_at(offset_us: int, read_in: ZoneInfo, now_us: int, first: Iterable[str] = ()) -> list[str]:
    """Zones whose clocks are ``offset_us`` ahead of those of ``read_in`` now: of ``first``, then others.

    The others are homes of exchanges. ``Etc/GMT-11`` stands for a whole hour that none of them has. Where a
    quarter has none, they are those of a feed that is delayed by 15 or 30 minutes.
    """
    now = to_date(now_us)
    wanted = (now.astimezone(read_in).utcoffset() or timedelta(0)) + timedelta(microseconds=offset_us)
    names = dict.fromkeys((*first, *_EXCHANGES))
    zones = [name for name in names if _offset(name, now) == wanted]
    hours, rest = divmod(int(wanted.total_seconds()), 3600)
    if not zones and not rest and -12 <= hours <= 14:
        zones = [f"Etc/GMT{-hours:+d}" if hours else "UTC"]
    for delay in _DELAYS:
        if not zones and offset_us + delay:
            later = wanted + timedelta(microseconds=delay)
            zones = [name for name in names if _offset(name, now) == later]
    return zones[:_MOST]


def clock_text(offset_us: int) -> str:
    """An offset without its sign, as ``5:30``."""
    hours, minutes = divmod(abs(offset_us) // MINUTE, 60)
    return f"{hours}:{minutes:02d}"


def _offset(name: str, now: datetime) -> timedelta | None:
    try:
        return now.astimezone(UTC).astimezone(ZoneInfo(name)).utcoffset()
    except (LookupError, ValueError, OSError):
        return None
