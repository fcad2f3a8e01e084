"""How far a run is, and what it says, written as often as others want to see it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from enricher.job_store import AddToLog, JobStore, LogLine, Progress, Run, StoreUnavailable
from enricher.redaction import redact_text, redact_value

INTERVAL = 0.25
"""Seconds between two writes of one run."""


_LONGEST = 4_000
_MOST_LINES = 100


class ProgressWriter:
    """Writes the newest progress it was given and the last lines, at most once each `INTERVAL`.

    ``lost`` is called when the run is another worker's. What the store does not take now, is given up.
    """

    def __init__(self, run: Run, store: JobStore, lost: Callable[[], object] = lambda: None) -> None:
        self.lost = lost
        self._run = run
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._newest: bytes | None = None
        self._lines: list[bytes] = []
        self._busy = False
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def set(self, progress: bytes) -> None:
        """From whatever thread."""
        with self._lock:
            self._newest = progress
        self._wake()

    def say(self, message: str, fields: Mapping[str, Any]) -> None:
        """A line of the log, from whatever thread."""
        line = _line(self._run, message, fields)
        with self._lock:
            self._lines = [*self._lines[1 - _MOST_LINES :], line]
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._busy:
                return
            self._busy = True
        with suppress(RuntimeError):  # the loop has ended, while a thread goes on
            self._loop.call_soon_threadsafe(self._begin)

    async def close(self) -> None:
        """Write the last one."""
        self._closing.set()
        if self._task is not None:
            await self._task
        await self._write()

    def _begin(self) -> None:
        if not self._closing.is_set():
            self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while calls := self._take():
            with suppress(StoreUnavailable):
                for call in calls:
                    if not await self._store.ask(call):
                        self.lost()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), INTERVAL)

    def _take(self) -> list[Progress | AddToLog]:
        with self._lock:
            progress, self._newest = self._newest, None
            lines, self._lines = self._lines, []
            self._busy = progress is not None or bool(lines)
        calls: list[Progress | AddToLog] = []
        if progress is not None:
            calls.append(Progress(self._run, progress))
        if lines:
            calls.append(AddToLog(self._run, b"".join(lines)))
        return calls


def _line(run: Run, message: str, fields: Mapping[str, Any]) -> bytes:
    """A line as it is kept, without passwords; fields that are too large or cannot be JSON are text."""
    at, text = time.time_ns() // 1_000_000, redact_text(str(message)[:_LONGEST])
    try:
        shown = {name: redact_value(value) for name, value in fields.items()}
        line = msgspec.json.encode(LogLine(at, run.attempt, text, shown), enc_hook=ascii)
    except Exception:  # noqa: BLE001  values may be anything, and a job does not fail of a line
        line = b""
    if not 0 < len(line) <= _LONGEST:
        shown = {ascii(name)[1:-1]: redact_text(ascii(fields[name])[:200]) for name in list(fields)[:10]}
        text = text.encode("utf-8", "replace").decode()[: _LONGEST // 2]
        line = msgspec.json.encode(LogLine(at, run.attempt, text, shown))
    return line + b"\n"
