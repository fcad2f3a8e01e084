"""The real engine in one process where nothing depends on the machine: no network, no clock, no timer.

The event loop keeps a time of its own, which moves only when nothing is left to do; the sinks count what
they are given and keep nothing. What runs in between (admission, lanes, decoding, handlers, state, group
commit) is what a worker runs, so counting its work gives the same figures on every machine.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from enricher.assembly import planned
from enricher.config import PoolSettings, WriterSettings
from enricher.engine.effects import DEAD_LETTERS, DOCUMENTS, LIVE
from enricher.engine.ports import Answer, Clock, Write
from enricher.engine.router import Route
from enricher.engine.service import Engine
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message
from enricher.market.feed.synthetic import SyntheticMarket
from enricher.systems import load
from tests.memory import MemorySource

START_US = 1_750_000_000_000_000
"""15 June 2025, 15:06:40 UTC: the time at which the loop's clock starts."""

CHANNELS = {"ticks": UNDERLYING, "quotes": OPTION_QUOTE, "chains": OPTION_CHAIN}

# A turn of a lane ends by count alone; by the clock it would end earlier on a slow machine.
_LIMITS = PoolSettings(time_slice=3600.0)


class _Instant(selectors.SelectSelector):
    """A selector for a loop without sockets: instead of waiting it moves the loop's time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing is left to do, and nothing is done: the loop would wait for ever")
        self.now += max(timeout, 0.0)
        return []


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is work, and jumps to the next timer when not.

    ``callbacks`` counts what was scheduled to run: every step of a task is one.
    """

    def __init__(self) -> None:
        self._instant = _Instant()
        self.callbacks = 0
        super().__init__(self._instant)

    def time(self) -> float:
        return self._instant.now

    def call_soon(self, *arguments: Any, **options: Any) -> asyncio.Handle:  # type: ignore[override]
        self.callbacks += 1
        return super().call_soon(*arguments, **options)


class NullSink:
    """Takes everything and keeps nothing; ``batches`` collects what came, if somebody puts a list there.

    A commit lasts ``pause`` seconds: the longer, the more gathers for the next.
    """

    def __init__(self, name: str, *, durable: bool) -> None:
        self.name = name
        self.durable = durable
        self.pause = 0.0
        self.commits = 0
        self.batches: list[Sequence[Write]] | None = None

    async def open(self) -> None:
        """Nothing to prepare."""

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Let the loop have a turn at least, as a sink that waits for its server does."""
        self.commits += 1
        if self.batches is not None:
            self.batches.append(writes)
        await asyncio.sleep(self.pause)
        return {}

    async def close(self) -> None:
        """Nothing to release."""


class NothingStored:
    """A reader that finds nothing: every product is new."""

    async def find(self, collection: str, query: Mapping[str, Any], **options: Any) -> list[dict[str, Any]]:
        """No documents."""
        return []


Change = Callable[[list[Route]], list[Route]]


def unchanged(routes: list[Route]) -> list[Route]:
    """The routes as a worker has them."""
    return routes


class Still:
    """The engine with the shipped routes (after ``change``), a memory source, and sinks that keep nothing.

    Without ``analytics`` a chain costs what the engine and the contract's own fields cost.
    """

    def __init__(
        self,
        clock: Clock,
        change: Change = unchanged,
        limits: PoolSettings = _LIMITS,
        *,
        analytics: bool = False,
    ) -> None:
        self.labels: Counter[str] = Counter()
        self.routes = change(planned(load(overrides={"market.analytics": analytics}))[0].routes)
        self.source = MemorySource(clock)
        self.documents = NullSink(DOCUMENTS, durable=True)
        self.live = NullSink(LIVE, durable=False)
        self.letters = NullSink(DEAD_LETTERS, durable=False)
        self.engine = Engine(
            self.routes,
            [self.source],
            [self.documents, self.live, self.letters],
            clock=clock,
            steady=clock,
            reader=NothingStored(),
            pool=limits,
            # Messages that stand for lone ones follow each other at once here, and would wait for each other.
            writer=WriterSettings(gather=0),
            slow_handler=3600.0,
        )

    async def flood(self, messages: Sequence[Message]) -> None:
        """Hand everything in at once and return when it has left the engine."""
        done = asyncio.get_running_loop().create_future()
        waiting = len(messages)

        def settled(label: str) -> None:
            nonlocal waiting
            waiting -= 1
            self.labels[label] += 1
            if not waiting:
                done.set_result(None)

        for topic, body in messages:
            self.source.send(topic, body, settled)
        await done

    async def trickle(self, messages: Sequence[Message]) -> None:
        """Hand messages in one by one, each when the one before has left."""
        for message in messages:
            await self.flood((message,))


@lru_cache(maxsize=8)
def messages(
    kind: str, count: int, products: int = 8, strikes: int = 21, seed: int = 7
) -> tuple[Message, ...]:
    """``count`` messages of ticks, quotes, chains or mix, the products in turn; rounds are 100 ms apart."""
    market = SyntheticMarket(products, strikes=strikes, seed=seed)
    now_us = START_US - 600_000_000
    made: list[Message] = []
    while len(made) < count:
        made += _round(market, kind, now_us)
        now_us += 100_000
    return tuple(made[:count])


def _round(market: SyntheticMarket, kind: str, now_us: int) -> list[Message]:
    if kind == "mix":
        return list(market.mix(now_us))
    make = {"ticks": market.tick, "quotes": market.quote, "chains": market.chain}[kind]
    return [(CHANNELS[kind], orjson.dumps(make(product, now_us))) for product in market.products]
