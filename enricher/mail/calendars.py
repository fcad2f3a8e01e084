"""Invitations: the events of a calendar (iCalendar, RFC 5545; iTIP, RFC 5546) that a mail brings.

Cut and careless calendars are read as far as they go. Recurrences are named, not computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from enricher.mail.charsets import to_text
from enricher.mail.defects import INVALID_CALENDAR, LONG_CALENDAR, Defects
from enricher.mail.models import Event, Mailbox

_LONGEST = 200_000  # bytes
_MOST_EVENTS, _MOST_PEOPLE = 100, 1000
_FOLD = re.compile(r"\r*\n[ \t]")
_LINE = re.compile(r'([\w-]+)((?:;(?:[^:;"]++|"[^"]*+")*+)*+):(.*)')
_PARAMETER = re.compile(r';([\w-]+)=(?:"([^"]*)"|([^;:"]*))')
_ESCAPE = re.compile(r"\\(.)")
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?(Z?))?")
_SPAN = re.compile(
    r"([+-]?)P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?"
)
_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)(?:\d\d)?")
_BY_DAY = re.compile(r"([+-]?\d)(MO|TU|WE|TH|FR|SA|SU)")
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

Property = tuple[dict[str, str], str]
Properties = dict[str, list[Property]]


class Change(NamedTuple):
    """From when on, local time, a zone is how far from UTC; each year again where there is a rule."""

    start: datetime
    before: timedelta
    offset: timedelta
    rule: str


def events(data: bytes, charset: str | None, method: str | None, defects: Defects) -> Iterator[Event]:
    """The events of a calendar. ``method`` is the part's, where the calendar names none."""
    if len(data) > _LONGEST:
        defects[LONG_CALENDAR] = None
        data = data[:_LONGEST]
    text = _FOLD.sub("", to_text(data, charset or "utf-8")[0])
    opened: list[tuple[str, Properties]] = []
    zones: dict[str, list[Change]] = {}
    found: list[Properties] = []
    calendar: Properties = {}
    changes: list[Change] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            if line.strip():
                defects[INVALID_CALENDAR] = None
            continue
        name, parameters, value = match[1].upper(), match[2], match[3].strip()
        if name == "BEGIN":
            component = value.upper()
            properties: Properties = {}
            if component == "VEVENT" and len(found) < _MOST_EVENTS:
                found.append(properties)
            if len(opened) < 10:
                opened.append((component, calendar if component == "VCALENDAR" else properties))
        elif name == "END" and opened:
            component, properties = opened.pop()
            if component in ("STANDARD", "DAYLIGHT"):
                change = _change(properties)
                changes += [change] if change is not None and len(changes) < 100 else []
            elif component == "VTIMEZONE":
                zones[_text(properties, "TZID")] = changes
                changes = []
        elif opened:
            kept = opened[-1][1].setdefault(name, [])
            if len(kept) < _MOST_PEOPLE:
                kept.append((_parameters(parameters), value))
    if opened or not found:
        defects[INVALID_CALENDAR] = None
    for properties in found:
        yield _event(properties, _text(calendar, "METHOD") or method or "", zones, defects)


def _parameters(written: str) -> dict[str, str]:
    return {name.upper(): quoted or bare for name, quoted, bare in _PARAMETER.findall(written)}


def _event(properties: Properties, method: str, zones: dict[str, list[Change]], defects: Defects) -> Event:
    start, all_day, zone = _moment(properties, "DTSTART", zones, defects)
    end, _, _ = _moment(properties, "DTEND", zones, defects)
    if end is None and start is not None and "DURATION" in properties:
        end = _after(start, _text(properties, "DURATION"))
    sequence = _text(properties, "SEQUENCE")
    organizers = [_person(one) for one in properties.get("ORGANIZER", ())]
    return Event(
        method=method.upper() or None,
        uid=_text(properties, "UID") or None,
        sequence=int(sequence) if sequence.isdecimal() and len(sequence) < 10 else 0,
        status=_text(properties, "STATUS").upper() or None,
        summary=_text(properties, "SUMMARY"),
        location=_text(properties, "LOCATION") or None,
        start=start,
        end=end,
        all_day=all_day,
        zone=zone,
        recurrence=_text(properties, "RRULE") or None,
        organizer=organizers[0] if organizers else None,
        attendees=tuple(map(_person, properties.get("ATTENDEE", ()))),
    )


def _text(properties: Properties, name: str) -> str:
    found = properties.get(name)
    if not found:
        return ""
    return _ESCAPE.sub(lambda escaped: "\n" if escaped[1] in "nN" else escaped[1], found[0][1])


def _person(one: Property) -> Mailbox:
    parameters, value = one
    address = value[7:] if value[:7].lower() == "mailto:" else value
    return Mailbox(parameters.get("CN", ""), address if "@" in address and " " not in address else "")


# -- times ---------------------------------------------------------------------------------------------


def _moment(
    properties: Properties, name: str, zones: dict[str, list[Change]], defects: Defects
) -> tuple[datetime | None, bool, str | None]:
    """A time in UTC, whether it is a day only, and its zone. What names no zone counts as UTC."""
    if not properties.get(name):
        return None, False, None
    parameters, value = properties[name][0]
    match = _TIME.match(value)
    try:
        if match is None:
            raise ValueError(value)
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        local = datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001  made aware below
        zone = parameters.get("TZID", "").strip("/") or None
        if match[7] or match[4] is None or zone is None:
            return local.replace(tzinfo=UTC), match[4] is None, "UTC" if match[7] else zone
        known = _zone(zone)
        if known is not None:
            return local.replace(tzinfo=known).astimezone(UTC), False, zone
        changes = zones.get(zone) or zones.get(parameters["TZID"])
        if not changes:
            defects[INVALID_CALENDAR] = None
            return None, False, zone
        return (local - _offset(changes, local)).replace(tzinfo=UTC), False, zone
    except (ValueError, OverflowError):
        defects[INVALID_CALENDAR] = None
        return None, False, None


@lru_cache(256)
def _zone(name: str) -> ZoneInfo | None:
    """A zone by the name that the time zone database has for it."""
    try:
        return ZoneInfo(name)
    except Exception:  # noqa: BLE001  a name may be a path, a folder, or no name at all
        return None


def _change(properties: Properties) -> Change | None:
    start = _TIME.match(_text(properties, "DTSTART"))
    before, offset = (_OFFSET.match(_text(properties, f"TZOFFSET{way}")) for way in ("FROM", "TO"))
    if start is None or before is None or offset is None:
        return None
    try:
        began = datetime(*(int(part or 0) for part in start.groups()[:5]))  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return None
    return Change(began, _span_of(before), _span_of(offset), _text(properties, "RRULE"))


def _span_of(offset: re.Match[str]) -> timedelta:
    span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
    return -span if offset[1] == "-" else span


def _offset(changes: list[Change], local: datetime) -> timedelta:
    """The offset of the change that was last before a local time."""
    last = [(when, change.offset) for change in changes if (when := _last(change, local)) is not None]
    return max(last)[1] if last else min(changes).before


def _last(change: Change, local: datetime) -> datetime | None:
    """When a change was last, at or before a local time; None where it had not been yet."""
    if local < change.start:
        return None
    rule = dict(part.split("=", 1) for part in change.rule.upper().split(";") if "=" in part)
    by_day = _BY_DAY.fullmatch(rule.get("BYDAY", ""))
    month = rule.get("BYMONTH", str(change.start.month))
    if rule.get("FREQ") != "YEARLY" or by_day is None or not month.isdecimal() or not 1 <= int(month) <= 12:
        return change.start
    for year in (local.year, local.year - 1):
        when = _weekday(year, int(month), int(by_day[1]), _DAYS.index(by_day[2]), change.start)
        if change.start <= when <= local:
            return when
    return change.start


def _weekday(year: int, month: int, number: int, day: int, time: datetime) -> datetime:
    """The n-th of a weekday in a month, from its end if n is negative, at the hour of ``time``."""
    first = datetime(year, month, 1, time.hour, time.minute)  # noqa: DTZ001  local, as the rule is
    if number > 0:
        return first + timedelta(days=(day - first.weekday()) % 7 + 7 * (number - 1))
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - day) % 7 + 7 * (-number - 1))


def _after(start: datetime, span: str) -> datetime | None:
    match = _SPAN.fullmatch(span)
    if match is None:
        return None
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
    length = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        return start - length if match[1] == "-" else start + length
    except OverflowError:
        return None
