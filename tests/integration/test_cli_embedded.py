"""Commands find the embedded servers of their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from enricher.embedded import Endpoints, read_endpoints
from enricher.embedded.endpoints import write_endpoints
from tests.integration.commands import Command
from tests.servers import RedisProcess, free_port

FOLDER = Path("enricher-data")
USING = "using the embedded servers of enricher-data"


def test_commands_use_the_servers_that_run_in_their_folder_unless_told_otherwise(tmp_path: Path) -> None:
    port = free_port()
    with Command(tmp_path, "run", "--embedded", "--redis-port", str(port)) as worker:
        worker.until("ready")
        endpoints = read_endpoints(tmp_path / FOLDER)
        assert endpoints is not None
        assert f":{port}/" in endpoints.redis_url
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
