"""What `enricher record` writes: one message a line, with its time of receipt and its topic."""

from __future__ import annotations

from collections.abc import Iterator

from enricher.market.feed.recording import Recorded, RecordingReader
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source


def _seen(source: Source) -> str | None:
    # A recorder that was killed may leave its first line unfinished.
    if {"at", "topic"} <= source.sample.keys() or source.first_line.startswith('{"at"'):
        return "lines with at and topic"
    return None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    reader = RecordingReader(source.path)
    yield from reader
    if reader.warning:
        notes.doubt(reader.warning)


FORMAT = Format("recording", "a recording", "messages", _seen, _read)
