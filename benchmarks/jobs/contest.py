"""A contestant that runs: its workers, a client of its own that enqueues, and a Redis of its own."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import redis

from benchmarks.jobs.catalogue import Contestant
from benchmarks.measure import Latencies, cpu_seconds, rss_bytes
from benchmarks.peers.contest import started, surrounded
from benchmarks.servers import line, process, redis_server

PATIENCE = 60.0  # seconds in which something must move
LOOK_EVERY = 0.02


class Cost(msgspec.Struct, frozen=True):
    """Microseconds per job, as a clock saw them and of CPU time."""

    us: float
    cpu_us: float


class Flood(msgspec.Struct, frozen=True):
    """Jobs that were enqueued while the workers stood still, and then run: CPU microseconds of all the
    workers' processes per job, and jobs a second."""

    one: Cost
    bulk: Cost
    us: float
    jobs_s: float


class Running:
    """See the module. ``pids`` are its processes, without the children that they may have."""

    def __init__(
        self,
        contestant: Contestant,
        client: redis.Redis,
        child: subprocess.Popen[bytes],
        pids: Sequence[int],
        log: Path,
    ) -> None:
        self.redis: Any = client
        self.contestant = contestant
        self._child = child
        self._pids = pids
        self._log = log

    def enqueue(self, order: str, job: str, count: int, *more: object) -> Cost:
        """What the client takes for these jobs; see `benchmarks.jobs.client`."""
        assert self._child.stdin is not None
        self._child.stdin.write(" ".join(map(str, (order, job, count, *more))).encode() + b"\n")
        self._child.stdin.flush()
        us, cpu_us = line(self._child, self.contestant.program).split()
        return Cost(float(us), float(cpu_us))

    def flood(self, job: str, count: int) -> Flood:
        """Enqueue so many jobs, a fifth of them one by one, then let them run.

        TimeoutError, with the number that is missing, when nothing comes any more.
        """
        before = self.finished()
        with self.still():
            one = self.enqueue("one", job, count // 5)
            bulk = self.enqueue("many", job, count - count // 5)
            cpu, began = self.cpu_seconds(), time.perf_counter()
        until(self.finished, before + count)
        ended = time.perf_counter()
        time.sleep(0.2)  # results come before acknowledgements
        us = (self.cpu_seconds() - cpu) / count * 1e6
        return Flood(one, bulk, us, count / (ended - began))

    def latencies(self, order: str, count: int, rate: float) -> Latencies:
        """How long after its moment each of so many jobs has begun; they come at this rate."""
        before = len(self.noted("late"))
        self.enqueue(order, "late", count, rate)
        until(lambda: len(self.noted("late")), before + count)
        return Latencies(self.noted("late")[before:])

    def noted(self, name: str) -> list[int]:
        """What the jobs have written down under this name, in microseconds."""
        rows = (row.split() for row in self._log.read_text().splitlines())
        return [int(us) for found, us in rows if found == name]

    def finished(self) -> int:
        """Jobs whose result is stored."""
        return int(self.redis.eval(self.contestant.finished, 0))

    def family(self) -> list[psutil.Process]:
        """All its processes."""
        found = [psutil.Process(pid) for pid in self._pids]
        return [one for parent in found for one in (parent, *parent.children(recursive=True))]

    def cpu_seconds(self) -> float:
        """User and system seconds of all its processes so far, those included that have ended."""
        ended = (psutil.Process(pid).cpu_times() for pid in self._pids)
        living = sum(cpu_seconds(pid, children=True) for pid in self._pids)
        return living + sum(times.children_user + times.children_system for times in ended)

    def rss_mb(self) -> float:
        """Resident megabytes of all its processes; pages that they share count for each."""
        return round(sum(rss_bytes(pid, children=True) for pid in self._pids) / 1e6, 1)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Its processes stand still, so that they take nothing from who is measured."""
        family = self.family()
        for one in family:
            one.suspend()
        try:
            yield
        finally:
            for one in family:
                one.resume()


@contextmanager
def running(contestant: Contestant, folder: Path) -> Iterator[Running]:
    """A contestant that has run its first job; ``folder`` has its environment."""
    with tempfile.TemporaryDirectory(prefix="enricher-bench-") as place, redis_server() as cache:
        log = Path(place) / "noted"
        log.touch()
        variables = {"PEER_REDIS_URL": cache.url, "ENRICHER_REDIS__URL": cache.url, "JOBS_LOG": str(log)}
        python = str(contestant.python(folder))
        command = (*surrounded(contestant, folder, variables), python, "-m", "benchmarks.jobs.client")
        with (
            redis.Redis.from_url(cache.url) as client,
            started(contestant, folder, **variables) as pids,
            process(*command, contestant.program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
        ):
            one = Running(contestant, client, child, pids, log)
            one.enqueue("one", contestant.kinds[0][0], 1)
            until(one.finished, 1)
            yield one


def until(count: Callable[[], int], wanted: int, patience: float = PATIENCE) -> None:
    """Return once there are so many; TimeoutError when none has come for ``patience`` seconds."""
    best, since = -1, time.monotonic()
    while (now := count()) < wanted:
        if now > best:
            best, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise TimeoutError(f"{wanted - now} of {wanted} never came")
        time.sleep(LOOK_EVERY)
