"""Part `ready`: how soon a worker serves when a day's ticks are stored already, and if it is right then.

``ready.ticks`` ticks (default 1,000,000) of a session are stored in the embedded Mongo-wire server as the
worker stores them, with its indexes and checkpoints. Then the worker starts on an empty Redis, each product
gets one more tick, a second after its last by event time, and the rolling windows that it shows are compared
with plain arithmetic over what is stored. Seconds count from the start of the process, imports included.

A million ticks take the server a quarter of an hour to store: ``ready.keep`` names a folder that keeps them
for the next time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pymongo
from bson.codec_options import CodecOptions

from benchmarks import plots
from benchmarks.measure import cpu_seconds
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.servers import redis_server, worker
from benchmarks.stored_day import stored_day
from benchmarks.wire import Wire
from enricher.clock import MINUTE, SECOND, to_date
from enricher.market.documents import event_time
from enricher.market.feed.channels import UNDERLYING
from enricher.market.feed.synthetic import iso
from enricher.market.state.product_state import TICKS

PRODUCTS = (8, 500)
QUICK = (8, 50)
WINDOWS = (1, 5, 15)
WANTED_S = 5.0
PATIENCE = 300.0

COLUMNS = [
    *("products", "ticks", "stored_a_second", "ready_s", "first_right_s", "half_right_s", "all_right_s"),
    *("windows", "wrong", "cpu_s", "server_cpu_s", "lag_max_ms", "rss_mb"),
]


def run(options: Options) -> list[Report]:
    """One row per number of products; a window with a wrong number fails the run."""
    ticks = int(options.number("ready.ticks", 4000 if options.quick else 1_000_000))
    folder = options.settings.get("ready.keep")
    keep = None if folder is None else Path(folder).expanduser().absolute()
    report = Report("ready", "a start on a day's stored ticks, seconds since the process began", COLUMNS)
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for products in QUICK if options.quick else PRODUCTS:
        row, moments = one_start(ticks, products, keep)
        report.rows.append(row)
        shares = [100 * (n + 1) / len(moments) for n in range(len(moments))]
        curves[f"{products} products"] = (moments, shares)
        if row["wrong"]:
            report.failed = True
    late = [row for row in report.rows if row["all_right_s"] > WANTED_S]
    report.notes = [
        f"right: windows are shown after the product's first tick; wanted {WANTED_S:g} s for all products",
        *(f"{row['products']} products: {row['all_right_s']} s are too long" for row in late),
    ]
    if options.plots is not None:
        path = options.plots / "ready.svg"
        plots.lines(path, f"Start on {ticks:,} stored ticks", "seconds", "products served, percent", curves)
    return [report]


def one_start(ticks: int, products: int, keep: Path | None = None) -> tuple[dict[str, Any], list[float]]:
    """The row of one start, and when (seconds) each product was served for the first time, ascending."""
    with stored_day(ticks, products, keep) as (documents, day), redis_server() as redis:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(documents.url)
        with client, Wire(redis.url) as wire:
            aware: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
            database = client.get_default_database(codec_options=aware)
            began, used = time.monotonic(), cpu_seconds(documents.pid)
            with worker(redis.url, documents.url, "stats.interval=0.2", lag=True) as ours:
                ready = time.monotonic() - began
                newest_us = day.end_us + SECOND
                wire.publish([(UNDERLYING, last_tick(name, newest_us)) for name in day.names])
                moments, shown = served(wire, day.names, began, iso(newest_us))
                used = cpu_seconds(documents.pid) - used
                wrong = sum(wrong_windows(database, name, shown[name], newest_us) for name in day.names)
                figures = ours.figures()
    row = {
        "products": products,
        "ticks": ticks,
        "stored_a_second": round(day.filled_a_second),
        "ready_s": round(ready, 2),
        "first_right_s": round(moments[0], 2),
        "half_right_s": round(moments[len(moments) // 2], 2),
        "all_right_s": round(moments[-1], 2),
        "windows": products * len(WINDOWS),
        "wrong": wrong,
        "cpu_s": round(figures["cpu_s"], 2),
        "server_cpu_s": round(used, 2),
        "lag_max_ms": figures.get("lag", {}).get("max_ms"),
        "rss_mb": round(figures["rss"] / 1e6, 1),
    }
    return row, moments


def last_tick(name: str, now_us: int) -> bytes:
    """One more tick, as a message."""
    tick = {"type": "UNDERLYING", "product": name, "price": 20_000.5, "tick_id": "last"}
    return orjson.dumps({**tick, "timestamp": iso(now_us)})


def served(
    wire: Wire, names: Sequence[str], began: float, end_time: str
) -> tuple[list[float], dict[str, list[bytes]]]:
    """When the windows of each product were first seen that end with the tick of ``end_time``, seconds since
    ``began``, ascending; and what they were then, as JSON: the narrowest expires within a minute."""
    missing, moments = list(names), []
    shown: dict[str, list[bytes]] = {}
    while missing:
        values = wire.call("MGET", *(key for name in missing for key in keys(name)))
        now = time.monotonic() - began
        for number, name in enumerate(missing):
            found = values[number * len(WINDOWS) : (number + 1) * len(WINDOWS)]
            if None not in found and all(json.loads(value)["end_time"] == end_time for value in found):
                shown[name] = found
                moments.append(now)
        missing = [name for name in missing if name not in shown]
        if now > PATIENCE:
            raise TimeoutError(f"{len(missing)} products have no windows {PATIENCE:g} s after the start")
        time.sleep(0.02)
    return moments, shown


def keys(name: str) -> list[str]:
    """Where the windows of a product are shown."""
    return [f"ohlc:{name}:{minutes}m" for minutes in WINDOWS]


def wrong_windows(database: Any, name: str, shown: Sequence[bytes], newest_us: int) -> int:
    """How many of the product's windows, as they were shown, are not what its stored ticks add up to."""
    # The new tick is among the stored ones: MongoDB comes first.
    since = {"$gte": to_date(newest_us - WINDOWS[-1] * MINUTE - SECOND)}
    rows = list(database[TICKS].find({"product": name, "timestamp": since}))
    wrong = 0
    for minutes, value in zip(WINDOWS, shown, strict=True):
        found = json.loads(value)
        wrong += any(found.get(key) != number for key, number in window(rows, newest_us, minutes).items())
    return wrong


def window(rows: Sequence[Mapping[str, Any]], newest_us: int, minutes: int) -> dict[str, float]:
    """Open, high, low, close and count of the ticks in (newest - minutes, newest], by sorting and adding."""
    inside = sorted((event_time(row), row["price"]) for row in rows)
    prices = [price for at, price in inside if newest_us - minutes * MINUTE < at <= newest_us]
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "num_ticks": len(prices),
    }
