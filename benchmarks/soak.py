"""Part `soak`: memory, CPU and latency of a worker under a steady load, sampled over time.

``soak.minutes`` (default 30) of a mix over 8 products at ``soak.rate`` messages a second (default half of
what this machine can do, measured at the start), against a sink that keeps nothing; one sample every
``soak.sample`` seconds (default 10). The 15-minute window has filled after 16 minutes: the verdict looks at
what comes then, how much each figure drifts in ten minutes. A shorter run is judged by its second half, for
what that is worth, and never fails.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from benchmarks.measure import counted, cpu_seconds
from benchmarks.overload import capacity
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.servers import Worker, null_mongo, redis_server, worker
from benchmarks.workloads import lazily
from enricher.market.feed.publish import Published, publish_at_rate, redis_publisher

FILLED = 16.0  # minutes after which nothing should grow any more
JUDGED = 10.0  # minutes beyond that which make a verdict
# Percent in ten minutes that a figure may drift upwards; the noise of a shared machine is within these.
ALLOWED = {"rss_mb": 2.0, "us": 10.0, "p50_ms": 25.0, "p99_ms": 50.0}
COLUMNS = ["minute", "rss_mb", "us", "p50_ms", "p99_ms", "processed", "queued", "dropped"]
VERDICT = ["figure", "unit", "at_first", "at_last", "median", "pct_in_10_min", "allowed_pct", "steady"]
UNITS = {"rss_mb": "MB", "us": "CPU us a message", "p50_ms": "ms", "p99_ms": "ms"}


def run(options: Options) -> list[Report]:
    """The samples and the verdict; a figure that grows fails a run that is long enough to tell."""
    minutes = options.number("soak.minutes", 1 if options.quick else 30)
    pause = options.number("soak.sample", 10)
    with redis_server() as redis, null_mongo() as mongo:
        half = 0.0
        if "soak.rate" not in options.settings:
            half = capacity(redis, mongo, 2000 if options.quick else 10_000) / 2
        rate = options.number("soak.rate", half)
        # `recent` in the figures is then the latency of one sample's time.
        with worker(redis.url, mongo.url, f"stats.interval={pause}") as ours:
            rows, sent = asyncio.run(sampled(redis.url, ours, minutes, rate, pause))
    about = f"{rate:,.0f} messages a second for {minutes:g} minutes"
    report = Report("soak", about, COLUMNS, rows)
    if sent.behind > rate:
        report.notes.append(f"the publisher was behind its schedule by up to {sent.behind:,} messages")
    return [report, judged(rows, minutes)]


async def sampled(
    redis_url: str, ours: Worker, minutes: float, rate: float, pause: float
) -> tuple[list[dict[str, Any]], Published]:
    """The samples of a worker while it is fed, and what it was fed."""
    rows: list[dict[str, Any]] = []
    messages = lazily("mix", clock=lambda: time.time_ns() // 1000)
    async with Redis.from_url(redis_url) as client, asyncio.TaskGroup() as tasks:
        feeding = publish_at_rate(messages, redis_publisher(client), rate=rate, duration=minutes * 60)
        feed = tasks.create_task(feeding)
        began = time.monotonic()
        cpu, done = cpu_seconds(ours.pid), 0
        for number in itertools.count(1):
            await asyncio.wait((feed,), timeout=max(0.0, began + number * pause - time.monotonic()))
            if feed.done():
                break
            figures = await asyncio.to_thread(ours.figures)
            used, processed = cpu_seconds(ours.pid), counted(figures, "processed")
            latency = figures["recent"].get("event", {})
            row = {
                "minute": round((time.monotonic() - began) / 60, 2),
                "rss_mb": round(figures["rss"] / 1e6, 2),
                "us": round((used - cpu) / max(processed - done, 1) * 1e6, 1),
                "p50_ms": latency.get("p50_ms"),
                "p99_ms": latency.get("p99_ms"),
                "processed": processed,
                "queued": figures["pool"]["messages"],
                "dropped": counted(figures, "dropped"),
            }
            rows.append(row)
            cpu, done = used, processed
    return rows, feed.result()


def judged(rows: Sequence[dict[str, Any]], minutes: float) -> Report:
    """How each figure drifts once the windows are full."""
    enough = minutes >= FILLED + JUDGED
    since = FILLED if enough else minutes / 2
    report = Report("verdict", f"drift after minute {since:g}", VERDICT)
    late = [row for row in rows if row["minute"] >= since]
    for name, allowed in ALLOWED.items():
        points = [(row["minute"], row[name]) for row in late if row[name] is not None]
        if len(points) < 2:
            continue
        values = [value for _, value in points]
        percent = drift(points)
        row = {
            "figure": name.partition("_")[0],
            "unit": UNITS[name],
            "at_first": values[0],
            "at_last": values[-1],
            "median": round(statistics.median(values), 2),
            "pct_in_10_min": round(percent, 2),
            "allowed_pct": allowed,
            "steady": percent <= allowed,
        }
        report.rows.append(row)
        report.failed = report.failed or (enough and percent > allowed)
    if not enough:
        report.notes.append(f"a verdict takes {FILLED + JUDGED:g} minutes: this is none")
    return report


def drift(points: Sequence[tuple[float, float]]) -> float:
    """Percent of the median value in ten minutes, by the median slope of all pairs (Theil and Sen).

    ``points`` are (minute, value), two at least at different times; single outliers do not move it.
    """
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in itertools.combinations(points, 2) if x1 != x0]
    middle = statistics.median(value for _, value in points)
    return 10 * statistics.median(slopes) / middle * 100 if middle else 0.0

