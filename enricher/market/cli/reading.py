"""How the commands that read files are told what is in them, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from enricher.cli.output import say, visible
from enricher.config.types import zone_problem
from enricher.market.feed.recording import NoSuchColumn, Recorded
from enricher.market.files import FORMATS, Notes, OptionNeeded, Options, read

F = TypeVar("F", bound=Callable[..., Any])
KINDS = tuple(one.name for one in FORMATS if one.read is not None)


def records(path: Path, options: Options, *, warn: bool = True) -> Iterator[Recorded]:
    """The messages of a file; raises EnricherError or click.UsageError, may ``warn`` of what is doubtful."""
    notes = Notes()
    try:
        yield from read(path, options, notes)
    except NoSuchColumn as error:
        raise click.UsageError(f"{error} (--time-column, --price-column ...)") from error
    except OptionNeeded as error:
        raise click.UsageError(str(error)) from error
    if warn:
        for doubt in notes.doubts:
            say(f"Warning: {visible(doubt)}")


def parse_column(text: str | int) -> int | str:
    """The type of an option: the name of a column, or its number from 0."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else text


def parse_zone(text: str | ZoneInfo) -> ZoneInfo:
    """The type of an option: a time zone by its name."""
    if isinstance(text, ZoneInfo):
        return text
    if problem := zone_problem(text):
        raise click.BadParameter(f"{text!r}: expected {problem}")
    return ZoneInfo(text)


def column(what: str, default: str) -> Callable[[F], F]:
    """An option that says in which column of a table ``what`` is."""
    return click.option(
        f"--{what}-column",
        type=parse_column,
        metavar="COLUMN",
        help=f"CSV ticks: name, or number from 0 [default: {default}].",
    )


def layout_options(command: F) -> F:
    """The options of every command that reads files: what they are, and what they do not say."""
    for option in reversed(
        (
            click.option(
                "--kind",
                type=click.Choice(KINDS),
                metavar="KIND",
                help="What the files are [default: detected].",
            ),
            click.option(
                "--timezone", "zone", type=parse_zone, metavar="ZONE", help="Zone of times without an offset."
            ),
            click.option(
                "--time",
                "--timestamp",
                "timestamp",
                help="Their time, where they have none [default: as in the name of the file].",
            ),
        )
    ):
        command = option(command)
    return command
