"""When a job is due again: five-field cron in a time zone, fixed intervals, and what was missed.

All moments are milliseconds since 1970, UTC.

Cron follows Debian's at the changes of a zone's clock, as cronsim does. Where minute and hour are both
given in numbers ("30 2 * * *"), a job runs once a day: in the hour that a clock skips, at the moment the
clock goes on; in the hour that comes twice, the first time. Where one of them begins with a star
("*/15 * * * *", "0 * * * *"), a job follows real time: what is skipped does not run, what comes twice runs
twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from enricher.config.types import zone_problem
from enricher.errors import WrongSetting

Misfire = Literal["one", "skip", "all"]

CRON_FORMAT = "Expected format: 'minute hour day month day_of_week'"
ON_TIME_MS = 5_000
"""An occurrence that is later than this is a missed one."""
SHORTEST = 0.1

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (times on a zone's clock have no zone)
_MINUTE = timedelta(minutes=1)
_LONGEST_REPEAT = timedelta(hours=3)


class Schedule(Protocol):
    """A rule by which a job recurs. ``expression`` is how people read it; equal ones mean the same."""

    @property
    def expression(self) -> str: ...

    @property
    def zone(self) -> str: ...

    def after(self, moment_ms: int) -> Iterator[int]:
        """The occurrences after this moment, in order. Endless for most."""
        ...


class Cron:
    """A five-field cron expression on the clock of ``zone`` (a name of the time zone database).

    Raises `WrongSetting` for anything else, cronsim's sixth field and its L and # included.
    """

    def __init__(self, expression: str, zone: str = "UTC") -> None:
        problem = cron_problem(expression)
        if problem:
            raise WrongSetting("cron_schedule", expression, f"five fields. {problem}")
        problem = zone_problem(zone)
        if problem:
            raise WrongSetting("cron_timezone", zone, problem)
        self.expression = " ".join(expression.split())
        self.zone = zone
        self._clock = ZoneInfo(zone)
        minute, hour, *_ = self.expression.split()
        self._once_a_day = not minute.startswith("*") and not hour.startswith("*")

    def after(self, moment_ms: int) -> Iterator[int]:
        """The occurrences after this moment, in order."""
        # cronsim reads the expression and we read the zone's clock: its own steps of an hour go past
        # occurrences where a clock is moved by half an hour (Australia/Lord_Howe).
        moment = datetime.fromtimestamp(moment_ms / 1000, UTC).astimezone(self._clock)
        begin = moment.replace(tzinfo=None, fold=0)
        if (moment.astimezone(UTC) + _LONGEST_REPEAT).astimezone(
            self._clock
        ).utcoffset() != moment.utcoffset():
            begin -= _LONGEST_REPEAT
        given, ahead = moment_ms, list[int]()
        for reading in CronSim(self.expression, begin):
            moments = self._moments(reading)
            for at in moments:
                heapq.heappush(ahead, at)
            # First moments come in order, so that nothing before this one is still to come.
            while ahead and moments and ahead[0] <= moments[0]:
                at = heapq.heappop(ahead)
                if at > given:
                    given = at
                    yield at

    def _moments(self, reading: datetime) -> list[int]:
        """When the clock shows this: once, in a repeated hour twice, in a skipped one never."""
        first, second = self._offset(reading), self._offset(reading.replace(fold=1))
        if first == second:
            return [_ms(reading - first)]
        if first > second:
            twice = [_ms(reading - first), _ms(reading - second)]
            return twice[:1] if self._once_a_day else twice
        if not self._once_a_day:
            return []
        while self._offset(reading) != self._offset(reading.replace(fold=1)):
            reading += _MINUTE
        return [_ms(reading - self._offset(reading))]

    def _offset(self, reading: datetime) -> timedelta:
        return reading.replace(tzinfo=self._clock).utcoffset() or timedelta(0)


class Interval:
    """Every so many seconds, counted from 1970 in UTC, so that all processes mean the same moments."""

    zone = "UTC"

    def __init__(self, every: float) -> None:
        if isinstance(every, bool) or not isinstance(every, int | float) or not SHORTEST <= every < 1e9:
            raise WrongSetting("every", every, f"a number of seconds, at least {SHORTEST}")
        self.expression = f"every {every:g} s"
        self._step = round(every * 1000)

    def after(self, moment_ms: int) -> Iterator[int]:
        """The occurrences after this moment, in order."""
        at = moment_ms - moment_ms % self._step
        while True:
            at += self._step
            yield at


def cron_problem(expression: object) -> str | None:
    """None for a five-field cron expression, else what would be right."""
    if not isinstance(expression, str) or len(expression.split()) != 5:
        return CRON_FORMAT
    _, _, day, _, weekday = expression.upper().split()
    if "L" in day or "L" in weekday or "#" in weekday:
        return f"{CRON_FORMAT}, without L and #"
    try:
        next(CronSim(expression, _EPOCH))
    except CronSimError as error:
        return f"{CRON_FORMAT} ({str(error)[:1].lower()}{str(error)[1:]})"
    except StopIteration:
        return f"{CRON_FORMAT}, with a day that exists"
    return None


def occurrences(schedule: Schedule, after_ms: int, until_ms: int) -> list[int]:
    """The occurrences after the first moment, up to and with the second."""
    return list(takewhile(lambda at: at <= until_ms, schedule.after(after_ms)))


def missed(schedule: Schedule, last_ms: int, now_ms: int, policy: Misfire, most: int = 100) -> list[int]:
    """The occurrences since the last one that are to be run now, at most ``most``, the oldest first.

    ``all`` runs each, ``one`` the latest, ``skip`` the latest if it is not late.
    """
    if policy == "all":
        return list(islice(takewhile(lambda at: at <= now_ms, schedule.after(last_ms)), most))
    if policy == "skip":
        last_ms = max(last_ms, now_ms - ON_TIME_MS - 1)
    return _latest(schedule, last_ms, now_ms)


def _latest(schedule: Schedule, after_ms: int, until_ms: int) -> list[int]:
    # Looked for backwards: after a week's outage nobody wants to count its minutes.
    reach = 60_000
    while True:
        begin = max(after_ms, until_ms - reach)
        found = occurrences(schedule, begin, until_ms)
        if found or begin == after_ms:
            return found[-1:]
        reach *= 8


def _ms(utc: datetime) -> int:
    return (utc - _EPOCH) // timedelta(milliseconds=1)
