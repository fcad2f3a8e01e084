"""The jobs of the fault matrix. Each notes what it does in a file that outlives everybody."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from enricher.jobs import Worker, job

LOG = Path(os.environ.get("JOBS_LOG", os.devnull))


def note(word: str, number: int) -> int:
    """A line: what, which job, which process, when (microseconds since 1970), and its number."""
    with LOG.open("ab", buffering=0) as file:
        file.write(f"{word} {job().id} {os.getpid()} {time.time_ns() // 1000} {number}\n".encode())
    return number


class Parent(Worker):
    """In the loop: a step, some time, a child; every seventh fails at first."""

    name = "parent"
    retry_backoff = False
    retry_delay = 0.2

    @staticmethod
    async def perform(number: int, seconds: float) -> int:
        note("begin", number)
        try:
            await job().step("once", note, "step", number)
            note("stored", number)
            await asyncio.sleep(seconds)
            if number % 7 == 0 and job().attempt == 1:
                raise RuntimeError("the first attempt")
            job().enqueue(Child, number)
        finally:
            note("end", number)
        return number


class ThreadParent(Parent):
    """The same in a thread."""

    name = "thread_parent"

    @staticmethod
    def perform(number: int, seconds: float) -> int:  # type: ignore[override]
        note("begin", number)
        try:
            job().step("once", note, "step", number)
            note("stored", number)
            time.sleep(seconds)
            if number % 7 == 0 and job().attempt == 1:
                raise RuntimeError("the first attempt")
            job().enqueue(Child, number)
        finally:
            note("end", number)
        return number


class Child(Worker):
    """Says whose child it is."""

    name = "child"

    @staticmethod
    async def perform(number: int) -> int:
        return note("child", number)
