"""One row of a table, its cells found by the names of their columns."""

from __future__ import annotations

from pathlib import Path

from enricher.market.feed.recording import NoSuchColumn
from enricher.market.files.dialect import Dialect
from enricher.market.files.values import Cell


class Row:
    """One row of a table: ``row[column]`` is the cell in a column, named in any case or by index from 0."""

    __slots__ = ("_cells", "_dialect", "line", "path")

    def __init__(self, path: Path, line: int, dialect: Dialect, cells: list[str]) -> None:
        self.path = path
        self.line = line
        self._dialect = dialect
        self._cells = cells

    def __getitem__(self, column: int | str) -> Cell:
        index = self._dialect.index(column)
        if index is None:
            known = ", ".join(self._dialect.header) or f"0 to {len(self._cells) - 1}"
            expected = f"one of the columns {known}"
            raise NoSuchColumn(self.path, self.line, f"column {column}", expected, column)
        name = self._dialect.header[index] if self._dialect.has_header else ""
        return Cell(self.path, self.line, f"column {name or index}", self._cells[index])

    @property
    def values(self) -> list[str]:
        """The texts of all cells, in the order of the columns."""
        return self._cells

    def __contains__(self, column: int | str) -> bool:
        return self._dialect.index(column) is not None

    def get(self, column: int | str) -> Cell | None:
        """The cell in a column, None where there is no such column."""
        return None if self._dialect.index(column) is None else self[column]
