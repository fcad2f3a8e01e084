"""The part ``events``: what it takes to accept an event and to process it, here and with FastAPI and Celery.

Both keep an event on disk before they answer 202, and its result. They run at the same time and are flooded
in turns, ours before and after each round of theirs: what the machine does meanwhile falls on both. Nothing
is processed while events are accepted, so that each part costs by itself. CPU time is user + system of all
processes of each; that of MongoDB is not counted, that of SQLite is, since it has no process of its own.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pymongo
import redis

from benchmarks.events.catalogue import FASTAPI
from benchmarks.events.client import Connection
from benchmarks.events.contest import Flood, Running, Store, ours, theirs
from benchmarks.measure import Latencies
from benchmarks.parts import Options
from benchmarks.peers.catalogue import FOLDER
from benchmarks.peers.contest import versions
from benchmarks.report import Report, median

CONNECTIONS = 64
IDLE = 1000
LOOK = 3.0  # seconds in which CPU is measured
INSTALL = "python -m benchmarks.peers install"


class Size(msgspec.Struct, frozen=True):
    """Events of a warm-up and of a round, and those whose answer is timed one by one."""

    warm: int
    round: int
    timed: int


FULL = Size(1000, 2000, 500)
QUICK = Size(100, 300, 50)


def run(options: Options) -> list[Report]:
    """Floods, answers one by one, and idle connections; without the peer's environment ours alone.

    Setting: ``events.folder``.
    """
    folder = Path(options.settings.get("events.folder", FOLDER)).expanduser()
    size = QUICK if options.quick else FULL
    columns = ["what", "ours", "theirs", "times"]
    flooded = Report("events", f"CPU per event over {CONNECTIONS} connections", columns)
    timed = Report("events", "to the 202, one after the other", ["who", "p50_ms", "p99_ms", "times_bare"])
    idle = Report("events", f"{IDLE:,} connections that do nothing", ["what", "without", "with"])
    with ours() as (own, store):
        own.flood(size.warm, CONNECTIONS)
        if FASTAPI.installed(folder):
            with theirs(folder) as other:
                other.flood(size.warm, CONNECTIONS)
                flooded.rows = compared(*rounds(own, other, size.round, options.rounds))
                timed.rows = answered(own, store, size.timed, other)
            found = versions(FASTAPI, folder)
            flooded.notes.append(", ".join(f"{name} {number}" for name, number in found.items()))
        else:
            flooded.rows = compared([own.flood(size.round, CONNECTIONS) for _ in range(options.rounds)], [])
            flooded.notes.append(f"{FASTAPI.name} is not installed in {folder}; to install: {INSTALL}")
            timed.rows = answered(own, store, size.timed, None)
        idle.rows = idling(own)
    return [flooded, timed, idle]


def rounds(own: Running, other: Running, count: int, times: int) -> tuple[list[Flood], list[Flood]]:
    """Floods in turns."""
    mine, its = [own.flood(count, CONNECTIONS)], []
    for _ in range(times):
        its.append(other.flood(count, CONNECTIONS))
        mine.append(own.flood(count, CONNECTIONS))
    return mine, its


def compared(mine: list[Flood], its: list[Flood]) -> list[dict[str, Any]]:
    """A row for each figure; ``times`` is theirs as a multiple of ours."""
    figures = {
        "us of CPU to accept": lambda one: one.accept_us,
        "us of CPU to process": lambda one: one.process_us,
        "us of CPU of both": lambda one: one.accept_us + one.process_us,
        "accepted a second": lambda one: one.accepted_s,
        "processed a second": lambda one: one.processed_s,
    }
    rows = []
    for what, figure in figures.items():
        own, other = median([figure(one) for one in mine]), median([figure(one) for one in its])
        times = round(other / own, 2) if own and other else None
        rows.append({"what": what, "ours": own, "theirs": other, "times": times})
    return rows


def answered(own: Running, store: Store, count: int, other: Running | None) -> list[dict[str, Any]]:
    """How long a POST takes, in turns with the least that keeps an event: an insert and an XADD."""
    asked = {"enricher": own.port} | ({FASTAPI.name: other.port} if other else {})
    found = {"insert and XADD": Latencies(), **{name: Latencies() for name in asked}}

    async def measure() -> None:
        open_ = {name: await Connection.to(port) for name, port in asked.items()}
        for number in range(-20, count):
            took = {"insert and XADD": bare(number)}
            for name, connection in open_.items():
                took[name] = await connection.post(number)
            for name, us in took.items() if number >= 0 else ():
                found[name].record(us)

    with (
        pymongo.MongoClient[dict[str, Any]](store.mongo) as client,
        redis.Redis.from_url(store.redis) as cache,
    ):
        kept = client.get_default_database()["bare"]

        def bare(number: int) -> int:
            began = time.perf_counter_ns()
            kept.insert_one({"data": {"text": "ticket", "user": number}, "status": "PENDING"})
            cache.xadd("bare", {"id": str(number)})
            return (time.perf_counter_ns() - began) // 1000

        asyncio.run(measure())
    least = found["insert and XADD"].summary()["p50_ms"]
    rows = []
    for name, latencies in found.items():
        summary = latencies.summary()
        rows.append({"who": name, **summary, "times_bare": round(summary["p50_ms"] / least, 2)})
    return rows


def idling(own: Running) -> list[dict[str, Any]]:
    """What many connections take that have each sent a request, and are silent."""

    async def measure() -> tuple[float, float]:
        connections = [await Connection.to(own.port) for _ in range(IDLE)]
        for each in connections:
            await each.ask(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found = cpu_pct(own), own.rss_mb()
        for each in connections:
            each.close()
        return found

    cpu, memory = cpu_pct(own), own.rss_mb()
    cpu_idle, memory_idle = asyncio.run(measure())
    return [
        {"what": "% of a core", "without": cpu, "with": cpu_idle},
        {"what": "MB", "without": memory, "with": memory_idle},
    ]


def cpu_pct(one: Running) -> float:
    """Of one core, for a while."""
    before = one.cpu_seconds()
    time.sleep(LOOK)
    return round((one.cpu_seconds() - before) / LOOK * 100, 2)
