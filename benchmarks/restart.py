"""Part `restart`: how soon a worker with its embedded servers is ready, and serves, when much is stored.

Each row is one start of `enricher run --embedded` on a folder: an empty one, and one in which a worker has
left ``restart.messages`` (default 10,000) of the mix just before. Seconds count from the start of the
process, so that the servers' own starts are in it. From `ready` on one tick after the other is published, of
a product that is stored; the first that comes out enriched ends the row.

Then the flood at the open: ``restart.flood`` (default 4,000) ticks at once, every tenth the first of a new
product, all others of one that is warm; and in which places the first ones are published.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from redis import Redis

from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.servers import module, process
from benchmarks.workloads import workload
from enricher.embedded.endpoints import read_endpoints
from enricher.market.feed.channels import UNDERLYING
from enricher.market.feed.synthetic import SyntheticMarket, iso

T = TypeVar("T")

PRODUCTS = 8
STRIKES = 21
PATIENCE = 300.0
PAUSE = 0.01
WANTED_AFTER, WANTED_OUTPUT = 3.0, 1.0
WANTED_PLACE = 0.225  # of all: the 900th of 4,000
COLD = 10

FLOOD_COLUMNS = ["messages", "first_ones", "first_place", "median_place", "last_place", "seconds"]
COLUMNS = ["stored", "messages", "servers_s", "ready_s", "output_s", "restoring"]


class Start(msgspec.Struct, frozen=True):
    """A running worker: seconds until its servers answered and until it was ready, and a client of its Redis.

    ``restoring`` is the most it said it had to restore.
    """

    servers: float
    ready: float
    restoring: int
    client: Redis


def run(options: Options) -> list[Report]:
    """A row per start, and the flood; what is later than wanted is noted."""
    messages = int(options.number("restart.messages", 1000 if options.quick else 10_000))
    with tempfile.TemporaryDirectory(prefix="enricher-bench-") as place:
        folder = Path(place)
        empty = one_start(folder, "nothing", 0)
        leave(folder, messages)
        mixed = one_start(folder, "a mix, just before", messages)
        open_ = flood(folder, int(options.number("restart.flood", 1000 if options.quick else 4000)))
    about = "a start with embedded servers, seconds since the process began"
    report = Report("restart", about, COLUMNS, [empty, mixed])
    late = [(f"{messages:,} messages delay readiness by", mixed["ready_s"] - empty["ready_s"], WANTED_AFTER)]
    late += [
        (f"the first output on {row['stored']} came after", row["output_s"], WANTED_OUTPUT)
        for row in report.rows
    ]
    report.notes = ["output: seconds from ready to the first enriched tick"]
    report.notes += [f"{what} {s:.2f} s, wanted {wanted:g} s" for what, s, wanted in late if s > wanted]
    places = Report("flood at the open", "places of new products' first messages in a flood", FLOOD_COLUMNS)
    places.rows.append(open_)
    if open_["median_place"] > WANTED_PLACE * open_["messages"]:
        places.notes = [f"half of them are wanted before place {WANTED_PLACE * open_['messages']:g}"]
    return [report, places]


def flood(folder: Path, messages: int) -> dict[str, Any]:
    """The row of one flood after a start on ``folder``; a second start would find all of its products."""
    names = [f"NEW{number}" if number % COLD == 0 else "HOT" for number in range(messages)]
    with started(folder) as start, start.client.pubsub() as listener:
        listener.subscribe("enriched:underlying")
        heard: list[str] = []

        def hear(many: int) -> bool:
            while (message := listener.get_message(timeout=PAUSE)) is not None:
                if message["type"] == "message":
                    heard.append(json.loads(message["data"])["product"])
            return len(heard) >= many

        start.client.publish(UNDERLYING, a_tick("HOT", messages))
        until(lambda: hear(1), "the hot product's first tick")
        heard.clear()
        began = time.monotonic()
        with start.client.pipeline(transaction=False) as pipeline:
            for number, name in enumerate(names):
                pipeline.publish(UNDERLYING, a_tick(name, number))
            pipeline.execute()
        until(lambda: hear(messages), "the flood")
        seconds = time.monotonic() - began
    places = [place for place, name in enumerate(heard, 1) if name != "HOT"]
    return {
        "messages": messages,
        "first_ones": len(places),
        "first_place": places[0],
        "median_place": round(statistics.median(places)),
        "last_place": places[-1],
        "seconds": round(seconds, 2),
    }


def a_tick(product: str, number: int) -> bytes:
    """A tick of now, as a message."""
    tick = {"type": "UNDERLYING", "product": product, "price": 100.0, "tick_id": number}
    return json.dumps({**tick, "timestamp": iso(time.time_ns() // 1000)}).encode()


def one_start(folder: Path, stored: str, messages: int) -> dict[str, Any]:
    """The row of one start on ``folder``."""
    with started(folder) as start, start.client.pubsub() as listener:
        listener.subscribe("enriched:underlying")
        ready, heard, number = time.monotonic(), None, 0
        product = SyntheticMarket(PRODUCTS).products[0]
        while heard is None:
            number += 1
            start.client.publish(UNDERLYING, a_tick(product, number))
            found = listener.get_message(timeout=PAUSE)
            heard = found if found is not None and found["type"] == "message" else None
            if time.monotonic() - ready > PATIENCE:
                raise TimeoutError(f"nothing came out {PATIENCE:g} s after the worker was ready")
        output = time.monotonic() - ready
    return {
        "stored": stored,
        "messages": messages,
        "servers_s": round(start.servers, 2),
        "ready_s": round(start.ready, 2),
        "output_s": round(output, 3),
        "restoring": start.restoring,
    }


def leave(folder: Path, messages: int) -> None:
    """Have a worker store so many messages of the mix at once, and end."""
    sent = workload("mix", messages, PRODUCTS, STRIKES, 7, start_us=time.time_ns() // 1000)
    with started(folder) as start:
        for at in range(0, messages, 500):
            with start.client.pipeline(transaction=False) as pipeline:
                for topic, body in sent[at : at + 500]:
                    pipeline.publish(topic, body)
                pipeline.execute()
        until(lambda: not _in_hand(start.client, messages), "all that was sent to be committed")


@contextmanager
def started(folder: Path) -> Iterator[Start]:
    """A worker on ``folder`` that is ready; it is drained and ended with the block."""
    arguments = ("--embedded", "--data-dir", str(folder), "--log-level", "error")
    settings = ("stats.interval=0.05", "stats.key_prefix=figures", "service.instance=restart")
    began = time.monotonic()
    with process(
        *module("enricher", "run", *arguments, *(part for s in settings for part in ("--set", s)))
    ) as child:

        def servers() -> str | None:
            found = read_endpoints(folder)
            return found.redis_url if found is not None and found.pid == child.pid else None

        url = until(servers, "the servers")
        up, most = time.monotonic() - began, 0
        with Redis.from_url(url) as client:
            client.delete(_KEY)

            def ready() -> bool:
                nonlocal most
                figures = _figures(client)
                most = max(most, (figures.get("restoring") or {}).get("total", 0))
                return figures.get("status") == "ready"

            until(ready, "readiness")
            yield Start(up, time.monotonic() - began, most, client)


_KEY = "figures:worker-enricher:restart"


def _figures(client: Redis) -> dict[str, Any]:
    text: Any = client.get(_KEY)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _in_hand(client: Redis, sent: int) -> int:
    figures = _figures(client)
    received = sum(topic.get("received", 0) for topic in figures.get("topics", {}).values())
    return int(figures["pool"]["messages"]) if received >= sent else sent


def until(found: Callable[[], T | None], what: str) -> T:
    """What ``found`` gives as soon as it is something; TimeoutError after `PATIENCE` seconds."""
    limit = time.monotonic() + PATIENCE
    while not (value := found()):
        if time.monotonic() > limit:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(PAUSE)
    return value
