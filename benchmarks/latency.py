"""Part `latency`: from PUBLISH to the enriched channel at fixed rates, and what the worker takes when idle.

Load comes from an open loop (`benchmarks.sender`) and is timed by a third process (`benchmarks.listener`):
latency counts from the moment at which a message was due, so that waiting is never hidden. Ticks and chains
are published and timed; the quotes of a mix are load. The null sink shows our own share, the embedded
default (bundled Valkey and Mongo-wire server, journaled writes) what a user meets.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from benchmarks.load import Listener, listener, sender
from benchmarks.measure import Latencies, counted, cpu_seconds, settled
from benchmarks.parts import Options
from benchmarks.report import Report, median, spread
from benchmarks.servers import Server, Worker, document_server, null_mongo, redis_server, worker


class Load(msgspec.Struct, frozen=True):
    """A kind of workload at a rate (messages a second), for so many seconds a round."""

    name: str
    kind: str
    rate: float
    seconds: float
    quick: float


LOADS = (
    # Not a divisor of a second: the ticks meet the worker's own timers at every phase.
    Load("a lone tick", "ticks", 4.7, 20, 2),
    Load("100 ticks/s", "ticks", 100, 10, 1.5),
    # A quarter of the next, for machines of a quarter of the usual speed.
    Load("250 mixed/s", "mix", 250, 15, 1.5),
    Load("1,000 mixed/s", "mix", 1000, 10, 1.5),
)
SINKS = {"null": null_mongo, "embedded": document_server}

COLUMNS = [
    *("sink", "load", "timed", "p50_ms", "p99_ms", "p999_ms", "max_ms", "p99_spread"),
    *("us", "worker_pct", "sink_pct", "sender_p99_ms", "rss_mb", "lost"),
]
IDLE = ["sink", "seconds", "worker_pct", "redis_pct", "sink_pct", "rss_mb"]
NOTES = [
    "timed: enriched messages heard; us: CPU microseconds of the worker per message, its idle share included",
    "sender: how late messages went out, which is part of each latency",
]


def run(options: Options) -> list[Report]:
    """Latency per sink and load, and the CPU share when nothing comes."""
    report = Report("latency", "from PUBLISH to the enriched channel, milliseconds", COLUMNS, notes=NOTES)
    idle = Report("idle", "CPU while nothing comes, percent of one core", IDLE)
    for name, sink in SINKS.items():
        _one_sink(name, sink(), options, report, idle)
    return [report, idle]


def _one_sink(
    name: str, sink: AbstractContextManager[Server], options: Options, report: Report, idle: Report
) -> None:
    driver = "mongo.driver=" + options.settings.get("latency.driver", "motor")
    with (
        redis_server(durable=name == "embedded") as redis,
        sink as documents,
        worker(redis.url, documents.url, driver) as ours,
    ):
        pids = {"worker_pct": ours.pid, "redis_pct": redis.pid, "sink_pct": documents.pid}
        idle.rows.append({"sink": name, **_resting(pids, 1 if options.quick else 12), **_memory(ours)})
        with listener(redis.url) as heard:
            for load in LOADS:
                row = _loaded(redis.url, ours, pids, heard, load, options)
                report.rows.append({"sink": name, "load": load.name, **row})


def _resting(pids: dict[str, int], seconds: float) -> dict[str, Any]:
    """CPU of each process in percent of one core over a time in which nothing is sent."""
    time.sleep(min(2.0, seconds))
    before, began = _cpu(pids), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    used = {name: now_s - before[name] for name, now_s in _cpu(pids).items()}
    return {"seconds": round(took, 1), **{name: round(cpu / took * 100, 2) for name, cpu in used.items()}}


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def _memory(ours: Worker) -> dict[str, Any]:
    return {"rss_mb": round(ours.figures()["rss"] / 1e6, 1)}


def _loaded(
    redis_url: str, ours: Worker, pids: dict[str, int], heard: Listener, load: Load, options: Options
) -> dict[str, Any]:
    """One row: latencies over all rounds but the first, which is short and warms up."""
    every, p50, p99, us, late = Latencies(), [], [], [], []
    shares: dict[str, list[float]] = {name: [] for name in pids}
    seconds = load.quick if options.quick else load.seconds
    before = ours.figures()
    for number in range(options.rounds + 1):
        lasting = seconds if number else min(seconds, 2.0)
        with sender(redis_url, load.kind, rate=load.rate, seconds=lasting, seed=number) as sending:
            gone = counted(ours.figures(), "received")
            cpu, began = _cpu(pids), time.monotonic()
            told = sending.go()
            settled(ours.figures, gone + told.sent)
            took = time.monotonic() - began
            used = {name: now_s - cpu[name] for name, now_s in _cpu(pids).items()}
            found = all_heard(heard)
        if number:
            every.extend(found)
            p50.append((found.quantile(0.5) or 0) / 1000)
            p99.append((found.quantile(0.99) or 0) / 1000)
            us.append(used["worker_pct"] / told.sent * 1e6)
            for name, seconds_used in used.items():
                shares[name].append(seconds_used / took * 100)
            late.append(told.late["p99_ms"])
    after = ours.figures()
    done = counted(after, "processed") - counted(before, "processed")
    return {
        "rate": load.rate,
        "timed": every.total,
        **{name: value for name, value in every.summary().items() if name != "count"},
        "p50_spread": spread(p50, 2),
        "p99_spread": spread(p99, 2),
        "us": median(us),
        **{name: median(percent) for name, percent in shares.items()},
        "sender_p99_ms": median(late, 3),
        "rss_mb": round(after["rss"] / 1e6, 1),
        "lost": counted(after, "received") - counted(before, "received") - done,
    }


def all_heard(heard: Listener) -> Latencies:
    """Everything the listener has once nothing more comes: it may lag behind the worker's own count."""
    every = heard.report()
    while True:
        time.sleep(0.05)
        more = heard.report()
        if not more.total:
            return every
        every.extend(more)
