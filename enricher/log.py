"""The log of enricher: it goes where the host's goes, and no line is ever a reason to fail.

Where the program has configured structlog, a line is an event of its logger "enricher"; elsewhere it is a
record of ``logging.getLogger("enricher")`` that reads ``event key=value ...``, with the values in its
attribute ``fields``. Passwords in URLs are hidden before either sees them. What cannot be written (a pipe
without a reader, a full disk, a processor that raises) is lost.

Of one event about one topic, sink or the like, the first 5 lines are written, then one a minute, whose
``suppressed`` is the number of those in between; one that was held back itself says ``seconds_ago``. Lines at
debug are not limited: they were asked for.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

from enricher.redaction import redact_value
from enricher.texts import trace_of

NAME = "enricher"

# What a line may be about: each has its own first lines.
_ABOUT = (
    *("topic", "stage", "source", "stream", "sink", "store", "shard", "channel", "part", "product", "kind"),
    *("collection", "handler", "what"),
)

# An end is of the kind of its beginning: what is said last, of all that was held back, is how it is now. Both
# are of one level, or a host that leaves out the end would miss the beginning.
_ENDS = {"outage_end": "outage_begin", "spill_ends": "spill_begins"}
_BEGIN = frozenset(_ENDS.values())

_METHODS = {
    getattr(logging, name.upper()): name for name in ("debug", "info", "warning", "error", "critical")
}

Line = tuple[int, str, dict[str, Any]]
"""Level as in `logging`, event, fields."""


class _Kind:
    """Lines that say the same of the same thing."""

    __slots__ = ("at", "hidden", "left", "newest", "next")

    def __init__(self, left: int) -> None:
        self.left = left
        self.next = 0.0
        self.hidden = 0
        self.newest: Line | None = None
        self.at = 0.0


class Limiter:
    """Which lines are written: of each kind the ``first`` few, then one in ``every`` seconds.

    A kind is an event (or its end) and what it is about; it begins anew after ``every`` seconds without a
    line. Of one event ``most`` kinds are told apart, and all others are one. Times are seconds on any clock,
    handed in.
    """

    def __init__(self, first: int = 5, every: float = 60.0, most: int = 32) -> None:
        self._first = first
        self._every = every
        self._most = most
        self._events: dict[str, dict[tuple[str, ...], _Kind]] = {}

    def admit(self, line: Line, now: float) -> int | None:
        """How many lines of this kind were held back since the last one written; None: so is this one."""
        _, event, fields = line
        about = tuple([f"{name}={fields[name]}" for name in _ABOUT if name in fields])
        event = _ENDS.get(event, event)
        kinds = self._events.setdefault(event, {})
        if about not in kinds and len(kinds) >= self._most:
            about = ("others",)
        kind = kinds.get(about)
        if kind is None or (now >= kind.next and not kind.hidden):
            kind = kinds[about] = _Kind(self._first * (2 if event in _BEGIN else 1))
        if kind.left:
            kind.left -= 1
        elif now < kind.next:
            kind.hidden += 1
            kind.newest, kind.at = line, now
            return None
        kind.next = now + self._every
        hidden, kind.hidden = kind.hidden, 0
        return hidden

    def overdue(self, now: float) -> list[tuple[Line, int, float]]:
        """The newest line of each kind that has been held back for long enough, in the order they came.

        With each how many before it were, and when it came.
        """
        lines = []
        for event, kinds in list(self._events.items()):
            for about, kind in list(kinds.items()):
                if now < kind.next:
                    continue
                if kind.hidden and kind.newest is not None:
                    lines.append((kind.newest, kind.hidden - 1, kind.at))
                    kind.next, kind.hidden, kind.newest = now + self._every, 0, None
                else:
                    kinds.pop(about, None)
            if not kinds:
                self._events.pop(event, None)
        return sorted(lines, key=lambda one: one[2])


class Log:
    """Writes lines; no method raises, whatever the host's logging does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limiter = Limiter()

    def debug(self, event: str, /, **fields: Any) -> None:
        """A line for who looks closely; ask `debugging` before making one per message."""
        if self.debugging():
            self._say((logging.DEBUG, event, fields), held_back=0)

    def info(self, event: str, /, **fields: Any) -> None:
        """A line about what goes as it should."""
        self._say((logging.INFO, event, fields))

    def warning(self, event: str, /, **fields: Any) -> None:
        """A line about what somebody should know."""
        self._say((logging.WARNING, event, fields))

    def error(self, event: str, /, **fields: Any) -> None:
        """A line about what somebody has to mend."""
        self._say((logging.ERROR, event, fields))

    def critical(self, event: str, /, **fields: Any) -> None:
        """A line about what has to be mended now."""
        self._say((logging.CRITICAL, event, fields))

    def exception(self, event: str, /, **fields: Any) -> None:
        """A line about the error being handled, with its traceback in ``exception``."""
        self._say((logging.ERROR, event, {"exc_info": True, **fields}))

    def summary(self, event: str, /, **fields: Any) -> None:
        """A line at info that comes at its own interval, and is not limited any further."""
        self._say((logging.INFO, event, fields), held_back=0)

    def debugging(self) -> bool:
        """Whether lines at debug would be seen. A program that has not set up logging gets none."""
        try:
            if not structlog.is_configured():
                return _plain.isEnabledFor(logging.DEBUG)
            bound = _structured.bind()
            ask = getattr(bound, "is_enabled_for", None) or getattr(bound, "isEnabledFor", None)
            return bool(ask(logging.DEBUG)) if ask is not None else False
        except Exception:  # noqa: BLE001  the host's set-up is no reason to fail
            return False

    def catch_up(self, *, at_end: bool = False) -> None:
        """Write what was held back and is due, to be called now and then: more of a kind may never come.

        ``at_end`` all of it is due, and every kind begins anew.
        """
        now = self._clock()
        for (level, event, fields), hidden, at in self._limiter.overdue(float("inf") if at_end else now):
            self._say((level, event, {**fields, "seconds_ago": round(now - at, 1)}), held_back=hidden)
        if at_end:
            self._limiter = Limiter()

    def _say(self, line: Line, *, held_back: int | None = None) -> None:
        try:
            if "exc_info" in line[2]:
                line = _with_traceback(line)
            if held_back is None:
                held_back = self._limiter.admit(line, self._clock())
            if held_back is not None:
                _write(line, held_back)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001, S110  nothing depends on a log line
            pass


_structured: Any = structlog.get_logger(NAME)
_plain = logging.getLogger(NAME)


def _write(line: Line, held_back: int) -> None:
    level, event, fields = line
    structured = structlog.is_configured()
    if not structured and not _plain.isEnabledFor(level):
        return
    clean = {name: redact_value(value) for name, value in fields.items()}
    if held_back:
        clean["suppressed"] = held_back
    if structured:
        try:
            _write_structured(level, event, clean)
        except Exception:  # noqa: BLE001  then the standard library's log may have a way
            _write_plain(level, event, clean)
    else:
        _write_plain(level, event, clean)


def _with_traceback(line: Line) -> Line:
    """The line with its ``exc_info`` as text: no formatter of a host would hide the passwords in it."""
    level, event, fields = line
    error = fields["exc_info"]
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    others = {name: value for name, value in fields.items() if name != "exc_info"}
    if isinstance(error, BaseException):
        others["exception"] = trace_of(error).rstrip()
    return level, event, others


def _write_structured(level: int, event: str, fields: dict[str, Any]) -> None:
    bound = _structured.bind()
    if isinstance(bound, structlog.stdlib.AsyncBoundLogger):
        # Its methods would have to be awaited.
        bound = bound.sync_bl
    getattr(bound, _METHODS[level])(event, **fields)


def _write_plain(level: int, event: str, fields: dict[str, Any]) -> None:
    shown = dict(fields)
    exception = shown.pop("exception", None)
    text = " ".join([event, *(f"{name}={value!r}" for name, value in shown.items())])
    if exception:
        text += f"\n{exception}"
    # Without arguments a "%" in the text is no format. The caller is who called a method of `Log`.
    _plain.log(level, text, extra={"event": event, "fields": fields}, stacklevel=5)


log = Log()
