"""Tables that fit the terminal: columns are left out by its width, rows and whole tables by its height."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from enricher.cli.output import visible

GAP = 2
# Columns that a label keeps however narrow the terminal is: more than any topic or product of ours needs.
FLOOR = 24

# Without the full block: rows of bars would touch.
_BARS = "▁▂▃▄▅▆▇"


@dataclass(frozen=True, slots=True)
class Trend:
    """A cell that shows numbers as a line of bars, the newest at the right, as many as there is room for.

    The height of a bar is its share of the highest; with ``spread`` the lowest is at the foot, as for prices.
    """

    values: Sequence[float | None]
    style: str = "cyan"
    spread: bool = False

    def bars(self, width: int) -> Text:
        """The last ``width`` numbers; None is a gap."""
        shown = list(self.values)[-width:]
        known = [value for value in shown if value is not None]
        low, high = min(known) if known and self.spread else 0.0, max(known, default=0.0)
        step = (high - low) / (len(_BARS) - 1) or 1.0
        bars = (" " if value is None else _BARS[round((value - low) / step)] for value in shown)
        return Text("".join(bars), style=self.style)

    def __str__(self) -> str:
        return self.bars(len(self.values)).plain


Cell = str | Text | Trend


class Sheet:
    """A table with a title that shows its labels whole before it shows its numbers.

    ``numbers`` are aligned to the right and never cut. ``wraps`` are texts that may take several lines;
    every other column is a label of one line. Where the width does not do, the columns in ``drop`` are left
    out, the first one first; of texts longer than ``floor`` only that much need stay.
    """

    def __init__(
        self,
        title: str,
        *columns: str,
        numbers: Sequence[str] = (),
        drop: Sequence[str] = (),
        wraps: Sequence[str] = (),
        floor: int = FLOOR,
    ) -> None:
        self.title = title
        self.columns = columns
        self.rows: list[tuple[Cell, ...]] = []
        self._numbers = frozenset(numbers)
        self._drop = tuple(drop)
        self._wraps = frozenset(wraps)
        self._floor = floor

    def add_row(self, *cells: Cell) -> None:
        if len(cells) != len(self.columns):
            raise ValueError(f"expected {len(self.columns)} cells, got {len(cells)}")
        self.rows.append(tuple(visible(cell) if isinstance(cell, str) else cell for cell in cells))

    def fitted(self, width: int, rows: int | None = None) -> Iterator[RenderableType]:
        """The title and the table in ``width`` columns, with the first ``rows`` rows (None: all)."""
        shown = self.rows[:rows]
        if self.title:
            rest = f" ({len(shown)} of {len(self.rows)})" if len(shown) < len(self.rows) else ""
            title = Text(f"{self.title}{rest} ", style="bold cyan", no_wrap=True, overflow="ellipsis")
            yield title.append("─" * max(0, width - cell_len(title.plain)), style="dim")
        widths = self._widths(width)
        table = Table(
            box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim" if self.title else "bold"
        )
        for name, columns in widths.items():
            table.add_column(
                name,
                justify="right" if name in self._numbers else "left",
                width=columns,
                no_wrap=name not in self._wraps,
                overflow="fold" if name in self._wraps else "ellipsis",
            )
        chosen = [self.columns.index(name) for name in widths]
        for row in shown:
            cells = zip((row[i] for i in chosen), widths.values(), strict=True)
            table.add_row(*(_shown(cell, columns) for cell, columns in cells))
        yield table

    def _widths(self, width: int) -> dict[str, int]:
        """The columns to show and how wide, in their order."""
        widths = {
            name: max([cell_len(name), *(cell_len(str(row[i])) for row in self.rows)])
            for i, name in enumerate(self.columns)
        }
        floors = {name: w if name in self._numbers else min(w, self._floor) for name, w in widths.items()}
        for name in self._drop:
            if _total(floors) <= width:
                break
            widths.pop(name, None)
            floors.pop(name, None)
        for name in sorted(widths, key=lambda name: (name not in self._wraps, -widths[name])):
            excess = _total(widths) - width
            if excess > 0:
                widths[name] = max(floors[name], widths[name] - excess)
        return widths

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.fitted(options.max_width)


def _shown(cell: Cell, width: int) -> Text:
    if isinstance(cell, Trend):
        return cell.bars(width)
    # Brackets in a name or an error are brackets, not markup.
    return Text(cell) if isinstance(cell, str) else cell


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


class Stack:
    """Sheets below one another, a blank line between two; the most important comes first.

    With ``by_height`` it is never higher than the terminal: the last sheets lose rows, then go, and a last
    line says which. Parts that are not sheets (a line of text) are always shown.
    """

    def __init__(self, parts: Sequence[RenderableType], *, by_height: bool = False) -> None:
        self.parts = tuple(parts)
        self._by_height = by_height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = console.height if self._by_height else None
        chosen, missing = self._chosen(console, options, height)
        if missing and height is not None:
            chosen, missing = self._chosen(console, options, height - 1)
        for i, part in enumerate(chosen):
            if i:
                yield Text()
            yield from part
        if missing:
            line = f"No room for: {', '.join(missing)}"
            yield Text(line, style="dim", no_wrap=True, overflow="ellipsis")

    def _chosen(
        self, console: Console, options: ConsoleOptions, height: int | None
    ) -> tuple[list[list[RenderableType]], list[str]]:
        """What is shown, part by part, and the titles of the sheets that are cut or left out."""
        shown: list[list[RenderableType]] = []
        missing: list[str] = []

        def lines(rendered: Sequence[RenderableType]) -> int:
            return sum(len(console.render_lines(one, options.update(height=None))) for one in rendered)

        left = height
        if left is not None:
            left -= sum(lines([part]) + 1 for part in self.parts if not isinstance(part, Sheet))
        for part in self.parts:
            if not isinstance(part, Sheet):
                shown.append([part])
                continue
            for rows in range(len(part.rows), -1, -1):
                rendered = list(part.fitted(options.max_width, rows))
                needed = lines(rendered) + (1 if shown else 0)
                if left is None or needed <= left:
                    break
            else:
                rows = -1
            if rows < len(part.rows):
                missing.append(part.title)
            if rows > 0 or rows == len(part.rows):
                shown.append(rendered)
                left = None if left is None else left - needed
        return shown, missing
