"""`enricher dlq` on streams, with fields, edits and targets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.test_cli_feed import finished
from tests.integration.test_dead_letters import KEY, entry, tick

BAD = b'{"product": "NIFTY"}'


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)


@pytest.fixture(params=["list", "stream"])
def put(request: pytest.FixtureRequest, client: redis.Redis) -> Callable[[str, bytes], object]:
    """Puts a letter into a list or a stream of the same key."""
    if request.param == "list":
        return lambda task_id, body: client.lpush(KEY, entry(task_id, body))
    return lambda task_id, body: client.xadd(KEY, {"letter": entry(task_id, body)})


def test_peek_list_count_and_discard_see_whatever_kind_of_key_it_is(
    put: Callable[[str, bytes], object], redis_url: str, tmp_path: Path
) -> None:
    for number in range(3):
        put(f"letter-{number}", tick(50.0, number))
    listed = finished(tmp_path, "dlq", "list", "--field", "tick_id=1", "--json", "--redis-url", redis_url)
    (line,) = map(json.loads, listed.stdout.splitlines())
    assert (line["task_id"], line["position"]) == ("letter-1", 1)
    peeked = finished(tmp_path, "dlq", "peek", "-n", "2", "--json", "--redis-url", redis_url)
    assert [json.loads(line)["task_id"] for line in peeked.stdout.splitlines()] == ["letter-2", "letter-1"]
    dry = finished(tmp_path, "dlq", "discard", "--all", "--dry-run", "-q", "--redis-url", redis_url)
    assert (dry.stdout, "3  market:underlying  commit  Rejected" in dry.stderr) == ("", True)
    done = finished(tmp_path, "dlq", "discard", "letter-1", "--yes", "--redis-url", redis_url)
    assert done.returncode == 0, done.stderr
    counted = json.loads(finished(tmp_path, "dlq", "count", "--json", "--redis-url", redis_url).stdout)
    part = {"topic": "market:underlying", "stage": "commit", "error_type": "Rejected", "count": 2}
    assert counted == {"count": 2, "evicted": 0, "parts": [part]}


def test_a_letter_is_put_right_and_reprocessed(
    put: Callable[[str, bytes], object], redis_url: str, mongo_database_url: str, tmp_path: Path
) -> None:
    put("letter-bad", BAD)
    servers = ("--redis-url", redis_url, "--mongo-url", mongo_database_url)
    edits = [part for name, value in json.loads(tick(77.5)).items() for part in ("--edit", f"{name}={value}")]
    failed = finished(tmp_path, "dlq", "reprocess", "0", "--edit", "price=much", *servers)
    assert failed.returncode == 1
    assert json.loads(finished(tmp_path, "dlq", "peek", "--json", *servers).stdout)["body"] == BAD.decode()
    done = finished(tmp_path, "dlq", "reprocess", "0", *edits, *servers)
    assert (done.returncode, "letter-bad  market:underlying  processed" in done.stdout) == (0, True)
    assert finished(tmp_path, "dlq", "count", *servers).stdout == "0\n"


def test_letters_move_to_a_stream_that_nobody_reads_by_group(
    put: Callable[[str, bytes], object], client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    put("letter-0", BAD)
    target = ("--to", "again", "--as-fields", "--redis-url", redis_url)
    done = finished(tmp_path, "dlq", "reprocess", "--all", *target)
    assert (done.returncode, "moved" in done.stdout) == (0, True), done.stderr
    ((_, fields),) = client.xrange("again")
    assert (fields, client.exists(KEY) and client.type(KEY) == b"list") == ({b"product": b"NIFTY"}, 0)


def test_a_group_that_reads_the_target_answers(
    put: Callable[[str, bytes], object], client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    for number in range(3):
        put(f"letter-{number}", tick(50.0, number))
    client.xgroup_create("again", "readers", "0", mkstream=True)

    patient = redis.Redis.from_url(redis_url, socket_timeout=90)

    def read() -> None:
        for _ in range(3):
            found: Any = patient.xreadgroup("readers", "one", {"again": ">"}, count=1, block=60_000)
            patient.xack("again", "readers", found[0][1][0][0])

    reader = threading.Thread(target=read)
    reader.start()
    done = finished(tmp_path, "dlq", "reprocess", "--all", "--to", "again", "--redis-url", redis_url)
    reader.join(60)
    patient.close()
    assert (done.returncode, done.stdout.count("processed")) == (0, 3), done.stderr
    assert "retried by group readers of again" in done.stderr
    assert finished(tmp_path, "dlq", "count", "--redis-url", redis_url).stdout == "0\n"


def test_what_is_no_place_for_letters_or_not_the_one_that_was_named_is_said(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    client.set("plain", "x")
    client.xadd("stream", {"letter": entry("letter-0", BAD)})
    plain = finished(tmp_path, "dlq", "count", "--key", "plain", "--redis-url", redis_url)
    assert (plain.returncode, "plain is a string" in plain.stderr) == (1, True)
    named = ("--key", "stream", "--store", "list", "--redis-url", redis_url)
    other = finished(tmp_path, "dlq", "count", *named)
    assert (other.returncode, "stream is a stream, not a list" in other.stderr) == (1, True)
    own = finished(
        tmp_path, "dlq", "reprocess", "0", "--key", "stream", "--to", "stream", "--redis-url", redis_url
    )
    assert (own.returncode, "give another stream" in own.stderr) == (1, True)


@pytest.mark.parametrize(
    "wrong",
    [["--field", "x"], ["--edit", "x"], ["--rate", "0"], ["--stop-share", "0%"], ["--group", "g"]],
)
def test_an_option_that_makes_no_sense_ends_with_2(wrong: list[str], redis_url: str, tmp_path: Path) -> None:
    assert finished(tmp_path, "dlq", "reprocess", "--all", *wrong, "--redis-url", redis_url).returncode == 2
