"""Jobs of every shape that programs bring from Celery: a worker runs them, Celery's client reads them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import celery
import celery.result
import pytest

from enricher.jobs import AsyncResult, connect
from tests.integration.celery_users import Site, by_celery, celery_client, old_names, serving
from tests.integration.commands import Command, eventually
from tests.rig import PATIENCE
from tests.servers import RedisProcess
from tests.workers.accounts import CloseAccountWorker, MergeAccountsWorker, SyncAccountWorker
from tests.workers.records import (
    ArchiveRecordWorker,
    CheckRecordWorker,
    ProcessRecordWorker,
    SumRecordsWorker,
)
from tests.workers.upkeep.site_check import SiteCheckWorker

PACKAGE = "tests.workers"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with RedisProcess(tmp_path_factory.mktemp("jobs") / "redis") as server:
        yield old_names(server)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, urls: dict[str, str], site: str) -> Iterator[Command]:
    given = {**urls, "ENRICHER_JOBS__PACKAGES": PACKAGE, "SITE_URL": site}
    options = ("--queues", "critical,default,low", "--concurrency", "8")
    with Command(tmp_path_factory.mktemp("worker"), "run", *options, **given) as command:
        yield command.until("ready")


@pytest.fixture(autouse=True)
def program(worker: Command, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a program that has the address and the classes, and nothing else."""
    monkeypatch.setenv("CELERY_RESULT_BACKEND", urls["CELERY_RESULT_BACKEND"])
    connect(urls["CELERY_BROKER_URL"])
    yield
    connect("")


@pytest.fixture(scope="module")
def client(urls: dict[str, str]) -> Iterator[celery.Celery]:
    with celery_client(urls) as client:
        yield client


def test_classes_are_found_in_packages_of_packages_and_a_broken_module_holds_up_nobody(
    worker: Command,
) -> None:
    said = worker.events()
    assert "Initializing worker registry..." in said
    assert "Registered worker SiteCheckWorker with cron schedule: */10 * * * *" in said
    assert "Registered worker ProcessRecordWorker" in said
    assert "Registered 8 workers" in said
    (failed,) = [text for text in said if text.startswith("Failed to import worker module")]
    assert failed.startswith(f"Failed to import worker module {PACKAGE}.upkeep.not_installed: No module")


def test_a_worker_that_is_told_of_no_package_says_that_it_can_run_nothing(
    tmp_path: Path, urls: dict[str, str]
) -> None:
    with Command(tmp_path, "run", "--queues", "other", **urls) as alone:
        (told,) = [
            line for line in alone.until("ready").logged() if line["message"] == "configuration_warning"
        ]
    assert "name the packages that have yours in jobs.packages" in told["reason"]


def test_a_schedule_that_gives_perform_no_arguments_is_named_and_not_run(worker: Command) -> None:
    assert "Registered worker SyncAccountWorker" in worker.events()
    (told,) = [line for line in worker.logged() if "cron_args" in line["message"]]
    assert "SyncAccountWorker" in told["message"]
    assert told["level"] == "WARNING"


def test_a_job_is_tried_again_until_it_succeeds(client: celery.Celery, tmp_path: Path) -> None:
    job = SyncAccountWorker.perform_async(account_id=7, data={"folder": str(tmp_path), "failures": 2})
    assert by_celery(job, client) == {"account": 7, "tries": 3}
    assert job.status == "SUCCESS"


def test_a_job_that_never_succeeds_raises_its_own_error_in_every_client_and_is_logged(
    worker: Command, client: celery.Celery, tmp_path: Path
) -> None:
    job = CloseAccountWorker.perform_async(7, folder=str(tmp_path))
    with pytest.raises(ValueError, match="account 7 has a balance"):
        by_celery(job, client)
    with pytest.raises(ValueError, match="account 7 has a balance"):
        job.get(timeout=PATIENCE)
    read = celery.result.AsyncResult(job.id, app=client)
    assert (read.status, job.status) == ("FAILURE", "FAILURE")
    assert "raise ValueError" in read.traceback
    assert (tmp_path / "closed-7").read_text() == "xx"
    (line,) = [line for line in worker.logged() if line["message"] == "job_failed" and line["job"] == job.id]
    assert (line["attempt"], line["error"]) == (2, "ValueError: account 7 has a balance")


def test_an_error_that_perform_catches_is_no_failure(client: celery.Celery) -> None:
    assert by_celery(MergeAccountsWorker.perform_async(data={"conflict": True}), client) is None
    accounts = {"first": "Ann", "second": "Åse"}
    fine = MergeAccountsWorker.perform_async({"conflict": False, "accounts": accounts})
    assert by_celery(fine, client) == {"merged": ["Ann", "Åse"]}


def test_nested_arguments_come_back_as_they_were_sent(client: celery.Celery) -> None:
    options = {"format": "json", "deep": [{"a": [1, 2.5, None]}, True, "ä€🂡"], "": {}}
    job = ProcessRecordWorker.perform_async(record_id=2**53, options=options)
    result = by_celery(job, client)
    assert (result["record_id"], result["status"], result["options"]) == (2**53, "completed", options)
    assert AsyncResult(job.id).get(timeout=PATIENCE) == result
    celery.result.AsyncResult(job.id, app=client).forget()
    assert job.status == "PENDING"


def test_a_scheduled_job_begins_when_it_is_due_and_not_before(client: celery.Celery) -> None:
    soon = datetime.now() + timedelta(seconds=1.5)  # noqa: DTZ005  (as programs write it)
    at = ProcessRecordWorker.perform_at(soon, record_id=1, options={})
    later = datetime.now(UTC) + timedelta(seconds=1)
    delayed = ProcessRecordWorker.perform_in(delay_seconds=1, record_id=2, options={})
    tomorrow = ProcessRecordWorker.perform_at(datetime.now(UTC) + timedelta(days=1), 3, {})
    assert by_celery(at, client)["began_at"] >= soon.timestamp() - 0.001
    assert by_celery(delayed, client)["began_at"] >= later.timestamp() - 0.001
    assert tomorrow.status == "PENDING"
    assert tomorrow.cancel()
    assert tomorrow.status == "REVOKED"


def test_jobs_that_sleep_run_beside_each_other_and_are_not_called_slow(
    worker: Command, client: celery.Celery, tmp_path: Path
) -> None:
    names = ["one", "two"]
    jobs = [
        SumRecordsWorker.perform_async(list(range(5000)), str(tmp_path), name, other)
        for name, other in (names, names[::-1])
    ]
    assert [by_celery(job, client) for job in jobs] == [sum(range(5000))] * 2
    assert "slow_handler" not in worker.events()


def test_a_job_that_runs_is_shown_as_started(client: celery.Celery, tmp_path: Path) -> None:
    job = SumRecordsWorker.perform_async([1], str(tmp_path), "one", "other")
    read = celery.result.AsyncResult(job.id, app=client)
    eventually(lambda: read.status == job.status == "STARTED", "the begin")
    (tmp_path / "other").touch()
    assert by_celery(job, client) == 1


def test_a_record_that_is_processed_already_is_left_alone(client: celery.Celery, tmp_path: Path) -> None:
    for expected in ("archived", "skipped"):
        job = ArchiveRecordWorker.perform_async(record_id=5, folder=str(tmp_path))
        assert by_celery(job, client) == expected
    assert (tmp_path / "archive").read_text() == "5\n"


def test_perform_is_a_plain_function_that_tests_call() -> None:
    assert CheckRecordWorker.perform(record="valid") == {"status": "success"}
    with pytest.raises(ValueError, match="expected 'valid'"):
        CheckRecordWorker.perform(record="invalid")


def test_a_job_by_the_clock_runs_by_hand_too(worker: Command, client: celery.Celery, site: str) -> None:
    for status, said in ((200, "The site answers with 200"), (503, "does not answer: HTTP Error 503")):
        Site.status = status
        assert by_celery(SiteCheckWorker.perform_async(), client) is None
        eventually(lambda said=said: any(said in event for event in worker.events()), said)  # type: ignore[misc]
