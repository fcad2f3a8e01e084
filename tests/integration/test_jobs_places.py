"""Where the jobs of a worker run: in its loop, in threads, in processes; and how they are ended there."""

import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from enricher.job_store import Cancel, Enqueue, Request
from tests.integration.jobs import JobWorkers, job_workers
from tests.rig import PATIENCE


@pytest.fixture
def workers(redis_url: str, tmp_path: Path) -> Iterator[JobWorkers]:
    with job_workers(redis_url, tmp_path) as found:
        yield found


def enqueue(workers: JobWorkers, name: str, *arguments: Any) -> str:
    payload, task = json.dumps([arguments, {}]).encode(), f"tests.jobs_app.places.{name}"
    request = Request(id=uuid.uuid4().hex, task=task, queue="default", payload=payload)
    return workers.store.ask(Enqueue((request,)))[0]


def until(condition: Callable[[], Any], workers: JobWorkers) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "".join(map(workers.log, workers.processes))
        time.sleep(0.02)


def result_of(workers: JobWorkers, job: str) -> Any:
    """What a job returned, once it has."""
    found = workers.store.wait(job, PATIENCE)
    assert found is not None, "".join(map(workers.log, workers.processes))
    result = json.loads(found)
    assert result["status"] == "SUCCESS", result
    return result["result"]


def test_a_job_in_a_process_does_all_that_others_do(workers: JobWorkers) -> None:
    workers.start("a")
    job = enqueue(workers, "Cold", 21)
    result = result_of(workers, job)
    assert result["amount"] == 42
    record = workers.record(job)
    assert record.state == "succeeded"
    assert json.loads(record.progress) == {"done": 1, "total": 2, "note": "half"}
    until(lambda: psutil.Process(result["pid"]).parent() is not None, workers)
    workers.processes["a"].send_signal(signal.SIGTERM)
    workers.processes["a"].wait(60)
    until(lambda: not psutil.pid_exists(result["pid"]), workers)


def test_a_crash_of_a_jobs_process_is_a_failure_of_that_job_alone(workers: JobWorkers) -> None:
    workers.start("a")
    job = enqueue(workers, "Crash")
    assert result_of(workers, job) == 2, "the second attempt"
    assert "SIGSEGV" in workers.log("a")
    assert workers.processes["a"].poll() is None


def test_what_is_raised_in_a_process_is_stored_as_it_was_there(workers: JobWorkers) -> None:
    workers.start("a")
    stored = workers.store.wait(enqueue(workers, "Unknown", True), PATIENCE)
    said = json.loads(stored or b"")
    assert said["result"] == {
        "exc_type": "FileNotFoundError",
        "exc_message": [2, "No such file"],
        "exc_module": "builtins",
    }
    assert said["traceback"].count("Traceback") == 1
    assert said["traceback"].endswith("FileNotFoundError: [Errno 2] No such file: 'orders.csv'\n")

    stored = workers.store.wait(enqueue(workers, "Unknown", False), PATIENCE)
    said = json.loads(stored or b"")
    assert said["result"] == {
        "exc_type": "Unknown.perform.<locals>.LocalError",
        "exc_message": ["nobody knows me"],
        "exc_module": "tests.jobs_app.places",
    }
    assert said["traceback"].endswith("LocalError: nobody knows me\n")


def test_no_retry_begins_while_a_thread_past_its_limit_goes_on(workers: JobWorkers) -> None:
    workers.start("a")
    workers.start("b")
    assert result_of(workers, enqueue(workers, "Late")) == "at last"
    assert workers.written("late") == ["begin 1", "end 1", "begin 2", "end 2"]
    assert "job_does_not_end" in workers.log("a") + workers.log("b")


@pytest.mark.parametrize("name", ["Endless", "EndlessProcess", "EndlessLoop"])
def test_a_running_job_is_cancelled_wherever_it_runs(workers: JobWorkers, name: str) -> None:
    workers.start("a")
    job = enqueue(workers, name, name)
    until(lambda: workers.written(f"begun:{name}"), workers)
    assert workers.store.ask(Cancel(job)) == "running"
    until(lambda: workers.record(job).state == "cancelled", workers)
    assert workers.written(f"begun:{name}") == [workers.written(f"begun:{name}")[0]]


def test_a_stop_ends_the_processes_of_jobs_and_another_worker_runs_these(workers: JobWorkers) -> None:
    first = workers.start("a", {"jobs.drain": 0.2, "service.drain_deadline": 0.2})
    job = enqueue(workers, "EndlessProcess", "it")
    until(lambda: workers.written("begun:it"), workers)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    until(lambda: not psutil.pid_exists(int(workers.written("begun:it")[0])), workers)
    assert workers.record(job).state == "waiting"
    workers.start("b")
    until(lambda: len(workers.written("begun:it")) == 2, workers)
    assert workers.record(job).error is None, "that was no attempt"
