"""`enricher top` while a worker works, and commands that find the embedded servers of their folder."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from enricher.clock import wall_clock
from enricher.embedded import Endpoints, read_endpoints
from enricher.embedded.endpoints import write_endpoints
from enricher.market.feed.synthetic import SyntheticMarket
from tests.integration.commands import ESCAPE, Command, eventually, ran
from tests.servers import RedisProcess, free_port


@pytest.fixture
def busy_worker(tmp_path: Path, redis_url: str, mongo_database_url: str) -> Iterator[str]:
    """The Redis of a worker that has always something to do."""
    market, stop = SyntheticMarket(1), threading.Event()

    def publish() -> None:
        with redis.Redis.from_url(redis_url) as client:
            while not stop.wait(0.05):
                for channel, body in market.mix(wall_clock()):
                    client.publish(channel, body)
                client.publish("market:underlying", "{")

    arguments = ("run", "--redis-url", redis_url, "--mongo-url", mongo_database_url)
    with Command(tmp_path / "worker", *arguments, "--set", "stats.interval=200ms") as worker:
        worker.until("ready")
        feed = threading.Thread(target=publish)
        feed.start()
        worker.until("dead_letter")
        yield redis_url
        stop.set()
        feed.join()


def rows(text: str, start: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip().startswith(start)]


def test_once_prints_one_picture_of_rates_topics_and_sources(tmp_path: Path, busy_worker: str) -> None:
    with Command(tmp_path / "top", "top", "--once", "--redis-url", busy_worker) as top:
        assert top.end() == 0
        assert not ESCAPE.search(top.out)
        worker = rows(top.out, "worker-enricher")[0]
        assert worker[2] == "ready"
        received, processed = (float(cell.replace(",", "")) for cell in worker[4:6])
        # Rates of one interval: what was received in one may be processed in the next.
        assert received > 0
        assert processed > 0
        assert "market:underlying" in top.out
        assert "connected" in top.out


def test_without_a_terminal_a_picture_is_printed_per_interval_until_ctrl_c(
    tmp_path: Path, busy_worker: str
) -> None:
    with Command(tmp_path / "top", "top", "--interval", "200ms", "--redis-url", busy_worker) as top:
        while top.out.count("Workers") < 3:
            assert top.process.poll() is None, top.err
            time.sleep(0.02)
        assert top.signal(signal.SIGINT).end() == 0
        assert not ESCAPE.search(top.out)


def test_without_a_worker_it_says_how_to_start_one(tmp_path: Path, redis_url: str) -> None:
    with Command(tmp_path, "top", "--once", "--redis-url", redis_url) as top:
        assert top.end() == 0
        assert "enricher run" in top.out


def test_without_redis_the_view_says_only_that_it_is_away(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    with Command(tmp_path, "top", "--interval", "100ms", "--redis-url", url) as top:
        while "unavailable" not in top.out:
            assert top.process.poll() is None, top.err
            time.sleep(0.02)
        assert top.signal(signal.SIGINT).end() == 0
        assert "No worker" not in top.out


def test_without_redis_once_ends_with_1(tmp_path: Path) -> None:
    with Command(tmp_path, "top", "--once", "--redis-url", f"redis://:geheim@127.0.0.1:{free_port()}") as top:
        assert top.end() == 1
        assert "geheim" not in top.err


FOLDER = Path("enricher-data")
SHIPPED = Path(__file__).parents[2] / "config.toml"
USING = "using the embedded servers of enricher-data"


def test_commands_use_the_servers_that_run_in_their_folder_unless_told_otherwise(tmp_path: Path) -> None:
    port = free_port()
    with Command(tmp_path, "run", "--embedded", "--redis-port", str(port)) as worker:
        worker.until("ready")
        endpoints = read_endpoints(tmp_path / FOLDER)
        assert endpoints is not None
        assert f":{port}/" in endpoints.redis_url
        eventually(lambda: ran("-m", "enricher", "health", folder=tmp_path).returncode == 0, "its figures")
        for arguments in (
            ("health",),
            ("top", "--once"),
            ("check",),
            ("dlq", "list"),
            ("feed", "--count", "10"),
        ):
            with Command(tmp_path, *arguments) as command:
                assert command.end() == 0, command.err
                assert command.err.splitlines()[0] == f"{USING}/endpoints.json"
        shutil.copy(SHIPPED, tmp_path)
        with Command(tmp_path, "health") as command:
            assert command.end() == 0, command.err
        (tmp_path / SHIPPED.name).unlink()
        other = f"redis://127.0.0.1:{free_port()}/0"
        for given in ({"REDIS_URL": other}, {"ENRICHER_MONGO__URL": "mongodb://127.0.0.1:1/x"}):
            with Command(tmp_path, "health", **given) as command:
                assert command.end() == 1
                assert USING not in command.err


def test_what_a_killed_process_left_is_not_used(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "lock").write_bytes(b"1")
    left = Endpoints("redis://127.0.0.1:1/0", "mongodb://127.0.0.1:1/x", pid=1, started_at="2026")
    write_endpoints(tmp_path / FOLDER, left)
    with Command(tmp_path, "replay", "--dry-run", __file__) as command:
        command.end()
        assert USING not in command.err


@pytest.mark.parametrize("option", ["--redis-port", "--mongo-port"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, option: str) -> None:
    with (
        RedisProcess(tmp_path / "stranger") as stranger,
        Command(tmp_path, "run", "--embedded", option, str(stranger.port)) as worker,
    ):
        assert worker.end() == 1
        assert f"port {stranger.port} of the embedded" in worker.out
        assert "is taken" in worker.out
    with Command(tmp_path, "run", option, "7000") as worker:
        assert worker.end() == 2
        assert "--embedded" in worker.err
