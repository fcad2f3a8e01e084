"""enricher: jobs in the loop, in threads and in processes; results kept, written with the acknowledgement."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.jobs import work
from enricher.jobs import Worker


class Async(Worker):
    """In the loop."""

    name = "async"

    @staticmethod
    async def perform(number: int, name: str) -> dict[str, int]:
        return work.noop(number, name)


class Thread(Worker):
    """In a thread."""

    name = "thread"

    @staticmethod
    def perform(number: int, name: str) -> dict[str, int]:
        return work.noop(number, name)


class Process(Thread):
    """In a process."""

    name = "process"
    isolation = "process"


class Late(Worker):
    """In the loop."""

    name = "late"

    @staticmethod
    async def perform(number: int) -> int:
        return work.late(number)


class Nap(Worker):
    """Takes a slot for a while."""

    name = "nap"

    @staticmethod
    def perform(number: int, name: str) -> None:
        time.sleep(15)


class Cron(Worker):
    """In the loop."""

    name = "cron"
    cron_schedule = "* * * * *"

    @staticmethod
    async def perform() -> int:
        return work.cron()


JOBS: dict[str, Any] = {str(cls.name): cls for cls in (Async, Thread, Process, Late, Nap, Cron)}


class Client:
    """As `benchmarks.jobs.client.Client`."""

    async def one(self, job: str, *arguments: object) -> None:
        JOBS[job].perform_async(*arguments)

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        JOBS[job].perform_bulk(rows)

    async def at(self, job: str, due_us: int) -> None:
        JOBS[job].perform_at(datetime.fromtimestamp(due_us / 1e6, UTC), due_us)
