"""`enricher record` and `enricher replay` as a user meets them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import redis

from enricher.market.feed.recording import Recorded, RecordingReader
from tests.integration.commands import eventually, finished
from tests.integration.test_cli_feed import heard, started, subscribers
from tests.recordings import write_recording
from tests.servers import RedisProcess, free_port

START_US = 1_760_000_000_000_000
ODD = b"\xff\xfe not text"


def publish(url: str, *messages: tuple[str, bytes]) -> None:
    """Publish the messages, in order."""
    with redis.Redis.from_url(url) as client:
        for channel, body in messages:
            client.publish(channel, body)


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz", "feed.jsonl.zst"])
def test_what_is_recorded_is_replayed_byte_for_byte(redis_url: str, tmp_path: Path, name: str) -> None:
    messages = [("market:underlying", b'{"n":1}'), ("market:option_quote", ODD), ("market:underlying", b"{}")]
    with started(tmp_path, "record", name, "--redis-url", redis_url, "--count", "3") as recorder:
        eventually(lambda: subscribers(redis_url), "the recorder")
        publish(redis_url, *messages)
        out, err = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, err
    assert "Recorded 3 messages" in out
    assert "market:underlying 2" in out
    with heard(redis_url) as got:
        done = finished(tmp_path, "replay", name, "--redis-url", redis_url, "--speed", "max")
        assert got() == messages
    assert done.returncode == 0, done.stderr
    assert "Published 3 of 3 messages" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_recording_with_whole_lines(
    redis_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    with started(tmp_path, "record", "all.jsonl.gz", "market:*", "--redis-url", redis_url) as recorder:
        with redis.Redis.from_url(redis_url) as client:
            eventually(client.pubsub_numpat, "the recorder")
        feed = finished(tmp_path, "feed", "--redis-url", redis_url, "--count", "500", "--rate", "max")
        assert feed.returncode == 0
        # The last message that was published has come when a later one of our own has.
        assert recorder.stderr is not None
        eventually(lambda: "500 recorded" in recorder.stderr.readline(), "500 recorded")
        recorder.send_signal(how)
        out, _ = recorder.communicate(timeout=60)
    assert recorder.returncode == 0
    assert "Recorded 500 messages" in out
    reader = RecordingReader(tmp_path / "all.jsonl.gz")
    assert len(list(reader)) == 500
    assert reader.warning is None


def test_a_recording_goes_on_after_a_restart_of_redis_and_says_so(
    own_redis: RedisProcess, tmp_path: Path
) -> None:
    with started(tmp_path, "record", "r.jsonl", "--redis-url", own_redis.url, "--count", "2") as recorder:
        eventually(lambda: subscribers(own_redis.url), "the recorder")
        publish(own_redis.url, ("market:underlying", b"1"))
        # The publisher has its answer before subscribers have the message: killed in between, the server
        # takes the message with it.
        assert recorder.stderr is not None
        eventually(lambda: "1 recorded" in recorder.stderr.readline(), "1 recorded")
        own_redis.kill()
        own_redis.start()
        eventually(lambda: subscribers(own_redis.url), "the recorder after the restart")
        publish(own_redis.url, ("market:underlying", b"2"))
        out, err = recorder.communicate(timeout=60)
    assert recorder.returncode == 0
    assert "connection lost 1 times" in out
    assert "messages published meanwhile are not in the recording" in err
    assert [record.body for record in RecordingReader(tmp_path / "r.jsonl")] == [b"1", b"2"]


def test_a_recording_for_which_redis_never_came_ends_with_1_and_leaves_no_file(tmp_path: Path) -> None:
    url = f"redis://:geheim@127.0.0.1:{free_port()}/0"
    done = finished(tmp_path, "record", "r.jsonl", "--for", "100ms", "--redis-url", url)
    assert done.returncode == 1
    assert "was never reachable" in done.stderr
    assert "geheim" not in done.stderr
    assert not (tmp_path / "r.jsonl").exists()


def test_a_full_disk_ends_a_recording_with_1_and_names_the_file(redis_url: str, tmp_path: Path) -> None:
    arguments = ("record", "/dev/full", "market:underlying", "--overwrite", "--redis-url", redis_url)
    with started(tmp_path, *arguments) as recorder:
        eventually(lambda: subscribers(redis_url), "the recorder")
        publish(redis_url, ("market:underlying", b"{}"))
        _, err = recorder.communicate(timeout=60)
    assert recorder.returncode == 1
    assert "Error: /dev/full: No space left on device" in err
    assert "Traceback" not in err


def test_an_existing_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_text("precious")
    done = finished(tmp_path, "record", "kept.jsonl", "--for", "1s")
    assert done.returncode == 1
    assert "kept.jsonl exists; choose another name or give --overwrite" in done.stderr
    assert (tmp_path / "kept.jsonl").read_text() == "precious"


def test_ticks_of_a_csv_file_are_read_as_their_columns_say(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "ticks.csv").write_text(
        "when,ltp,qty\n2025-10-14 09:15:00,100.5,7\n2025-10-14 09:15:01,101,8\n"
    )
    options = "--product X --time-column when --price-column ltp --volume-column 2 --timezone Asia/Kolkata"
    with heard(redis_url) as got:
        done = finished(
            tmp_path, "replay", "ticks.csv", *options.split(), "--speed", "100", "--redis-url", redis_url
        )
        ticks = [json.loads(body) for _, body in got()]
    assert done.returncode == 0, done.stderr
    assert [(t["product"], t["price"], t["volume"]) for t in ticks] == [("X", 100.5, 7), ("X", 101, 8)]
    assert ticks[0]["timestamp"] == "2025-10-14T09:15:00+05:30"


def test_a_column_that_is_not_in_the_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "ticks.csv").write_text("time,ltp\n2025-10-14 09:15:00,100.5\n")
    done = finished(tmp_path, "replay", "ticks.csv", "--product", "X", "--price-column", "nope", "--dry-run")
    assert done.returncode == 2
    assert "column nope: expected one of the columns time, ltp" in done.stderr
    assert "--price-column" in done.stderr


def test_a_csv_file_without_names_has_time_and_price_first(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("2025-10-14 09:15:00,100.5\n2025-10-14 09:15:01,101\n")
    done = finished(tmp_path, "replay", "plain.csv", "--product", "X", "--dry-run")
    assert done.returncode == 0
    assert "Would publish 2 messages: market:underlying 2" in done.stdout


def test_a_mistake_names_file_line_and_column_and_nothing_is_published(
    redis_url: str, tmp_path: Path
) -> None:
    write_recording(tmp_path / "good.jsonl", [Recorded(START_US, "market:underlying", b"{}")])
    (tmp_path / "bad.csv").write_text("time,price\n2025-10-14 09:15:00,100\n2025-10-14 09:15:01,oops\n")
    with heard(redis_url) as got:
        done = finished(
            tmp_path, "replay", "good.jsonl", "bad.csv", "--product", "X", "--redis-url", redis_url
        )
        assert got() == []
    assert done.returncode == 1
    assert "bad.csv, line 3, column price: expected a number, got 'oops'" in done.stderr


def test_files_of_every_kind_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    write_recording(tmp_path / "recording", [Recorded(START_US, "market:option_chain", b"{}")])
    leg = {"underlying": "NIFTY", "identifier": "I", "lastPrice": 2, "openInterest": 3}
    document = {
        "records": {
            "timestamp": "28-Mar-2022 10:47:19",
            "underlyingValue": 17000.5,
            "data": [{"expiryDate": "31-Mar-2022", "strikePrice": 17000, "CE": leg, "PE": leg}],
        }
    }
    (tmp_path / "nse").write_text(json.dumps(document, indent=2))
    (tmp_path / "chains_2025-10-14_04-44-16Z.csv").write_text(
        "symbol,expiryDate,strikePrice,underlying,CE_OI,CE_LTP,PE_OI,PE_LTP\nN,04-Nov-2025,22850,25203.7,1,2,3,4\n"
    )
    done = finished(tmp_path, "replay", "recording", "nse", "chains_2025-10-14_04-44-16Z.csv", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Would publish 3 messages: market:option_chain 3" in done.stdout
    (tmp_path / "riddle").write_text("[1]")
    done = finished(tmp_path, "replay", "riddle", "--dry-run")
    assert done.returncode == 1
    assert ": a JSON list, whose first item is 1" in done.stderr


@pytest.mark.parametrize("name", ["broken.jsonl.gz", "broken.jsonl.zst"])
def test_a_file_that_is_not_what_its_suffix_says_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not compressed at all")
    done = finished(tmp_path, "replay", name, "--dry-run")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {name}: ")


def test_a_recording_that_was_cut_off_is_read_up_to_there_with_one_warning(tmp_path: Path) -> None:
    write_recording(
        tmp_path / "cut.jsonl", [Recorded(START_US + i, "market:underlying", b"{}") for i in range(3)]
    )
    whole = (tmp_path / "cut.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(whole[:-10])
    done = finished(tmp_path, "replay", "cut.jsonl", "--dry-run")
    assert "Would publish 2 messages" in done.stdout
    assert done.stderr.count("Warning: cut.jsonl, line 3") == 1


def test_without_a_server_it_says_how_far_it_came_and_ends_with_1(tmp_path: Path) -> None:
    write_recording(tmp_path / "r.jsonl", [Recorded(START_US, "market:underlying", b"{}")])
    url = f"redis://:geheim@127.0.0.1:{free_port()}/0"
    done = finished(tmp_path, "replay", "r.jsonl", "--redis-url", url)
    assert done.returncode == 1
    assert "stopped after 0 of 1 messages" in done.stderr
    assert "geheim" not in done.stderr
