"""A recording gives back what was written, however the recorder ended."""

from __future__ import annotations

import asyncio
import gzip
import sys
import time
from pathlib import Path

import pytest
import redis.asyncio as redis
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import EnricherError
from enricher.market.feed.channels import Message
from enricher.market.feed.publish import Published, publish_at_rate, redis_publisher, replay
from enricher.market.feed.recording import (
    BadRecord,
    Recorded,
    RecordingReader,
    RecordingWriter,
    decode_record,
    encode_record,
)
from enricher.market.feed.synthetic import SyntheticMarket
from tests.recordings import write_recording

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


async def received(client: redis.Redis, count: int, ready: asyncio.Event) -> list[Message]:
    """The first ``count`` messages of the market's channels."""
    messages: list[Message] = []
    async with client.pubsub() as subscription:
        await subscription.psubscribe("market:*")
        async for message in subscription.listen():
            if message["type"] == "psubscribe":
                ready.set()
            elif message["type"] == "pmessage":
                messages.append((message["channel"].decode(), message["data"]))
                if len(messages) == count:
                    break
    return messages


async def test_a_subscriber_gets_the_synthetic_feed_in_order_and_whole(any_redis_url: str) -> None:
    market, twin = SyntheticMarket(2), SyntheticMarket(2)
    sent: Published
    async with redis.Redis.from_url(any_redis_url) as client, asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        reading = tasks.create_task(received(client, 300, ready))
        await ready.wait()
        sent = await publish_at_rate(
            market.stream(lambda: 0), redis_publisher(client), rate=2_000.0, count=300
        )
        messages = await reading
    assert sent.total == 300
    assert messages == [m for m, _ in zip(twin.stream(lambda: 0), range(300), strict=False)]


async def test_a_recording_is_replayed_to_a_subscriber_as_it_was(redis_url: str, tmp_path: Path) -> None:
    now_us = time.time_ns() // 1000
    recorded = [
        Recorded(now_us + 1_000 * i, channel, body)
        for i, (channel, body) in enumerate(SyntheticMarket(2).mix(now_us))
    ]
    write_recording(tmp_path / "feed.jsonl.zst", recorded)
    async with redis.Redis.from_url(redis_url) as client, asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        reading = tasks.create_task(received(client, len(recorded), ready))
        await ready.wait()
        records = RecordingReader(tmp_path / "feed.jsonl.zst")
        await replay(records, redis_publisher(client), speed=10.0)
        messages = await reading
    assert messages == [(record.topic, record.body) for record in recorded]
