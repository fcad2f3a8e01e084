"""The W3C context of what runs now, for whoever sends something on: "" while nothing is traced.

Nothing of OpenTelemetry is imported for it; `enricher.tracing` puts its own function here.
"""

from __future__ import annotations

from collections.abc import Callable

FIELD = "traceparent"
"""What stream entries and HTTP call it (https://www.w3.org/TR/trace-context/)."""

_read: Callable[[], str] = str


def traceparent() -> str:
    """The context of the span that is open here, as a traceparent header says it."""
    return _read()


def read_with(read: Callable[[], str]) -> None:
    """Let ``read`` say it from now on."""
    global _read
    _read = read
