"""How far a run is, written as often as others want to see it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from enricher.job_store import JobStore, Progress, Run, StoreUnavailable

INTERVAL = 0.25
"""Seconds between two writes of one run."""


class ProgressWriter:
    """Writes the newest of what it was given, at most one each `INTERVAL`.

    ``lost`` is called when the run is another worker's. What the store does not take now, is given up.
    """

    def __init__(self, run: Run, store: JobStore, lost: Callable[[], object] = lambda: None) -> None:
        self.lost = lost
        self._run = run
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._newest: bytes | None = None
        self._busy = False
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def set(self, progress: bytes) -> None:
        """From whatever thread."""
        with self._lock:
            self._newest = progress
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
        while (progress := self._take()) is not None:
            with suppress(StoreUnavailable):
                if not await self._store.ask(Progress(self._run, progress)):
                    self.lost()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), INTERVAL)

    def _take(self) -> bytes | None:
        with self._lock:
            progress, self._newest = self._newest, None
            self._busy = progress is not None
            return progress
