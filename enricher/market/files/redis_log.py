"""What ``redis-cli`` writes of a feed: of SUBSCRIBE and PSUBSCRIBE in each of its ways, and of MONITOR.

At a terminal it numbers and quotes (``1) "message"``), into a file it writes bare lines; ``--csv`` and
``--json`` make one line of a message. Only MONITOR notes times. Elsewhere the time of a message is its own
timestamp, and one that has none goes out with the message before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import orjson

from enricher.market.feed.recording import BadRecord, Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_STRING = re.compile(_QUOTED)
_NUMBERED = re.compile(rf"\s*(\d+)[)>] (?:{_QUOTED}|\(integer\) \d+)")
_MONITORED = re.compile(r'(\d{10}\.\d{6}) \[\d+ [^\]]+\] "([^"]*)"')
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
_MESSAGES = {"message": 3, "pmessage": 4, "smessage": 3}  # and of how many parts they are
_OTHERS = {"subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"}
_NOISE = ("Reading messages", "OK")


class Said(NamedTuple):
    """A message of the log: its line, channel and body, and the time that the log has for it."""

    line: int
    channel: str
    body: bytes
    at_us: int | None = None


_Way = Callable[[Source], Iterator[Said]]


def _seen(source: Source) -> str | None:
    way = _way(source)
    return f"lines of redis-cli ({way[0]})" if way else None


def _way(source: Source) -> tuple[str, _Way] | None:
    lines = [line for line in source.head.splitlines()[:20] if line.strip() and not line.startswith(_NOISE)]
    first = lines[0].strip() if lines else ""
    if (found := _NUMBERED.fullmatch(first)) and found[1] == "1" and _is_kind(found[2]):
        return "numbered", _numbered
    if _MONITORED.match(first):
        return "MONITOR", _monitored
    if _is_kind(first) and len(lines) > 1:
        return "bare", _bare
    if first.startswith('"') and _is_kind(first[1:].split('",')[0]):
        return "--csv", _comma_separated
    if first.startswith('["') and _is_kind(first[2:].split('",')[0]):
        return "--json", _json
    return None


def _is_kind(text: str | None) -> bool:
    return text in _MESSAGES or text in _OTHERS


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    way = _way(source)
    if way is None:
        raise BadRecord(source.path, 1, "line", "lines of redis-cli", source.first_line)
    times = Times(zone=options.zone)
    known = (at for said in way[1](source) if (at := _time_of(said, times)) is not None)
    at_us = next(known, 0)  # of those that stand before the first with a time
    untimed = 0
    for said in way[1](source):
        own = _time_of(said, times)
        untimed += own is None
        at_us = at_us if own is None else own
        yield Recorded(at_us, said.channel, said.body)
    if untimed:
        notes.doubt(f"{source.path}: what has no time ({untimed:,} messages) goes out with the one before it")


def _time_of(said: Said, times: Times) -> int | None:
    if said.at_us is not None:
        return said.at_us
    try:
        return times.read(orjson.loads(said.body)["timestamp"])[1]
    except (ValueError, TypeError, KeyError):
        return None


def _numbered(source: Source) -> Iterator[Said]:
    parts: list[str] = []
    for number, line in _lines(source):
        found = _NUMBERED.fullmatch(line)
        if found is None:
            raise BadRecord(source.path, number, "line", 'a numbered line, as in 1) "message"', line)
        if found[1] == "1":
            parts = []
        parts.append(found[2] or "")
        if len(parts) == _MESSAGES.get(parts[0]):
            yield Said(number, _unquoted(parts[-2]).decode(), _unquoted(parts[-1]))


def _bare(source: Source) -> Iterator[Said]:
    parts: list[str] = []
    for number, line in source.lines():
        if not parts and (not line.strip() or line.startswith(_NOISE)):
            continue
        parts.append(line)
        if len(parts) < _parts(source, number, parts[0], line):
            continue
        if parts[0] in _MESSAGES:
            yield Said(number, parts[-2], parts[-1].encode())
        parts = []


def _monitored(source: Source) -> Iterator[Said]:
    for number, line in _lines(source):
        found = _MONITORED.match(line)
        if found is None:
            raise BadRecord(source.path, number, "line", "a line of MONITOR", line)
        if found[2].lower() in ("publish", "spublish"):
            _, channel, body = _strings(source, number, line[found.start(2) - 1 :], 3)
            second, fraction = found[1].split(".")
            yield Said(number, channel.decode(), body, int(second) * 1_000_000 + int(fraction))


def _comma_separated(source: Source) -> Iterator[Said]:
    for number, line in _lines(source):
        kind = line[1:].split('",')[0]
        parts = _parts(source, number, kind, line)
        if kind in _MESSAGES:
            *_, channel, body = _strings(source, number, line, parts)
            yield Said(number, channel.decode(), body)


def _json(source: Source) -> Iterator[Said]:
    for number, line in _lines(source):
        try:
            parts = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadRecord(source.path, number, f"column {error.colno}", "JSON", error.msg) from error
        kind = parts[0] if isinstance(parts, list) and parts else None
        count = _parts(source, number, kind, line)
        if kind in _MESSAGES:
            if len(parts) != count or not all(isinstance(part, str) for part in parts):
                raise BadRecord(source.path, number, "line", f"{count} texts", line)
            yield Said(number, parts[-2], parts[-1].encode())


def _lines(source: Source) -> Iterator[tuple[int, str]]:
    return ((at, line) for at, line in source.lines() if line.strip() and not line.startswith(_NOISE))


def _parts(source: Source, number: int, kind: object, line: str) -> int:
    """Of how many parts a message of this kind is."""
    if not isinstance(kind, str) or not _is_kind(kind):
        raise BadRecord(source.path, number, "line", "message, pmessage or subscribe first", line)
    return _MESSAGES.get(kind, 3)


def _strings(source: Source, number: int, line: str, count: int) -> list[bytes]:
    found = [_unquoted(text) for text in _STRING.findall(line)]
    if len(found) != count:
        raise BadRecord(source.path, number, "line", f"{count} quoted texts", line)
    return found


def _unquoted(text: str) -> bytes:
    """What redis-cli quoted: bytes that are not printable are written as escapes."""
    return _ESCAPE.sub(
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else _ESCAPED.get(found[2], found[2]),
        text.encode(),
    )


FORMAT = Format("redis-log", "a log of redis-cli", "messages", _seen, _read)
