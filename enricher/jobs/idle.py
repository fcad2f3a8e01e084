"""What is kept for the next job: threads and processes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Idle(Generic[T]):
    """Keeps what nobody uses, and lets go of each that was not used for ``seconds``."""

    def __init__(self, seconds: float, let_go: Callable[[T], object]) -> None:
        self._seconds = seconds
        self._let_go = let_go
        # By the time since which they are kept: the last kept is the first used.
        self._kept: deque[tuple[float, T]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, one: T) -> None:
        loop = asyncio.get_running_loop()
        self._kept.append((loop.time(), one))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._sweep)

    def take(self) -> T | None:
        """The one that was kept last, None if there is none."""
        return self._kept.pop()[1] if self._kept else None

    def clear(self) -> None:
        """Let all of them go."""
        while (one := self.take()) is not None:
            self._let_go(one)

    def _sweep(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._kept and self._kept[0][0] + self._seconds <= loop.time():
            self._let_go(self._kept.popleft()[1])
        if self._kept:
            self._timer = loop.call_at(self._kept[0][0] + self._seconds, self._sweep)
