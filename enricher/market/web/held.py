"""What was read a moment ago serves again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from enricher.clock import SECOND
from enricher.engine.ports import Clock

T = TypeVar("T")

_NEVER = 2**62


class Held:
    """What was read a moment ago, by the clock; ``most`` things of it."""

    def __init__(self, clock: Clock, most: int = 2000) -> None:
        self._clock = clock
        self._most = most
        self._held: dict[Hashable, tuple[int, Any]] = {}

    async def get(self, key: Hashable, seconds: float, load: Callable[[], Awaitable[T]]) -> T:
        """What ``load`` said in the last ``seconds``; None, which may change any moment, in the last one."""
        at_us, value = self._held.get(key, (-_NEVER, None))
        # A clock that was set back holds nothing for longer.
        if 0 <= self._clock() - at_us < (seconds if value is not None else min(seconds, 1)) * SECOND:
            return value  # type: ignore[no-any-return]
        loaded = await load()
        if len(self._held) >= self._most:
            self._held.clear()
        self._held[key] = self._clock(), loaded
        return loaded
