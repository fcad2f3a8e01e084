"""A session's ticks in the embedded Mongo-wire server, as a worker leaves them: bars, indexes, checkpoints.

Filling takes minutes (the server stores and indexes about two thousand a second), so a folder may keep what
was filled. It is filled again only if the ticks, the indexes or the server's version have changed. Whoever
uses it gets a copy: a worker writes to its database.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bson
import msgspec
import orjson
import pymongo

from benchmarks.servers import Server, document_server
from enricher.clock import MINUTE, SECOND
from enricher.market.bars.bars import Bars
from enricher.market.bars.rolling_windows import order_key
from enricher.market.documents import bar_document, tick_document
from enricher.market.feed.synthetic import iso
from enricher.market.routes import INDEXES
from enricher.market.settings import MarketSettings
from enricher.market.state.horizons import Checkpoint
from enricher.market.state.product_state import BARS, STATE, TICKS
from enricher.messages.models import decode_tick

SESSION_US = 375 * MINUTE
CHECKPOINT_AGE_US = 30 * SECOND  # a checkpoint is written when its product has moved on by a minute
TOGETHER = 20_000  # documents in one insert
LOOKED_AT = 100  # documents that tell whether a kept day is the one that would be made
PATIENCE = 300.0  # seconds the server may take to open a day (it counts all documents) or to close one

Document = dict[str, Any]


class Day(msgspec.Struct, frozen=True):
    """What is stored: ``ticks`` of ``products`` in turn, the last one at ``end_us``; how fast it was filled
    (documents a second, indexes included), and a fingerprint of all that decides what the files hold."""

    ticks: int
    products: int
    end_us: int
    filled_a_second: float
    fingerprint: str

    @property
    def names(self) -> list[str]:
        """The products."""
        return named(self.products)


@contextmanager
def stored_day(ticks: int, products: int, keep: Path | None = None) -> Iterator[tuple[Server, Day]]:
    """A server, just started, that holds such a day; ``keep`` is where days are kept."""
    with tempfile.TemporaryDirectory(prefix="enricher-bench-") as folder:
        used = Path(folder) / "day"
        if keep is None:
            day = fill(used, ticks, products)
        else:
            kept = keep / f"{ticks}-ticks-of-{products}"
            day = known(kept, ticks, products) or fill(kept, ticks, products)
            shutil.copytree(kept, used)
        with document_server(folder=used, patience=PATIENCE) as server:
            yield server, day


def known(folder: Path, ticks: int, products: int) -> Day | None:
    """The day that lies in ``folder``; None if there is none, or if it would be made otherwise now."""
    try:
        day = msgspec.json.decode((folder / "day.json").read_bytes(), type=Day)
    except (OSError, msgspec.DecodeError):
        return None
    asked = (ticks, products, fingerprint(ticks, products, day.end_us))
    return day if (day.ticks, day.products, day.fingerprint) == asked else None


def fill(folder: Path, ticks: int, products: int) -> Day:
    """Make ``folder`` anew with a day that ends now; the file that describes it is written last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    end_us, began = time.time_ns() // 1000, time.monotonic()
    with document_server(folder=folder, patience=PATIENCE) as server:
        # Without waiting for the journal: an unfinished day is not used.
        plain = server.url.partition("?")[0]
        with pymongo.MongoClient[Document](plain) as client:
            store(client.get_default_database(), named(products), ticks, end_us)
    speed = ticks / (time.monotonic() - began)
    day = Day(ticks, products, end_us, speed, fingerprint(ticks, products, end_us))
    (folder / "day.json").write_bytes(msgspec.json.encode(day))
    return day


def store(database: Any, names: Sequence[str], ticks: int, end_us: int) -> None:
    """Write the session's ticks up to ``end_us``, the bars they have closed, indexes and checkpoints."""
    bars = Closing(names)
    made = history(names, ticks, end_us)
    while some := list(itertools.islice(made, TOGETHER)):
        database[TICKS].insert_many(some, ordered=False)
        if closed := bars.after(some):
            database[BARS].insert_many(closed, ordered=False)
    # Last, for an index is built in half the time that its upkeep takes.
    for collection, keys in INDEXES:
        database[collection].create_index(list(keys))
    found = []
    for name in names:
        newest_us = min(bars.newest_us(name), end_us - CHECKPOINT_AGE_US)
        checkpoint = Checkpoint(revision=SESSION_US // MINUTE, ticks_us=newest_us)
        fields = {**msgspec.structs.asdict(checkpoint), "heard_us": end_us, "chains": {}}
        found.append({"_id": name, **fields})
    database[STATE].insert_many(found)


class Closing:
    """The bars of all products as the worker's own fold closes them."""

    def __init__(self, names: Sequence[str]) -> None:
        settings = MarketSettings()
        lateness_us = round(settings.lateness * SECOND)
        retention_us = max(max(settings.windows) * MINUTE, lateness_us)
        self._bars = {name: Bars(settings.windows, lateness_us, retention_us) for name in names}

    def after(self, ticks: Iterable[Document]) -> list[Document]:
        """The documents of the bars that these stored ticks have closed."""
        found: list[Document] = []
        for tick in ticks:
            product = tick["product"]
            bars = self._bars[product]
            bars.fold(tick["event_us"], tick["price"], order_key(tick["tick_id"]), tick["volume"])
            if bars.due():
                found += [bar_document(product, bar) for bar in bars.close()]
        return found

    def newest_us(self, product: str) -> int:
        """The product's newest tick; 0 if it has none."""
        return self._bars[product].newest or 0


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


def fingerprint(ticks: int, products: int, end_us: int) -> str:
    """Of the first documents, the indexes and the server's version."""
    first = itertools.islice(history(named(products), ticks, end_us), LOOKED_AT)
    mark = blake2b(json.dumps([INDEXES, version("secantusdb")]).encode(), digest_size=8)
    for document in first:
        mark.update(bson.encode(document))
    return mark.hexdigest()


def named(products: int) -> list[str]:
    """The names of so many products."""
    return [f"P{number:03}" for number in range(products)]
