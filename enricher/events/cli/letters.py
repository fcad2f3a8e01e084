"""The dead letters of events: whoever retries or deletes an event needs its dead letters no more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from contextlib import AsyncExitStack

from enricher.cli.dlq_retry import Letters, Place, opened
from enricher.config import Settings
from enricher.dead_letters.record import StoredLetter
from enricher.events.settings import EventSettings


class LettersOfEvents:
    """The dead letters of some events as they are at `find`; `drop` removes those of one.

    A dead letter that an event becomes after that stays. Both raise what the client of Redis does.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stream = settings.section(EventSettings).stream
        self._found: dict[str, list[StoredLetter]] = defaultdict(list)
        self._stack = AsyncExitStack()
        self._letters: Letters | None = None

    async def find(self, ids: Collection[str]) -> None:
        """Look through all dead letters, once."""
        wanted = frozenset(ids)
        self._letters = await self._stack.enter_async_context(opened(self._settings, Place()))
        async for letter in self._letters.store.letters():
            message = letter.message
            if letter.topic == self._stream and isinstance(message, dict) and message.get("id") in wanted:
                self._found[message["id"]].append(letter)

    async def drop(self, id_: str) -> None:
        """Remove those of an event."""
        if self._letters is not None:
            for letter in self._found.pop(id_, ()):
                await self._letters.store.remove(letter)

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()
