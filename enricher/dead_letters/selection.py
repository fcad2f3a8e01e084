"""A choice of dead letters, held whole whatever becomes of their store meanwhile."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from enricher.dead_letters.filters import EVERY, LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.store import LetterStore

_IN_MEMORY = 32 * 1024 * 1024

Kind = tuple[str, str, str]
"""Topic, stage and type of error; empty where a letter does not tell."""


class Chosen:
    """Letters in the order in which they were added, newest first; use it in a ``with`` block.

    Beyond 32 MiB they are kept in a temporary file, so a store of any size can be worked through. ``kinds``
    counts them.
    """

    def __init__(self, store: LetterStore) -> None:
        self._store = store
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  closed on leaving
        self._places: list[tuple[int, int]] = []
        self.kinds: Counter[Kind] = Counter()

    def add(self, letter: StoredLetter) -> None:
        """One more, older than all before."""
        packed = msgspec.msgpack.encode((letter.position, letter.raw, letter.id))
        self._file.seek(0, 2)
        self._places.append((self._file.tell(), len(packed)))
        self._file.write(packed)
        self.kinds[letter.topic or "", letter.stage, letter.error_type] += 1

    def __len__(self) -> int:
        return len(self._places)

    def newest_first(self) -> Iterator[StoredLetter]:
        """The letters, newest first."""
        return map(self._at, self._places)

    def oldest_first(self) -> Iterator[StoredLetter]:
        """The letters, oldest first."""
        return map(self._at, reversed(self._places))

    def _at(self, place: tuple[int, int]) -> StoredLetter:
        self._file.seek(place[0])
        packed = self._file.read(place[1])
        position, raw, id_ = msgspec.msgpack.decode(packed, type=tuple[int, bytes, bytes])
        return self._store.read(raw, position, id_)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


async def choose(
    store: LetterStore,
    wanted: LetterFilter = EVERY,
    limit: int | None = None,
    letters: AsyncIterable[StoredLetter] | None = None,
) -> Chosen:
    """The newest ``limit`` of ``letters`` (default: all of ``store``) that ``wanted`` lets through."""
    chosen = Chosen(store)
    if limit is not None and limit <= 0:
        return chosen
    async for letter in store.letters() if letters is None else letters:
        if wanted.matches(letter):
            chosen.add(letter)
            if len(chosen) == limit:
                break
    return chosen
