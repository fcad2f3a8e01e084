"""Where a tick goes: the three market routes, their handlers and what their lanes have to say.

All three routes share one lane per product. A handler is a plain function of state, event and context that
returns the change to fold and the effects of this one message; what the state as a whole has to say
(caches of rolling windows, closed bars, the surface, a checkpoint) is said once per turn, by
`enricher.market.state.market_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import Any

import msgspec

from enricher.analytics.position_buildup import snapshot
from enricher.clock import MINUTE, SECOND, Zones, render, to_date, to_millis
from enricher.config import FeedSettings
from enricher.engine.effects import (
    Effect,
    Insert,
    KeyClaim,
    Publish,
    SetClaim,
    SetKey,
)
from enricher.engine.overload import Overload
from enricher.engine.router import Context, Route
from enricher.errors import BadMessage
from enricher.market.bars.rolling_windows import identity_key, order_key
from enricher.market.chain_enrichment import at_once, enriching
from enricher.market.documents import (
    BARS,
    CHAINS,
    HISTORY,
    QUOTES,
    SURFACES,
    TICKS,
    chain_of,
    encode,
    encode_large,
    event_time,
    micros,
    quote_document,
    storable,
    tick_document,
)
from enricher.market.folds import ChainChange, QuoteChange, TickChange
from enricher.market.quality.zone_watch import ZoneWatch
from enricher.market.reasons import AHEAD
from enricher.market.settings import TASKS, MarketSettings
from enricher.market.state.market_state import MarketState
from enricher.market.state.product_state import Makes, ProductState
from enricher.market.zeros import (
    OPTION_FIELDS,
    TICK_FIELDS,
    ZEROED,
    is_zeroed,
    with_nulls,
    zeroed,
    zeroed_chain,
)
from enricher.messages.models import (
    Chain,
    Quote,
    Tick,
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

Chained = tuple[ChainChange | None, Sequence[Effect]]

AT_ONCE = 60
"""Strikes of a chain that is enriched in one step: about 2 ms."""

OPTION_CLAIM_TTL = 600
"""Seconds: nothing replays a quote or chain of a channel later than this."""


class Market:
    """The handlers, closed over the settings they need."""

    def __init__(
        self, settings: MarketSettings, feed: FeedSettings, troubles: dict[str, str] | None = None
    ) -> None:
        self.settings = settings
        self.zones = Zones(feed.timezone, settings.timezones)
        self._max_future_us = int(feed.max_future * SECOND)
        self._as_sent = feed.naive_dates == "as_sent"
        self._watch = ZoneWatch(self.zones, self._max_future_us, {} if troubles is None else troubles)
        self._settled = self._watch.settled
        self._cache_ms = settings.cache_ttl * 1000
        self._zeros = settings.unknown == "zero"

    def read(self, decode: Callable[..., Any], body: bytes, context: Context) -> Any:
        """The event, or `BadMessage`; while a product is new, a look at whether its zone is the right one."""
        zones = self.zones
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

    # -- ticks -------------------------------------------------------------------------------------

    def tick(
        self, state: ProductState, tick: Tick, context: Context
    ) -> tuple[TickChange | None, Sequence[Effect]]:
        """Store the tick, claim it, publish it enriched."""
        processed_us = to_millis(context.now_us)
        identity = tick.document_id(context.body)
        future = tick.future
        folded = not (future or state.windows.is_late(tick.event_us))
        claim = self._tick_claim(tick, identity)
        document = tick_document(tick, identity, processed_us, folded)
        if self._zeros:
            document = zeroed(document, TICK_FIELDS)
        effects = (
            Insert(TICKS, document, partial(self._stored_tick, tick, claim, processed_us)),
            claim,
            self._publish_tick(tick, processed_us),
        )
        if not (tick.clean or storable(context.body, document)):
            return None, effects
        change = TickChange(
            tick.event_us,
            tick.price,
            order_key(tick.tick_id),
            tick.volume,
            tick_key(tick, identity),
            context.now_us,
            tick.naive,
            future,
            tick,
        )
        return change, effects

    def _tick_claim(self, tick: Tick, identity: str) -> KeyClaim | SetClaim:
        ttl = self.settings.claim_ttl
        if tick.tick_id is None:
            return SetClaim(f"claims:underlying:{tick.event_us // MINUTE}", identity, ttl)
        return KeyClaim(f"processed:underlying:{tick.product}:{tick.tick_id}", tick.event_us, ttl)

    def _publish_tick(self, tick: Tick, processed_us: int) -> Publish:
        message: dict[str, Any] = {
            "type": "UNDERLYING_ENRICHED",
            "product": tick.product,
            "price": tick.price,
            "timestamp": tick.timestamp,
            "processed_at": render(processed_us, tick.naive, self.zones.of(tick.product)),
        }
        if tick.future:
            message["flags"] = {"timestamp": AHEAD}
        return Publish("enriched:underlying", encode(message))

    def _stored_tick(
        self, tick: Tick, claim: Effect, processed_us: int, document: Mapping[str, Any]
    ) -> Sequence[Effect] | None:
        before_us = micros(document["processed_at"])
        if processed_us - before_us > self.settings.claim_ttl * SECOND:
            return None  # long after: its claim has gone, and so has the occasion
        return (claim, self._publish_tick(tick, before_us))

    # -- quotes ------------------------------------------------------------------------------------

    def quote(
        self, state: ProductState, quote: Quote, context: Context
    ) -> tuple[QuoteChange | None, Sequence[Effect]]:
        """Store the quote as sent and keep the newest of its symbol in the cache."""
        processed_us = to_millis(context.now_us)
        identity = quote.document_id(context.body)
        claim = SetClaim(f"claims:option_quote:{quote.event_us // MINUTE}", identity, OPTION_CLAIM_TTL)
        visible: tuple[Effect, ...] = (claim,)
        future = quote.future
        if not future:
            key = f"latest:option:{quote.symbol}"
            visible = (claim, SetKey(key, context.body, self._cache_ms, quote.event_us))
        document = quote_document(quote, identity, processed_us)
        if self._zeros:
            document = zeroed(document, OPTION_FIELDS)
        insert = Insert(
            QUOTES,
            document,
            partial(_stored_option, visible, processed_us, OPTION_CLAIM_TTL * SECOND),
        )
        change = None
        if storable(context.body, quote.raw):
            change = QuoteChange(quote.event_us, quote, identity.rpartition("#")[2], future)
        return change, (insert, *visible)

    # -- chains ------------------------------------------------------------------------------------

    def chain(
        self, state: ProductState, chain: Chain, context: Context
    ) -> Chained | Generator[None, None, Chained]:
        """Store the chain with its numbers, cache and publish it; one of many strikes in steps."""
        steps = self._chain(state, chain, context)
        return steps if len(chain.strikes) > AT_ONCE else at_once(steps)

    def _chain(
        self, state: ProductState, chain: Chain, context: Context
    ) -> Generator[None, None, Chained]:
        processed_us = to_millis(context.now_us)
        identity = chain.document_id(context.body)
        taken = snapshot(chain, identity)
        zone = self.zones.of(chain.product)
        fields, known = yield from enriching(state, chain, taken, self.settings, zone)
        yield
        if self._zeros:
            fields = zeroed_chain(fields)
        document = {
            "_id": identity,
            **fields,
            "timestamp": chain.moment,
            "processed_at": to_date(processed_us),
            "event_us": chain.event_us,
        }
        if chain.future:
            document["folded"] = False
        effects = (
            Insert(CHAINS, document, partial(self._stored_chain, chain, identity, processed_us)),
            *self._show_chain(chain, identity, fields, processed_us),
        )
        if not (chain.clean or storable(context.body, document)):
            return None, effects
        change = ChainChange(
            chain.event_us, chain, identity.rpartition("#")[2], taken, identity, known, chain.future
        )
        return change, effects

    def _show_chain(
        self, chain: Chain, identity: str, fields: Mapping[str, Any], processed_us: int
    ) -> tuple[Effect, ...]:
        zone = self.zones.of(chain.product)
        message = encode_large(
            {
                **fields,
                "timestamp": chain.timestamp,
                "processed_at": render(processed_us, chain.naive, zone),
            }
        )
        claim = SetClaim(f"claims:option_chain:{chain.event_us // MINUTE}", identity, OPTION_CLAIM_TTL)
        publish = Publish("enriched:option_chain", message)
        if chain.future:
            return (claim, publish)
        ratios = {
            "pcr_oi": fields["pcr_oi"],
            "pcr_volume": fields["pcr_volume"],
            "timestamp": chain.timestamp,
        }
        if None in ratios.values() or "zeroed" in fields:
            unknown = [name for name in ratios if ratios[name] is None or is_zeroed(fields, name)]
            if unknown:
                ratios["flags"] = {name: fields["flags"].get(name) for name in unknown}
        where = f"{chain.product}:{chain.expiry}"
        return (
            claim,
            SetKey(f"latest:chain:{where}", message, self._cache_ms, chain.event_us),
            SetKey(f"latest:pcr:{where}", encode(ratios), self._cache_ms, chain.event_us),
            publish,
        )

    def _stored_chain(
        self, chain: Chain, identity: str, processed_us: int, document: Mapping[str, Any]
    ) -> Sequence[Effect] | None:
        before_us = micros(document["processed_at"])
        if processed_us - before_us > OPTION_CLAIM_TTL * SECOND:
            return None
        return self._show_chain(chain, identity, _sent_fields(document), before_us)


    # -- at the start ------------------------------------------------------------------------------

    def visible(
        self,
        state: ProductState,
        collection: str,
        document: Mapping[str, Any],
        processed_us: int,
        now_us: int,
    ) -> Sequence[Effect]:
        """What was to be seen of a stored message, which may not have been; nothing once its claim is gone.

        Its time is written as we do, for the text that was sent is not stored.
        """
        ttl = self.settings.claim_ttl if collection == TICKS else OPTION_CLAIM_TTL
        if now_us - processed_us >= ttl * SECOND:
            return ()
        identity, event_us, product = str(document["_id"]), event_time(document), document["product"]
        naive = bool(document.get("naive")) if collection == TICKS else state.quotes.naive
        sent: dict[str, Any] = {
            "timestamp": render(event_us, naive, self.zones.of(product)),
            "naive": naive,
            "ahead_us": max(0, event_us - processed_us),
        }
        if collection == TICKS:
            tick = Tick(
                product=product,
                price=document["price"],
                tick_id=with_nulls(document).get("tick_id"),
                event_us=event_us,
                moment=document["timestamp"],
                **sent,
            )
            if document.get("folded") is not False:
                state.windows.show_tick(tick, tick_key(tick, identity))
            return (self._tick_claim(tick, identity), self._publish_tick(tick, processed_us))
        if collection == QUOTES:
            claim = SetClaim(f"claims:option_quote:{event_us // MINUTE}", identity, OPTION_CLAIM_TTL)
            if document.get("folded") is False:
                return (claim,)
            held = with_nulls(document).items()
            body = encode({**{k: v for k, v in held if k not in _NOT_SENT}, "timestamp": sent["timestamp"]})
            return (claim, SetKey(f"latest:option:{document['symbol']}", body, self._cache_ms, event_us))
        read = chain_of({**document, "folded": None})
        if read is None:
            return ()
        chain = msgspec.structs.replace(read[0], **sent)
        return self._show_chain(chain, identity, _sent_fields(document), processed_us)


_OURS = ("_id", "timestamp", "processed_at", "event_us", "folded")
"""What a document has besides the fields of its message."""
_NOT_SENT = (*_OURS, ZEROED)


def _sent_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _OURS}


def _stored_option(
    visible: Sequence[Effect], processed_us: int, ttl_us: int, document: Mapping[str, Any]
) -> Sequence[Effect] | None:
    long_after = processed_us - micros(document["processed_at"]) > ttl_us
    return None if long_after else visible


def indexes(feed: FeedSettings) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    """`INDEXES`, and those that find messages by their event time where dates are stored as sent."""
    if feed.naive_dates == "utc":
        return INDEXES
    return (*INDEXES, *((name, (("product", 1), ("event_us", -1))) for name in (TICKS, QUOTES, CHAINS)))


def tick_key(tick: Tick, identity: str) -> int:
    """The 64-bit stand-in for a tick's identity beside its event time."""
    return identity_key(tick.tick_id, identity.rpartition("#")[2] if tick.tick_id is None else "")


def build(
    settings: MarketSettings,
    feed: FeedSettings,
    troubles: dict[str, str] | None = None,
    folds: Sequence[Makes] = (),
) -> list[Route]:
    """The routes of the three channels, which share one lane per product.

    In ``troubles`` {topic: what is wrong with it} they keep what is wrong with their topics.
    """
    market = Market(settings, feed, troubles)
    time_field = "event_us" if feed.naive_dates == "as_sent" else "timestamp"
    state_store = MarketState(settings, market.zones, market.visible, time_field, folds)
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
            handler=market.tick,
            decode=partial(market.read, decode_tick),
            name=TASKS["underlying"],
            events=("processed_underlying_tick", "tick_already_processed"),
            **shared,
        ),
        Route(
            topic=channels.option_quote,
            handler=market.quote,
            decode=partial(market.read, decode_quote),
            conflation=peek_symbol,
            name=TASKS["option_quote"],
            events=("processed_option_quote", "quote_already_processed"),
            **shared,
        ),
        Route(
            topic=channels.option_chain,
            handler=market.chain,
            decode=partial(market.read, decode_chain),
            conflation=peek_series,
            name=TASKS["option_chain"],
            events=("processed_option_chain", "chain_already_processed"),
            **shared,
        ),
    ]
