"""A deploy replaces workers one by one: jobs of classes that are new, gone or changed lose nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.jobs import AsyncResult, Handle, JobFailed, connect, send
from tests.integration.commands import Command, eventually, finished
from tests.rig import PATIENCE

BEFORE = """
from enricher.jobs import Worker


class PriceWorker(Worker):
    @classmethod
    def perform(cls, item, amount): return item * amount
"""
AFTER = """
from enricher.jobs import Worker


class PriceWorker(Worker):
    @classmethod
    def perform(cls, item, *, currency): return f"{item} {currency}"


class TaxWorker(Worker):
    @classmethod
    def perform(cls, item): return item / 4
"""


class Release:
    """Workers of one release at a time, in a folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.settings = {
            "REDIS_URL": url,
            "ENRICHER_JOBS__PACKAGES": "app",
            "ENRICHER_MARKET__ENABLED": "false",
        }

    def worker(self, text: str) -> Command:
        """A worker whose package has this text."""
        (self.folder / "app.py").write_text(text)
        return Command(self.folder, "run", **self.settings)

    def retry(self, job: Handle) -> None:
        """Let a job be due now, as an operator does; it may have been due by itself meanwhile."""
        done = finished(self.folder, "jobs", "retry", job.id, **self.settings)
        assert done.returncode == 0 or "it has succeeded" in done.stdout, (done.stdout, done.stderr)


@pytest.fixture
def release(tmp_path: Path, redis_url: str) -> Iterator[Release]:
    connect(redis_url)
    yield Release(tmp_path, redis_url)
    connect("")


def test_a_job_of_a_class_that_only_the_next_release_has_waits_for_it(release: Release) -> None:
    with release.worker(BEFORE) as worker:
        worker.until("ready")
        job = send("app.TaxWorker", 8)
        eventually(lambda: job.status == "RETRY", "the old worker to leave it")
        assert "no class is registered for task 'app.TaxWorker' in this worker" in str(job.result)
        assert worker.signal(signal.SIGTERM).end() == 0
    with release.worker(AFTER) as worker:
        worker.until("ready")
        release.retry(job)
        assert job.get(timeout=PATIENCE) == 2


def test_a_job_whose_arguments_no_longer_fit_fails_at_once_and_says_why(release: Release) -> None:
    job = send("app.PriceWorker", 2, amount=3)
    with release.worker(AFTER) as worker:
        worker.until("ready")
        with pytest.raises(JobFailed, match=r"BadArguments: .* missing a required argument: 'currency'"):
            job.get(timeout=PATIENCE)
        assert "job_retried" not in worker.events()
        assert worker.signal(signal.SIGTERM).end() == 0
    with release.worker(BEFORE) as worker:
        worker.until("ready")
        release.retry(job)
        assert AsyncResult(job.id).get(timeout=PATIENCE) == 6
