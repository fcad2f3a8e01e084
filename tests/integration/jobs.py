"""Workers of jobs as processes that can be killed, frozen and started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from enricher.adapters.redis.jobs.client import blocking_store
from enricher.job_store import BlockingJobStore, Find, JobQueueSettings, JobRecord
from tests.integration.forks import Forked, command
from tests.integration.worker import ROOT

LEASE = 1.0


class JobWorkers:
    """Processes of ``enricher run`` for jobs alone, with the settings ``more`` besides."""

    def __init__(self, url: str, folder: Path, more: Mapping[str, object] | None = None) -> None:
        self.url = url
        self.folder = folder
        self.client = redis.Redis.from_url(url)
        self.store: BlockingJobStore = blocking_store(JobQueueSettings(url=url, prefix="jobs"))
        self.environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(("PATH", "HOME"))},
            "PYTHONPATH": str(ROOT),
            "ENRICHER_REDIS__URL": url,
            "ENRICHER_MARKET__ENABLED": "false",
            "ENRICHER_JOBS__ENABLED": "true",
            "ENRICHER_JOBS__PACKAGES": "tests.jobs_app",
            "ENRICHER_JOBS__LEASE": str(LEASE),
            "ENRICHER_JOBS__POLL": "0.1",
            **_variables(more),
        }
        self.processes: dict[str, Forked] = {}

    def start(self, name: str, more: Mapping[str, object] | None = None) -> Forked:
        """Begin a worker; its log is ``{name}.log`` in the folder."""
        environment = {**self.environment, **_variables(more)}
        self.processes[name] = command(["run"], environment, self.folder, self.folder / f"{name}.log")
        return self.processes[name]

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(30)

    def log(self, name: str) -> str:
        """What a worker has said so far."""
        file = self.folder / f"{name}.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def record(self, id_: str) -> JobRecord:
        """A job as it is stored."""
        found = self.store.ask(Find(id_))
        assert found is not None, f"there is no job {id_}"
        return found

    def written(self, key: str) -> list[str]:
        """What jobs wrote down under ``key``."""
        return [each.decode() for each in self.client.lrange(key, 0, -1)]

    def stop(self) -> None:
        """End them all."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
        for process in self.processes.values():
            process.wait(30)
        self.processes.clear()
        self.client.close()
        self.store.close()


def _variables(settings: Mapping[str, object] | None) -> dict[str, str]:
    pairs = (settings or {}).items()
    return {f"ENRICHER_{key.upper().replace('.', '__')}": str(value) for key, value in pairs}


@contextmanager
def job_workers(
    url: str, folder: Path, more: Mapping[str, object] | None = None
) -> Iterator[JobWorkers]:
    """Workers that have ended when the block is left."""
    workers = JobWorkers(url, folder, more)
    try:
        yield workers
    finally:
        workers.stop()
