"""`enricher dlq` as a user meets it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis

from tests.integration.commands import finished
from tests.integration.test_dead_letters import KEY, entry, tick
from tests.servers import free_port

BAD = b'{"product": "NIFTY"}'


@pytest.fixture
def list_of_three(redis_url: str) -> redis.Redis:
    """Newest first: one that will fail again, one that will go, one of another topic."""
    client = redis.Redis.from_url(redis_url)
    client.lpush(KEY, entry("cccc-mail", b"x", topic="mail:in", error="no such folder"))
    client.lpush(KEY, entry("bbbb-good", tick(55.0)))
    client.lpush(KEY, entry("aaaa-bad", BAD))
    return client


def ids(client: redis.Redis) -> list[str]:
    return [json.loads(raw)["task_id"] for raw in client.lrange(KEY, 0, -1)]


def test_list_shows_positions_newest_first_and_filters(
    list_of_three: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    list_of_three.rpush(KEY, json.dumps({"task_id": "dddd-old", "task_name": "nobody", "error": "x"}))
    done = finished(tmp_path, "dlq", "list", "--redis-url", redis_url)
    assert done.returncode == 0, done.stderr
    cells = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[:2] for row in cells[1:4]] == [["0", "aaaa-bad"], ["1", "bbbb-good"], ["2", "cccc-mail"]]
    assert dict(zip(cells[0], cells[4], strict=True))["topic"] == "?"
    assert "\x1b" not in done.stdout
    done = finished(
        tmp_path, "dlq", "list", "--json", "--topic", "mail:*", "--since", "1h", "--redis-url", redis_url
    )
    (line,) = done.stdout.splitlines()
    assert (json.loads(line)["position"], json.loads(line)["task_id"]) == (2, "cccc-mail")


def test_count_and_show_say_what_is_there(list_of_three: redis.Redis, redis_url: str, tmp_path: Path) -> None:
    assert finished(tmp_path, "dlq", "count", "--redis-url", redis_url).stdout == "3\n"
    counted = finished(tmp_path, "dlq", "count", "--json", "--error", "disk", "--redis-url", redis_url)
    assert json.loads(counted.stdout)["count"] == 2
    shown = finished(tmp_path, "dlq", "show", "cccc", "--redis-url", redis_url).stdout
    assert "no such folder" in shown
    assert "body (1 bytes)\nx" in shown
    unknown = finished(tmp_path, "dlq", "show", "9", "--redis-url", redis_url)
    assert unknown.returncode == 2
    assert "no dead letter at position 9; there are 3" in unknown.stderr


def test_retry_here_removes_what_went_through_keeps_what_failed_and_ends_with_1(
    list_of_three: redis.Redis, redis_url: str, mongo_database_url: str, tmp_path: Path
) -> None:
    servers = ("--redis-url", redis_url, "--mongo-url", mongo_database_url)
    dry = finished(tmp_path, "dlq", "retry", "--all", "--dry-run", *servers)
    assert (dry.returncode, dry.stdout.count("would be retried")) == (0, 3)
    assert len(ids(list_of_three)) == 3
    done = finished(tmp_path, "dlq", "retry", "--topic", "market:*", "--json", *servers)
    assert done.returncode == 1
    outcomes = {line["task_id"]: line["outcome"] for line in map(json.loads, done.stdout.splitlines())}
    assert outcomes == {"bbbb-good": "processed", "aaaa-bad": "failed"}
    assert ids(list_of_three) == ["aaaa-bad", "cccc-mail"]
    assert json.loads(list_of_three.lindex(KEY, 0) or b"{}")["attempts"] == 2
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as mongo:
        assert [d["price"] for d in mongo.get_default_database()["underlying_ticks"].find()] == [55.0]
    assert json.loads(list_of_three.get("latest:underlying:NIFTY") or b"{}")["price"] == 55.0


def test_retry_ends_with_0_when_all_went_through(
    list_of_three: redis.Redis, redis_url: str, mongo_database_url: str, tmp_path: Path
) -> None:
    done = finished(
        tmp_path, "dlq", "retry", "bbbb", "--redis-url", redis_url, "--mongo-url", mongo_database_url
    )
    assert done.returncode == 0, done.stderr
    assert "bbbb-good  market:underlying  processed" in done.stdout
    assert ids(list_of_three) == ["aaaa-bad", "cccc-mail"]


@pytest.mark.parametrize("listens", [True, False])
def test_retry_here_warns_of_what_a_worker_that_runs_will_miss(
    list_of_three: redis.Redis, redis_url: str, mongo_database_url: str, tmp_path: Path, listens: bool
) -> None:
    worker = {"service": "worker-enricher", "instance": "blue", "now_us": 1, "status": "ready"}
    list_of_three.set("enricher:stats:worker-enricher:blue", json.dumps(worker))
    if listens:
        list_of_three.set("enricher:retry:worker-enricher:listening", 1)
    servers = ("--redis-url", redis_url, "--mongo-url", mongo_database_url)
    done = finished(tmp_path, "dlq", "retry", "bbbb", "--via", "here", *servers)
    assert done.returncode == 0, done.stderr
    assert ("takes no retries" in done.stderr, "--via worker" in done.stderr) == (not listens, listens)


def test_a_worker_that_is_asked_for_and_does_not_run_is_not_waited_for_with_every_letter(
    list_of_three: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    asked = ("dlq", "reprocess", "--all", "--via", "worker", "--timeout", "200ms")
    done = finished(tmp_path, *asked, "--redis-url", redis_url)
    assert done.returncode == 1
    assert "no worker of service 'worker-enricher' retries dead letters" in done.stderr
    assert len(ids(list_of_three)) == 3
    assert list_of_three.keys("enricher:retry:*") == []


def test_retry_without_the_database_changes_nothing(
    list_of_three: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    away = f"mongodb://127.0.0.1:{free_port()}/d"
    done = finished(
        tmp_path, "dlq", "retry", "1", "--timeout", "1s", "--redis-url", redis_url, "--mongo-url", away
    )
    assert done.returncode == 1
    assert "unavailable" in done.stderr
    assert ids(list_of_three) == ["aaaa-bad", "bbbb-good", "cccc-mail"]


def test_discard_removes_exactly_what_was_meant(
    list_of_three: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    assert finished(tmp_path, "dlq", "discard", "--yes", "--redis-url", redis_url).returncode == 2
    assert finished(tmp_path, "dlq", "discard", "--dry-run", "0", "--redis-url", redis_url).returncode == 0
    assert len(ids(list_of_three)) == 3
    done = finished(tmp_path, "dlq", "discard", "--matching", "^no such", "--yes", "--redis-url", redis_url)
    assert done.returncode == 0
    assert ids(list_of_three) == ["aaaa-bad", "bbbb-good"]


def test_a_filter_that_cannot_be_read_ends_with_2(redis_url: str, tmp_path: Path) -> None:
    for wrong in (["--since", "yesterday"], ["--matching", "("], ["--stage", "decoed"]):
        assert finished(tmp_path, "dlq", "list", *wrong, "--redis-url", redis_url).returncode == 2


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
