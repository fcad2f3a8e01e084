"""The real servers every integration test can ask for.

- ``redis_url``: Valkey, emptied before the test; ``any_redis_url``: the same test once per server
  found (Valkey, and Redis where installed); ``debian_redis``: path of ``redis-server`` or None
- ``mongo_url``: the server, without a database; ``mongo_database``: a name used by this test alone;
  ``mongo_database_url``: both in one; ``urls``: that and ``redis_url``
- ``search_process``: a search server; ``search_index``: a name used by this test alone
- ``own_redis``, ``own_mongo``, ``own_search``: a server for this test alone, to be killed, frozen and
  restarted

Everything that may be switched off or broken belongs to a server of the test's own; the shared
ones only ever get data.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pymongo
import pymongo.errors
import pytest
import structlog

from enricher import log
from tests.servers import MongoProcess, RedisProcess, SearchProcess, Urls, debian_redis_binary, redis_binaries

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = REPOSITORY.parent / "shared" / "data"
MARKET_CASES = REPOSITORY.parent / "shared" / "cases" / "market"
PAGES_OF_WORKERS = sorted((REPOSITORY.parent / "shared").glob("*/004_1102cb4e45ad32d9.txt"))
PAGES_OF_EVENTS = sorted((REPOSITORY.parent / "shared").glob("*/002_e21829d6299d05e4.txt"))

# How fast a machine is that runs the tests is not what they are about; and a change is judged by its own
# examples, the same each time. `--hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "explore", deadline=None, max_examples=2_000, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("same")

_REAL_FILES = [
    "integration/test_analytics_real_data.py",
    "integration/test_market_real_files.py",
    "integration/test_measures_real_files.py",
]
_OF_PAGES = ["integration/test_jobs_written_for_celery.py"]
_OF_EVENTS = ["integration/test_events_written_for_fastapi.py"]
collect_ignore = [
    *([] if REAL_DATA.is_dir() else _REAL_FILES),
    *([] if MARKET_CASES.is_dir() else ["unit/test_market_cases.py"]),
    *([] if PAGES_OF_WORKERS else _OF_PAGES),
    *([] if PAGES_OF_EVENTS else _OF_EVENTS),
    *([] if shutil.which("chromium") else ["browser"]),
]


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    found = ", ".join(f"{name} ({path})" for name, path in redis_binaries().items())
    reporter.write_line(f"Redis servers to test with: {found}")
    if not REAL_DATA.is_dir():
        reporter.write_line(f"no recorded exchange files in {REAL_DATA}: their tests are left out")
    if not MARKET_CASES.is_dir():
        reporter.write_line(f"no cases of desks in {MARKET_CASES}: their tests are left out")
    if not PAGES_OF_WORKERS:
        reporter.write_line("no page of workers for Celery beside the checkout: its tests are left out")
    if not PAGES_OF_EVENTS:
        reporter.write_line("no page of events for FastAPI beside the checkout: its tests are left out")
    if not shutil.which("chromium"):
        reporter.write_line("no chromium on this machine: the tests of the dashboard in it are left out")


@pytest.fixture(autouse=True)
def _every_test_has_a_log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # What the log holds back depends on the lines before, and a logger keeps the set-up that it met first.
    monkeypatch.setattr(log.log, "_limiter", log.Limiter())
    monkeypatch.setattr(log, "_structured", structlog.get_logger(log.NAME))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and an environment in which nothing is set."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ENRICHER_", "REDIS_", "MONGO_", "CELERY_", "SERVICE_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RedisProcess]]:
    """One running server per Redis found, by name ("valkey", "redis")."""
    folder = tmp_path_factory.mktemp("redis-servers")
    running: dict[str, RedisProcess] = {}
    try:
        for name, binary in redis_binaries().items():
            running[name] = RedisProcess(folder / name, binary=binary).start()
        yield running
    finally:
        for server in running.values():
            server.kill()


@pytest.fixture
def redis_url(redis_processes: dict[str, RedisProcess]) -> str:
    """An empty Valkey."""
    redis_processes["valkey"].flush()
    return redis_processes["valkey"].url


@pytest.fixture(params=list(redis_binaries()))
def any_redis_url(request: pytest.FixtureRequest, redis_processes: dict[str, RedisProcess]) -> str:
    """An empty server; the test runs once for each that was found."""
    server = redis_processes[request.param]
    server.flush()
    return server.url


@pytest.fixture(scope="session")
def debian_redis() -> Path | None:
    """The path of ``redis-server`` where it is installed."""
    return debian_redis_binary()


@pytest.fixture(scope="session")
def mongo_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoProcess]:
    """The running MongoDB-compatible server that the tests share."""
    with MongoProcess(tmp_path_factory.mktemp("mongo-server") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def mongo_url(mongo_process: MongoProcess) -> str:
    """Its URL, for durable writes, without a database."""
    return mongo_process.url()


@pytest.fixture
def mongo_database(mongo_process: MongoProcess) -> Iterator[str]:
    """The name of a database that only this test uses; it is dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    # A database that stays is in nobody's way: this only saves space, and is not worth waiting for ever.
    with (
        contextlib.suppress(pymongo.errors.PyMongoError),
        pymongo.MongoClient[dict[str, object]](mongo_process.url(), socketTimeoutMS=30_000) as client,
    ):
        client.drop_database(name)


@pytest.fixture
def mongo_database_url(mongo_process: MongoProcess, mongo_database: str) -> str:
    """The URL with this test's database as its path."""
    return mongo_process.url(mongo_database)


@pytest.fixture(scope="session")
def search_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchProcess]:
    """The running search server that the tests share, each with indices of its own."""
    with SearchProcess(tmp_path_factory.mktemp("search-server") / "data") as server:
        yield server


@pytest.fixture
def search_index() -> str:
    """The name of an index that only this test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def own_search(tmp_path: Path) -> Iterator[SearchProcess]:
    """A running search server that this test may kill, freeze and restart."""
    with SearchProcess(tmp_path / "own-search") as server:
        yield server


@pytest.fixture
def urls(redis_url: str, mongo_database_url: str) -> Urls:
    """Both, in the order in which most take them."""
    return Urls(redis_url, mongo_database_url)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A running Valkey that this test may kill, freeze and restart on the same port."""
    with RedisProcess(tmp_path / "own-redis") as server:
        yield server


@pytest.fixture
def own_mongo(tmp_path: Path) -> Iterator[MongoProcess]:
    """A running MongoDB-compatible server that this test may kill, freeze and restart."""
    with MongoProcess(tmp_path / "own-mongo") as server:
        yield server
