"""The messages of a product that were processed last, as they were stored.

MongoDB has a message before Redis: a crash in between leaves it stored and neither published nor cached.
What can be in that state was processed last, for a lane keeps its order and the writer holds few commits; so
a start makes the last seconds visible once more, and claims see to it that nobody is told anything twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from enricher.clock import SECOND
from enricher.engine.effects import Effect, SetKey
from enricher.market.documents import micros

SPAN_US: Final = 10 * SECOND
"""Of the receipts before a product's last: what three commits hold, also when they empty a queue."""

MOST: Final = 1500
"""Messages: three commits of the default size."""

Stored = tuple[int, str, Mapping[str, Any]]
"""When it was processed (microseconds), the collection, and the document."""


class Recent:
    """Holds the last `MOST` messages at most, those of the last `SPAN_US`."""

    __slots__ = ("_kept", "_newest_us")

    def __init__(self) -> None:
        self._kept: list[Stored] = []
        self._newest_us = 0

    def add(self, collection: str, document: Mapping[str, Any]) -> None:
        """Take a stored message, in any order."""
        processed = document.get("processed_at")
        if not isinstance(processed, datetime) or processed.tzinfo is None:
            return
        processed_us = micros(processed)
        if processed_us < self._newest_us - SPAN_US:
            return
        self._newest_us = max(self._newest_us, processed_us)
        self._kept.append((processed_us, collection, document))
        if len(self._kept) > 2 * MOST:
            self._kept = self._last()

    def take(self) -> list[Stored]:
        """The last messages in the order in which they were processed; they are forgotten here."""
        last = self._last()
        self._kept = []
        return last

    def _last(self) -> list[Stored]:
        since = self._newest_us - SPAN_US
        last = [stored for stored in self._kept if stored[0] >= since]
        return sorted(last, key=lambda stored: stored[0])[-MOST:]


def aged(effects: Iterable[Effect], age_us: int, behind_us: int = 1) -> Iterator[Effect]:
    """The effects with what is left of a cache's lifetime, and no cache that was set at the time anew.

    A version that is a microsecond older gives way to the one that may be there. An age below 0 is that of a
    clock that was set back.
    """
    age_us = max(0, age_us)
    for effect in effects:
        if not isinstance(effect, SetKey):
            yield effect
        elif (ttl_ms := effect.ttl_ms - age_us // 1000) > 0:
            version = None if effect.version is None else effect.version - behind_us
            yield SetKey(effect.key, effect.value, ttl_ms, version)
