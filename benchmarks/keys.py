"""Part `keys`: what a message costs, and what memory is held, as the number of products grows.

The mix goes over 8, 500 or 50,000 products, each message another product than the one before. The first
sweep meets every product for the first time (its lane and its state are made); what is counted then are
further sweeps, or at few products as many messages.
"""

from __future__ import annotations

import itertools
import time

from benchmarks import plots
from benchmarks.measure import counted, cpu_seconds, finished, publish_all, settled
from benchmarks.parts import Options
from benchmarks.report import Report, median, spread
from benchmarks.servers import null_mongo, redis_server, worker
from benchmarks.workloads import lazily

FULL = ((8, 10_000), (500, 10_000), (50_000, 50_000))
QUICK = ((8, 1_000), (500, 1_000), (2_000, 2_000))

COLUMNS = [
    *("products", "messages", "us_first", "us", "us_spread", "per_s", "pause_ms"),
    *("rss_mb", "kb_per_product", "lost"),
]


def measured(products: int, count: int, rounds: int) -> dict[str, object]:
    """One row: the first ``count`` messages, then the medians of ``rounds`` times as many."""
    costs: list[float] = []
    speeds: list[float] = []
    pause = 0.0
    # Made round by round: all rounds over 50,000 products would be gigabytes.
    market = lazily("mix", products, clock=lambda: time.time_ns() // 1000)
    with redis_server() as redis, null_mongo() as mongo, worker(redis.url, mongo.url) as ours:
        empty = now = ours.figures()
        for number in range(rounds + 1):
            messages = list(itertools.islice(market, count))
            ours.reset()
            cpu, began = cpu_seconds(ours.pid), time.perf_counter()
            publish_all(redis.url, messages)
            now = settled(ours.figures, (number + 1) * count)
            pause = max(pause, now.get("lag", {}).get("max_ms", 0.0))
            costs.append((cpu_seconds(ours.pid) - cpu) / count * 1e6)
            speeds.append(count / (time.perf_counter() - began))
    grown = (now["rss"] - empty["rss"]) / products / 1e3
    return {
        "products": products,
        "messages": count,
        "us_first": round(costs[0], 1),
        "us": median(costs[1:]),
        "us_spread": spread(costs[1:]),
        "per_s": round(median(speeds[1:]) or 0),
        "pause_ms": pause,
        "rss_mb": round(now["rss"] / 1e6, 1),
        # Among few products it would be the growth of everything else.
        "kb_per_product": round(grown, 1) if products >= 500 else None,
        "lost": finished(now) - counted(now, "processed"),
        "rounds_us": [round(us, 1) for us in costs],
    }


def run(options: Options) -> list[Report]:
    """A row per number of products."""
    about = "CPU microseconds of the worker per mixed message, by number of products"
    report = Report("keys", about, COLUMNS)
    for products, count in QUICK if options.quick else FULL:
        report.rows.append(measured(products, count, options.rounds))
    report.notes.append("us first: while every product is new; pause: longest time the loop did not turn")
    report.notes.append("kb per product: growth of RSS since the start")
    if options.plots is not None:
        xs = [row["products"] for row in report.rows]
        series = {"new products": "us_first", "known products": "us"}
        plots.lines(
            options.plots / "keys.svg",
            "CPU per mixed message",
            "products",
            "microseconds",
            {name: (xs, [row[key] for row in report.rows]) for name, key in series.items()},
            log_x=True,
        )
    return [report]
