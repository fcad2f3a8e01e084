"""What the files of a command hold: recordings, chains and ticks of exchanges, told by their first line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson

from enricher.cli.output import say
from enricher.config.types import zone_problem
from enricher.errors import EnricherError
from enricher.market.feed.readers import TickColumns, read_csv_chains, read_csv_ticks, read_nse_chains
from enricher.market.feed.recording import NoSuchColumn, Recorded, RecordingReader, open_bytes

RECORDING, NSE, TICKS, CHAINS = KINDS = ("recording", "nse", "csv-ticks", "csv-chains")


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are to be read: the options of the command line by name, None where not given."""

    kind: str | None = None
    zone: ZoneInfo | None = None
    product: str | None = None
    timestamp: str | None = None
    header: bool | None = None
    time_column: int | str | None = None
    price_column: int | str | None = None
    product_column: int | str | None = None
    tick_id_column: int | str | None = None
    volume_column: int | str | None = None
    time_format: str | None = None

    def records(self, path: Path, *, warn: bool = True) -> Iterator[Recorded]:
        """The messages of a file; raises BadRecord or click.UsageError, and may ``warn`` of a cut-off end."""
        first = first_line(path)
        kind = self.kind or kind_of(path, first)
        if kind == RECORDING:
            reader = RecordingReader(path)
            yield from reader
            if reader.warning and warn:
                say(f"Warning: {reader.warning}")
        elif kind == NSE:
            yield from read_nse_chains(path, zone=self.zone)
        elif kind == CHAINS:
            yield from read_csv_chains(path, timestamp=self.timestamp, zone=self.zone)
        else:
            try:
                columns = self._columns(first)
                yield from read_csv_ticks(path, columns, product=self.product, zone=self.zone)
            except ValueError as error:
                raise click.UsageError(f"{path}: {error} (--product, --product-column)") from error
            except NoSuchColumn as error:
                raise click.UsageError(f"{error} (--time-column, --price-column ...)") from error

    def _columns(self, first: bytes) -> TickColumns:
        header = names_columns(first) if self.header is None else self.header
        time, price = ("time", "price") if header else (0, 1)
        return TickColumns(
            time=time if self.time_column is None else self.time_column,
            price=price if self.price_column is None else self.price_column,
            product=self.product_column,
            tick_id=self.tick_id_column,
            volume=self.volume_column,
            header=header,
            time_format=self.time_format,
        )


def first_line(path: Path) -> bytes:
    """The first line that is not blank; empty where there is none or it cannot be unpacked."""
    try:
        with open_bytes(path, "rb") as file:
            return next((line for line in file if line.strip()), b"").removeprefix(b"\xef\xbb\xbf").strip()
    except EOFError:
        return b""
    except unreadable() as error:
        raise EnricherError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def unreadable() -> tuple[type[Exception], ...]:
    """What reading a file raises that is not what its suffix says."""
    try:
        import zstandard
    except ImportError:
        return (OSError,)
    return (OSError, zstandard.ZstdError)


def kind_of(path: Path, first: bytes) -> str:
    """What a file is, by its first line, else by its name; raises EnricherError when that is no help."""
    if first.startswith(b"{"):
        try:
            members: Any = orjson.loads(first)
        except orjson.JSONDecodeError:
            # Cut off within its first line, or the first line of a document of many.
            return RECORDING if first.startswith(b'{"at"') else NSE
        return RECORDING if {"at", "topic"} <= members.keys() else NSE
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")]
    if ".csv" in suffixes or (first and b"," in first and not first.startswith(b"[")):
        return CHAINS if b"strikePrice" in first and b"expiryDate" in first else TICKS
    if ".jsonl" in suffixes:
        return RECORDING
    if not first:
        raise EnricherError(f"{path}: there is nothing in it, or it is cut off within its first line")
    raise EnricherError(
        f"{path}: cannot tell what this is; say --kind {RECORDING}, {NSE}, {TICKS} or {CHAINS}"
    )


def names_columns(first: bytes) -> bool:
    """Whether the first line of a CSV file holds names: no cell of it is a number."""
    for cell in first.split(b","):
        try:
            float(cell)
        except ValueError:
            continue
        return False
    return True


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
