"""Part `overload`: offered load from a tenth to ten times of what one worker can do, per overload policy.

Capacity is measured first, as the messages a second of a flood that fits into the pool. Then a fresh worker
with a small pool (``overload.pool`` messages) is offered a fixed multiple of it for some seconds, by an open
loop on a plain connection. Every message must be accounted for: what is sent is processed, dropped,
conflated, a duplicate, a dead letter, or was lost by Redis in a gap that the worker knows of; and what is
processed is what the sink was sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.load import send_packed
from benchmarks.measure import counted, cpu_seconds, finished, null_counts, schedule, settled
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.servers import Server, Worker, null_mongo, redis_server, worker
from benchmarks.wire import Wire, pack
from benchmarks.workloads import stamped, workload
from enricher.market.documents import CHAINS, QUOTES, TICKS
from enricher.market.feed.channels import Message

POLICIES = ("drop_oldest", "conflate")
LOADS, QUICK_LOADS = (0.1, 0.5, 0.9, 1.1, 2.0, 5.0, 10.0), (0.5, 3.0)
ENDS = ("processed", "duplicate", "dropped", "conflated", "dead", "lost")
MARK_US = 1_790_000_000_000_000
COLUMNS = [
    *("policy", "load", "offered_s", "handed_s", "processed_s", "per_cpu_s"),
    *("p50_ms", "p99_ms", "held_p99_ms", "processed", "dropped", "conflated"),
    *("redis_lost", "gaps", "balanced", "rss_mb", "worker_pct"),
]
NOTES = [
    "load: multiple of capacity; offered: messages a second by schedule; handed: as sent",
    "processed s: while it was sent; per cpu: the same in a second of the worker's CPU",
    "p50, p99: from when a message was due until it is visible; held: from its receipt on",
    "balanced: sent = processed + duplicate + dropped + conflated + dead + lost by Redis; processed = stored",
]


class Point(msgspec.Struct, frozen=True):
    """A load to offer: ``rate`` messages a second for ``seconds``."""

    policy: str
    load: float
    rate: float
    seconds: float


def run(options: Options) -> list[Report]:
    """Sweep both policies; a message that is not accounted for fails the run."""
    seconds = options.number("overload.seconds", 1.5 if options.quick else 5)
    pool = int(options.number("overload.pool", 500 if options.quick else 4000))
    loads = QUICK_LOADS if options.quick else LOADS
    with redis_server() as redis, null_mongo() as mongo:
        able = capacity(redis, mongo, 2000 if options.quick else 10_000)
        made = workload("mix", round(able * max(loads) * seconds), start_us=MARK_US, step_us=0)
        points = [Point(policy, load, able * load, seconds) for policy in POLICIES for load in loads]
        rows = [published(point, made, redis, mongo, pool) for point in points]
    report = Report("overload", "what becomes of more than one worker can do", COLUMNS, rows, list(NOTES))
    report.notes.append(f"capacity: {able:,.0f} messages a second; the pool holds {pool:,} messages")
    behind = [row for row in rows if row["handed_s"] < 0.9 * row["offered_s"]]
    report.notes += [f"{r['policy']} at {r['load']}: the publisher reached {r['handed_s']}/s" for r in behind]
    report.failed = not all(row["balanced"] for row in rows)
    return [report]


def capacity(redis: Server, mongo: Server, count: int, rounds: int = 4) -> float:
    """Messages a second of a worker that is sent ``count`` at once: the best of some rounds.

    The best, because whatever else the machine does at the time makes it less, never more.
    """
    took = []
    with worker(redis.url, mongo.url) as ours, Wire(redis.url) as wire:
        for number in range(rounds):
            messages = workload("mix", count)
            before = time.monotonic()
            wire.publish(messages)
            settled(ours.figures, (number + 1) * count)
            took.append(time.monotonic() - before)
    return count / min(took)


def published(
    point: Point, made: Sequence[Message], redis: Server, mongo: Server, pool: int
) -> dict[str, Any]:
    """One row."""
    count = round(point.rate * point.seconds)
    settings = (f"market.overload={point.policy}", f"pool.max_messages={pool}", "stats.interval=0.5")
    stored = documents(mongo)
    with worker(redis.url, mongo.url, *settings) as ours, Wire(redis.url) as wire:
        start = time.time_ns() // 1000 + 200_000 + count * 15
        due = schedule(point.rate, count, start)
        packed = [pack(("PUBLISH", *m)) for m in stamped(made[:count], due, MARK_US)]
        cpu = cpu_seconds(ours.pid)
        time.sleep(max(0.0, start / 1e6 - time.time()))
        late, receivers = send_packed(wire, packed, due)
        took, used = time.time_ns() / 1e9 - start / 1e6, cpu_seconds(ours.pid) - cpu
        # By the worker's own clock: under overload the answer itself waits for its turn.
        sent = ours.figures()
        processed = counted(sent, "processed") / (sent["now_us"] - start) * 1e6
        figures = quiet(ours)
    counts = {name: counted(figures, name) for name in ("received", *ENDS, "gaps")}
    latency = figures["latency"]["event"]
    row = {
        "policy": point.policy,
        "load": point.load,
        "offered_s": round(point.rate),
        "handed_s": round(count / took),
        "processed_s": round(processed),
        "per_cpu_s": round(processed * took / used),
        "p50_ms": latency["p50_ms"],
        "p99_ms": latency["p99_ms"],
        "held_p99_ms": figures["latency"]["commit"]["p99_ms"],
        "sent": count,
        "stored": documents(mongo) - stored,
        **counts,
        "redis_lost": count - counts["received"],
        "rss_mb": round(max(sent["rss"], figures["rss"]) / 1e6, 1),
        "worker_pct": round(used / took * 100),
        "late_p99_ms": late.summary()["p99_ms"],
        "unheard": count - sum(receivers),
    }
    return row | {"balanced": balanced(row)}


def balanced(row: dict[str, Any]) -> bool:
    """Whether every message is accounted for, once, and what Redis lost was noticed."""
    known = row["redis_lost"] == 0 or (row["redis_lost"] > 0 and row["gaps"] > 0)
    return known and row["received"] == sum(row[name] for name in ENDS) and row["stored"] == row["processed"]


def documents(mongo: Server) -> int:
    """Ticks, quotes and chains that the sink was sent so far."""
    sent = null_counts(mongo.url)["documents"]
    return sum(sent.get(name, 0) for name in (TICKS, QUOTES, CHAINS))


def quiet(ours: Worker, still: float = 1.0, patience: float = 60.0) -> dict[str, Any]:
    """The figures once all that was received has left and nothing more has come for ``still`` seconds."""
    began = since = time.monotonic()
    last = -1
    while True:
        figures = ours.figures()
        received, now = counted(figures, "received"), time.monotonic()
        if received != last or finished(figures) < received:
            last, since = received, now
        if now - since > still:
            return figures
        if now - began > patience:
            raise TimeoutError(f"the worker still holds messages: {figures['topics']}")
        time.sleep(0.05)

