"""``python -m benchmarks.jobs.client MODULE``: enqueues jobs of one framework, as it is told.

It runs in the framework's own environment. Each line of its input is an order, ``one async 500``; it answers
with a line when that is done: microseconds per job as a clock saw them, and of CPU time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Protocol

CHUNK = 500  # jobs that are enqueued in bulk at once
NAME = "user-4711@example.com"


class Client(Protocol):
    """What a framework's module has as ``Client``; made inside the loop."""

    async def one(self, job: str, *arguments: object) -> None:
        """Enqueue a job."""

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        """Enqueue one job per row of arguments, the fastest way there is."""

    async def at(self, job: str, due_us: int) -> None:
        """Enqueue a job for a moment, which is its argument too."""


async def one(client: Client, job: str, count: str) -> None:
    """One after the other."""
    for number in range(int(count)):
        await client.one(job, number, NAME)


async def many(client: Client, job: str, count: str) -> None:
    """In bulk."""
    rows: list[tuple[object, ...]] = [(number, NAME) for number in range(int(count))]
    for at in range(0, len(rows), CHUNK):
        await client.many(job, rows[at : at + CHUNK])


async def steady(client: Client, job: str, count: str, rate: str) -> None:
    """At so many a second; the argument is the moment just before."""
    began = time.monotonic()
    for number in range(int(count)):
        await asyncio.sleep(max(0.0, began + number / float(rate) - time.monotonic()))
        await client.one(job, time.time_ns() // 1000)


async def later(client: Client, job: str, count: str, rate: str) -> None:
    """For moments to come: from two seconds on, so many a second."""
    now_us = time.time_ns() // 1000
    for number in range(int(count)):
        await client.at(job, now_us + 2_000_000 + round(number * 1e6 / float(rate)))


ORDERS: dict[str, Callable[..., Awaitable[None]]] = {
    order.__name__: order for order in (one, many, steady, later)
}


async def main(module: str) -> None:
    """Obey until the input ends."""
    client: Client = import_module(module).Client()
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        order, job, count, *more = words
        began, cpu = time.perf_counter(), time.process_time()
        await ORDERS[order](client, job, count, *more)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(took / int(count) * 1e6, cpu / int(count) * 1e6, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
