"""What the page about migration shows runs as it stands there, and its tables say what is so."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pymongo
import pytest

from enricher.config.loader import OLD_NAMES
from enricher.jobs.settings import JobSettings
from enricher.mail.settings import MailSettings
from enricher.market.settings import TASKS, MarketSettings
from enricher.systems import load
from tests.integration.commands import Command, environment
from tests.integration.test_market_contract import AT, MINUTE, chain, quote
from tests.integration.worker import CHAINS, QUOTES, TICKS, encoded, running
from tests.pages import blocks, page
from tests.rig import PATIENCE, Clock, until
from tests.servers import MongoProcess, RedisProcess

ROOT = Path(__file__).parents[2]
PAGE = page("migration.md")
SHELL = blocks(PAGE, "sh")
(SETTINGS,) = blocks(PAGE, "toml")
(COMPARE,) = blocks(PAGE)


def table(section: str) -> list[list[str]]:
    """The rows of the first table of a section, cell by cell, without its head."""
    lines = re.findall(r"^\|(.*)\|$", PAGE.split(f"## {section}\n")[1].split("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def variables(**more: str) -> dict[str, str]:
    """Nobody's settings, with this interpreter as `python`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return environment(PATH=path, **more)


def test_the_readme_leads_to_the_page() -> None:
    assert "docs/migration.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_check_runs_in_the_environment_of_the_old_worker(
    tmp_path: Path, redis_url: str, mongo_database_url: str
) -> None:
    script = SHELL[0].replace("redis://localhost:6379/0", f'"{redis_url}"')
    script = script.replace("mongodb://localhost:27017/deltastream", f'"{mongo_database_url}"')
    assert script.count(redis_url) == script.count(mongo_database_url) == 1
    told = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=variables(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert all(task in told.stdout for task in TASKS.values())


def test_run_in_that_environment_says_where_it_works_and_with_what(
    tmp_path: Path, redis_url: str, mongo_url: str
) -> None:
    given = {"REDIS_URL": redis_url, "SERVICE_NAME": "worker-enricher"}
    with Command(tmp_path, "run", MONGO_URL=mongo_url.replace("/?", "/admin?"), **given) as worker:
        assert worker.until("ready").signal(signal.SIGTERM).end() == 0
        starting, *said = worker.logged()
        assert starting["routes"] == [TICKS, QUOTES, CHAINS]
        assert starting["servers"]["live"] == starting["servers"]["dead_letters"] == redis_url
        assert starting["servers"]["documents"].startswith("mongodb://")
        assert (starting["database"], starting["timezone"]) == ("deltastream", "UTC")
        assert [line["level"] for line in said if line["message"] == "configuration_warning"] == ["WARNING"]
        assert {line["service"] for line in worker.logged()} == {"worker-enricher"}
        assert worker.err == ""


def test_the_settings_load(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(SETTINGS, encoding="utf-8")
    settings = load(file, environ={"MONGO_URL": "mongodb://host/market"})
    assert settings.section(MarketSettings).unknown == "zero"
    assert (settings.feed.timezone, settings.feed.naive_dates) == ("Asia/Kolkata", "as_sent")
    assert settings.mongo.database_name == "deltastream"


async def test_the_same_bytes_are_brought_to_a_trial_and_what_was_stored_is_compared(
    tmp_path: Path, redis_url: str, own_redis: RedisProcess, mongo_database_url: str, own_mongo: MongoProcess
) -> None:
    assert "--for 10m" in SHELL[1]
    script = SHELL[1].replace("--for 10m", "--count 4")
    urls = variables(OLD_REDIS_URL=own_redis.url, TRIAL_REDIS_URL=redis_url)
    async with running(redis_url, mongo_database_url) as trial:
        moved = subprocess.Popen(["bash", "-e", "-c", script], cwd=tmp_path, env=urls)  # noqa: ASYNC220
        number = 0
        for number in range(4):
            body = encoded(chain(AT + number * MINUTE, puts=[] if number == 3 else chain()["puts"]))
            await until(lambda body=body: published(own_redis, body), "the recording")  # type: ignore[misc]
        assert await asyncio.to_thread(moved.wait, PATIENCE) == 0
        await until(lambda: trial.count(CHAINS, "processed") == 4, "what is replayed")
        stored = trial.stored("option_chains")
    with pymongo.MongoClient[dict[str, Any]](own_mongo.url()) as client:
        old = client["deltastream"]["option_chains"]
        old.insert_many([{**document, "_id": n, "processed_at": "2025"} for n, document in enumerate(stored)])
        old.delete_one({"_id": 0})
        old.update_one({"_id": 1}, {"$set": {"max_pain_strike": 21000}})
        old.update_one({"_id": 3}, {"$set": {"pcr_oi": 0}})
    told = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", COMPARE],
        env=variables(OLD_MONGO_URL=own_mongo.url(), TRIAL_MONGO_URL=mongo_database_url),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    at = [f"NIFTY 2025-06-26 2025-06-15 15:{10 + minute}:00.123000" for minute in range(4)]
    assert told.stdout.splitlines() == [
        f"{at[3]} pcr_oi 0 -> None no known open interest of the puts",
        f"{at[1]} max_pain_strike 21000 -> 21500 ",
        f"{at[0]} only in the trial",
        "1 alike",
    ]


async def test_members_that_the_old_worker_added_meanwhile_go_when_its_successor_comes_back(
    redis_url: str, mongo_database_url: str
) -> None:
    (pattern,) = re.findall(r"delete the keys `([^`]+)`", PAGE)
    for number, strike in enumerate((21500, 21600)):
        async with running(redis_url, mongo_database_url, clock=Clock(AT + number * MINUTE)) as worker:
            await worker.take(QUOTES, quote(strike, at_us=AT + number * MINUTE))
            found = [json.loads(member) for member in await worker.redis.zrange("iv_surface:NIFTY", 0, -1)]
            # Its own of before, read back, and the new one.
            assert [member["strike"] for member in found] == [21500, 21600][: number + 1]
            await worker.redis.zadd("iv_surface:NIFTY", {json.dumps({"strike": 1.0, "iv": 0.2}): 1})
            for key in await worker.redis.keys(pattern):
                await worker.redis.delete(key)


def published(server: RedisProcess, body: bytes) -> bool:
    """Publish where somebody listens; False where nobody does."""
    return server.call("PUBLISH", CHAINS, body.decode()) == b":1\r\n"


def test_every_name_of_the_old_environment_is_in_the_table() -> None:
    rows = table("Environment")
    told = {name: meaning for names, meaning in rows for name in quoted(names)}
    of_systems = {*MailSettings.old_names, *JobSettings.old_names}
    assert told.keys() == {*OLD_NAMES, *of_systems, "REDIS_HOST", "REDIS_PORT"}
    assert {name: quoted(told[name])[0] for name in OLD_NAMES} == OLD_NAMES


def test_the_database_is_the_one_that_the_table_names() -> None:
    rows = table("Databases")
    assert len(rows) == 4
    for urls, old, now in rows:
        for url in [text for text in quoted(urls) if "://" in text]:
            mongo = load(environ={"MONGO_URL": url}).mongo
            assert ("deltastream", mongo.database_name) == (quoted(old)[0], quoted(now)[0])
            assert bool(list(mongo.warnings())) == ("with a warning" in now)


@pytest.mark.parametrize("module", ["", "app.", "worker-enricher."])
def test_a_script_that_compares_names_of_tasks_does_for_old_and_new(module: str) -> None:
    (expression,) = re.findall(r"`(letter\[.*?\])`", PAGE)
    letter = {"task_name": f"{module}process_underlying_tick"}
    assert eval(expression, {"letter": letter}) == "process_underlying_tick"
    assert all(f"`{name}`" in PAGE for name in TASKS.values())


def test_the_functions_that_the_old_tests_asked_for_are_where_the_page_says() -> None:
    (line,) = re.findall(r"`(from enricher[^`]+)`", PAGE)
    names: dict[str, Any] = {}
    exec(line, names)
    assert names["pcr"]([50000, 40000], [20000, 70000]) == 1.0
    assert names["max_pain"]([21000, 21500], [50000, 40000], [20000, 70000]).strike == 21500
    assert names["atm"]([21000, 21500, 22000, 22500], 21537) == 21500
