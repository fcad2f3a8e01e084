"""A choice of dead letters, held whole whatever becomes of their store meanwhile."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterable, Iterator
from typing import Self

import msgspec

from enricher.dead_letters.filters import EVERY, LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.store import LetterStore, matching

_IN_MEMORY = 32 * 1024 * 1024

Kind = tuple[str, str, str]
"""Topic, stage and type of error; empty where a letter does not tell."""


class Selection:
    """Letters, newest first; use it in a ``with`` block. ``kinds`` counts them.

    Beyond 32 MiB they are kept in a temporary file, so a store of any size can be worked through.
    """

    def __init__(self, store: LetterStore) -> None:
        self._store = store
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  closed on leaving
        self._places: list[tuple[int, int]] = []
        self.kinds: Counter[Kind] = Counter()

    def add(self, letter: StoredLetter) -> None:
        """One more, older than all before; to be called before they are read."""
        packed = msgspec.msgpack.encode((letter.raw, letter.position, letter.id))
        self._places.append((self._file.tell(), len(packed)))
        self._file.write(packed)
        self.kinds[letter.topic or "", letter.stage, letter.error_type] += 1

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[StoredLetter]:
        return map(self._at, self._places)

    def __reversed__(self) -> Iterator[StoredLetter]:
        return map(self._at, reversed(self._places))

    def _at(self, place: tuple[int, int]) -> StoredLetter:
        self._file.seek(place[0])
        packed = self._file.read(place[1])
        return self._store.read(*msgspec.msgpack.decode(packed, type=tuple[bytes, int, bytes]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


async def select(
    store: LetterStore,
    wanted: LetterFilter = EVERY,
    limit: int | None = None,
    letters: AsyncIterable[StoredLetter] | None = None,
) -> Selection:
    """The newest ``limit`` of ``letters`` (default: all of ``store``) that ``wanted`` lets through."""
    selection = Selection(store)
    async for letter in matching(store.letters() if letters is None else letters, wanted, limit):
        selection.add(letter)
    return selection
