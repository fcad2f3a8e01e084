"""Jobs of an order: each charges once, books a receipt, and says in Redis what it did."""

from __future__ import annotations

import asyncio
import os
import time

import redis

from enricher.jobs import Worker, job

_CLIENTS: dict[int, redis.Redis] = {}


def book() -> redis.Redis:
    """Where the jobs of this process write down what they did."""
    pid = os.getpid()
    if pid not in _CLIENTS:
        _CLIENTS[pid] = redis.Redis.from_url(os.environ["ENRICHER_REDIS__URL"])
    return _CLIENTS[pid]


def is_charged() -> bool:
    """Whether the step of this job was stored before."""
    return bool(book().exists(f"charged:{job().id}"))


def charge(order: int, charged: bool) -> int:
    """A step: it must not run in a run that began its step after an outcome was stored."""
    # A run that was frozen after it had asked may be called when another has charged: its outcome is refused.
    if charged:
        book().rpush("charged-twice", job().id)
    return order * 10


class Order(Worker):
    """Fails at its first attempt every third time, charges in a step, enqueues a receipt."""

    max_retries = 3
    retry_backoff = False
    retry_delay = 0.05

    @classmethod
    async def perform(cls, number: int, seconds: float) -> int:
        if number % 3 == 0 and job().attempt == 1:
            raise OSError("the first attempt fails")
        amount = await job().step("charge", charge, number, is_charged())
        book().set(f"charged:{job().id}", 1)
        await asyncio.sleep(seconds)
        job().enqueue(Receipt, job().id, amount)
        return int(amount)


class ThreadOrder(Worker):
    """The same in a thread."""

    max_retries = 3
    retry_backoff = False
    retry_delay = 0.05

    @classmethod
    def perform(cls, number: int, seconds: float) -> int:
        if number % 3 == 0 and job().attempt == 1:
            raise OSError("the first attempt fails")
        amount = job().step("charge", charge, number, is_charged())
        book().set(f"charged:{job().id}", 1)
        time.sleep(seconds)
        job().enqueue(Receipt, job().id, amount)
        return int(amount)


class Receipt(Worker):
    """What an order enqueues with its success."""

    queue = "low"

    @classmethod
    async def perform(cls, order: str, amount: int) -> str:
        return order


class Hold(Worker):
    """Holds its slot for some seconds, in a thread; says when it begins and ends."""

    @classmethod
    def perform(cls, name: str, seconds: float) -> str:
        _begins(name)
        time.sleep(seconds)
        return _ends(name)


class HoldProcess(Hold):
    """The same in a process."""

    isolation = "process"


class HoldLoop(Worker):
    """An async job that blocks the loop."""

    @classmethod
    async def perform(cls, name: str, seconds: float) -> str:
        _begins(name)
        time.sleep(seconds)  # noqa: ASYNC251  that is what is tested
        return _ends(name)


class Wait(Worker):
    """An async job that waits."""

    @classmethod
    async def perform(cls, name: str, seconds: float) -> str:
        _begins(name)
        await asyncio.sleep(seconds)
        return _ends(name)


class Die(Worker):
    """Takes its worker with it."""

    @classmethod
    def perform(cls) -> None:
        os._exit(9)


def _begins(name: str) -> None:
    book().rpush(f"begun:{name}", f"{os.getpid()} {time.time()}")


def _ends(name: str) -> str:
    book().rpush(f"ended:{name}", f"{os.getpid()} {time.time()}")
    return name
