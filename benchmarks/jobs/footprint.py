"""What our jobs take beside the least: enqueueing, memory of those that wait, CPU and memory of a worker."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.jobs.catalogue import BARE, HERE, OURS
from benchmarks.jobs.contest import Running, running, until
from benchmarks.jobs.work import AT_ONCE
from benchmarks.measure import rss_bytes
from benchmarks.report import Report, median
from benchmarks.servers import null_mongo, redis_server, worker

LOOK = 3.0  # seconds in which CPU is measured


def measured(*, quick: bool, rounds: int) -> Report:
    """Each figure beside what it is to be compared with."""
    report = Report("jobs", "what ours take", ["what", "value", "beside", "value_beside", "times"])

    def add(what: str, value: float | None, beside: str, other: float | None) -> None:
        times = round(value / other, 2) if value and other else None
        row = {"what": what, "value": value, "beside": beside, "value_beside": other, "times": times}
        report.rows.append(row)

    with running(OURS, HERE.parent) as ours, running(BARE, HERE.parent) as bare:
        us, least = enqueued(ours, bare, 200 if quick else 2000, rounds)
        add("us to enqueue a job", us, "us of EVALSHA with as many bytes", least)
    count = 5000 if quick else 100_000
    with running(OURS, HERE.parent) as ours:
        few = ours.flood("async", 500 if quick else 4000).us
        idle = cpu_pct(ours)
        ours.enqueue("one", "nap", AT_ONCE)
        threads = ours.rss_mb()
        before, finished = memory(ours), ours.finished()
        ours.enqueue("many", "async", count)
        size = (memory(ours) - before) / count
        waiting = cpu_pct(ours)
        if ours.redis.xlen("jobs:default") < count:
            raise RuntimeError("the jobs that were to wait have begun: this machine is too slow")
        cpu, before_s = ours.cpu_seconds(), ours.finished()
        until(ours.finished, finished + count)
        many = (ours.cpu_seconds() - cpu) / (ours.finished() - before_s) * 1e6
    add(f"bytes in Redis per job of {count:,} that wait", round(size), "", None)
    add("% CPU of a worker whose slots are taken while they wait", waiting, "idle, none waits", idle)
    add("us of CPU per job while they run", round(many, 1), "of a few", round(few, 1))
    with redis_server() as redis, null_mongo() as mongo, worker(redis.url, mongo.url) as market:
        add("MB of a worker, 8 threads", threads, "the market's", round(rss_bytes(market.pid) / 1e6, 1))
    return report


def enqueued(ours: Running, bare: Running, count: int, rounds: int) -> tuple[float | None, float | None]:
    """Microseconds of an enqueue one by one, and of the least script; in turns."""
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(2 * rounds + 1):
        for cost, (one, job) in zip(costs, ((ours, "async"), (bare, "evalsha")), strict=True):
            with one.still():
                cost.append(one.enqueue("one", job, count).us)
            until(ours.finished, len(costs[0]) * count + 1)
    return median(costs[0][1:]), median(costs[1][1:])


def cpu_pct(one: Running) -> float:
    """Of one core, for a while."""
    before = one.cpu_seconds()
    time.sleep(LOOK)
    return round((one.cpu_seconds() - before) / LOOK * 100, 2)


def memory(one: Running) -> int:
    """Bytes that Redis uses."""
    info: dict[str, Any] = one.redis.info("memory")
    return int(info["used_memory"])
