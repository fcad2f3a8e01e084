"""How dead letters look: a table, one in full, JSON."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import click
import msgspec

from enricher.cli.output import listed, say, visible
from enricher.config import redact_text
from enricher.dead_letters.bulk import Report
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import Outcome
from enricher.dead_letters.selection import Kind, Selection

if TYPE_CHECKING:
    from enricher.cli.tables import Sheet

COLUMNS = ("position", "task id", "last tried (UTC)", "topic", "stage", "tries", "error")
_BODY = 20_000
_NARROW = 110
# The texts of handlers and drivers, which may quote an address.
_MAY_QUOTE = ("error", "traceback")
SHOWN = 20


def as_json(letter: StoredLetter) -> str:
    """The letter as one line of JSON: its position and every field of its entry."""
    if not letter.readable:
        entry = letter.raw.decode("utf-8", "replace")
        return msgspec.json.encode({"position": letter.position, "unreadable": entry}).decode()
    record: dict[str, object] = msgspec.json.decode(letter.raw, type=dict[str, msgspec.Raw])
    # Other fields are passed on byte for byte, so numbers of any size survive.
    for name in _MAY_QUOTE:
        if isinstance(text := letter.record.get(name), str) and text:
            record[name] = redact_text(text)
    return msgspec.json.encode({"position": letter.position, **record}).decode()


def row(letter: StoredLetter) -> tuple[str, ...]:
    """The letter as cells under COLUMNS."""
    error = letter.error if letter.readable else "(not a dead letter)"
    cells = (
        str(letter.position),
        letter.task_id,
        _moment(letter.at_us),
        letter.topic or "?",
        letter.stage or "-",
        str(letter.attempts),
        redact_text(error),
    )
    return tuple(" ".join(visible(cell).split()) for cell in cells)


def show_table(letters: Sequence[StoredLetter]) -> None:
    """Print letters as a table on a terminal, as lines with tabs for other programs."""
    if not sys.stdout.isatty():
        for cells in (COLUMNS, *map(row, letters)):
            click.echo("\t".join(cells))
        return
    # rich takes a tenth of a second to import, which other programs need not wait for.
    from rich.console import Console

    out = Console(highlight=False)
    out.print(sheet(letters, out.width))


def sheet(letters: Sequence[StoredLetter], width: int) -> Sheet:
    """Letters as a table for a terminal of ``width`` columns; ids and times are short where it is narrow."""
    from enricher.cli.tables import Sheet

    narrow = width < _NARROW
    moment = "tried (UTC)" if narrow else "last tried (UTC)"
    made = Sheet(
        *("", "pos", "task id", moment, "topic", "stage", "tries", "error"),
        numbers=("pos", "tries"),
        drop=("tries", "stage", moment),
        wraps=("error",),
    )
    for letter in letters:
        position, task_id, tried, *others = row(letter)
        made.add_row(position, task_id[:8], tried[5:16] if narrow else tried, *others)
    return made


def details(letter: StoredLetter) -> str:
    """The letter in full, for people: its fields, the traceback and the body."""
    if not letter.readable:
        entry = letter.raw.decode("utf-8", "replace")
        return visible(f"position    {letter.position}\nnot a dead letter:\n{entry}")
    record = letter.record
    lines = [f"{'position':<11} {letter.position}"]
    for field in ("task_id", "task_name", "topic", "key", "stage", "error_type", "path", "error", "attempts"):
        value = letter.topic if field == "topic" else record.get(field)
        if value is not None and value != "":
            lines.append(f"{field:<11} {redact_text(str(value))}")
    lines += [f"{field:<11} {record[field]}" for field in ("first_at", "last_at") if record.get(field)]
    if record.get("timestamp") and not record.get("last_at"):
        lines.append(f"{'timestamp':<11} {record['timestamp']}")
    if record.get("traceback"):
        lines += ["", "traceback", redact_text(str(record["traceback"])).rstrip()]
    try:
        body = letter.body
    except ValueError as error:
        return visible("\n".join([*lines, "", f"body (cannot be read: {error})"]))
    shown = body[:_BODY].decode("utf-8", "backslashreplace")
    more = f"\n... ({len(body):,} bytes in all; --json shows everything)" if len(body) > _BODY else ""
    return visible("\n".join([*lines, "", f"body ({len(body):,} bytes)", shown + more]))


def outcome_line(letter: StoredLetter, outcome: Outcome, json: bool) -> str:
    """One line about what became of a letter."""
    if json:
        line = {"task_id": letter.task_id, "topic": letter.topic, "outcome": outcome.label}
        if outcome.error:
            line["error"] = redact_text(outcome.error)
        return msgspec.json.encode(line).decode()
    why = f": {redact_text(outcome.error.splitlines()[0])}" if outcome.error else ""
    return visible(f"{letter.task_id}  {letter.topic or '(no topic)'}  {outcome.label}{why}")


def show_selection(selection: Selection, what: str, quiet: bool, json: bool) -> None:
    """Say which letters would be ``what``, and how many of which kind; on a terminal only some of many."""
    most = SHOWN if sys.stdout.isatty() else len(selection)
    if not quiet:
        for letter in islice(selection, most):
            click.echo(outcome_line(letter, Outcome(f"would be {what}"), json))
        if len(selection) > most:
            click.echo(f"... and {len(selection) - most:,} more")
    for (topic, stage, error_type), number in selection.kinds.most_common():
        say(f"{number:>9,}  {topic or '(no topic)'}  {stage or '-'}  {error_type or '-'}")
    say(f"{len(selection):,} dead letters would be {what}")


def say_report(report: Report) -> None:
    stay = report.tried - report.gone
    ended = f" ({listed(report.outcomes)})" if report.tried else ""
    say(f"{report.gone:,} of {report.meant:,} dead letters processed, {stay:,} stay{ended}")
    if report.untried:
        say(f"{report.untried:,} were not tried" + (f": stopped, {report.stopped}" if report.stopped else ""))


def summary(kinds: Counter[Kind], evicted: int) -> str:
    """Counts by topic, stage and type of error as one line of JSON; ``evicted`` fell off the end."""
    parts = [
        {"topic": topic or None, "stage": stage or None, "error_type": kind or None, "count": number}
        for (topic, stage, kind), number in sorted(kinds.items())
    ]
    return msgspec.json.encode({"count": kinds.total(), "evicted": evicted, "parts": parts}).decode()


def _moment(us: int | None) -> str:
    if us is None:
        return "?"
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
