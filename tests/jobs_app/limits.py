"""Jobs that run too long, are cancelled, or go wrong in their own ways."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import Any

from enricher.jobs import AsyncResult, Cancel, Retry, Worker, job
from tests.jobs_app.orders import book


class Quick(Worker):
    """The base of these: tried again at once."""

    max_retries = 1
    retry_backoff = False
    retry_delay = 0.01


class Sleeps(Quick):
    """In a thread, past its limit, where no exception reaches it before it wakes."""

    time_limit = 0.3

    @classmethod
    def perform(cls, seconds: float) -> str:
        attempt = job().attempt
        book().rpush("sleeps", f"begun {attempt}")
        if attempt == 1:
            with suppress(BaseException):
                time.sleep(seconds)
            book().rpush("sleeps", "ended 1")
        return f"attempt {attempt}"


class Talks(Quick):
    """Says what it does, and fails."""

    @classmethod
    async def perform(cls, lines: int) -> None:
        for number in range(lines):
            job().log(f"line {number}", size=number, what="x" * 50, server="redis://me:secret@host/0")
        job().log("odd", a=object(), b="\udc00", c="y" * 10_000)
        raise LookupError(f"not found in attempt {job().attempt}")


class WaitsForOther(Quick):
    """Waits for another job, whatever becomes of it."""

    max_retries = 0

    @classmethod
    async def perform(cls, other: str) -> object:
        return await AsyncResult(other).wait(30)


class ForksBack(Quick):
    """Forks in a thread, and the child returns into the worker's code."""

    @classmethod
    def perform(cls) -> int:
        child = os.fork()
        return 0 if child == 0 else os.waitpid(child, 0)[1]


class AsyncSleeps(Quick):
    """In the loop, past its limit."""

    time_limit = 0.2

    @classmethod
    async def perform(cls) -> str:
        if job().attempt == 1:
            await asyncio.sleep(60)
        return f"attempt {job().attempt}"


class ProcessSleeps(Quick):
    """In a process, past its limit."""

    isolation = "process"
    time_limit = 3.0

    @classmethod
    def perform(cls) -> str:
        if job().attempt == 1:
            time.sleep(60)
        return f"attempt {job().attempt}"


class ProcessDies(Quick):
    """In a process that ends."""

    isolation = "process"

    @classmethod
    def perform(cls) -> int:
        if job().attempt == 1:
            os._exit(7)
        job().progress(1, 2, "half")
        job().enqueue(Answer, 5)
        return os.getpid()


class Answer(Worker):
    """Returns what it is given."""

    @classmethod
    async def perform(cls, value: Any) -> Any:
        return value


class Fails(Worker):
    """Fails at once, and for good."""

    max_retries = 0

    @classmethod
    async def perform(cls, value: int) -> None:
        raise ValueError(value)


class AsksForLater(Worker):
    """Raises what steers it."""

    max_retries = 2

    @classmethod
    def perform(cls) -> str:
        if job().attempt == 1:
            raise Retry("not yet", in_seconds=0.01)
        raise Cancel("no longer wanted")


class Forever(Worker):
    """Until it is cancelled, in a thread."""

    @classmethod
    def perform(cls) -> None:
        book().rpush("forever", job().id)
        while True:
            time.sleep(0.01)


class AsyncForever(Worker):
    """Until it is cancelled, in the loop."""

    @classmethod
    async def perform(cls) -> None:
        book().rpush("forever", job().id)
        await asyncio.Event().wait()


class ProcessForever(Worker):
    """Until it is cancelled, in a process."""

    isolation = "process"

    @classmethod
    def perform(cls) -> None:
        book().rpush("forever", job().id)
        while True:
            time.sleep(0.01)


class ReturnsNoJson(Quick):
    """In a thread; to run it again would not help."""

    @classmethod
    def perform(cls) -> Any:
        return object()


class ProcessReturnsNoJson(ReturnsNoJson):
    """In a process."""

    isolation = "process"
