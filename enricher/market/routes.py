"""Where a tick goes: the three market routes.

All three routes share one lane per product. A message is decoded here, in the time zone of its product, and
goes to its handler (`enricher.market.handlers`); its change goes to the product's folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from functools import partial
from typing import Any

import msgspec

from enricher.clock import SECOND, Zones
from enricher.config import FeedSettings
from enricher.engine.router import Context, Overload, Route
from enricher.errors import BadMessage
from enricher.market.documents import BARS, CHAINS, HISTORY, QUOTES, SURFACES, TICKS
from enricher.market.handlers import Handlers
from enricher.market.quality.zone_watch import ZoneWatch
from enricher.market.settings import TASKS, MarketSettings
from enricher.market.state.market_state import MarketState
from enricher.market.state.product_state import Makes
from enricher.market.unshown import unshown
from enricher.messages.models import (
    decode_chain,
    decode_quote,
    decode_tick,
    peek_product,
    peek_series,
    peek_symbol,
)

INDEXES = (
    (TICKS, (("product", 1), ("timestamp", -1))),
    (TICKS, (("timestamp", -1),)),
    (QUOTES, (("symbol", 1), ("timestamp", -1))),
    (QUOTES, (("product", 1), ("timestamp", -1))),
    (CHAINS, (("product", 1), ("expiry", 1), ("timestamp", -1))),
    (CHAINS, (("product", 1), ("timestamp", -1))),
    (BARS, (("product", 1), ("window_minutes", 1), ("start", -1))),
    (BARS, (("product", 1), ("start", -1))),
    (HISTORY, (("product", 1), ("day", -1))),
    (SURFACES, (("product", 1), ("timestamp", -1))),
)


class Decoding:
    """Bytes to events, with the zone of each product; ``troubles`` says which zones look wrong."""

    def __init__(self, zones: Zones, feed: FeedSettings, troubles: dict[str, str]) -> None:
        self._zones = zones
        self._max_future_us = int(feed.max_future * SECOND)
        self._as_sent = feed.naive_dates == "as_sent"
        self._watch = ZoneWatch(zones, self._max_future_us, troubles)
        self._settled = self._watch.settled

    def read(self, decode: Callable[..., Any], body: bytes, context: Context) -> Any:
        """The event, or `BadMessage`; while a product is new, a look at whether its zone is the right one."""
        zones = self._zones
        zone = zones.of(peek_product(body) or "") if zones.exceptions else zones.default
        try:
            event = decode(body, zone=zone, now_us=context.now_us, max_future_us=self._max_future_us)
        except BadMessage as error:
            raise self._watch.refused(context.topic, body, error, context.now_us) from error.__cause__
        if event.product not in self._settled[context.topic]:
            self._watch.judge(context.topic, event, context.now_us)
        if self._as_sent and event.naive:
            return msgspec.structs.replace(event, moment=event.moment.replace(tzinfo=UTC))
        return event


def indexes(feed: FeedSettings) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    """`INDEXES`, and those that find messages by their event time where dates are stored as sent."""
    if feed.naive_dates == "utc":
        return INDEXES
    return (*INDEXES, *((name, (("product", 1), ("event_us", -1))) for name in (TICKS, QUOTES, CHAINS)))


def build(
    settings: MarketSettings,
    feed: FeedSettings,
    troubles: dict[str, str] | None = None,
    folds: Sequence[Makes] = (),
) -> list[Route]:
    """The routes of the three channels, which share one lane per product.

    In ``troubles`` {topic: what is wrong with it} they keep what is wrong with their topics.
    """
    zones = Zones(feed.timezone, settings.timezones)
    handlers = Handlers(settings)
    decoding = Decoding(zones, feed, {} if troubles is None else troubles)
    time_field = "event_us" if feed.naive_dates == "as_sent" else "timestamp"
    state_store = MarketState(settings, zones, partial(unshown, handlers), time_field, folds)
    shared: dict[str, Any] = {
        "key": peek_product,
        "state_store": state_store,
        "overload": Overload(settings.overload),
        "weight": settings.weight,
        "priority": settings.priority,
        "max_concurrency": settings.max_concurrency,
    }
    channels = settings.channels
    return [
        Route(
            topic=channels.underlying,
            handler=handlers.tick,
            decode=partial(decoding.read, decode_tick),
            name=TASKS["underlying"],
            events=("processed_underlying_tick", "tick_already_processed"),
            **shared,
        ),
        Route(
            topic=channels.option_quote,
            handler=handlers.quote,
            decode=partial(decoding.read, decode_quote),
            conflation=peek_symbol,
            name=TASKS["option_quote"],
            events=("processed_option_quote", "quote_already_processed"),
            **shared,
        ),
        Route(
            topic=channels.option_chain,
            handler=handlers.chain,
            decode=partial(decoding.read, decode_chain),
            conflation=peek_series,
            name=TASKS["option_chain"],
            events=("processed_option_chain", "chain_already_processed"),
            **shared,
        ),
    ]
