"""Logging as the command line sets it up; the library itself configures nothing.

Everything goes to one stream, one line each: what enricher says through structlog, and what other
libraries say through `logging`. A JSON line has ``message``, ``level`` (upper case),
``timestamp`` (UTC, with Z), ``service`` and then the fields. No line shows the password of a URL.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import orjson
import structlog

from enricher.config import LogSettings
from enricher.redaction import redact_value

Event = MutableMapping[str, Any]

# At debug the MongoDB driver logs every command with the documents in it.
_CHATTY = ("pymongo", "asyncio")


def configure(settings: LogSettings, service: str, stream: BinaryIO | None = None) -> None:
    """Send the whole process's log to ``stream`` (stdout), in the format and from the level set.

    ``service`` is the name in every line. To be called once, before the first line: loggers keep
    the set-up they met first.
    """
    out = stream if stream is not None else sys.stdout.buffer
    lines = _Lines(out)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    render = json_line(service) if settings.format == "json" else console_line(out.isatty())
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
    logging.captureWarnings(capture=True)


class _Lines:
    """Where the lines go: what a full disk or a reader that has gone does not take is lost.

    It is no reason to stop working: a collector of logs may come back.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, line: bytes) -> int:
        try:
            return self._out.write(line)
        except (OSError, ValueError):  # ValueError: it is closed
            return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._out.flush()


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
