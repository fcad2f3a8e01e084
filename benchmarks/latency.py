"""Part `latency`: from PUBLISH to the enriched channel at fixed rates, and what the worker takes when idle.

Load comes from an open loop (`benchmarks.sender`) and is timed by a third process (`benchmarks.listener`):
latency counts from the moment at which a message was due, so that waiting is never hidden. Ticks and chains
are published and timed; the quotes of a mix are load. The null sink shows our own share, the embedded
default (bundled Valkey and Mongo-wire server, journaled writes) what a user meets.

A lone tick is also compared with the least that anybody needs for it: an insert and a script that caches and
publishes, one after the other, by a program that does nothing else. Both take turns on the same servers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import orjson
import pymongo

from benchmarks.load import ENRICHED, Listener, listener, sender
from benchmarks.measure import Latencies, counted, cpu_seconds, settled
from benchmarks.parts import Options
from benchmarks.report import Report, median, spread
from benchmarks.servers import Server, Worker, document_server, null_mongo, redis_server, worker
from benchmarks.wire import Wire, pack
from benchmarks.workloads import workload


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
BARE = "redis.call('SET', KEYS[1], ARGV[1], 'EX', 300) return redis.call('PUBLISH', KEYS[2], ARGV[1])"
APART = 0.03  # seconds between two of those that are compared
LONE = ["sink", "ticks", "bare_p50_ms", "ours_p50_ms", "multiple", "multiple_spread"]
IDLE = ["sink", "seconds", "worker_pct", "redis_pct", "sink_pct", "rss_mb"]
NOTES = [
    "timed: enriched messages heard; us: CPU microseconds of the worker per message, its idle share included",
    "sender: how late messages went out, which is part of each latency",
]


def run(options: Options) -> list[Report]:
    """Latency per sink and load, and the CPU share when nothing comes."""
    report = Report("latency", "from PUBLISH to the enriched channel, milliseconds", COLUMNS, notes=NOTES)
    lone = Report("lone", "a lone tick beside a bare insert and script, milliseconds", LONE)
    idle = Report("idle", "CPU while nothing comes, percent of one core", IDLE)
    reports = [report, lone, idle]
    for name, sink in SINKS.items():
        _one_sink(name, sink(), options, reports)
    return reports


def _one_sink(
    name: str, sink: AbstractContextManager[Server], options: Options, reports: Sequence[Report]
) -> None:
    report, lone, idle = reports
    driver = "mongo.driver=" + options.settings.get("latency.driver", "motor")
    with (
        redis_server(durable=name == "embedded") as redis,
        sink as documents,
        worker(redis.url, documents.url, driver) as ours,
    ):
        pids = {"worker_pct": ours.pid, "redis_pct": redis.pid, "sink_pct": documents.pid}
        idle.rows.append({"sink": name, **_resting(pids, 1 if options.quick else 12), **_memory(ours)})
        lone.rows.append({"sink": name, **lone_tick(redis.url, documents.url, options)})
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


def lone_tick(redis_url: str, mongo_url: str, options: Options) -> dict[str, Any]:
    """One row: medians of the bare way and of ours over all rounds but the first, which warms up."""
    number = 5 if options.quick else 100
    ticks = workload("ticks", number * (options.rounds + 1))
    bare, ours = Latencies(), Latencies()
    multiples = []
    with (
        pymongo.MongoClient[dict[str, Any]](mongo_url) as client,
        Wire(redis_url) as wire,
        Wire(redis_url) as hearing,
    ):
        collection = client.get_database("bare")["ticks"]
        sha = wire.call("SCRIPT", "LOAD", BARE)
        hearing.send(pack(("SUBSCRIBE", ENRICHED[0], "bare")))
        while len(hearing.replies(wait=True)) < 2:
            pass
        for start in range(0, len(ticks), number):
            both = Latencies(), Latencies()
            for at, (topic, body) in enumerate(ticks[start : start + number], start):
                began = time.perf_counter_ns()
                collection.insert_one({"_id": at, **orjson.loads(body)})
                wire.call("EVALSHA", sha, "2", f"bare:{at % 8}", "bare", body)
                hearing.replies(wait=True)
                both[0].record((time.perf_counter_ns() - began) // 1000)
                time.sleep(APART)
                began = time.perf_counter_ns()
                wire.call("PUBLISH", topic, body)
                hearing.replies(wait=True)
                both[1].record((time.perf_counter_ns() - began) // 1000)
                time.sleep(APART)
            if start:
                bare.extend(both[0])
                ours.extend(both[1])
                multiples.append((both[1].quantile(0.5) or 0) / (both[0].quantile(0.5) or 1))
    return {
        "ticks": ours.total,
        "bare_p50_ms": bare.summary()["p50_ms"],
        "ours_p50_ms": ours.summary()["p50_ms"],
        "multiple": median(multiples, 2),
        "multiple_spread": spread(multiples, 2),
    }


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
