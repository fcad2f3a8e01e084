"""How an event looks: a row of a table, all of it on a page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text

from enricher.cli.output import visible
from enricher.cli.tables import Sheet
from enricher.config import redact_text
from enricher.events.cli.selection import as_json, error_line
from enricher.events.documents import Document

_COLOURS: Mapping[str, str] = {
    "PENDING": "blue",
    "STARTED": "cyan",
    "RETRY": "yellow",
    "SUCCESS": "green",
    "FAILURE": "red",
}
_HEAD = ("id", "status", "type", "accepted", "tries", "took", "data", "error")
_LONGEST = 300  # characters of data and errors that no terminal has room for
_WIDE = 160


def line(text: str) -> str:
    """The text on one line, without orders to the terminal and without passwords of URLs."""
    return " ".join(visible(redact_text(text)).split())


def show_table(events: Sequence[Document]) -> None:
    """Print events: a table on a terminal, lines with tabs for programs."""
    if not sys.stdout.isatty():
        for cells in (_HEAD, *map(_cells, events)):
            click.echo("\t".join(cells))
        return
    console = Console(highlight=False)
    sheet = Sheet("", *_HEAD, numbers=("tries", "took"), drop=("took", "tries", "accepted", "data"), floor=20)
    for event in events:
        id_, status, kind, accepted, tries, took, data, error = _cells(event)
        shown = id_ if console.width >= _WIDE else id_[:8]
        styled = Text(status, style=_COLOURS.get(status, ""))
        sheet.add_row(shown, styled, kind, accepted, tries, took, data[:_LONGEST], error[:_LONGEST])
    console.print(sheet)


def _cells(event: Document) -> list[str]:
    first = [event["_id"], event["status"], event["type"], moment(event["created_at"])]
    rest = [str(event["attempts"]), took(event), as_json(event["data"]), error_line(event)]
    return [line(cell) for cell in (*first, *rest)]


def took(event: Document) -> str:
    """From its first start to its end; "" before."""
    if not event["started_at"] or not event["finished_at"]:
        return ""
    return f"{(event['finished_at'] - event['started_at']).total_seconds():.3f} s"


def moment(at: datetime) -> str:
    """A moment in UTC, as filters take it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def details(event: Document) -> Iterator[str]:
    """The event on a page, line by line."""
    yield f"{'id':<10} {event['_id']}"
    yield f"{'type':<10} {line(event['type'])}"
    yield f"{'status':<10} {event['status']}"
    for name, key in (("accepted", "created_at"), ("started", "started_at"), ("ended", "finished_at")):
        if event.get(key):
            yield f"{name:<10} {moment(event[key])}"
    if took(event):
        yield f"{'took':<10} {took(event)}"
    yield f"{'attempts':<10} {event['attempts']}"
    if search := event.get("search"):
        why = f": {line(search['error'])}" if search["error"] else ""
        yield f"{'search':<10} {search['status']}{why}"
    if event.get("token"):
        yield f"{'client':<10} {line(event['token'])}"
    yield ""
    yield "data"
    yield from _indented(event["data"])
    context = event.get("task_context") or {}
    if context.get("nodes"):
        seconds = context.get("metadata", {}).get("seconds", {})
        yield ""
        yield "nodes that have finished"
        for name, output in context["nodes"].items():
            spent = f"{seconds[name] * 1000:,.1f} ms" if name in seconds else ""
            yield f"  {name:<24} {spent:>12}  {line(as_json(output))}".rstrip()
    if event.get("error"):
        yield ""
        yield f"error  {line(error_line(event))}"
        for each in visible(redact_text(event["error"]["traceback"])).rstrip().splitlines():
            yield f"  {each}"


def _indented(value: Any) -> Iterator[str]:
    text = msgspec.json.format(as_json(value), indent=2)
    for each in visible(redact_text(text)).splitlines():
        yield f"  {each}"
