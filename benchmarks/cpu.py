"""Part `cpu`: CPU time of our own process per message under flood, and how many a second it does.

A workload is made beforehand and published as fast as Redis takes it; the worker is a process of its own
against a Redis and a sink that keeps nothing. Its user + system time is divided by the messages: the median
of several rounds after one that is not counted. Messages a second go from the first PUBLISH to the last
message that left the worker. With ``cpu.shards`` the mix goes to one process, and to so many that share its
keys; figures are then those of all together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

from benchmarks.measure import counted, cpu_seconds, finished, publish_all, settled
from benchmarks.parts import Options
from benchmarks.report import Report, median, spread
from benchmarks.servers import Worker, null_mongo, redis_server, worker
from benchmarks.workloads import lazily, workload
from enricher.market.feed.channels import Message

# kind, messages a round, products, strikes
FULL = (
    ("ticks", 10_000, 1, 21),
    ("ticks", 10_000, 8, 21),
    ("quotes", 10_000, 8, 21),
    ("chains", 1_000, 8, 21),
    ("chains", 200, 8, 200),
    ("mix", 10_000, 8, 21),
    ("mix", 10_000, 500, 21),
)
MANY = 100  # products from which on messages are made round by round: all rounds together would be gigabytes
QUICK = (("ticks", 1_000, 8, 21), ("mix", 1_000, 8, 21))

COLUMNS = ["workload", "products", "strikes", "messages", "us", "us_spread", "per_s", "rss_mb", "lost"]


class Flood:
    """What each round of one workload cost: CPU microseconds per message and messages a second."""

    def __init__(self) -> None:
        self.us: list[float] = []
        self.per_second: list[float] = []
        self.rss = 0
        self.lost = 0


def flood(rounds: Iterable[Sequence[Message]], *options: str, shards: int = 1) -> Flood:
    """Send each round to fresh workers and wait until it has gone through; the first is not counted."""
    found = Flood()
    with redis_server() as redis, null_mongo() as mongo, ExitStack() as stack:
        ours = [
            stack.enter_context(worker(redis.url, mongo.url, *options, *part)) for part in _parts(shards)
        ]
        sent = 0
        for number, messages in enumerate(rounds):
            cpu, began = _cpu(ours), time.perf_counter()
            publish_all(redis.url, messages)
            sent += len(messages)
            now = settled(lambda: _together(ours), sent)
            took, used = time.perf_counter() - began, _cpu(ours) - cpu
            if number:
                found.us.append(used / len(messages) * 1e6)
                found.per_second.append(len(messages) / took)
        found.rss = now["rss"]
        found.lost = finished(now) - counted(now, "processed")
    return found


def _parts(shards: int) -> list[tuple[str, ...]]:
    """The settings of each process."""
    if shards == 1:
        return [()]
    return [(f"streams.shard={index}/{shards}", f"service.instance=w{index}") for index in range(shards)]


def _cpu(workers: Sequence[Worker]) -> float:
    return sum(cpu_seconds(one.pid) for one in workers)


def _together(workers: Sequence[Worker]) -> dict[str, Any]:
    """What is counted here, of all workers."""
    every = [one.figures() for one in workers]
    topics = {
        f"{number} {name}": counts
        for number, one in enumerate(every)
        for name, counts in one["topics"].items()
    }
    return {"topics": topics, "rss": sum(one["rss"] for one in every)}


def measured(
    kind: str, count: int, products: int, strikes: int, rounds: int, *options: str, shards: int = 1
) -> dict[str, object]:
    """One row: the medians over ``rounds`` rounds of ``count`` messages."""
    found = flood(_rounds(kind, count, products, strikes, rounds + 1), *options, shards=shards)
    return {
        "workload": kind if shards == 1 else f"{kind}, {shards} processes",
        "products": products,
        "strikes": strikes,
        "messages": count,
        "us": median(found.us),
        "us_spread": spread(found.us),
        "per_s": round(median(found.per_second) or 0),
        "rss_mb": round(found.rss / 1e6, 1),
        "lost": found.lost,
        "rounds_us": [round(us, 1) for us in found.us],
    }


def _rounds(kind: str, count: int, products: int, strikes: int, rounds: int) -> Iterator[list[Message]]:
    if products < MANY:
        market = workload(kind, count * rounds, products, strikes)
        yield from (market[at : at + count] for at in range(0, len(market), count))
        return
    messages = lazily(kind, products, strikes, clock=lambda: time.time_ns() // 1000)
    for _ in range(rounds):
        yield list(islice(messages, count))


def run(options: Options) -> list[Report]:
    """A row per workload."""
    report = Report("cpu", "user and system time of the worker process per message, under flood", COLUMNS)
    rows = QUICK if options.quick else FULL
    if shards := int(options.number("cpu.shards", 0)):
        size = 2_000 if options.quick else 10_000
        report.rows = [measured("mix", size, 8, 21, options.rounds, shards=n) for n in (1, shards)]
        return [report]
    if products := int(options.number("cpu.products", 0)):
        rows = (("mix", max(10_000, products), products, 21),)
    for kind, count, products, strikes in rows:
        report.rows.append(measured(kind, count, products, strikes, options.rounds))
        if kind in ("chains", "mix"):
            plain = measured(kind, count, products, strikes, options.rounds, "market.analytics=false")
            report.rows.append({**plain, "workload": f"{kind}, no analytics"})
    report.notes.append("us: CPU microseconds per message, median; lost: messages that were not processed")
    return [report]
