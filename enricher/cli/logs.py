"""Logging as the command line sets it up; the library itself configures nothing.

Everything goes to one stream, one line each: what enricher says through structlog, and what other
libraries say through `logging`. A JSON line has ``message``, ``level`` (upper case),
``timestamp`` (UTC, with Z), ``service`` and then the fields. No line shows the password of a URL.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal, cast

import msgspec
import orjson
import structlog

from enricher.config import LogSettings, Settings
from enricher.redaction import redact_value

Event = MutableMapping[str, Any]

Level = Literal["debug", "info", "warning", "error", "critical"]

# At debug the MongoDB driver logs every command with the documents in it.
_CHATTY = ("pymongo", "asyncio")
# It has a line for each request, and in an outage for each try.
_TALKATIVE = "elastic_transport"


def configure_aside(settings: Settings, level: Level = "error") -> None:
    """Send the process's log to standard error, from ``level`` on unless the settings name another."""
    least = settings.log.level if "log.level" in settings.origins else level
    configure(msgspec.structs.replace(settings.log, level=least), settings.service.name, sys.stderr.buffer)


def configure(settings: LogSettings, service: str, stream: BinaryIO | None = None) -> None:
    """Send the whole process's log to ``stream`` (stdout), in the format and from the level set.

    ``service`` is the name in every line. To be called once, before the first line: loggers keep
    the set-up they met first.
    """
    out = stream if stream is not None else sys.stdout.buffer
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    terminal = out.isatty()
    for_people = settings.format == "console" or (settings.format == "auto" and terminal)
    render = console_line(terminal and "NO_COLOR" not in os.environ) if for_people else json_line(service)

    def report_lost(number: int) -> bytes:
        event = add_timestamp(None, "", {"event": "log_lines_lost", "level": "warning", "lines": number})
        return render(None, "warning", event)

    lines = Lines(out, report_lost)
    structlog.configure(
        processors=[
            structlog.stdlib.PositionalArgumentsFormatter(),
            add_timestamp,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            # The console's renderer formats exceptions itself; JSON needs them as text.
            structlog.processors.format_exc_info,
            redact_values,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file=cast("BinaryIO", lines)),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[StructlogHandler()], level=level, force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.INFO))
    logging.getLogger(_TALKATIVE).setLevel(max(level, logging.ERROR))
    logging.captureWarnings(capture=True)


class Lines:
    """The stream of the lines. A line that cannot be written at once is lost: a log never delays the process.

    So it is with a full disk, a reader that has ended, and a pipe or terminal that is not read.
    ``report_lost`` makes the line that says how many were lost; it is written when there is room again.
    """

    # A pipe that can be written to takes so many bytes without waiting.
    _CHUNK = 4096

    def __init__(self, out: BinaryIO, report_lost: Callable[[int], bytes]) -> None:
        self._out = out
        self._report_lost = report_lost
        self._lost = 0
        self._rest = b""
        self._descriptor: int | None = None
        self._room = None
        with suppress(OSError, ValueError, AttributeError):  # no file, or a system without `poll`
            out.flush()
            self._descriptor = out.fileno()
            self._room = select.poll()
            self._room.register(self._descriptor, select.POLLOUT)

    def write(self, line: bytes) -> int:
        """Write the line, or count it as lost."""
        if self._lost and self._put(self._report_lost(self._lost) + b"\n"):
            self._lost = 0
        if self._lost or not self._put(line):
            self._lost += 1
        return len(line)

    def flush(self) -> None:
        """Nothing is buffered."""

    def _put(self, line: bytes) -> bool:
        """Write a line after what is left of the one before; False if nothing of it could be."""
        self._rest = self._begin(self._rest)
        if self._rest:
            return False
        left = self._begin(line)
        if len(left) == len(line):
            return False
        self._rest = left
        return True

    def _begin(self, data: bytes) -> bytes:
        """Write as much as is possible without waiting; returns the rest."""
        try:
            if self._descriptor is None or self._room is None:
                self._out.write(data)
                self._out.flush()
                return b""
            while data and self._room.poll(0):
                data = data[os.write(self._descriptor, data[: self._CHUNK]) :]
        except (OSError, ValueError):  # ValueError: it is closed
            pass
        return data


def add_timestamp(_logger: object, _method: str, event: Event) -> Event:
    """The event with ``timestamp``: UTC now, microseconds, ending in Z."""
    now = datetime.now(UTC)
    event["timestamp"] = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def redact_values(_logger: object, _method: str, event: Event) -> Event:
    """The event with the password of every URL hidden, however deep the text lies."""
    for key, value in event.items():
        event[key] = redact_value(value)
    return event


def json_line(service: str) -> Callable[[object, str, Event], bytes]:
    """A renderer of one JSON object per event, under the four names that come first."""

    def render(_logger: object, _method: str, event: Event) -> bytes:
        line: dict[str, Any] = {
            "message": event.pop("event", ""),
            "level": event.pop("level").upper(),
            "timestamp": event.pop("timestamp"),
            "service": service,
        }
        for key, value in event.items():
            # A field that has the name of one of the four keeps its value under key_.
            line[f"{key}_" if key in line else key] = value
        try:
            return orjson.dumps(line, default=repr)
        except TypeError:
            # An integer beyond 64 bits or half a surrogate pair: no reason to lose a line.
            return json.dumps(line, default=repr).encode()

    return render


def console_line(colors: bool) -> Callable[[object, str, Event], bytes]:
    """A renderer for people: time, level, event, then the fields as key=value."""
    renderer = structlog.dev.ConsoleRenderer(colors=colors)

    def render(logger: object, method: str, event: Event) -> bytes:
        return renderer(logger, method, event).encode("utf-8", "backslashreplace")

    return render


class StructlogHandler(logging.Handler):
    """Hands what other libraries log to structlog, with the library's name as ``logger``."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger("enricher").log(
                record.levelno,
                # One argument only: structlog would take a "%" in the text for a format.
                record.getMessage(),
                logger=record.name,
                **({"exc_info": record.exc_info} if record.exc_info else {}),
            )
        except Exception:  # noqa: BLE001  logging's own rule: a log line never breaks its caller
            self.handleError(record)
