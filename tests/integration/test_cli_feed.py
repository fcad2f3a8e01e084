"""`enricher feed` as a user meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from enricher.cli.main import exit_code
from tests.integration.commands import environment, eventually, finished
from tests.servers import RedisProcess, free_port


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running `enricher` in ``folder``; killed at the end of the block if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "enricher", *arguments],
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def heard(url: str) -> Iterator[Callable[[], list[tuple[str, bytes]]]]:
    """What was published on market:* up to the call, since the start of the block."""
    got: list[tuple[str, bytes]] = []
    with redis.Redis.from_url(url) as client, client.pubsub() as pubsub:
        pubsub.psubscribe("market:*", "heard:end")
        for _ in range(2):
            assert pubsub.get_message(timeout=60)

        def all_so_far() -> list[tuple[str, bytes]]:
            client.publish("heard:end", b"")
            while (message := pubsub.get_message(timeout=60)) and message["channel"] != b"heard:end":
                got.append((message["channel"].decode(), message["data"]))
            assert message, "the server has fallen silent"
            return got

        yield all_so_far


def wait_for_a_message(url: str) -> None:
    """Return when something was published on market:*."""
    with redis.Redis.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("market:*")
        eventually(lambda: pubsub.get_message(timeout=0.5), "a message")


def subscribers(url: str, pattern: str = "market:underlying") -> int:
    """How many clients listen to a channel."""
    with redis.Redis.from_url(url) as client:
        found: Mapping[bytes, int] = dict(client.pubsub_numsub(pattern))
        return sum(found.values())


def test_it_publishes_the_count_and_ends_with_totals(redis_url: str, tmp_path: Path) -> None:
    with heard(redis_url) as messages:
        before_us = time.time_ns() // 1000
        done = finished(
            tmp_path, "feed", "--redis-url", redis_url, "--products", "A,B", "--count", "300",
            "--rate", "max", "--chain-size", "5",
        )  # fmt: skip
        got = messages()
    assert done.returncode == 0, done.stderr
    assert "Sent 300 messages" in done.stdout
    assert "not sent: 0" in done.stdout
    counts = Counter(channel for channel, _ in got)
    assert counts.total() == 300
    for channel, number in counts.items():
        assert f"{channel} {number}" in done.stdout
    bodies = [(channel, json.loads(body)) for channel, body in got]
    assert {body["product"] for _, body in bodies} == {"A", "B"}
    chains = [body for channel, body in bodies if channel == "market:option_chain"]
    assert {len(chain["strikes"]) for chain in chains} == {5}
    stamps = [body["timestamp"] for _, body in bodies]
    assert stamps == sorted(stamps)
    assert stamps[0] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before_us / 1e6))


def test_the_same_seed_gives_the_same_prices(redis_url: str, tmp_path: Path) -> None:
    prices = []
    for seed in ("5", "5", "6"):
        with heard(redis_url) as messages:
            finished(
                tmp_path, "feed", "--redis-url", redis_url, "--count", "50", "--rate", "max", "--seed", seed
            )
            ticks = [json.loads(body) for channel, body in messages() if channel == "market:underlying"]
            prices.append([tick["price"] for tick in ticks])
    assert prices[0] == prices[1] != prices[2]


def test_defects_are_made_and_counted(redis_url: str, tmp_path: Path) -> None:
    done = finished(
        tmp_path, "feed", "--redis-url", redis_url, "--count", "400", "--rate", "max",
        "--defects", "malformed=0.2,late=0.1",
    )  # fmt: skip
    assert done.returncode == 0
    assert "Broken on purpose: late " in done.stdout
    assert "malformed" in done.stdout


def test_a_restart_of_redis_is_survived_and_what_fell_into_it_is_counted(
    own_redis: RedisProcess, tmp_path: Path
) -> None:
    with started(tmp_path, "feed", "--redis-url", own_redis.url, "--rate", "500") as feed:
        wait_for_a_message(own_redis.url)
        own_redis.kill()
        assert feed.stderr is not None
        lines = iter(feed.stderr.readline, "")
        assert any("Redis is unreachable" in line for line in lines)
        own_redis.start()
        assert any("Redis is back" in line for line in lines)
        wait_for_a_message(own_redis.url)
        feed.send_signal(signal.SIGTERM)
        out, _ = feed.communicate(timeout=60)
    assert feed.returncode == 0
    unsent = int(out.partition("not sent: ")[2].partition(";")[0].replace(",", ""))
    assert unsent > 0


def test_it_waits_for_a_server_that_is_not_there_yet_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    with started(tmp_path, "feed", "--redis-url", f"redis://:geheim@127.0.0.1:{free_port()}/0") as feed:
        assert feed.stderr is not None
        line = feed.stderr.readline()
        assert "waiting for Redis at redis://:***@" in line
        feed.send_signal(signal.SIGINT)
        out, _ = feed.communicate(timeout=60)
    assert feed.returncode == 0
    assert "Sent 0 messages" in out


def test_it_waits_no_longer_than_it_was_to_publish(tmp_path: Path) -> None:
    done = finished(tmp_path, "feed", "--redis-url", f"redis://127.0.0.1:{free_port()}", "--for", "300ms")
    assert done.returncode == 1
    assert done.stderr.endswith("was never reachable\n")


def test_a_wrong_password_is_said_and_ends_it(own_redis: RedisProcess, tmp_path: Path) -> None:
    assert own_redis.call("CONFIG", "SET", "requirepass", "richtig").startswith(b"+OK")
    wrong = own_redis.url.replace("redis://", "redis://:geheim@")
    done = finished(tmp_path, "feed", "--redis-url", wrong, "--count", "1")
    assert done.returncode == 1
    assert "geheim" not in done.stderr
    assert "Error: Redis at redis://:***@" in done.stderr


def test_arguments_that_make_no_sense_end_with_2() -> None:
    for wrong in (["--rate", "0"], ["--products", "A,A"], ["--defects", "late=3"], ["--for", "soon"]):
        assert exit_code(["feed", *wrong]) == 2
