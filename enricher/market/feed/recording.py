"""Recorded messages and the files they live in: JSON Lines, plain, ``.gz`` or ``.zst``.

One line is ``{"at": ISO 8601, "topic": ..., "body": ...}``; a body that is not UTF-8 stands as
``body_b64`` instead, so that broken messages are recorded as they were.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import msgspec
import orjson

from enricher.clock import event_us, render
from enricher.errors import EnricherError
from enricher.market.feed.packed import open_packed


class BadRecord(EnricherError):
    """A file of messages holds something that is none.

    ``path`` is the file, ``line`` its line (from 1; None where a file has no lines to speak of),
    ``column`` the column or JSON path, ``expected`` what should stand there, ``found`` what does.
    """

    def __init__(self, path: Path, line: int | None, column: str, expected: str, found: object) -> None:
        self.path = path
        self.line = line
        self.column = column
        self.expected = expected
        self.found = found
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}, {column}: expected {expected}, got {_short(found)}")


class NoSuchColumn(BadRecord):
    """A column that was asked for is not in the file."""


class Recorded(msgspec.Struct, frozen=True):
    """A message and when it was received: ``at_us`` microseconds since 1970 UTC, topic, body."""

    at_us: int
    topic: str
    body: bytes


class _Line(msgspec.Struct, omit_defaults=True):
    at: str
    topic: str
    body: str | None = None
    body_b64: str | None = None


_DECODER = msgspec.json.Decoder(_Line)


def encode_record(record: Recorded) -> bytes:
    """One line of a recording, with its newline."""
    line: dict[str, str] = {"at": render(record.at_us, naive=False), "topic": record.topic}
    try:
        line["body"] = record.body.decode("utf-8")
    except UnicodeDecodeError:
        line["body_b64"] = base64.b64encode(record.body).decode("ascii")
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def decode_record(line: bytes) -> Recorded:
    """The record of one line; raises ValueError saying what is wrong with it."""
    try:
        found = _DECODER.decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    if (found.body is None) == (found.body_b64 is None):
        raise ValueError("exactly one of `body` and `body_b64` must be given")
    if found.body is not None:
        body = found.body.encode("utf-8")
    else:
        body = base64.b64decode(found.body_b64 or "", validate=True)
    return Recorded(event_us(found.at, UTC)[0], found.topic, body)


class RecordingWriter:
    """Write a recording, line by line; use it as a context manager.

    The suffix of ``path`` chooses the compression (``.gz``, ``.zst``, else none). An existing file
    is an error unless ``overwrite``. ``count`` is the number of records written so far.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self.count = 0
        self._file = open_new(path, "wb" if overwrite else "xb")

    def write(self, record: Recorded) -> None:
        self._file.write(encode_record(record))
        self.count += 1

    def flush(self) -> None:
        """Hand what was written to the operating system: a killed recorder loses none of it."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class RecordingReader:
    """Iterate over the records of a file, in the order in which they were written.

    A recorder that was killed leaves its last line (or its compressed stream) unfinished: the
    iteration then ends before that line and ``warning`` says so; otherwise it stays None. Any
    other line that is not a record raises BadRecord with its number. Each iteration reads anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warning: str | None = None

    def __iter__(self) -> Iterator[Recorded]:
        self.warning = None
        number = 0
        with open_packed(self.path) as file:
            lines = iter(file)
            while True:
                number += 1
                try:
                    line = next(lines, b"")
                except (EOFError, zlib.error) as error:
                    self._truncated(number, f"the compressed stream is cut off ({error})")
                    return
                if not line:
                    return
                if number == 1:
                    line = line.removeprefix(BOM_UTF8)  # an editor's
                if line.isspace():
                    continue
                try:
                    record = decode_record(line)
                except ValueError as error:
                    if not line.endswith(b"\n"):
                        self._truncated(number, "the line is cut off")
                        return
                    raise BadRecord(self.path, number, "$", f"a recorded message ({error})", line) from error
                yield record

    def _truncated(self, number: int, reason: str) -> None:
        self.warning = f"{self.path}, line {number}: {reason}; everything before it was read"


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 80 else text[:77] + "..."


def open_new(path: Path, mode: str) -> IO[bytes]:
    """Open a file to be written (``wb``, ``xb``): ``.gz``, ``.zst``, else as it is."""
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, mode))
    if path.suffix == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise EnricherError(f"{path}: a .zst file needs: pip install 'enricher[zstd]'") from error
        return cast("IO[bytes]", zstandard.ZstdCompressor().stream_writer(path.open(mode)))
    return path.open(mode)
