"""Stored bars follow from the messages that came, wherever a worker was killed between them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher import load
from enricher.assembly import planned
from enricher.clock import MINUTE, SECOND, event_us, render
from enricher.engine.effects import Effect, Insert, Upsert
from enricher.engine.ports import Delivery, Folded, Write
from enricher.engine.router import Context
from enricher.market.documents import BARS
from enricher.market.state.market_state import MarketState
from enricher.market.state.product_state import ProductState
from tests.memory import MemoryDocuments

HOUR = 60 * MINUTE
Sent = tuple[int, int, int | None, int]  # event time, price, volume, seconds until it comes


class Worker:
    """A worker of one product that stores as MongoDB does, dates cut to milliseconds; it may be killed."""

    def __init__(self, product: str, windows: tuple[int, ...], volume: str) -> None:
        told = {"market.windows": windows, "market.volume": volume, "market.analytics": False}
        routes = planned(load(overrides=told))[0].routes
        self.route = next(route for route in routes if route.topic == "market:underlying")
        assert isinstance(self.route.state_store, MarketState)
        self.state_store = self.route.state_store
        self.product = product
        self.documents = MemoryDocuments()
        self.state: ProductState | None = None

    def take(self, body: bytes, now_us: int, killed: bool = False) -> None:
        """Take a message; ``killed`` once it is stored, before what the product as a whole has to say is."""
        if self.state is None:
            wanted = {self.product: Delivery("", body, now_us)}
            self.state = asyncio.run(self.state_store.restore(self.documents, wanted))[self.product]
        context = Context("", body, now_us, 1, {})
        tick = self.route.decode(body, context)
        mark = self.state_store.seen(self.state, tick, context)
        if mark is Folded.HERE:
            return
        change, effects = self.route.handler(self.state, tick, context)
        self.land(effects)
        if mark is None:
            self.state_store.fold(self.state, change)
        if killed:
            self.state = None
        else:
            self.land(self.state_store.show(self.state, now_us))

    def land(self, effects: Any) -> None:
        stored: list[Effect] = []
        for effect in effects:
            if isinstance(effect, (Insert, Upsert)):
                cut = {
                    name: value.replace(microsecond=value.microsecond // 1000 * 1000)
                    if isinstance(value, datetime)
                    else value
                    for name, value in effect.document.items()
                }
                guard = (effect.guard,) if isinstance(effect, Upsert) else ()
                stored.append(type(effect)(effect.collection, cut, *guard))
        try:
            self.documents.commit([Write(stored)]).send(None)  # it waits for nothing
        except StopIteration:
            return
        raise AssertionError("documents in memory are not there at once")

    def bars(self, now_us: int) -> dict[str, dict[str, Any]]:
        """What is stored when all is silent at last; revisions aside, and doubts, which begin anew."""
        if self.state is not None:
            self.land(self.state_store.on_time(self.state, now_us))
        found = self.documents.collections.get(BARS, {})
        return {name: {**bar, "revision": 0, "flags": _sure(bar)} for name, bar in found.items()}


def _sure(bar: dict[str, Any]) -> dict[str, Any]:
    return {name: flag for name, flag in bar.get("flags", {}).items() if name != "volume"}


def stored_bars(
    product: str, windows: tuple[int, ...], volume: str, sent: list[Sent], kills: set[int]
) -> dict[str, dict[str, Any]]:
    """The bars in the end; after a kill the last message comes again."""
    worker = Worker(product, windows, volume)
    coming = sorted(enumerate(sent), key=lambda pair: pair[1][0] + pair[1][3] * SECOND)
    for count, (number, (moment, price, traded, delay)) in enumerate(coming):
        message = {"product": product, "price": price, "timestamp": render(moment, False), "tick_id": number}
        if traded is not None:
            message["volume"] = traded
        body, now_us = orjson.dumps(message), moment + delay * SECOND
        if count in kills:
            worker.take(body, now_us, killed=True)
        worker.take(body, now_us)
    return worker.bars(max(moment for moment, *_ in sent) + 100 * HOUR)


def sessions(begin: str, minutes: int, longest_delay: int) -> st.SearchStrategy[list[Sent]]:
    """Ticks of some minutes from a moment on; some are late. Volumes rise, but for some that fall or lack."""
    start = event_us(begin)[0]
    moments = st.one_of(
        st.integers(0, minutes * 60).map(lambda second: second * SECOND + 123_456),
        st.integers(0, minutes).map(lambda minute: minute * MINUTE),
        st.integers(1, minutes).map(lambda minute: minute * MINUTE - 1),
    )

    def tick(after: int, price: int, more: int | None, delay: int) -> Sent:
        traded = None if more is None else max(after // SECOND + more, 0)
        return start + after, price, traded, delay

    more = st.one_of(st.integers(0, 9), st.integers(-100, 100), st.none())
    delays = st.one_of(st.just(0), st.integers(0, longest_delay))
    ticks = st.builds(tick, moments, st.integers(1, 9), more, delays)
    return st.lists(ticks, min_size=10, max_size=30)


MARCH = sessions("2025-03-08T20:00:00-05:00", 40 * 60, 20 * 3600)
NOVEMBER = sessions("2025-11-01T20:00:00-04:00", 40 * 60, 20 * 3600)
OPENING = sessions("2025-10-14T09:08:00+05:30", 20, 280)
MIDNIGHT = sessions("2025-10-14T23:52:00+05:30", 20, 50)


@pytest.mark.parametrize(
    ("product", "windows", "feeds"),
    [
        ("SPX", (60, 1440), MARCH),
        ("SPX", (60, 1440), NOVEMBER),
        ("NIFTY", (1, 5), OPENING),
        ("NIFTY", (1,), MIDNIGHT),
    ],
    ids=["clocks go forward", "clocks go back", "opening", "midnight"],
)
@pytest.mark.parametrize("volume", ["trade", "cumulative"])
@given(data=st.data())
@settings(max_examples=10)
def test_stored_bars_are_the_same_wherever_a_worker_was_killed(
    product: str, windows: tuple[int, ...], feeds: st.SearchStrategy[list[Sent]], volume: str, data: Any
) -> None:
    sent = data.draw(feeds)
    kills = data.draw(st.sets(st.integers(3, 39), min_size=1, max_size=4))
    killed, whole = (stored_bars(product, windows, volume, sent, at) for at in (kills, set()))
    assert killed == whole
