"""The commands of background jobs: what they show, what they change, what they refuse."""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from enricher.cli.main import exit_code
from enricher.job_store import End, Find, JobError, Unique
from tests.integration.commands import Command, eventually, finished
from tests.integration.test_jobs_store import Jobs

SHOP = """
from enricher.jobs import Worker, job

class Import(Worker):
    queue = "critical"
    @classmethod
    def perform(cls, user_id: int, kind: str = "csv"):
        return {"user": user_id}

class Report(Worker):
    max_retries = 0
    @classmethod
    def perform(cls, name: str):
        raise ValueError(f"no report {name} at redis://:secret@host/0")

class Long(Worker):
    @classmethod
    async def perform(cls):
        import asyncio
        job().progress(3, 10, "reading")
        await asyncio.sleep(600)
"""


class Shell:
    """Commands in this process: standard output, and the exit code that is expected."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        found = exit_code([*arguments, "--redis-url", self.url])
        out, self.err = self._capsys.readouterr()
        assert found == code, (out, self.err)
        return out

    def said(self) -> str:
        """What came on standard error meanwhile."""
        return self._capsys.readouterr().err

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json", code=code).splitlines()]


@pytest.fixture
def jobs(redis_url: str) -> Jobs:
    return Jobs(redis_url)


@pytest.fixture
def shell(
    redis_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    return Shell(redis_url, capsys)


def failed(jobs: Jobs, message: str = "no such user", **more: object) -> str:
    jobs.enqueue(**more)
    (run,) = jobs.fetch()
    jobs.end(End(run=run, state="failed", error=JobError("ValueError", message, traceback="Traceback: here")))
    return run.id


class Terminal(io.StringIO):
    """What somebody sees who looks at a terminal; ``shown`` is without its orders."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())


def test_from_the_first_job_to_its_result(tmp_path: Path, redis_url: str, shell: Shell) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(SHOP, encoding="utf-8")
    old_name = {"REDIS_URL": redis_url, "CELERY_BROKER_URL": f"{redis_url[:-1]}1"}
    where = {"ENRICHER_JOBS__PACKAGES": "shop.jobs", **old_name}

    def enqueued(*arguments: str, code: int = 0) -> str:
        found = finished(tmp_path, "jobs", "enqueue", *arguments, **where)
        assert found.returncode == code, (found.stdout, found.stderr)
        return found.stderr if code else found.stdout.strip()

    with (
        Command(tmp_path / "tail", "jobs", "tail", "--json", **old_name) as tail,
        Command(tmp_path, "run", "--queues", "critical=2,default=1", "--concurrency", "3", **where) as worker,
    ):
        worker.until("ready")
        (starting,) = [line for line in worker.logged() if line["message"] == "starting"]
        assert starting["routes"] == ["jobs:critical", "jobs:default"]
        assert enqueued("Import", "7", "--arg", "kind=xml", "--wait") == '{"user":7}'
        assert "no class 'Imprt' in shop.jobs (did you mean 'Import'?)" in enqueued("Imprt", code=2)
        assert "missing a required argument: 'user_id'" in enqueued("Import", code=2)
        assert "no report sales at redis://:***@host/0" in enqueued("Report", "sales", "--wait", code=1)
        long = enqueued("shop.jobs.Long")
        shell.url = old_name["CELERY_BROKER_URL"]
        eventually(lambda: '"total":10' in _progress(shell))
        ((running,),) = shell.rows("workers")
        assert (running["queues"], running["concurrency"]) == ({"critical": 2, "default": 1}, 3)
        assert set(running["tasks"]) == {"shop.jobs.Import", "shop.jobs.Report", "shop.jobs.Long"}
        assert [job["id"] for job in running["running"]] == [long]
        queues = {queue["name"]: queue for queue in shell.rows("queues")[0]}
        assert queues["default"]["running"] == queues["default"]["workers"] == 1
        assert queues["critical"]["done_per_second"] > 0
        assert queues["low"]["workers"] == 0
        shown = shell("jobs", "show", long[:8])
        assert "progress    3/10 reading" in shown
        assert f"worker      {running['name']}" in shown
        shell("jobs", "cancel", long, "--reason", "enough")
        (ended,) = eventually(lambda: [row for row in _rows(tail) if row["status"] == "REVOKED"])
        assert (ended["id"], ended["state"]) == (long, "cancelled")
        assert {row["status"] for row in _rows(tail)} == {"STARTED", "SUCCESS", "FAILURE", "REVOKED"}
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
        assert shell.rows("workers") == [[]]
        tail.signal(signal.SIGINT)
        assert tail.end() == 0


def _progress(shell: Shell) -> str:
    return shell("jobs", "list", "--state", "running", "--json")


def _rows(command: Command) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command.out.splitlines(keepends=True) if line.endswith("\n")]


def test_jobs_are_listed_by_what_they_are_like(jobs: Jobs, shell: Shell) -> None:
    failing = failed(jobs, "Timeout after 3 s", task="app.jobs.Import", payload=b'[[7],{"tenant":"acme"}]')
    other = failed(jobs, task="app.jobs.Report", queue="low")
    jobs.client.zadd("jobs:finished:failed", {failing: 1, other: 2})
    late = jobs.enqueue(delay_ms=60_000, task="app.jobs.Import")
    waiting = jobs.enqueue(task="app.jobs.Report")

    def listed(*filters: str) -> list[str]:
        return [row["id"] for row in shell.rows("jobs", "list", *filters)]

    assert listed() == [waiting, late, other, failing]
    assert listed("--state", "failed", "--limit", "1") == [other]
    assert listed("--class", "Import") == listed("--class", "app.*.Import") == [late, failing]
    assert (
        listed("--error", "timeout")
        == listed("--args", '"ACME"')
        == listed("--args", "7, tenant")
        == [failing]
    )
    assert listed("--queue", "low") == [other]
    assert listed("--until", "1h") == []
    assert listed("--since", "1h", "--state", "failed") == [other, failing]
    (row,) = shell.rows("jobs", "list", "--args", "acme")
    assert (row["args"], row["kwargs"], row["error"]["type"]) == ([7], {"tenant": "acme"}, "ValueError")
    table = [line.split("\t") for line in shell("jobs", "list").splitlines()]
    assert table[0][:4] == ["id", "state", "queue", "class"]
    assert [line[1] for line in table[1:]] == ["waiting", "scheduled", "failed", "failed"]
    assert "expected a time such as" in shell("jobs", "list", "--since", "soon", code=2) + shell.err


def test_jobs_are_retried_by_filter_and_by_id(jobs: Jobs, shell: Shell) -> None:
    timeouts = [failed(jobs, "Timeout") for _ in range(3)]
    other = failed(jobs, "no such user")
    jobs.client.zadd("jobs:finished:failed", {id_: i for i, id_ in enumerate(timeouts)})
    retry = ("jobs", "retry", "--error", "Timeout")
    assert len(shell(*retry, "--dry-run").splitlines()) == 3
    assert "3 jobs are meant; nothing was changed" in shell.err
    assert {jobs.state(id_) for id_ in timeouts} == {"failed"}
    assert [row["id"] for row in shell.rows(*retry, "--limit", "1")] == [timeouts[-1]]
    rows = shell.rows(*retry, "--rate", "100")
    assert [(row["was"], row["outcome"]) for row in rows] == [("failed", "waits again")] * 2
    assert {jobs.state(id_) for id_ in timeouts} == {"waiting"}
    assert jobs.state(other) == "failed"
    assert "waits again" in shell("jobs", "retry", other[:8])
    assert len(jobs.fetch()) == 4
    assert "not retried: it runs" in shell("jobs", "retry", other, code=1)
    assert "say which jobs" in shell("jobs", "retry", code=2) + shell.err
    assert "there is no job nobody" in shell("jobs", "retry", "nobody", code=2) + shell.err
    late = jobs.enqueue(delay_ms=60_000)
    assert "due now" in shell("jobs", "retry", "--state", "scheduled")
    assert jobs.state(late) == "waiting"


@pytest.mark.parametrize(("answer", "state", "code"), [("n", "failed", 130), ("y", "waiting", 0)])
def test_on_a_terminal_somebody_is_asked_about_many(
    jobs: Jobs, shell: Shell, monkeypatch: pytest.MonkeyPatch, answer: str, state: str, code: int
) -> None:
    many = [failed(jobs) for _ in range(2)]
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    assert "Retry these 2 jobs?" in shell("jobs", "retry", "--all", code=code)
    assert "2  failed     default  a.Task" in shell.err
    assert {jobs.state(id_) for id_ in many} == {state}


def test_one_job_is_retried_without_a_question(
    jobs: Jobs, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = failed(jobs)
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    shell("jobs", "retry", id_)
    assert jobs.state(id_) == "waiting"


def test_another_try_of_a_unique_job_says_who_has_its_lock(jobs: Jobs, shell: Shell) -> None:
    first = failed(jobs, unique=Unique("k"))
    second = jobs.enqueue(unique=Unique("k"))
    assert f"job {second} holds its unique lock" in shell("jobs", "retry", first, code=1)


def test_jobs_are_cancelled_and_deleted(jobs: Jobs, shell: Shell) -> None:
    waiting = [jobs.enqueue(queue="low") for _ in range(3)]
    shell("jobs", "cancel", "--queue", "low")
    assert {jobs.state(id_) for id_ in waiting} == {"cancelled"}
    assert "it has been cancelled" in shell("jobs", "cancel", waiting[0], code=1)
    assert "no terminal to ask on" in shell("jobs", "delete", "--all", code=2) + shell.err
    shell("jobs", "delete", "--all", "--yes")
    assert [jobs.store.ask(Find(id_)) for id_ in waiting] == [None] * 3
    assert "no job to delete" in shell("jobs", "delete", "--all", "--yes") + shell.err


def test_queues_are_paused_resumed_and_cleared(jobs: Jobs, shell: Shell) -> None:
    def queue(name: str) -> dict[str, Any]:
        (rows,) = shell.rows("queues")
        return next(row for row in rows if row["name"] == name)  # type: ignore[index]

    made = [jobs.enqueue(queue="reports") for _ in range(3)]
    assert queue("reports")["waiting"] == 3
    assert shell("queues", "pause", "low", "reports") == "low: paused\nreports: paused\n"
    assert shell("queues", "pause", "low") == "low: it was paused already\n"
    assert queue("low")["paused"]
    assert shell("queues", "resume", "low") == "low: resumed\n"
    assert "there is no queue 'lwo'" in shell("queues", "pause", "lwo", code=2) + shell.err
    assert "no terminal to ask on" in shell("queues", "clear", "reports", code=2) + shell.err
    assert shell("queues", "clear", "reports", "--yes") == "reports: 3 jobs cancelled\n"
    assert {jobs.state(id_) for id_ in made} == {"cancelled"}
    assert queue("reports")["waiting"] == 0
    assert "nothing waits in reports" in shell("queues", "clear", "reports") + shell.err
    table = shell("queues").splitlines()
    assert table[0].split("\t")[:2] == ["name", "waiting"]
    assert [row.split("\t")[0] for row in table[1:]] == ["critical", "default", "low", "reports"]


def test_the_beginning_of_an_id_is_enough_where_it_is_one(jobs: Jobs, shell: Shell) -> None:
    for id_ in ("abcd-1", "abcd-2", "beef-1"):
        jobs.enqueue(id=id_)
    assert "id          beef-1" in shell("jobs", "show", "beef")
    assert "several jobs begin with abcd: abcd-1, abcd-2" in shell("jobs", "show", "abcd", code=2) + shell.err
    assert "at least the first 4" in shell("jobs", "show", "bee", code=2) + shell.err
    assert (
        "there is no job nobody; finished ones are kept"
        in shell("jobs", "show", "nobody", code=2) + shell.err
    )


def test_everything_of_a_job_is_shown_without_passwords(jobs: Jobs, shell: Shell) -> None:
    id_ = failed(jobs, "redis://:secret@host is away", payload=b'[[1],{"a":"b"}]', unique=Unique("k"))
    text = shell("jobs", "show", id_)
    for part in (
        '1, a="b"',
        "ValueError: redis://:***@host is away",
        "Traceback: here",
        "unique      k",
        "failed",
    ):
        assert part in text
    (row,) = shell.rows("jobs", "show", id_)
    assert (row["unique"], row["attempt"], row["args"]) == ("k", 1, [1])
    assert "secret" not in json.dumps(row)


def test_a_server_that_is_away_is_named(shell: Shell) -> None:
    shell.url = "redis://:secret@localhost:1/0"
    assert (
        "the jobs' Redis redis://:***@localhost:1/0 cannot be used"
        in shell("jobs", "list", code=1) + shell.err
    )


@pytest.mark.parametrize("columns", [80, 120, 180])
def test_on_a_terminal_every_table_fits_and_says_what_to_do(
    jobs: Jobs, shell: Shell, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    def shown(*arguments: str) -> str:
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            patch.setenv("TERM", "xterm")
            patch.setattr(sys, "stdout", terminal)
            assert exit_code([*arguments, "--redis-url", shell.url]) == 0
        assert max(map(len, terminal.shown.splitlines()), default=0) <= columns
        return terminal.shown + shell.said()

    empty = shown("jobs", "list")
    assert "No jobs yet. Enqueue one" in empty
    assert "No worker runs. Start one: enricher run" in empty
    failed(jobs, "the report is longer than any terminal is wide " * 4, task="app.jobs.of.a.long.path.Report")
    for _ in range(12):
        jobs.enqueue(task="app.jobs.Import", payload=b'[["' + b"x" * 200 + b'"],{}]')
    jobs.fetch(free=1)
    listed = shown("jobs", "list")
    assert [line.rstrip("─ ") for line in listed.splitlines() if "─" in line] == [
        "running: 1",
        "waiting: 10 of 11",
        "failed: 1",
    ]
    assert ("app.jobs.of.a.long" in listed) == (columns == 180)
    assert "No such jobs. Without filters" in shown("jobs", "list", "--queue", "low")
    only = ("--state", "failed", "--limit", "1", "--error", "is")
    assert "failed: the first 1" in shown("jobs", "list", *only)
    assert "Nobody serves default. Start a worker: enricher run --queues default" in shown("queues")
    shown("queues", "pause", "default")
    assert "default (paused)" in shown("queues")
    assert "one has gone silent with 1 jobs" in shown("workers")


ODD = """
from enricher.jobs import Worker

class Nightly(Worker):
    cron_schedule = "0 2 * *"
    @classmethod
    def perform(cls): ...

class Lonely(Worker):
    queue = "defualt"
    @classmethod
    def perform(cls): ...
"""


def test_check_fails_for_wrong_classes_and_warns_of_queues_that_nobody_serves(
    tmp_path: Path, jobs: Jobs
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "odd.py").write_text(ODD, encoding="utf-8")
    (tmp_path / "shop" / "broken.py").write_text("import nothing_here", encoding="utf-8")
    jobs.enqueue(queue="reports")
    elsewhere = f"{jobs.settings.url[:-1]}3"
    where = {"REDIS_URL": elsewhere, "ENRICHER_MARKET__ENABLED": "false"}
    found = finished(
        *(tmp_path, "check"), ENRICHER_JOBS__PACKAGES="shop", ENRICHER_JOBS__URL=jobs.settings.url, **where
    )
    assert found.returncode == 1
    assert "Redis of jobs.url at redis://" in found.stdout
    for line in (
        "Error: Failed to import worker module shop.broken: No module named 'nothing_here'",
        "Error: Nightly: cron_schedule = '0 2 * *': Expected format: 'minute hour day month day_of_week'",
        "Warning: nobody serves queue 'defualt', to which jobs of shop.odd.Lonely go; expected one of",
        "critical, default, low (did you mean 'default'?)",
        "Warning: 1 jobs wait in queue 'reports', which nobody serves",
    ):
        assert line in found.stderr
    away = finished(tmp_path, "check", "--quiet", ENRICHER_JOBS__URL="redis://:secret@localhost:1/3", **where)
    assert away.returncode == 0  # jobs are off
    where["ENRICHER_JOBS__ENABLED"] = "true"
    away = finished(tmp_path, "check", "--quiet", ENRICHER_JOBS__URL="redis://:secret@localhost:1/3", **where)
    assert away.returncode == 1
    assert "Redis of jobs.url at redis://:***@localhost:1/3 is unreachable" in away.stderr
