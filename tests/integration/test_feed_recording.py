"""A recording gives back what was written, however the recorder ended."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import EnricherError
from enricher.market.feed.recording import (
    BadRecord,
    Recorded,
    RecordingReader,
    RecordingWriter,
    decode_record,
    encode_record,
    write_recording,
)

RECORDS = [Recorded(1_763_700_000_000_000 + i, "market:underlying", b'{"price":%d}' % i) for i in range(50)]
BROKEN = Recorded(1, "market:ünderlying", b"\xff\x00\n{")
SUFFIXES = ["rec.jsonl", "rec.jsonl.gz", "rec.jsonl.zst"]


@given(
    # Years 2 to 9998, as every moment in enricher.
    at_us=st.integers(-62_104_060_800_000_000, 253_370_764_799_999_999),
    topic=st.text(st.characters(exclude_categories=["Cs"])),
    body=st.binary(),
)
def test_any_message_comes_back_as_it_was(at_us: int, topic: str, body: bytes) -> None:
    line = encode_record(Recorded(at_us, topic, body))
    assert line.count(b"\n") == 1
    assert decode_record(line) == Recorded(at_us, topic, body)


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_file_gives_back_what_was_written(tmp_path: Path, name: str) -> None:
    assert write_recording(tmp_path / name, [*RECORDS, BROKEN]) == 51
    reader = RecordingReader(tmp_path / name)
    assert list(reader) == [*RECORDS, BROKEN]
    assert list(reader) == [*RECORDS, BROKEN], "a second reading starts anew"
    assert reader.warning is None


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_truncated_end_is_a_warning_and_everything_before_it_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_recording(path, RECORDS)
    path.write_bytes(path.read_bytes()[:-20])
    reader = RecordingReader(path)
    read = list(reader)
    assert read == RECORDS[: len(read)]
    assert len(read) < 50
    if name.endswith(".jsonl"):
        assert len(read) == 49
    assert reader.warning is not None
    assert f"line {len(read) + 1}" in reader.warning


@pytest.mark.parametrize("name", SUFFIXES)
def test_what_was_flushed_can_be_read_while_the_recorder_is_still_at_work(tmp_path: Path, name: str) -> None:
    with RecordingWriter(tmp_path / name) as writer:
        for record in RECORDS:
            writer.write(record)
        writer.flush()
        assert list(RecordingReader(tmp_path / name)) == RECORDS
        assert writer.count == 50


def test_a_last_line_without_its_newline_is_read_if_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rec.jsonl"
    path.write_bytes(b"".join(map(encode_record, RECORDS)).rstrip(b"\n"))
    reader = RecordingReader(path)
    assert list(reader) == RECORDS
    assert reader.warning is None


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"{",
        b'{"at":"2025-01-01T00:00:00Z","topic":"t"}',
        b'{"at":"2025-01-01T00:00:00Z","topic":"t","body":"","body_b64":""}',
        b'{"at":"2025-01-01T00:00:00Z","topic":"t","body_b64":"%"}',
        b'{"at":"today","topic":"t","body":""}',
        b'{"at":"2025-01-01T00:00:00Z","topic":1,"body":""}',
    ],
)
def test_a_bad_line_in_the_middle_is_named_by_its_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rec.jsonl"
    good = encode_record(RECORDS[0])
    path.write_bytes(good + line + b"\n" + good)
    with pytest.raises(BadRecord, match=r"rec\.jsonl, line 2, "):
        list(RecordingReader(path))


def test_an_existing_recording_is_overwritten_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "rec.jsonl"
    write_recording(path, RECORDS)
    with pytest.raises(FileExistsError):
        write_recording(path, [])
    assert write_recording(path, RECORDS[:1], overwrite=True) == 1
    assert list(RecordingReader(path)) == RECORDS[:1]


def test_joined_gzip_recordings_are_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "rec.jsonl.gz"
    path.write_bytes(b"".join(gzip.compress(encode_record(record)) for record in RECORDS[:3]))
    assert list(RecordingReader(path)) == RECORDS[:3]


def test_without_zstandard_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(EnricherError, match=r"enricher\[zstd\]"):
        RecordingWriter(tmp_path / "rec.zst")
