"""What every reader of files keeps to, whatever its format."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard

from enricher.clock import event_us
from enricher.errors import EnricherError
from enricher.market.files import FORMATS, Notes, Options, Recorded, read, recognise
from enricher.market.files.vendors import VENDORS
from enricher.messages.models import decode_chain, decode_quote, decode_tick
from tests.file_contract import held_when_torn
from tests.file_samples import SAMPLES

LATER = event_us("2040-01-01T00:00:00+00:00")[0]
DECODE: dict[str, Callable[..., Any]] = {
    "market:underlying": decode_tick,
    "market:option_quote": decode_quote,
    "market:option_chain": decode_chain,
}
READ = [one for one in FORMATS if one.name in SAMPLES]
every_format = pytest.mark.parametrize("name", [one.name for one in READ])


def written(folder: Path, content: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def records(path: Path, **options: Any) -> list[Recorded]:
    return list(read(path, Options(**options)))


def test_formats_are_named_apart_and_what_is_not_read_says_what_it_lacks() -> None:
    assert len({one.name for one in FORMATS}) == len(FORMATS)
    assert {one.name for one in READ} == SAMPLES.keys()
    assert {one.name for one in FORMATS if one.read and one not in VENDORS} <= SAMPLES.keys()
    for one in FORMATS:
        assert (one.read is None) == bool(one.missing)


@every_format
def test_a_format_is_told_by_what_is_in_the_file_and_not_by_its_name(tmp_path: Path, name: str) -> None:
    text, options = SAMPLES[name]
    for called in ("file", "file.csv", "file.json", "file.jsonl", "file.csv.gz"):
        path = written(tmp_path, text, called)
        assert recognise(path).name == name
        notes = Notes()
        assert list(read(path, Options(**options), notes))
        assert notes.guesses[0].startswith(f"read as {recognise(path).title}")


@every_format
def test_every_message_is_one_of_the_feed_at_its_own_time(tmp_path: Path, name: str) -> None:
    text, options = SAMPLES[name]
    for record in records(written(tmp_path, text), **options):
        event = DECODE[record.topic](record.body, now_us=LATER)
        assert event.event_us == record.at_us
        assert not event.naive


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zip": lambda content: zipped({"__MACOSX/x": b"", "folder/": b"", "folder/data": content}),
    "gzip in gzip": lambda content: gzip.compress(gzip.compress(content)),
    "gzip in zip": lambda content: zipped({"data.gz": gzip.compress(content)}),
    "UTF-8 with a mark": lambda content: content.decode().encode("utf-8-sig"),
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda content: content.decode().encode("utf-16-be"),
    "UTF-32": lambda content: content.decode().encode("utf-32"),
    "CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "blank lines first": lambda content: b"\n\n" + content,
}


def zipped(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


WIDE = {"UTF-16", "UTF-16 without a mark", "UTF-32"}


@pytest.mark.parametrize(
    ("name", "packing"),
    # A recorder writes UTF-8, always.
    [(one.name, how) for one in READ for how in PACKINGS if one.name != "recording" or how not in WIDE],
)
def test_packing_and_encoding_change_nothing(tmp_path: Path, name: str, packing: str) -> None:
    text, options = SAMPLES[name]
    plain = records(written(tmp_path, text, "plain"), **options)
    packed = written(tmp_path, PACKINGS[packing](text.encode()), "packed")
    assert records(packed, **options) == plain


@every_format
def test_what_is_mutilated_is_read_or_refused_by_its_name(tmp_path: Path, name: str) -> None:
    text, options = SAMPLES[name]
    held_when_torn(written(tmp_path, text), Options(**options), 100)


@every_format
@pytest.mark.parametrize("by", ["1" * 400, '"\\ud800"', "-1e309", "[]"])
def test_a_value_that_nothing_can_hold_is_refused_where_it_stands_or_passed_over(
    tmp_path: Path, name: str, by: str
) -> None:
    text, options = SAMPLES[name]
    values = list(re.finditer(r'(?<=[:,\[])\s*(?:-?\d[\d.]*|"[^"\\]*")', text))
    for value in values[:60]:
        path = written(tmp_path, text[: value.start()] + by + text[value.end() :])
        with suppress(EnricherError):
            records(path, **options)
