"""How things are measured: CPU of processes, latencies, schedules, and when a worker has finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.wire import Wire

if TYPE_CHECKING:  # the listener is to start quickly and needs none of them
    from redis.asyncio import Redis

    from enricher.market.feed.channels import Message

LEAVING = ("processed", "duplicate", "dead", "dropped", "conflated")

_STEPS = 32  # buckets per power of two: a quantile is at most 1/32 too large
_STEP_BITS = 5


class Latencies:
    """Counts durations in microseconds in fixed buckets, 32 per power of two: quantiles right within 3.2 %.

    Two of them add up, and a day's worth takes no more memory than a second's.
    """

    __slots__ = ("counts", "max", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.max = 0

    def record(self, us: int) -> None:
        """Add one duration; one below 0 counts as 0."""
        index = bucket(us)
        self.counts[index] = self.counts.get(index, 0) + 1
        self.total += 1
        self.max = max(self.max, us)

    def extend(self, other: Latencies) -> None:
        """Add all of another one's."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.total += other.total
        self.max = max(self.max, other.max)

    def clear(self) -> None:
        """Forget everything."""
        self.counts.clear()
        self.total = self.max = 0

    def quantile(self, q: float) -> int | None:
        """The upper edge (microseconds) of the bucket with the ``q`` quantile; None if empty."""
        rank, seen = q * self.total, 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return min(edge(index), self.max)
        return None

    def summary(self) -> dict[str, Any]:
        """Count, and p50, p99, p99.9 and the largest in milliseconds."""
        named = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
        found = {name: self.quantile(q) for name, q in named.items()}
        in_ms = {name: None if us is None else round(us / 1000, 3) for name, us in found.items()}
        return {"count": self.total, **in_ms, "max_ms": round(self.max / 1000, 3) if self.total else None}

    def plain(self) -> dict[str, Any]:
        """As JSON carries it; `read` makes it whole again."""
        return {"counts": {str(k): v for k, v in sorted(self.counts.items())}, "max": self.max}

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Latencies:
        """What `plain` gave."""
        made = cls()
        made.counts = {int(index): count for index, count in plain["counts"].items()}
        made.total, made.max = sum(made.counts.values()), plain["max"]
        return made


def bucket(us: int) -> int:
    """The index of the bucket of a duration."""
    if us < _STEPS:
        return max(us, 0)
    power = us.bit_length() - 1 - _STEP_BITS
    return (power << _STEP_BITS) + (us >> power)


def edge(index: int) -> int:
    """The largest duration (microseconds) of a bucket."""
    if index < 2 * _STEPS:
        return index
    power = (index >> _STEP_BITS) - 1
    return ((_STEPS + (index & (_STEPS - 1)) + 1) << power) - 1


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


async def publish(client: Redis, messages: Sequence[Message], batch: int = 200) -> None:
    """Publish everything, in order, many to a round trip."""
    for start in range(0, len(messages), batch):
        pipe = client.pipeline(transaction=False)
        for topic, body in messages[start : start + batch]:
            pipe.publish(topic, body)
        await pipe.execute()


def publish_all(redis_url: str, messages: Sequence[Message], batch: int = 200) -> None:
    """`publish` for code outside a loop, on a connection of its own, at a tenth of the publisher's cost."""
    with Wire(redis_url) as wire:
        wire.publish(messages, batch)


def null_counts(mongo_url: str) -> dict[str, dict[str, int]]:
    """What the null server has been sent: {"documents": {collection: number}, "commands": {name: number}}."""
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](mongo_url, directConnection=True) as client:
        reply = client.admin.command("nullStats")
    return {"documents": dict(reply["documents"]), "commands": dict(reply["commands"])}


def share(parts: Iterable[float], whole: float) -> float | None:
    """The sum of ``parts`` in percent of ``whole``; None of nothing."""
    return round(sum(parts) / whole * 100, 2) if whole else None
