"""The dead letters as people and programs work with them, wherever they are kept.

`LetterStore` is the interface. A store of one's own implements its five abstract methods and gets the rest:
looking, filtering, retries, the sink of a worker (`enricher.dead_letters.DeadLetterSink`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import Any

import msgspec

from enricher.dead_letters.filters import EVERY, LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.engine.effects import DeadLetter
from enricher.errors import EnricherError
from enricher.texts import as_bytes, as_text

SHORTEST_PREFIX = 4
NO_TOPICS: Mapping[str, str] = MappingProxyType({})


class UnknownLetter(EnricherError):
    """No dead letter, or more than one, answers to a name."""


class Added(msgspec.Struct, frozen=True):
    """What came of `LetterStore.add`: the length afterwards, what fell off the old end, whether it is new."""

    length: int
    evicted: int = 0
    new: bool = True


class LetterStore(ABC):
    """Dead letters in one place, called ``name``.

    ``topics`` are the topics by task name; they tell the topic of an old worker's entries, which name only
    their task. What the place raises (it is away, it refuses) is passed on. An entry is the JSON of
    `enricher.dead_letters.encode`, or whatever else is found there: `read` makes a `StoredLetter` of it.
    """

    name: str = "dead letters"
    topics: Mapping[str, str] = NO_TOPICS
    shown_as: str = ""
    """The screen that shows what is here under another name, and retries it; empty for dead letters."""

    # -- what a store has to do ------------------------------------------------------------------------

    @abstractmethod
    async def add(self, letter: DeadLetter) -> Added:
        """Store ``letter``, once per ``task_id`` however often it is asked.

        A bounded store lets its oldest entries go and counts them, unless the id is one it was told to
        `expect`.
        """

    @abstractmethod
    async def count(self) -> int:
        """How many there are."""

    @abstractmethod
    def letters(self) -> AsyncIterator[StoredLetter]:
        """All that are there at the start, newest first, whatever arrives meanwhile."""

    @abstractmethod
    async def remove(self, letter: StoredLetter) -> bool:
        """Remove exactly this entry; False if it is no longer there."""

    @abstractmethod
    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        """Put ``entry`` in place of the letter and remove ``twin``, at once.

        False, and nothing changed, if the letter is no longer there.
        """

    # -- what a store may do better than this ----------------------------------------------------------

    async def page(self, after: str = "", most: int = 200) -> tuple[list[tuple[str, StoredLetter]], str]:
        """The newest ``most`` letters that come after the mark ``after``, each with a mark of its own.

        Also the mark after which the next page begins, "" where none follows. Letters that arrive meanwhile
        move no mark.
        """
        total = await self.count()
        first = first_after(after, total)
        found = []
        async for letter in self.letters():
            if letter.position >= first + most:
                break
            if letter.position >= first:
                found.append((mark_of(letter, total), letter))
        return found, found[-1][0] if found and found[-1][1].position < total - 1 else ""

    async def marked(self, mark: str) -> StoredLetter | None:
        """The letter that `page` gave this mark, if it is there."""
        total = await self.count()
        letter = await self.at(first_after(mark, total) - 1)
        if letter is not None and mark_of(letter, total) == mark:
            return letter
        # Older ones have gone meanwhile.
        digest = mark.partition(".")[2]
        async for letter in self.letters():
            if mark_of(letter, total).partition(".")[2] == digest:
                return letter
        return None

    async def at(self, position: int) -> StoredLetter | None:
        """The letter at ``position`` (0 is the newest), if there is one."""
        async for letter in self.letters():
            if letter.position == position:
                return letter
        return None

    async def fresh(self, task_id: str) -> StoredLetter | None:
        """The letter that was added under this id a short while ago, if it is there."""
        async for letter in self.letters():
            if letter.task_id == as_text(task_id):
                return letter
        return None

    async def expect(self, task_id: str) -> None:  # noqa: B027
        """Told before a message is tried again: its next letter, under this id, must push nothing out.

        That letter is merged with the one that is being tried, so the length stays. `forget` follows.
        """

    async def forget(self, task_id: str) -> None:  # noqa: B027
        """The letter of this id is no longer expected."""

    async def evicted(self) -> int:
        """How many have ever fallen off the old end."""
        return 0

    # -- what every store can do -----------------------------------------------------------------------

    async def peek(self, limit: int = 10, wanted: LetterFilter = EVERY) -> list[StoredLetter]:
        """The newest ``limit`` letters that ``wanted`` lets through, newest first; they stay."""
        return [letter async for letter in matching(self.letters(), wanted, limit)]

    async def get(self, name: str) -> StoredLetter:
        """The letter at a position (``0``: the newest), or of a task id or the unique start of one.

        Raises `UnknownLetter`.
        """
        name = as_text(name)
        if name.isascii() and name.isdigit() and len(name) <= 9:
            position = int(name)
            found_there = await self.at(position)
            if found_there is not None:
                return found_there
            raise UnknownLetter(f"no dead letter at position {name}; there are {await self.count()}")
        if len(name) < SHORTEST_PREFIX:
            raise UnknownLetter(f"{name!r}: at least {SHORTEST_PREFIX} characters of a task id are needed")
        candidates: list[StoredLetter] = []
        async for letter in self.letters():
            if letter.task_id == name:
                return letter
            if letter.task_id.startswith(name):
                candidates.append(letter)
        if not candidates:
            raise UnknownLetter(f"no dead letter {name!r}; `enricher dlq list` shows their ids and positions")
        if len(candidates) > 1:
            raise UnknownLetter(f"{len(candidates)} dead letters begin with {name!r}; give more of the id")
        return candidates[0]

    def read(self, raw: bytes, position: int = -1, id: bytes = b"") -> StoredLetter:  # noqa: A002
        """The letter that an entry is."""
        raw, id = as_bytes(raw), as_bytes(id)  # noqa: A001
        try:
            decoded = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = None
        record = decoded if isinstance(decoded, dict) else {}
        return StoredLetter(position, raw, record, self._topic(record), id)

    def _topic(self, record: Mapping[str, Any]) -> str | None:
        if isinstance(topic := record.get("topic"), str) and topic:
            return topic
        # An old worker may have registered its tasks with their module in front.
        name = str(record.get("task_name") or "").rpartition(".")[2]
        return self.topics.get(name)


def mark_of(letter: StoredLetter, total: int) -> str:
    """The place of a letter counted from the old end, of ``total``, and a digest of its id."""
    return f"{total - letter.position}.{hashlib.sha256(letter.task_id.encode()).hexdigest()[:16]}"


def first_after(mark: str, total: int) -> int:
    """The position that follows the one of a mark; 0 for none."""
    return total - int(mark.partition(".")[0].partition("-")[0] or total + 1) + 1


async def matching(
    letters: AsyncIterable[StoredLetter], wanted: LetterFilter, limit: int | None
) -> AsyncIterator[StoredLetter]:
    """The first ``limit`` (None: all) of ``letters`` that ``wanted`` lets through."""
    left: float = inf if limit is None else limit
    if left > 0:
        async for letter in letters:
            if wanted.matches(letter):
                yield letter
                left -= 1
                if left <= 0:
                    return


class AcknowledgingStore(LetterStore):
    """A store in the Redis of the streams: a letter and what acknowledges its entry are one step."""

    @abstractmethod
    async def add(self, letter: DeadLetter, acks: Sequence[str] = ()) -> Added:
        """Store ``letter`` once, and acknowledge stream entries (stream, group, id ...)."""
