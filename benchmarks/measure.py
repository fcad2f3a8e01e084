"""How things are measured: CPU of processes, latencies, schedules, and when a worker has finished."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.wire import Wire

if TYPE_CHECKING:
    from enricher.market.feed.channels import Message

LEAVING = ("processed", "duplicate", "dead", "dropped", "conflated")


class Latencies:
    """Durations in microseconds, and their quantiles."""

    def __init__(self, values: Iterable[int] = ()) -> None:
        self.values = list(values)

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.values)

    def record(self, us: int) -> None:
        """Add one duration."""
        self.values.append(us)

    def extend(self, other: Latencies) -> None:
        """Add all of another one's."""
        self.values += other.values

    def quantile(self, q: float) -> int | None:
        """The ``q`` quantile (microseconds): of a clock that was set back 0; None if empty."""
        if not self.values:
            return None
        rank = max(math.ceil(q * len(self.values)), 1)
        return max(sorted(self.values)[rank - 1], 0)

    def summary(self) -> dict[str, Any]:
        """Count, and p50, p99, p99.9 and the largest in milliseconds."""
        named = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
        quantiles = {name: self.quantile(q) for name, q in named.items()}
        in_ms = {name: None if us is None else round(us / 1000, 3) for name, us in quantiles.items()}
        return {"count": self.total, **in_ms}


def schedule(rate: float, count: int, start_us: int) -> list[int]:
    """When each of ``count`` messages is due, in microseconds, at ``rate`` a second from ``start_us`` on.

    An open loop: it is fixed beforehand and nothing that happens later moves it.
    """
    return [start_us + round(number * 1e6 / rate) for number in range(count)]


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """User and system seconds of all threads of a process so far; with ``children`` of all below it, too.

    Linux tells nanoseconds per thread that lives; elsewhere it is as fine as the clock tick (10 ms).
    A thread or child that has ended in between counts no more (in the parent's own sum it does).
    """
    watched = psutil.Process(pid)
    family = [watched, *(watched.children(recursive=True) if children else ())]
    return sum(_own_seconds(one) for one in family)


def _own_seconds(watched: psutil.Process) -> float:
    try:
        times = watched.cpu_times()
        ticked = times.user + times.system
        lines = [
            path.read_text() for path in Path(f"/proc/{watched.pid}/task").glob("*/schedstat")
        ]
    except psutil.NoSuchProcess:
        return 0.0
    except OSError:
        return float(ticked)
    exact = sum(int(line.split()[0]) for line in lines) / 1e9
    # Threads that have ended are only in the sum of the process.
    return exact if ticked - exact < 0.05 else float(ticked)


def rss_bytes(pid: int, *, children: bool = False) -> int:
    """Resident bytes of a process, with ``children`` of all below it too."""
    watched = psutil.Process(pid)
    family = [watched, *(watched.children(recursive=True) if children else ())]
    return sum(int(one.memory_info().rss) for one in family)


def finished(figures: dict[str, Any]) -> int:
    """Messages that have left the worker in any way."""
    return sum(topic.get(name, 0) for topic in figures["topics"].values() for name in LEAVING)


def counted(figures: dict[str, Any], label: str) -> int:
    """One counter, over all topics."""
    return int(sum(topic.get(label, 0) for topic in figures["topics"].values()))


def settled(
    ask: Callable[[], dict[str, Any]], wanted: int, *, patience: float = 20.0, pause: float = 0.02
) -> dict[str, Any]:
    """The figures once ``wanted`` messages have left the worker; ``ask`` gives the figures of now.

    TimeoutError, with what is missing, when nothing has moved for ``patience`` seconds. It blocks: call it
    outside a loop, or in a thread.
    """
    best, since = -1, time.monotonic()
    while True:
        now = ask()
        done = finished(now)
        if done >= wanted:
            return now
        if done > best:
            best, since = done, time.monotonic()
        elif time.monotonic() - since > patience:
            raise TimeoutError(f"{wanted - done} of {wanted} messages never left the worker: {now['topics']}")
        time.sleep(pause)


def publish_all(redis_url: str, messages: Sequence[Message], batch: int = 200) -> None:
    """Publish everything, in order, on a connection of its own."""
    with Wire(redis_url) as wire:
        wire.publish(messages, batch)


def null_counts(mongo_url: str) -> dict[str, dict[str, int]]:
    """What the null server has been sent: {"documents": {collection: number}, "commands": {name: number}}."""
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](mongo_url, directConnection=True) as client:
        reply = client.admin.command("nullStats")
    return {"documents": dict(reply["documents"]), "commands": dict(reply["commands"])}
