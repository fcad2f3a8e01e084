"""How the commands that read files are told what is in them, and what they say of it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from enricher.cli.output import say, visible
from enricher.config.types import zone_problem
from enricher.market.feed.recording import NoSuchColumn, Recorded
from enricher.market.files import FORMATS, Notes, OptionNeeded, Options, read, recognise
from enricher.market.files.chains import half, joined
from enricher.market.files.numbers import PLAIN
from enricher.market.files.times import EPOCHS
from enricher.messages.models import peek_series

F = TypeVar("F", bound=Callable[..., Any])
KINDS = tuple(one.name for one in FORMATS if one.read is not None)
_DELIMITERS = {"tab": "\t", "\\t": "\t", "semicolon": ";", "comma": ",", "pipe": "|", "space": " "}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def records(
    path: Path, options: Options, *, warn: bool = True, explain: bool = False
) -> Iterator[Recorded]:
    """The messages of a file; raises EnricherError or click.UsageError.

    Says what is doubtful and which rows were left out if it may ``warn``, and all guesses to ``explain``.
    """
    notes = Notes()
    try:
        yield from read(path, options, notes)
    except NoSuchColumn as error:
        raise click.UsageError(f"{error} (--time-column, --price-column ...)") from error
    except OptionNeeded as error:
        raise click.UsageError(str(error)) from error
    finally:
        for guess in notes.guesses if explain else ():
            say(f"{path}: {visible(guess)}")
        for doubt in notes.doubts if warn else ():
            say(f"Warning: {visible(doubt)}")
        for reason, rows in notes.skipped.items() if warn else ():
            say(f"{path}: {rows:,} rows left out: {reason}")


def all_records(
    files: Iterable[Path], options: Options, *, warn: bool = True, explain: bool = False
) -> Iterator[tuple[Path, Recorded]]:
    """The messages of all files, as by `records`, each with its file.

    Tables of yfinance have calls or puts. Those of one expiry and moment are one chain, wherever they stand.
    """
    halves: dict[tuple[str, int], tuple[Path, Recorded]] = {}
    for path in files:
        may_be_half = recognise(path, options).name == "yfinance"
        for record in records(path, options, warn=warn, explain=explain):
            if not may_be_half or not half(record):
                yield path, record
                continue
            key = peek_series(record.body), record.at_us
            other = halves.pop(key, None)
            if other is not None and half(other[1]) != half(record):
                yield path, joined(other[1], record)
                continue
            halves[key] = path, record
            if other is not None:
                yield other
    for path, record in halves.values():
        if warn:
            say(f"Warning: {path}: only {half(record)} are in it: the other table goes beside it")
        yield path, record


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


def parse_date(text: str) -> str:
    """The type of an option: an expiry."""
    if not _DATE.fullmatch(text):
        raise click.BadParameter(f"{text!r}: expected a date as YYYY-MM-DD")
    return text


def parse_spot(text: str) -> float:
    """The type of an option: a price above 0."""
    try:
        spot = PLAIN.number(text)
    except ValueError:
        spot = 0
    if spot <= 0:
        raise click.BadParameter(f"{text!r}: expected a price above 0")
    return spot


def parse_delimiter(text: str) -> str:
    """The type of an option: a character, or its name."""
    found = _DELIMITERS.get(text.lower(), text)
    if len(found) != 1 or found in '"\r\n' or found.isalnum():
        raise click.BadParameter(f"{text!r}: expected one character or {', '.join(_DELIMITERS)}")
    return found


def parse_time_format(text: str) -> str:
    """The type of an option: how times are written."""
    if text in EPOCHS:
        return text
    try:
        datetime.strptime("", text)  # noqa: DTZ007 - only the pattern is asked
    except ValueError as error:
        if "%" in text and "directive" not in str(error) and "stray" not in str(error):
            return text  # what it does not fit is the empty text
    known = ", ".join(EPOCHS)
    raise click.BadParameter(f"{text!r}: expected {known}, or a pattern such as '%d/%m/%Y %H:%M:%S'")


def parse_encoding(text: str) -> str:
    """The type of an option: a text encoding that Python knows."""
    try:
        "".encode(codecs.lookup(text).name)
    except LookupError as error:
        raise click.BadParameter(f"{text!r}: expected an encoding such as utf-8 or cp1252") from error
    return text


def column(what: str, default: str) -> Callable[[F], F]:
    """An option that says in which column of a table ``what`` is."""
    return click.option(
        f"--{what}-column",
        type=parse_column,
        metavar="COLUMN",
        help=f"Tables: name, or number from 0 [default: {default}].",
    )


_LAYOUT = (
    click.option(
        "--kind", type=click.Choice(KINDS), metavar="KIND", help="What the files are [default: detected]."
    ),
    click.option("--explain", is_flag=True, help="Say what was guessed about every file."),
    click.option(
        "--timezone", "zone", type=parse_zone, metavar="ZONE", help="Zone of times without an offset."
    ),
    click.option(
        "--time", "--timestamp", "timestamp", metavar="TIME",
        help="The time of files that have none [default: as in the name of the file].",
    ),
    click.option(
        "--spot", type=parse_spot, metavar="PRICE",
        help="Chains: the price of the underlying, where a file has none.",
    ),
    column("time", "by name, or by what is in it"),
    column("date", "none, or beside a clock time"),
    click.option(
        "--time-format", type=parse_time_format, metavar="FORMAT",
        help="Tables: for strptime, or epoch, epoch-ms, epoch-us, epoch-ns [default: by what is in it].",
    ),
    click.option(
        "--delimiter", type=parse_delimiter, metavar="CHARACTER",
        help="Tables: what stands between cells, or tab [default: detected].",
    ),
    click.option(
        "--decimal", type=click.Choice([".", ","]), help="Tables: before decimals [default: detected]."
    ),
    click.option(
        "--encoding", type=parse_encoding, metavar="NAME",
        help="Of text [default: by its first bytes, else UTF-8].",
    ),
    click.option(
        "--header/--no-header", default=None, help="Tables: line 1 has names [default: detected]."
    ),
)  # fmt: skip


def layout_options(command: F) -> F:
    """The options of every command that reads files: what they are, and what they do not say."""
    for option in reversed(_LAYOUT):
        command = option(command)
    return command
