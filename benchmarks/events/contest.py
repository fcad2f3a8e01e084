"""A contestant that runs: its processes, its port, and how to hold up what it does after the 202."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import psutil
import redis

from benchmarks.events.catalogue import FASTAPI
from benchmarks.events.client import flood
from benchmarks.measure import cpu_seconds, rss_bytes
from benchmarks.peers.contest import started
from benchmarks.servers import document_server, module, process, redis_server
from enricher.embedded.child import free_port

STREAM = "enricher:events"
PATIENCE = 60.0  # seconds in which something must move
LOOK_EVERY = 0.05


class Flood(msgspec.Struct, frozen=True):
    """Events that were accepted while none was processed, and then processed.

    CPU microseconds per event of all processes in either part, and events a second.
    """

    accept_us: float
    process_us: float
    accepted_s: float
    processed_s: float


class Held(Protocol):
    """Holds up, or lets go on, what comes after the 202."""

    def __call__(self, held: bool) -> None: ...


class Running:
    """See the module. ``pids`` are its processes, without the children that they may have."""

    def __init__(self, port: int, pids: Sequence[int], finished: Callable[[], int], hold: Held) -> None:
        self.port = port
        self._pids = pids
        self.finished = finished
        self._hold = hold

    def flood(self, count: int, connections: int) -> Flood:
        """Send so many events, then let them be processed. TimeoutError when nothing comes any more."""
        before = self.finished()
        self._hold(True)
        cpu, began = self.cpu_seconds(), time.perf_counter()
        try:
            asyncio.run(flood(self.port, count, connections))
            accepted, ended = self.cpu_seconds(), time.perf_counter()
        finally:
            self._hold(False)
        until(self.finished, before + count)
        done = time.perf_counter()
        time.sleep(0.2)  # what is stored comes before what is acknowledged
        processed = self.cpu_seconds()
        return Flood(
            (accepted - cpu) / count * 1e6,
            (processed - accepted) / count * 1e6,
            count / (ended - began),
            count / (done - ended),
        )

    def cpu_seconds(self) -> float:
        """User and system seconds of all its processes so far."""
        return sum(cpu_seconds(pid, children=True) for pid in self._pids)

    def rss_mb(self) -> float:
        """Resident megabytes of all its processes; pages that they share count for each."""
        return round(sum(rss_bytes(pid, children=True) for pid in self._pids) / 1e6, 1)


class Store(msgspec.Struct, frozen=True):
    """The URLs of the servers that ours works with."""

    redis: str
    mongo: str


@contextmanager
def ours() -> Iterator[tuple[Running, Store]]:
    """enricher with durable writes."""
    with (
        tempfile.TemporaryDirectory(prefix="enricher-bench-") as place,
        redis_server(durable=True) as cache,
        document_server() as store,
        redis.Redis.from_url(cache.url) as client,
    ):
        port, gate = free_port(), Path(place) / "gate"
        given = {
            "redis.url": cache.url,
            "mongo.url": store.url,
            "market.enabled": "false",
            "events.packages": "benchmarks.events.with_enricher",
            "web.listen": f"127.0.0.1:{port}",
        }
        sets = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        command = module("enricher", "run", "--log-level", "warning", *sets)

        def hold(held: bool) -> None:
            gate.touch() if held else gate.unlink()

        def finished() -> int:
            # Acknowledged, which comes last. To count documents would keep their server busy.
            groups = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
            return sum(int(group["entries-read"] or 0) - int(group["pending"]) for group in groups)

        with process("/usr/bin/env", f"EVENTS_GATE={gate}", *command) as child:
            listening(port)
            yield Running(port, [child.pid], finished, hold), Store(cache.url, store.url)


@contextmanager
def theirs(folder: Path) -> Iterator[Running]:
    """The peer, whose environment is in ``folder``; its worker stands still while events are accepted."""
    with tempfile.TemporaryDirectory(prefix="enricher-bench-") as place, redis_server(durable=True) as cache:
        port, database = free_port(), Path(place) / "events.db"
        given = {"PEER_REDIS_URL": cache.url, "EVENTS_PORT": str(port), "EVENTS_DATABASE": str(database)}
        with started(FASTAPI, folder, **given) as pids:
            listening(port)

            def finished() -> int:
                asked = "SELECT count(*) FROM events WHERE task_context IS NOT NULL"
                with sqlite3.connect(database, timeout=PATIENCE) as connection:
                    return int(connection.execute(asked).fetchone()[0])

            def hold(held: bool) -> None:
                worker = psutil.Process(pids[1])
                for one in (worker, *worker.children(recursive=True)):
                    one.suspend() if held else one.resume()

            yield Running(port, pids, finished, hold)


def listening(port: int) -> None:
    """Return when somebody listens there."""

    def listens() -> int:
        with socket.socket() as probe:
            return int(probe.connect_ex(("127.0.0.1", port)) == 0)

    until(listens, 1)


def until(count: Callable[[], int], wanted: int) -> None:
    """Return once there are so many; TimeoutError when none has come for a minute."""
    best, since = -1, time.monotonic()
    while (now := count()) < wanted:
        if now > best:
            best, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise TimeoutError(f"{wanted - now} of {wanted} never came")
        time.sleep(LOOK_EVERY)
