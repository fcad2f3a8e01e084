"""Where `enricher demo` looks: the caches, the database, the running worker, and the enriched channel."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import RenderableType
from rich.text import Text

from enricher.adapters.mongo import close_client, mongo_client
from enricher.adapters.redis.client import redis_client
from enricher.app import Enricher
from enricher.cli.tables import Stack
from enricher.cli.top import LOOKS, Looks
from enricher.clock import MINUTE, wall_clock
from enricher.dead_letters.store import LetterStore
from enricher.engine.stats import Histogram
from enricher.market.cli.demo_tables import ChainView, Picture, Price, Product, Window, line, tables
from enricher.market.documents import BARS

ShownT = TypeVar("ShownT")

ENRICHED = "enriched:underlying"

# Rows of products, and minutes back in which closed bars are looked for: what fits a screen.
MOST_PRODUCTS = 8
BARS_BACK = 10


class Arrivals:
    """Listens to `enriched:underlying` as any other program would, and times every message.

    ``latency`` holds arrival here minus the message's own timestamp, which the synthetic feed sets just
    before PUBLISH: from PUBLISH to publish, with both hops through Redis and the feed's batching in it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.latency = Histogram()

    async def listen(self) -> None:
        async with redis_client(self._url, socket_timeout=None) as client, client.pubsub() as pubsub:
            await pubsub.subscribe(ENRICHED)
            while True:
                reply = await pubsub.get_message(timeout=None)
                if reply is not None and reply["type"] == "message":
                    self.record(reply["data"], wall_clock())

    def record(self, body: bytes, arrived_us: int) -> None:
        sent = datetime.fromisoformat(msgspec.json.decode(body)["timestamp"])
        self.latency.record(arrived_us - round(sent.timestamp() * 1e6))


class Viewer:
    """Gathers one `Picture` after the other; ``wanted`` messages a second are asked for."""

    def __init__(
        self,
        enricher: Enricher,
        redis: Redis,
        mongo: Any,
        letters: LetterStore,
        products: Sequence[str],
        wanted: float,
    ) -> None:
        self.arrivals = Arrivals(enricher.settings.redis.url)
        self._enricher = enricher
        self._wanted = wanted
        self._redis = redis
        self._letters = letters
        self._bars = mongo[enricher.settings.mongo.database_name][BARS]
        self._products = tuple(products)[:MOST_PRODUCTS]
        self._began = time.monotonic()
        self._looks = Looks()
        self._publish = Histogram()
        self._publish_trend: deque[float | None] = deque(maxlen=LOOKS)
        self._prices: dict[str, deque[float]] = {name: deque(maxlen=LOOKS) for name in self._products}

    async def picture(self) -> Picture:
        """How things stand now; rates and recent latencies since the picture before."""
        publish = self.arrivals.latency.copy()
        publish_now = publish.since(self._publish).summary()
        self._publish = publish
        if self._looks.now:
            self._publish_trend.append(publish_now["p99_ms"])
        self._looks.add([self._enricher.figures()])
        return Picture(
            seconds=time.monotonic() - self._began,
            wanted=self._wanted,
            looks=self._looks,
            publish=publish.summary(),
            publish_now=publish_now,
            publish_trend=self._publish_trend,
            products=await self._look_up(),
            bars=await self._closed_bars(),
            dead_letters=await self._letters.count(),
            letters=await self._letters.peek(3),
        )

    async def view(self) -> RenderableType:
        """A picture as tables, or what kept us from making one."""
        return await self._rendered(lambda picture: Stack(list(tables(picture)), by_height=True))

    async def line(self) -> RenderableType:
        """A picture as one line, or what kept us from making one."""
        return await self._rendered(lambda picture: Text(line(picture)))

    async def _rendered(self, render: Callable[[Picture], RenderableType]) -> RenderableType:
        try:
            return render(await self.picture())
        except (RedisError, PyMongoError, OSError) as error:
            return Text(f"a server is unreachable: {type(error).__name__}: {error}")

    async def _look_up(self) -> list[Product]:
        names = self._products
        chains: dict[str, str] = {}
        async for raw in self._redis.scan_iter(match="latest:chain:*", count=1000):
            product, _, expiry = raw.decode().removeprefix("latest:chain:").rpartition(":")
            if product not in chains or expiry < chains[product]:
                chains[product] = expiry
        keys = [f"latest:underlying:{name}" for name in names]
        keys += [f"ohlc:{name}:1m" for name in names]
        keys += [f"latest:chain:{name}:{chains.get(name, '')}" for name in names]
        values = await self._redis.mget(keys)
        found = []
        for i, name in enumerate(names):
            price, window, chain = values[i :: len(names)]
            if (last := _decoded(price, Price)) is not None:
                self._prices[name].append(last.price)
            found.append(
                Product(name, self._prices[name], _decoded(window, Window), _decoded(chain, ChainView))
            )
        return found

    async def _closed_bars(self) -> list[Mapping[str, Any]]:
        # Bars are found by _id ("{start}:{minutes}:{product}"), the one index that is always there.
        since = wall_clock() - BARS_BACK * MINUTE
        newest = self._bars.find({"_id": {"$gte": f"{since}:"}, "window_minutes": 1}).sort("_id", -1)
        found: list[Mapping[str, Any]] = await newest.to_list(len(self._products))
        return found


@asynccontextmanager
async def viewing(
    enricher: Enricher, letters: LetterStore, products: Sequence[str], wanted: float
) -> AsyncIterator[Viewer]:
    """A viewer with connections of its own."""
    settings = enricher.settings
    mongo = mongo_client(settings.mongo.url, driver=settings.mongo.driver, timeout=settings.mongo.timeout)
    async with redis_client(settings.redis.url, socket_timeout=settings.redis.socket_timeout) as redis:
        yield Viewer(enricher, redis, mongo, letters, products, wanted)
    await close_client(mongo)


def _decoded(value: bytes | str | None, kind: type[ShownT]) -> ShownT | None:
    return None if value is None else msgspec.json.decode(value, type=kind)
