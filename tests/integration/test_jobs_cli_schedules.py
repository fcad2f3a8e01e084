"""The command about schedules: what it shows, what it runs, what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from enricher.adapters.redis.jobs.client import blocking_store
from enricher.cli.main import exit_code
from enricher.jobs.settings import JobSettings
from enricher.schedule_store import FindSchedules, KeepSchedules, KeptSchedule

NIGHTLY = "tests.timed_jobs.Nightly"
TICK = "tests.timed_jobs.Tick"


class Shell:
    """The command in this process: standard output, and the exit code that is expected."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        set_ = ("--set", "jobs.packages=tests.timed_jobs", "--redis-url", self._url)
        found = exit_code(["schedules", *arguments, *set_])
        out, self.err = self._capsys.readouterr()
        assert found == code, (out, self.err)
        return out

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["class"]: row for row in json.loads(self("--json"))}


@pytest.fixture
def shell(
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    nobodys_settings: None,
) -> Shell:
    return Shell(redis_url, capsys)


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url, protocol=2, decode_responses=True)


def test_it_shows_when_each_ran_and_when_it_is_due(shell: Shell, client: redis.Redis) -> None:
    ran = 1_790_000_000_000  # 2026-09-21T14:13:20Z
    client.hset("jobs:schedules", NIGHTLY, f"{ran} {ran} tests.timed_jobs 0 2 * * * Asia/Kolkata")
    rows = shell.rows()
    assert list(rows) == [TICK, NIGHTLY]
    assert rows[NIGHTLY] == {
        "class": NIGHTLY,
        "schedule": "0 2 * * *",
        "zone": "Asia/Kolkata",
        "queue": "default",
        "last_at": "2026-09-21T14:13:20.000+00:00",
        "next_at": "2026-09-21T20:30:00.000+00:00",
        "paused": False,
    }
    assert (rows[TICK]["schedule"], rows[TICK]["last_at"]) == ("every 0.1 s", None)
    assert rows[TICK]["next_at"] > "2026"


def test_lines_with_tabs_are_for_other_programs(shell: Shell) -> None:
    head, *lines = shell().splitlines()
    assert head.split("\t") == ["class", "schedule", "zone", "queue", "last", "next"]
    assert [line.split("\t")[:5] for line in lines] == [
        [TICK, "every 0.1 s", "UTC", "default", ""],
        [NIGHTLY, "0 2 * * *", "Asia/Kolkata", "default", ""],
    ]


def test_on_a_terminal_it_says_what_is_wrong_too(
    shell: Shell, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enricher.jobs.cli.tables.terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "150")
    client.hset("jobs:schedules", NIGHTLY, "1000 1000 tests.timed_jobs 0 2 * * * Asia/Kolkata")
    shown = shell()
    assert " d ago" in shown
    assert "never" in shown
    assert "Nobody enqueues what is due. Start a scheduler: enricher run --roles scheduler" in shell.err
    assert "Unscheduled is not scheduled" in shell.err


def test_run_enqueues_a_job_now_and_the_schedule_goes_on_as_it_was(
    shell: Shell, client: redis.Redis, redis_url: str
) -> None:
    store = blocking_store(JobSettings().queue_settings(redis_url, 5.0))
    store.ask(KeepSchedules((KeptSchedule(TICK, "tests.timed_jobs", "every 0.1 s UTC"),)))
    before = store.ask(FindSchedules((TICK,)))
    first, second = shell("run", "Tick", NIGHTLY).split()
    assert client.hmget(f"jobs:job:{first}", "task", "state") == [TICK, "waiting"]
    assert client.hget(f"jobs:job:{second}", "task") == NIGHTLY
    after = store.ask(FindSchedules((TICK,)))
    assert (after.since_ms, after.ran_ms) == (before.since_ms, before.ran_ms)
    store.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [("Tik", "did you mean 'Tick'"), ("Unscheduled", "no class 'Unscheduled' with a schedule")],
)
def test_a_class_without_a_schedule_is_refused(
    shell: Shell, client: redis.Redis, name: str, why: str
) -> None:
    shell("run", name, "Tick", code=2)
    assert why in shell.err
    assert client.dbsize() == 0
