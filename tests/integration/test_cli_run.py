"""`enricher run` as a process: ready, signals, exit codes, the service manager, embedded servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import redis

from enricher.cli.signals import stop_on_signal
from enricher.embedded import read_endpoints
from tests.integration.commands import PATIENCE, Command, eventually
from tests.servers import MongoProcess, RedisProcess, Urls, free_port

TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL

CRASH = """
import enricher.engine.timers
from enricher.cli.main import main

async def crash(self):
    raise ValueError("a bug in the engine")

enricher.engine.timers.Timers.run = crash
main()
"""


STALL = """
import enricher.engine.scheduler
from enricher.cli.main import main

enricher.engine.scheduler.Scheduler.pick = lambda self: None
main()
"""


def tick(number: int = 1) -> bytes:
    return json.dumps(
        {
            "type": "UNDERLYING",
            "product": "NIFTY",
            "price": 22000.5,
            "timestamp": datetime.now(UTC).isoformat(),
            "tick_id": number,
        }
    ).encode()


# So that the worker soon says what it has taken in, and under which key.
TELLING = {"ENRICHER_STATS__INTERVAL": "100ms", "ENRICHER_SERVICE__INSTANCE": "one"}


def drain(deadline: str) -> tuple[str, str]:
    """How long it may take to come to an end."""
    return "--set", f"service.drain_deadline={deadline}"


def until_taken_in(client: redis.Redis) -> None:
    """Wait until the worker, which runs with `TELLING`, has received a tick."""

    def received() -> bool:
        text = client.get("enricher:stats:worker-enricher:one")
        return bool(text) and json.loads(text)["topics"].get("market:underlying", {}).get("received", 0) > 0

    eventually(received)


def run(folder: Path, redis_url: str, mongo_url: str, *more: str, **variables: str) -> Command:
    return Command(folder, "run", "--redis-url", redis_url, "--mongo-url", mongo_url, *more, **variables)


def test_a_worker_gets_ready_enriches_what_is_published_and_ends_with_0_after_sigterm(
    tmp_path: Path, redis_url: str, mongo_database_url: str
) -> None:
    with run(tmp_path, redis_url, mongo_database_url) as worker, redis.Redis.from_url(redis_url) as client:
        worker.until("ready")
        client.publish("market:underlying", tick())
        eventually(lambda: client.exists("latest:underlying:NIFTY"))
        assert worker.signal(TERM).end() == 0
        assert worker.events()[-1] == "stopped"
        first = list(worker.logged()[0])[:4]
        assert first == ["message", "level", "timestamp", "service"]
        assert worker.err == ""


def test_ctrl_c_ends_it_with_0_too(tmp_path: Path, urls: Urls) -> None:
    with run(tmp_path, *urls) as worker:
        assert worker.until("ready").signal(INT).end() == 0


def test_the_service_manager_hears_ready_signs_of_life_and_stopping(tmp_path: Path, urls: Urls) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        with run(
            tmp_path / "worker",
            urls.redis,
            urls.mongo,
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="200000",
        ) as worker:
            heard = ""
            while "READY=1" not in heard:
                heard = manager.recv(4096).decode()
            assert "STATUS=ready, 0 waiting" in heard
            while "WATCHDOG=1" not in heard:
                heard = manager.recv(4096).decode()
            worker.signal(TERM)
            while "STOPPING=1" not in heard:
                heard = manager.recv(4096).decode()
            assert worker.end() == 0


def test_no_sign_of_life_goes_out_while_messages_wait_and_no_turn_is_served(
    tmp_path: Path, redis_url: str, mongo_database_url: str
) -> None:
    arguments = ("run", "--redis-url", redis_url, "--mongo-url", mongo_database_url)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    with (
        manager,
        Command(
            tmp_path / "worker",
            *arguments,
            *("--set", "service.drain_deadline=100ms", "--set", "service.stall_after=400ms"),
            program=("-c", STALL),
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="200000",
        ) as worker,
        redis.Redis.from_url(redis_url) as client,
    ):
        worker.until("ready")
        client.publish("market:underlying", tick())
        worker.until("stalled")
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                manager.recv(4096)
        time.sleep(0.5)
        heard = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                heard += manager.recv(4096)
        assert b"WATCHDOG=1" not in heard
        assert worker.signal(TERM).end() == 3


def test_a_server_that_is_away_at_the_start_is_waited_for(
    tmp_path: Path, own_redis: RedisProcess, mongo_database_url: str
) -> None:
    own_redis.stop()
    with run(tmp_path, own_redis.url, mongo_database_url) as worker:
        worker.until("connection_lost")
        assert "ready" not in worker.events()
        own_redis.start()
        worker.until("ready")
        assert worker.signal(TERM).end() == 0


def test_it_can_be_ended_with_0_while_both_servers_are_away(tmp_path: Path) -> None:
    nobody = free_port()
    with run(
        tmp_path,
        f"redis://127.0.0.1:{nobody}/0",
        f"mongodb://127.0.0.1:{nobody}",
        "--set",
        "service.drain_deadline=300ms",
    ) as worker:
        assert worker.until("connection_lost").signal(TERM).end() == 0


def test_a_drain_that_the_deadline_cuts_ends_with_3_and_names_what_was_lost(
    tmp_path: Path, redis_url: str, own_mongo: MongoProcess
) -> None:
    with (
        run(tmp_path, redis_url, own_mongo.url("d"), *drain("300ms"), **TELLING) as worker,
        redis.Redis.from_url(redis_url) as client,
    ):
        worker.until("ready")
        own_mongo.pause()
        client.publish("market:underlying", tick())
        until_taken_in(client)
        assert worker.signal(TERM).end() == 3
        lost = next(line for line in worker.logged() if line["message"] == "messages_lost")
        assert lost["topics"] == {"market:underlying": 1}
        assert lost["level"] == "ERROR"


def test_a_second_signal_ends_it_at_once_with_130(
    tmp_path: Path, redis_url: str, own_mongo: MongoProcess
) -> None:
    with (
        run(tmp_path, redis_url, own_mongo.url("d"), *drain("1h"), **TELLING) as worker,
        redis.Redis.from_url(redis_url) as client,
    ):
        worker.until("ready")
        own_mongo.pause()
        client.publish("market:underlying", tick())
        until_taken_in(client)
        worker.signal(TERM).until("stopping")
        assert worker.signal(TERM).end() == 130


async def test_the_end_of_the_terminal_asks_to_stop_as_often_as_it_is_told() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(stop.wait(), PATIENCE)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.01)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


LATE = """
import asyncio, os, signal
from enricher.cli.signals import stop_on_signal

async def main():
    with stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()

asyncio.run(main())
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_second_signal_while_the_process_ends_is_one_all_the_same(tmp_path: Path) -> None:
    with Command(tmp_path, program=("-c", LATE)) as ending:
        assert ending.end() == 130


def test_a_crash_of_the_engine_is_logged_and_ends_it_with_1(tmp_path: Path, urls: Urls) -> None:
    arguments = ("run", "--redis-url", urls.redis, "--mongo-url", urls.mongo)
    with Command(
        tmp_path, *arguments, "--set", "service.drain_deadline=300ms", program=("-c", CRASH)
    ) as worker:
        assert worker.end() == 1
        crash = next(line for line in worker.logged() if line["message"] == "crashed")
        assert "a bug in the engine" in crash["exception"]


def test_a_wrong_setting_ends_it_with_2_and_shows_no_password(tmp_path: Path) -> None:
    with Command(tmp_path, "run", "--redis-url", "http://user:geheim@host") as worker:
        assert worker.end() == 2
        assert "redis.url" in worker.err
        assert "geheim" not in worker.err + worker.out


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[pool]\nconcurrency = 0\nconcurency = 8\n")
    (tmp_path / ".env").write_text("ENRICHER_LOG__LEVEL=loud\n")
    with Command(tmp_path, "run", "--set", "feed.timezone=Mars") as worker:
        assert worker.end() == 2
    file = tmp_path / "config.toml"
    for place, right in (
        (f"{file}: pool.concurrency = 0: ", "a whole number from 1 to 10000"),
        (f"{file}: pool.concurency = 8: ", "did you mean 'pool.concurrency'?"),
        (f"{tmp_path / '.env'}: ENRICHER_LOG__LEVEL: log.level = 'loud': ", "one of 'critical', "),
        ("command line: feed.timezone = 'Mars': ", "the name of a time zone"),
    ):
        (line,) = [x for x in worker.err.splitlines() if x.startswith(f"Wrong setting: {place}")]
        assert right in line
    assert len(worker.err.splitlines()) == 4


def test_a_folder_for_servers_that_are_not_asked_for_is_wrong_usage(tmp_path: Path) -> None:
    with Command(tmp_path, "run", "--data-dir", "data") as worker:
        assert worker.end() == 2
        assert "--embedded" in worker.err


def test_settings_of_a_dotenv_file_count_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENRICHER_POOL__CONCURRENCY=0\n")
    with Command(tmp_path, "run") as worker:
        assert worker.end() == 2
        assert "pool.concurrency" in worker.err
    with Command(tmp_path, "run", ENRICHER_POOL__CONCURRENCY="none") as worker:
        assert worker.end() == 2
        assert "'none'" in worker.err


def servers_of(worker: Command) -> list[psutil.Process]:
    return psutil.Process(worker.process.pid).children(recursive=True)


def embedded(folder: Path) -> Command:
    return Command(folder, "run", "--embedded", "--data-dir", "data")


def test_embedded_servers_are_announced_used_and_ended_with_the_worker(tmp_path: Path) -> None:
    with embedded(tmp_path) as worker:
        worker.until("ready")
        endpoints = read_endpoints(tmp_path / "data")
        assert endpoints is not None
        said = next(line for line in worker.logged() if line["message"] == "embedded_servers")
        assert (said["redis"], said["mongo"]) == (endpoints.redis_url, endpoints.mongo_url)
        servers = servers_of(worker)
        assert len(servers) >= 2
        assert worker.signal(TERM).end() == 0
        assert read_endpoints(tmp_path / "data") is None
        assert psutil.wait_procs(servers, timeout=PATIENCE)[1] == []


@pytest.mark.parametrize("name", ["valkey", "secantus"])
def test_an_embedded_server_that_dies_ends_the_worker_with_1(tmp_path: Path, name: str) -> None:
    with embedded(tmp_path) as worker:
        worker.until("ready")
        next(s for s in servers_of(worker) if name in " ".join(s.cmdline())).kill()
        assert worker.end() == 1
        assert "embedded_server_ended" in worker.events()


def test_a_killed_worker_leaves_no_server_behind(tmp_path: Path) -> None:
    with embedded(tmp_path) as worker:
        worker.until("ready")
        servers = servers_of(worker)
        worker.signal(KILL).end()
        assert psutil.wait_procs(servers, timeout=PATIENCE)[1] == []
