"""Part `cpu`: CPU time of our own process per message under flood, and how many a second it does.

A workload is made beforehand and published as fast as Redis takes it; the worker is a process of its own
against a Redis and a sink that keeps nothing. Its user + system time is divided by the messages: the median
of several rounds after one that is not counted. Messages a second go from the first PUBLISH to the last
message that left the worker.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from benchmarks.measure import counted, cpu_seconds, finished, publish_all, settled
from benchmarks.parts import Options
from benchmarks.report import Report, median, spread
from benchmarks.servers import null_mongo, redis_server, worker
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
        self.figures: dict[str, object] = {}
        self.lost = 0


def flood(rounds: Iterable[Sequence[Message]], *options: str) -> Flood:
    """Send each round to one fresh worker and wait until it has gone through; the first is not counted."""
    found = Flood()
    with redis_server() as redis, null_mongo() as mongo, worker(redis.url, mongo.url, *options) as ours:
        sent = 0
        for number, messages in enumerate(rounds):
            cpu, began = cpu_seconds(ours.pid), time.perf_counter()
            publish_all(redis.url, messages)
            sent += len(messages)
            now = settled(ours.figures, sent)
            took, used = time.perf_counter() - began, cpu_seconds(ours.pid) - cpu
            if number:
                found.us.append(used / len(messages) * 1e6)
                found.per_second.append(len(messages) / took)
        found.rss = now["rss"]
        found.lost = finished(now) - counted(now, "processed")
        found.figures = now
    return found


def measured(
    kind: str, count: int, products: int, strikes: int, rounds: int, *options: str
) -> dict[str, object]:
    """One row: the medians over ``rounds`` rounds of ``count`` messages."""
    found = flood(_rounds(kind, count, products, strikes, rounds + 1), *options)
    return {
        "workload": kind,
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
    if products := int(options.number("cpu.products", 0)):
        rows = (("mix", max(10_000, products), products, 21),)
    for kind, count, products, strikes in rows:
        report.rows.append(measured(kind, count, products, strikes, options.rounds))
        if kind in ("chains", "mix"):
            plain = measured(kind, count, products, strikes, options.rounds, "market.analytics=false")
            report.rows.append({**plain, "workload": f"{kind}, no analytics"})
    report.notes.append("us: CPU microseconds per message, median; lost: messages that were not processed")
    return [report]
