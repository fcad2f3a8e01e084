"""A page of classes for Celery that lies beside the checkout: all run, with the import line changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import celery
import celery.result
import pytest
import redis

from enricher.jobs.schedules import Cron
from tests.conftest import PAGES_OF_WORKERS
from tests.integration.celery_users import celery_client, old_names, serving
from tests.integration.commands import Command, eventually, ran
from tests.pages import blocks
from tests.rig import PATIENCE
from tests.servers import RedisProcess

(PAGE,) = PAGES_OF_WORKERS
PACKAGE, MODULE = "modules.application.workers", "of_the_page"
BLOCKS = [
    block.replace("modules.application.worker_registry", "enricher.jobs").replace(
        "modules.application.worker import", "enricher.jobs import"
    )
    for block in blocks(PAGE.read_text(encoding="utf-8"))
]
CLASSES = [block for block in BLOCKS if "(Worker):" in block]
CALLS = [block for block in BLOCKS if ".perform_" in block or "AsyncResult" in block]
(TESTS,) = (block for block in BLOCKS if "pytest.raises" in block)
(REGISTRY,) = (block for block in BLOCKS if "WorkerRegistry" in block)
(SCHEDULES,) = (block for block in BLOCKS if block.count("cron_schedule = ") > 1)

# What the page takes for granted: a logger, functions over records, an HTTP client.
LOGGER = """
import logging


class Logger:
    @staticmethod
    def info(message):
        logging.getLogger("app").info(message)

    @staticmethod
    def error(message):
        logging.getLogger("app").error(message)
"""
GIVEN = """
import os
from pathlib import Path

from enricher.jobs import Worker
from modules.logger.logger import Logger

FOLDER = Path(os.environ.get("FOLDER", "."))


class SpecificException(Exception):
    pass


def is_already_processed(record_id):
    return (FOLDER / f"record-{record_id}").exists()


def process_record(record_id):
    with (FOLDER / "processed").open("a") as file:
        file.write(f"{record_id} ")


def mark_as_processed(record_id):
    (FOLDER / f"record-{record_id}").touch()


def process_chunk(chunk):
    with (FOLDER / "chunks").open("a") as file:
        file.write(f"{len(chunk)} ")
"""
REQUESTS = """
import os
import urllib.request


class Answer:
    def __init__(self, status_code):
        self.status_code = status_code


def get(url, timeout):
    with urllib.request.urlopen(os.environ["SITE_URL"], timeout=30) as answer:
        return Answer(answer.status)
"""
TESTED = """
from enricher.jobs import Worker


class MyWorker(Worker):
    @classmethod
    def perform(cls, test_data):
        if test_data != "valid":
            raise ValueError(test_data)
        return {"status": "success"}
"""


CLIENT = """
import os

import celery

from enricher.jobs import send

celery.Celery(
    "app", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"]
).set_default()
"""


def task(name: str) -> str:
    """The name of the task of this class of the page."""
    (number,) = (number for number, block in enumerate(CLASSES) if f"class {name}(" in block)
    return f"{PACKAGE}.{MODULE}_{number}.{name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program whose files the page shows."""
    folder = tmp_path_factory.mktemp("program")
    workers = folder / "modules" / "application" / "workers"
    workers.mkdir(parents=True)
    (folder / "modules" / "logger").mkdir()
    (folder / "modules" / "logger" / "logger.py").write_text(LOGGER)
    (folder / "modules" / "given.py").write_text(GIVEN)
    (folder / "requests.py").write_text(REQUESTS)
    (workers / "my_worker.py").write_text(TESTED)
    for number, block in enumerate(CLASSES):
        (workers / f"{MODULE}_{number}.py").write_text(f"from modules.given import *\n{block}")
    return folder


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with RedisProcess(tmp_path_factory.mktemp("jobs") / "redis") as server:
        yield old_names(server)


@pytest.fixture(scope="module")
def worker(folder: Path, urls: dict[str, str]) -> Iterator[Command]:
    with serving() as site:
        given = {**urls, "ENRICHER_JOBS__PACKAGES": PACKAGE, "FOLDER": str(folder), "SITE_URL": site}
        with Command(folder, "run", "--queues", "critical,default,low", **given) as command:
            yield command.until("ready")


def test_every_class_is_found_and_the_health_check_is_scheduled(worker: Command) -> None:
    assert len(CLASSES) == 7
    registered = [text for text in worker.events() if text.startswith("Registered worker ")]
    defined = re.findall(r"^class (\w+)\(Worker\):", "".join([*CLASSES, TESTED]), re.MULTILINE)
    assert sorted(text.split()[2] for text in registered) == sorted(defined)
    assert f"Registered {len(defined)} workers" in worker.events()
    assert "Registered worker HealthCheckWorker with cron schedule: */10 * * * *" in worker.events()
    assert not [text for text in worker.events() if text.startswith("Failed")]


def test_every_call_works_in_a_program_that_has_the_address_alone(
    folder: Path, worker: Command, urls: dict[str, str]
) -> None:
    assert len(CALLS) == 5
    imports = "".join(f"from {PACKAGE}.{MODULE}_{number} import *\n" for number, _ in enumerate(CLASSES))
    (folder / "client.py").write_text("\n".join([CLIENT, imports, *CALLS, "print(result.id)"]))
    done = ran("client.py", folder=folder, **urls)
    assert (done.returncode, done.stderr) == (0, "")
    queued, status, _, completed, last = done.stdout.splitlines()
    assert queued.startswith("Job queued with ID: ")
    assert status.removeprefix("Status: ") in {"PENDING", "STARTED", "SUCCESS"}
    assert completed == "Job completed: None"
    processed = celery.result.AsyncResult(last, app=celery_client(urls)).get(timeout=PATIENCE)
    assert processed["options"] == {"format": "json", "include_metadata": True}
    with redis.Redis.from_url(urls["CELERY_BROKER_URL"]) as client:
        assert client.zcard("jobs:default:delayed") == 3
    for said in ("Backend is healthy", "Processing user 123", "Completed processing user 123"):
        eventually(lambda said=said: said in worker.events(), said)  # type: ignore[misc]


def test_what_was_processed_is_skipped_and_chunks_are_rested_between(
    folder: Path, worker: Command, urls: dict[str, str]
) -> None:
    once, chunks = task("IdempotentWorker"), task("ResourceAwareWorker")
    program = f"""
from enricher.jobs import send

for _ in range(2):
    assert send("{once}", 7).get(timeout={PATIENCE}) is None
assert send("{chunks}", large_dataset=list(range(2500))).get(timeout={PATIENCE}) is None
"""
    done = ran("-c", program, folder=folder, **urls)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "processed").read_text() == "7 "
    assert (folder / "chunks").read_text() == "1000 1000 500 "
    assert "Record 7 already processed, skipping" in worker.events()


def test_its_tests_pass(folder: Path) -> None:
    (folder / "test_my_worker.py").write_text(f"import pytest\n{TESTS}")
    done = ran("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_worker.py", folder=folder)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_its_schedules_are_schedules_and_its_way_to_begin_is_known(
    folder: Path, urls: dict[str, str]
) -> None:
    found = re.findall(r'^cron_schedule = "(.*?)"', SCHEDULES, re.MULTILINE)
    assert len(found) == 4
    hours = [next(Cron(each).after(0)) / 3_600_000 for each in found]
    assert hours == [2, 0.25, 4 * 24 + 9, 31 * 24]
    done = ran("-c", REGISTRY, folder=folder, ENRICHER_JOBS__PACKAGES=PACKAGE, **urls)
    assert done.returncode == 0, done.stderr
