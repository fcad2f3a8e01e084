"""What the page for those who come from Celery's jobs says is so, of Celery and of this program."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_type_hints

import celery.app.control
import celery.app.defaults
import celery.bin.celery
import msgspec
import pytest
import redis

from enricher import jobs as public
from enricher.jobs import AsyncResult, Worker, connect, send
from enricher.jobs.context import Job
from enricher.jobs.settings import JobSettings
from tests.integration.celery_users import by_celery, celery_client, old_names
from tests.integration.commands import Command, environment, eventually, finished
from tests.integration.test_docs_jobs import rows as rows_of
from tests.pages import blocks, page
from tests.rig import PATIENCE
from tests.servers import RedisProcess

PAGE = page("jobs_migration.md")
OLD_APP = """
import os

import celery

broker, backend = (os.environ[name] for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"))
app = celery.Celery("app", broker=broker, backend=backend)


@app.task(name="old.add")
def add(a, b):
    return a + b
"""
NEW_APP = """
from enricher.jobs import Worker


class AddWorker(Worker):
    @classmethod
    def perform(cls, a, b):
        return a + b


class NightlyWorker(Worker):
    cron_schedule = "0 2 * * *"

    @classmethod
    def perform(cls): ...
"""
SETTINGS = {"ENRICHER_JOBS__PACKAGES": "app_jobs", "ENRICHER_MARKET__ENABLED": "false"}
COMMANDS = sorted(set(re.findall(r"`python -m enricher ([^`]+)`", PAGE)))
# Commands that do not end by themselves, and what the page leaves to its reader.
ENDLESS = ("run", "top", "jobs tail")
NAMES = {"schedules run NAME": "app_jobs.NightlyWorker", "jobs enqueue NAME": "app_jobs.AddWorker 1 2"}


def rows(section: str) -> list[list[str]]:
    return rows_of(section, PAGE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "app.py").write_text(OLD_APP)
    (folder / "app_jobs.py").write_text(NEW_APP)
    return folder


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with RedisProcess(tmp_path_factory.mktemp("jobs") / "redis") as server:
        yield old_names(server)


@pytest.fixture(scope="module")
def worker(folder: Path, urls: dict[str, str]) -> Iterator[Command]:
    with Command(folder, "run", "--queues", "critical,default,low", **SETTINGS, **urls) as worker:
        yield worker.until("ready")


@pytest.fixture(autouse=True)
def program(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CELERY_RESULT_BACKEND", urls["CELERY_RESULT_BACKEND"])
    connect(urls["CELERY_BROKER_URL"])
    yield
    connect("")


@contextmanager
def old_worker(folder: Path, urls: dict[str, str]) -> Iterator[None]:
    """A real worker of Celery."""
    command = ["-m", "celery", "-A", "app", "worker", "--pool", "solo", "-Q", "critical,default,low"]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(**urls),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def keys(url: str) -> set[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return set(client.scan_iter("*"))


def test_old_and_new_workers_share_databases_and_never_a_key(
    folder: Path, urls: dict[str, str], worker: Command
) -> None:
    app = celery_client(urls)
    broker = urls["CELERY_BROKER_URL"]
    with old_worker(folder, urls):
        new = [send("app_jobs.AddWorker", number, 1) for number in range(20)]
        old = [app.send_task("old.add", (number, 2), queue="default") for number in range(20)]
        app.send_task("old.add", (0, 0), queue="default", countdown=600)
        assert [by_celery(job, app) for job in old] == [number + 2 for number in range(20)]
        assert [by_celery(job, app) for job in new] == [number + 1 for number in range(20)]
        assert AsyncResult(old[7].id).get(timeout=PATIENCE) == 9
        with redis.Redis.from_url(broker) as client:
            eventually(lambda: client.hlen("unacked"), "the delayed one")
        app.send_task("old.add", (1, 1), queue="critical").get(timeout=PATIENCE)
    of_old, of_new, shared = told_keys()
    for key in keys(broker) | keys(urls["CELERY_RESULT_BACKEND"]):
        if not key.startswith("enricher:"):
            assert [matches(key, each) for each in (of_old, of_new, shared)].count(True) == 1, key
    assert all(matches(key, shared) for key in keys(urls["CELERY_RESULT_BACKEND"]))


def told_keys() -> tuple[list[str], list[str], list[str]]:
    """The keys of the old workers alone, of the new ones alone, and of both, as regular expressions."""
    *alone, results = rows("Side by side")
    old, new = (patterns(" ".join(row[at] for row in alone)) for at in (1, 2))
    assert results[1] == results[2]
    return old, new, patterns(results[1])


def patterns(text: str) -> list[str]:
    """Names of keys in backticks as regular expressions."""
    found = re.findall(r"`([^`]+)`", text)
    return [re.sub(r"\\\{\w+\\\}", "[^:]+", re.escape(each)).replace(r"\*", ".*") for each in found]


def matches(key: str, given: list[str]) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in given)


def test_every_setting_of_celery_is_one_and_has_the_default_that_the_page_names() -> None:
    defaults = {
        name: option.default for name, option in celery.app.defaults.flatten(celery.app.defaults.NAMESPACES)
    }
    transport = {"priority_steps", "visibility_timeout"}
    of_tasks = {"rate_limit", "retry_jitter", "default_retry_delay"}
    assert all(hasattr(celery.Task, name) for name in of_tasks - {"retry_jitter"})
    told = {
        name: default for cell, default, _ in rows("Settings") for name in re.findall(r"`([a-z_]+)`", cell)
    }
    assert told.keys() - transport - of_tasks <= defaults.keys()
    assert len(told) > 30
    words = {"off": {False, None}, "on": {True}, "none": {None}, "UTC": {None, "UTC"}}
    for name, default in told.items():
        if default in words and name in defaults:
            assert defaults[name] in words[default], name
    assert defaults["result_expires"].days == 1
    assert defaults["worker_prefetch_multiplier"] == 4
    assert defaults["task_default_queue"] == "celery"


def test_the_old_commands_of_the_page_are_celerys() -> None:
    named = {kind: set(re.findall(rf"{kind} ([a-z_]+)", PAGE)) for kind in ("inspect", "control")}
    assert named["inspect"] <= {*dir(celery.app.control.Inspect)}
    assert named["control"] <= {*dir(celery.app.control.Control)}
    commands = set(re.findall(r"`celery -A app ([a-z]+)", PAGE)) - {"flower"}  # which is a package of its own
    assert len(commands) > 6
    assert commands <= celery.bin.celery.celery.commands.keys()


def test_what_the_page_says_to_use_instead_is_there() -> None:
    settings = {field.name for field in msgspec.structs.fields(JobSettings)}
    known = {*get_type_hints(Worker), *dir(Worker), *dir(Job), *public.__all__, *settings}
    named = set(re.findall(r"\bjobs\.([a-z_]+)`", PAGE)) - {"md"}
    assert named - {"testing"} <= settings
    third = " ".join(row[2] for row in rows("Settings"))
    words = set(re.findall(r"`([a-z_]+)(?: = [^`]*)?`", third))
    assert words <= known, words - known


def test_check_runs_in_the_environment_of_the_old_workers(tmp_path: Path, urls: dict[str, str]) -> None:
    (script,) = blocks(PAGE, "sh")
    for name, url in urls.items():
        script = re.sub(rf"{name}=\S+", f"{name}={url}", script)
    workers = tmp_path / "modules" / "application" / "workers"
    workers.mkdir(parents=True)
    (workers / "broken.py").write_text("import a_library_that_nobody_has")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {"cwd": tmp_path, "env": environment(PATH=path), "capture_output": True, "text": True}
    done = subprocess.run(["bash", "-e", "-c", script], timeout=PATIENCE, check=False, **given)
    assert done.returncode == 1
    assert "Failed to import worker module modules.application.workers.broken" in done.stdout + done.stderr


@pytest.mark.parametrize("command", [each for each in COMMANDS if not each.startswith(ENDLESS)])
def test_every_command_of_the_page_runs(
    command: str, folder: Path, urls: dict[str, str], worker: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    job = importlib.import_module("app_jobs").AddWorker.perform_in(3600, 1, 2)
    for words, name in NAMES.items():
        command = command.replace(words, words.replace("NAME", name))
    done = finished(folder, *command.replace("ID", job.id).split(), **SETTINGS, **urls)
    assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith(ENDLESS)])
def test_every_command_of_the_page_that_goes_on_begins(
    command: str, folder: Path, urls: dict[str, str], worker: Command
) -> None:
    with Command(folder, *command.split(), **SETTINGS, **urls) as begun:
        eventually(lambda: send("app_jobs.AddWorker", 1, 2) and begun.out, "its output")
        assert begun.process.poll() is None
