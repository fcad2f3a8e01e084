"""Exceptions that another thread raises in the main thread of a process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from enricher.jobs.frames import RunKey

SIGNAL = signal.SIGUSR1
"""It interrupts a job, as Celery's does; a job may use SIGALRM itself."""


class Interrupts:
    """Raises exceptions in the main thread while it runs a job, but not in the midst of a message."""

    def __init__(self) -> None:
        self._run: RunKey | None = None
        self._held = 0
        self._thrown: tuple[RunKey, type[BaseException]] | None = None
        self._main = threading.get_ident()
        signal.signal(SIGNAL, lambda *_: self._raise())

    def run(self, run: RunKey, function: Callable[[], Any]) -> Any:
        """What the function returns. Raises what it raises, and what is thrown into this run."""
        try:
            self._run = run
            self._raise()
            return function()
        finally:
            self._run = None

    @contextmanager
    def later(self) -> Iterator[None]:
        """What is thrown meanwhile is raised at the end. In other threads nothing ever is."""
        if threading.get_ident() != self._main:
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self._raise()

    def throw(self, run: RunKey, exception: type[BaseException]) -> None:
        """Raise it in this run, from another thread; one that is yet to begin gets it then."""
        self._thrown = (run, exception)
        signal.pthread_kill(self._main, SIGNAL)

    def _raise(self) -> None:
        if self._thrown is not None and not self._held and self._run == self._thrown[0]:
            exception, self._thrown = self._thrown[1], None
            raise exception
