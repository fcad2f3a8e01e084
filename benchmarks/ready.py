"""Part `ready`: how soon a worker serves when a day's ticks are stored already, and if it is right then.

``ready.ticks`` ticks (default 1,000,000) of a session are stored in the embedded Mongo-wire server as the
worker stores them, with its indexes and checkpoints. Then the worker starts on an empty Redis, each product
gets one more tick, a second after its last by event time, and the rolling windows that it shows are compared
with plain arithmetic over what is stored. Seconds count from the start of the process, imports included.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

import msgspec
import orjson
import pymongo
from bson.codec_options import CodecOptions

from benchmarks import plots
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.servers import document_server, redis_server, worker
from benchmarks.wire import Wire
from enricher.feed.channels import UNDERLYING
from enricher.feed.synthetic import iso
from enricher.market.clock import MINUTE, SECOND, to_date
from enricher.market.models import decode_tick
from enricher.market.routes import INDEXES
from enricher.market.state import STATE, TICKS, Checkpoint
from enricher.market.stored import event_time, tick_document

PRODUCTS = (8, 500)
WINDOWS = (1, 5, 15)
SESSION_US = 375 * MINUTE
CHECKPOINT_AGE_US = 30 * SECOND  # a checkpoint is written when its product has moved on by a minute
WANTED_S = 5.0
PATIENCE = 300.0
TOGETHER = 2000

COLUMNS = [
    *("products", "ticks", "stored_a_second", "ready_s", "first_right_s", "half_right_s", "all_right_s"),
    *("windows", "wrong", "cpu_s", "lag_max_ms", "rss_mb"),
]

Document = dict[str, Any]


def run(options: Options) -> list[Report]:
    """One row per number of products; a window with a wrong number fails the run."""
    ticks = int(options.number("ready.ticks", 20_000 if options.quick else 1_000_000))
    report = Report("ready", "a start on a day's stored ticks, seconds since the process began", COLUMNS)
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for products in PRODUCTS:
        row, moments = one_start(ticks, products)
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


def one_start(ticks: int, products: int) -> tuple[Document, list[float]]:
    """The row of one start, and when (seconds) each product was served for the first time, ascending."""
    with document_server() as documents, redis_server() as redis:
        client: pymongo.MongoClient[Document] = pymongo.MongoClient(documents.url)
        with client, Wire(redis.url) as wire:
            aware: CodecOptions[Document] = CodecOptions(tz_aware=True)
            database = client.get_default_database(codec_options=aware)
            began = time.monotonic()
            names = [f"P{number:03}" for number in range(products)]
            end_us = time.time_ns() // 1000
            store(database, names, ticks, end_us)
            stored = ticks / (time.monotonic() - began)
            began = time.monotonic()
            with worker(redis.url, documents.url, "stats.interval=0.2", lag=True) as ours:
                ready = time.monotonic() - began
                newest_us = end_us + SECOND
                wire.publish([(UNDERLYING, last_tick(name, newest_us)) for name in names])
                moments = served(wire, names, began)
                wrong = sum(wrong_windows(database, wire, name, newest_us) for name in names)
                figures = ours.figures()
    row = {
        "products": products,
        "ticks": ticks,
        "stored_a_second": round(stored),
        "ready_s": round(ready, 2),
        "first_right_s": round(moments[0], 2),
        "half_right_s": round(moments[len(moments) // 2], 2),
        "all_right_s": round(moments[-1], 2),
        "windows": products * len(WINDOWS),
        "wrong": wrong,
        "cpu_s": round(figures["cpu_s"], 2),
        "lag_max_ms": figures.get("lag", {}).get("max_ms"),
        "rss_mb": round(figures["rss"] / 1e6, 1),
    }
    return row, moments


def store(database: Any, names: Sequence[str], ticks: int, end_us: int) -> None:
    """Write the session's ticks up to ``end_us``, and the checkpoints that a worker would have left."""
    for collection, keys in INDEXES:
        database[collection].create_index(list(keys))
    made = history(names, ticks, end_us)
    while some := list(itertools.islice(made, TOGETHER)):
        database[TICKS].insert_many(some, ordered=False)
    checkpoint = Checkpoint(revision=SESSION_US // MINUTE, ticks_us=end_us - CHECKPOINT_AGE_US)
    fields = {**msgspec.structs.asdict(checkpoint), "heard_us": end_us, "chains": {}}
    database[STATE].insert_many([{"_id": name, **fields} for name in names])


def history(names: Sequence[str], ticks: int, end_us: int) -> Iterator[Document]:
    """The documents of ``ticks`` ticks in the order of time, the products in turn; seeded."""
    chance = random.Random(7)
    prices = dict.fromkeys(names, 20_000.0)
    for number in range(ticks):
        name = names[number % len(names)]
        prices[name] = round(prices[name] + chance.uniform(-2, 2), 2)
        at_us = end_us - SESSION_US + SESSION_US * number // ticks
        message = {
            "type": "UNDERLYING",
            "product": name,
            "price": prices[name],
            "timestamp": iso(at_us),
            "tick_id": number // len(names),
            "volume": 100 + number % 50,
        }
        body = orjson.dumps(message)
        tick = decode_tick(body, zone=UTC, now_us=end_us)
        yield tick_document(tick, tick.document_id(body), at_us + 5000, folded=True)



def last_tick(name: str, now_us: int) -> bytes:
    """One more tick, as a message."""
    tick = {"type": "UNDERLYING", "product": name, "price": 20_000.5, "tick_id": "last"}
    return orjson.dumps({**tick, "timestamp": iso(now_us)})


def served(wire: Wire, names: Sequence[str], began: float) -> list[float]:
    """When the widest window of each product was first seen: seconds since ``began``, ascending."""
    missing, moments = list(names), []
    while missing:
        values = wire.call("MGET", *(f"ohlc:{name}:{WINDOWS[-1]}m" for name in missing))
        now = time.monotonic() - began
        moments += [now] * sum(value is not None for value in values)
        missing = [name for name, value in zip(missing, values, strict=True) if value is None]
        if now > PATIENCE:
            raise TimeoutError(f"{len(missing)} products have no windows {PATIENCE:g} s after the start")
        time.sleep(0.02)
    return moments


def wrong_windows(database: Any, wire: Wire, name: str, newest_us: int) -> int:
    """How many of the product's windows are not what its stored ticks add up to."""
    # The new tick is among the stored ones: MongoDB comes first.
    since = {"$gte": to_date(newest_us - WINDOWS[-1] * MINUTE - SECOND)}
    rows = list(database[TICKS].find({"product": name, "timestamp": since}))
    keys = [f"ohlc:{name}:{minutes}m" for minutes in WINDOWS]
    values = wire.call("MGET", *keys)
    wrong = 0
    for minutes, value in zip(WINDOWS, values, strict=True):
        found = {} if value is None else json.loads(value)
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
