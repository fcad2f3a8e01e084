"""A third store of dead letters, as somebody else would write it: a table of SQLite, bounded."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

from enricher.dead_letters import Added, DeadLetter, LetterStore, StoredLetter, encode


class SqliteLetters(LetterStore):
    """Dead letters in the file at ``path`` (default: in memory), ``most`` of them."""

    name = "sqlite letters"

    def __init__(self, path: str = ":memory:", most: int = 100_000) -> None:
        self._most = most
        self._table = sqlite3.connect(path, isolation_level=None)
        self._table.execute(
            "create table if not exists letters (id integer primary key, task_id text unique, entry blob)"
        )
        self._expected: set[str] = set()
        self._evicted = 0

    async def add(self, letter: DeadLetter) -> Added:
        row = (letter.task_id, encode(letter))
        done = self._table.execute("insert or ignore into letters (task_id, entry) values (?, ?)", row)
        length, evicted = await self.count(), 0
        if done.rowcount and length > self._most and letter.task_id not in self._expected:
            evicted = length - self._most
            self._table.execute(
                "delete from letters where id in (select id from letters order by id limit ?)", (evicted,)
            )
            self._evicted += evicted
        return Added(length - evicted, evicted, done.rowcount > 0)

    async def count(self) -> int:
        return int(self._table.execute("select count(*) from letters").fetchone()[0])

    async def letters(self) -> AsyncIterator[StoredLetter]:
        rows = self._table.execute("select entry, id from letters order by id desc").fetchall()
        for position, (entry, number) in enumerate(rows):
            yield self.read(entry, position, str(number).encode())

    async def remove(self, letter: StoredLetter) -> bool:
        return self._table.execute("delete from letters where id = ?", (int(letter.id),)).rowcount > 0

    async def replace(self, letter: StoredLetter, entry: bytes, twin: StoredLetter | None = None) -> bool:
        changed = "update letters set entry = ? where id = ?"
        if not self._table.execute(changed, (entry, int(letter.id))).rowcount:
            return False
        if twin is not None:
            await self.remove(twin)
        return True

    async def expect(self, task_id: str) -> None:
        self._expected.add(task_id)

    async def forget(self, task_id: str) -> None:
        self._expected.discard(task_id)

    async def evicted(self) -> int:
        return self._evicted
