"""Tables of jobs: on a terminal one for each state, with what matters there; for programs lines with tabs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from enricher.cli.tables import Cell, Sheet
from enricher.job_store import JobRecord, State
from enricher.jobs.cli.texts import COLOURS, clock, error_line, line, progress, short, short_id, utc
from enricher.jobs.selection import arguments, class_name

_NARROW, _WIDE = 140, 170
_LONGEST = 300  # characters of arguments and errors that no terminal has room for

TSV = (
    *("id", "state", "queue", "class", "attempt", "enqueued_at", "due_at", "started_at", "finished_at"),
    *("worker", "arguments", "error"),
)


class Column(NamedTuple):
    """A column of a table of jobs: its name, its cell for a job at a time (ms), a number or not."""

    name: str
    cell: Callable[[JobRecord, int], str]
    number: bool = False


_ATTEMPT = Column("try", lambda job, _: str(job.attempt), number=True)
_TRIES = Column("tries", lambda job, _: str(job.attempt), number=True)
_ERROR = Column("error", lambda job, _: error_line(job)[:_LONGEST])
_ENDED = Column("ended", lambda job, now: clock(job.finished_ms, now))
_DUE = Column("due", lambda job, now: "now" if job.due_ms <= now else f"in {short(job.due_ms - now)}", True)

COLUMNS: Mapping[State, tuple[Column, ...]] = {
    "running": (
        Column("for", lambda job, now: short(now - job.started_ms), number=True),
        _ATTEMPT,
        Column("progress", lambda job, _: "cancelling" if job.cancelling else progress(job.progress)),
        Column("worker", lambda job, _: line(job.worker)),
    ),
    "retrying": (_DUE, _TRIES, _ERROR),
    "waiting": (Column("for", lambda job, now: short(now - job.enqueued_ms), number=True),),
    "scheduled": (_DUE, Column("at", lambda job, now: clock(job.due_ms, now))),
    "failed": (_ENDED, _TRIES, _ERROR),
    "cancelled": (_ENDED, Column("why", lambda job, _: line(job.error.message) if job.error else "")),
    "succeeded": (
        _ENDED,
        Column(
            "took", lambda job, _: short(job.finished_ms - job.started_ms) if job.started_ms else "", True
        ),
    ),
}


def sheet(state: State, jobs: Sequence[JobRecord], now_ms: int, width: int, title: str) -> Sheet:
    """Jobs of one state as a table for a terminal of ``width`` columns.

    On most, ids are cut to a part that commands take as well.
    """
    more = [column for column in COLUMNS[state] if any(column.cell(job, now_ms) for job in jobs)]
    made = Sheet(
        title,
        *("id", "class", "queue", "arguments", *(column.name for column in more)),
        numbers=[column.name for column in more if column.number],
        drop=("worker", "at", "tries", "try", "queue"),
        floor=20,
    )
    for job in jobs:
        cells: list[Cell] = [
            Text(job.id if width >= _WIDE else short_id(job.id), style=COLOURS[state]),
            line(job.task if width >= _NARROW else class_name(job.task)),
            job.queue,
            _cut(line(arguments(job.payload)[:_LONGEST]), width // 4),
            *(column.cell(job, now_ms) for column in more),
        ]
        made.add_row(*cells)
    return made


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def row(job: JobRecord) -> list[str]:
    """The job as cells under `TSV`."""
    times = (job.enqueued_ms, job.due_ms, job.started_ms, job.finished_ms)
    cells = [job.id, job.state, job.queue, job.task, str(job.attempt), *(utc(ms) or "" for ms in times)]
    return [line(cell) for cell in (*cells, job.worker, arguments(job.payload), error_line(job))]


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print lines with tabs, for other programs."""
    for cells in (head, *rows):
        click.echo("\t".join(cells))


def terminal() -> bool:
    """Whether somebody reads standard output as it comes."""
    return sys.stdout.isatty()


def console() -> Console:
    """Standard output as rich prints to it."""
    return Console(highlight=False)


def show(part: Any) -> None:
    """Print a table on the terminal."""
    console().print(part)
