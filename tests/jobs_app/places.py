"""Jobs that say where they run, and that are hard to end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import Any

from enricher.jobs import Worker, job
from tests.jobs_app.orders import Receipt, book


class Cold(Worker):
    """In a process of its own, with all that a job may do."""

    isolation = "process"

    @classmethod
    def perform(cls, number: int) -> dict[str, Any]:
        job().progress(1, 2, "half")
        amount = job().step("double", lambda: number * 2)
        job().enqueue(Receipt, job().id, amount)
        return {"amount": amount, "pid": os.getpid(), "parent": os.getppid()}


class Crash(Worker):
    """Ends its process at the first attempt."""

    isolation = "process"
    retry_backoff = False
    retry_delay = 0.05

    @classmethod
    def perform(cls) -> int:
        if job().attempt == 1:
            ctypes.string_at(0)
        return job().attempt


class Late(Worker):
    """At its first attempt it sleeps in a thread, far past its limit, and nothing wakes it."""

    time_limit = 0.2
    retry_backoff = False
    retry_delay = 0.05

    @classmethod
    def perform(cls) -> str:
        book().rpush("late", f"begin {job().attempt}")
        if job().attempt == 1:
            begun = time.monotonic()
            while time.monotonic() < begun + 2:
                try:
                    time.sleep(2)
                except BaseException:
                    continue
        book().rpush("late", f"end {job().attempt}")
        return "at last"


class Endless(Worker):
    """Runs until it is ended: in a thread."""

    @classmethod
    def perform(cls, name: str) -> None:
        book().rpush(f"begun:{name}", os.getpid())
        while True:
            time.sleep(0.01)


class EndlessProcess(Endless):
    """The same in a process."""

    isolation = "process"


class EndlessLoop(Worker):
    """The same in the loop."""

    @classmethod
    async def perform(cls, name: str) -> None:
        book().rpush(f"begun:{name}", os.getpid())
        await asyncio.Event().wait()


class Unknown(Worker):
    """Raises what no other process has imported, and what all have."""

    isolation = "process"
    max_retries = 0

    @classmethod
    def perform(cls, known: bool) -> None:
        if known:
            raise FileNotFoundError(2, "No such file", "orders.csv")

        class LocalError(Exception):
            pass

        raise LocalError("nobody knows me")
