"""What one message does: the handlers of ticks, quotes and chains.

A handler is a plain function of state, event and context that returns the change to fold and the effects of
this one message. What the product as a whole has to show is its folds' business (`enricher.market.folds`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from enricher.analytics.position_buildup import snapshot
from enricher.analytics.steps import at_once
from enricher.clock import MINUTE, SECOND, render, to_date, to_millis
from enricher.engine.effects import Effect, Insert, KeyClaim, Publish, SetClaim, SetKey
from enricher.engine.router import Context
from enricher.market.bars.rolling_windows import identity_key, order_key
from enricher.market.chain_enrichment import enriching
from enricher.market.documents import (
    CHAINS,
    QUOTES,
    TICKS,
    encode,
    encode_large,
    micros,
    quote_document,
    storable,
    tick_document,
)
from enricher.market.folds import ChainChange, QuoteChange, TickChange
from enricher.market.quality.message_doubts import quote_doubts, tick_doubts
from enricher.market.reasons import AHEAD
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.market.zeros import OPTION_FIELDS, TICK_FIELDS, is_zeroed, zeroed, zeroed_chain
from enricher.messages.models import Chain, Event, Number, Quote, Tick

Chained = tuple[ChainChange | None, Sequence[Effect]]

_SCALE = 50  # a price so many times that before it, or such a part of it, is looked at

AT_ONCE = 30
"""Strikes of a chain of European options that is enriched in one step: about 0.7 ms. In a task it would cost
a third more; American options take ten times as long."""

OPTION_CLAIM_TTL = 600
"""Seconds: nothing replays a quote or chain of a channel later than this."""


class Handlers:
    """The handlers, closed over the settings they need; ``zone`` is that of times without an offset."""

    def __init__(self, settings: MarketSettings) -> None:
        self.settings = settings
        self.cache_ms = settings.cache_ttl * 1000
        self._zeros = settings.unknown == "zero"
        self._retention_us = settings.retention_us

    # -- ticks -------------------------------------------------------------------------------------

    def tick(
        self, state: ProductState, tick: Tick, context: Context
    ) -> tuple[TickChange | None, Sequence[Effect]]:
        """Store the tick, claim it, publish it enriched."""
        processed_us = to_millis(context.now_us)
        identity = tick.document_id(context.body)
        aside = "future" if tick.ahead_us and tick.future else ""
        flags: dict[str, str] | None = None
        price, high, low = tick.price, tick.high, tick.low
        last = state.last or state.windows.latest
        newest = state.windows.ticks.newest if last is None else last.event_us
        if (
            not tick.clean
            or (high and price > high)
            or (low and price < low)
            or (last is not None and (price > last.price * _SCALE or price * _SCALE < last.price))
        ):
            flags, is_price = tick_doubts(
                tick, state.windows.ticks.last_price, newest, state.contract.unit_within
            )
            aside = aside or ("" if is_price else "no_price")
        # One that is too old for every window is folded into nothing.
        folded = not aside and (newest is None or tick.event_us >= newest - self._retention_us)
        claim = self.tick_claim(tick, identity)
        document = tick_document(tick, identity, processed_us, folded)
        if flags:
            document["flags"] = flags
        if self._zeros:
            document = zeroed(document, TICK_FIELDS)
        effects = (
            Insert(TICKS, document, _StoredTick(self, tick, claim, processed_us, state.zone)),
            claim,
            self.publish_tick(tick, processed_us, state.zone, flags),
        )
        if not (tick.clean or storable(context.body, document)):
            return None, effects
        change = TickChange(
            tick.event_us,
            tick.price,
            order_key(tick.tick_id),
            tick.volume,
            identity_key(tick.tick_id, "" if tick.tick_id is not None else identity.rpartition("#")[2]),
            context.now_us,
            tick.naive,
            aside,
            tick,
        )
        return change, effects

    def tick_claim(self, tick: Tick, identity: str) -> KeyClaim | SetClaim:
        ttl = self.settings.claim_ttl
        if tick.tick_id is None:
            return SetClaim(f"claims:underlying:{tick.event_us // MINUTE}", identity, ttl)
        return KeyClaim(f"processed:underlying:{tick.product}:{tick.tick_id}", tick.event_us, ttl)

    def publish_tick(
        self, tick: Tick, processed_us: int, zone: tzinfo, flags: Mapping[str, str] | None = None
    ) -> Publish:
        if tick.ahead_us and tick.future:
            flags = {**(flags or {}), "timestamp": AHEAD}
        text = render(processed_us, tick.naive, zone)
        message = EnrichedTick(tick.product, tick.price, tick.timestamp, text, flags or UNSET)
        return Publish("enriched:underlying", encode(message))

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
            visible = (claim, SetKey(key, context.body, self.cache_ms, quote.event_us))
        document = quote_document(quote, identity, processed_us)
        bid, ask = quote.bid, quote.ask
        if quote.flags is not None or quote.expiry < quote.timestamp[:10] or (bid and ask and bid > ask):
            flags = quote_doubts(quote)
            if flags and "flags" not in document:
                document["flags"] = flags
        if self._zeros:
            document = zeroed(document, OPTION_FIELDS)
        insert = Insert(QUOTES, document, _StoredQuote(visible, processed_us))
        change = None
        if quote.clean or storable(context.body, quote.raw):
            aside = "future" if future else ""
            change = QuoteChange(quote.event_us, quote, identity.rpartition("#")[2], aside)
        return change, (insert, *visible)

    # -- chains ------------------------------------------------------------------------------------

    def chain(
        self, state: ProductState, chain: Chain, context: Context
    ) -> Chained | Generator[None, None, Chained]:
        """Store the chain with its numbers, cache and publish it; unless it is done soon, in steps."""
        steps = self._chain(state, chain, context)
        soon = len(chain.strikes) <= AT_ONCE and state.contract.exercise == "european"
        return at_once(steps) if soon else steps

    def _chain(self, state: ProductState, chain: Chain, context: Context) -> Generator[None, None, Chained]:
        processed_us = to_millis(context.now_us)
        identity = chain.document_id(context.body)
        taken = snapshot(chain, identity)
        fields, known = yield from enriching(state, chain, taken, self.settings, state.zone)
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
        future = chain.future
        if future:
            document["folded"] = False
        # What is kept until the commit, without the legs.
        sent = Event(
            product=chain.product,
            timestamp=chain.timestamp,
            event_us=chain.event_us,
            moment=chain.moment,
            naive=chain.naive,
            ahead_us=chain.ahead_us,
        )
        effects = (
            Insert(CHAINS, document, partial(self._stored_chain, sent, identity, processed_us, state.zone)),
            *self.show_chain(sent, identity, fields, processed_us, state.zone),
        )
        yield  # for the document is encoded at once
        if not (chain.clean or storable(context.body, document)):
            return None, effects
        change = ChainChange(
            chain.event_us, chain, identity.rpartition("#")[2], taken, identity, known,
            "future" if future else "",
        )
        return change, effects

    def show_chain(
        self, sent: Event, identity: str, fields: Mapping[str, Any], processed_us: int, zone: tzinfo
    ) -> tuple[Effect, ...]:
        message = encode_large(
            {**fields, "timestamp": sent.timestamp, "processed_at": render(processed_us, sent.naive, zone)}
        )
        claim = SetClaim(f"claims:option_chain:{sent.event_us // MINUTE}", identity, OPTION_CLAIM_TTL)
        publish = Publish("enriched:option_chain", message)
        if sent.future:
            return (claim, publish)
        ratios = {
            "pcr_oi": fields["pcr_oi"],
            "pcr_volume": fields["pcr_volume"],
            "timestamp": sent.timestamp,
        }
        if None in ratios.values() or "zeroed" in fields:
            unknown = [name for name in ratios if ratios[name] is None or is_zeroed(fields, name)]
            if unknown:
                ratios["flags"] = {name: fields["flags"].get(name) for name in unknown}
        where = f"{fields['product']}:{fields['expiry']}"
        return (
            claim,
            SetKey(f"latest:chain:{where}", message, self.cache_ms, sent.event_us),
            SetKey(f"latest:pcr:{where}", encode(ratios), self.cache_ms, sent.event_us),
            publish,
        )

    def _stored_chain(
        self, sent: Event, identity: str, processed_us: int, zone: tzinfo, document: Mapping[str, Any]
    ) -> Sequence[Effect] | None:
        before_us = micros(document["processed_at"])
        if processed_us - before_us > OPTION_CLAIM_TTL * SECOND:
            return None
        return self.show_chain(sent, identity, sent_fields(document), before_us, zone)


class EnrichedTick(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="UNDERLYING_ENRICHED"):
    """What is published of a tick."""

    product: str
    price: Number
    timestamp: str
    processed_at: str
    flags: Mapping[str, str] | UnsetType = UNSET


_OURS = ("_id", "timestamp", "processed_at", "event_us", "folded")
"""What a document has besides the fields of its message."""


def sent_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of its message that a document has."""
    return {name: value for name, value in document.items() if name not in _OURS}


# What `Insert.stored` asks: effects of a document that was there already. They are structs, for the garbage
# collector looks at every partial, and there is one for each message in flight.


class _StoredTick(msgspec.Struct, frozen=True, gc=False):
    handlers: Handlers
    tick: Tick
    claim: Effect
    processed_us: int
    zone: tzinfo

    def __call__(self, document: Mapping[str, Any]) -> Sequence[Effect] | None:
        before_us = micros(document["processed_at"])
        if self.processed_us - before_us > self.handlers.settings.claim_ttl * SECOND:
            return None  # long after: its claim has gone, and so has the occasion
        publish = self.handlers.publish_tick(self.tick, before_us, self.zone, document.get("flags"))
        return (self.claim, publish)


class _StoredQuote(msgspec.Struct, frozen=True, gc=False):
    visible: Sequence[Effect]
    processed_us: int

    def __call__(self, document: Mapping[str, Any]) -> Sequence[Effect] | None:
        long_after = self.processed_us - micros(document["processed_at"]) > OPTION_CLAIM_TTL * SECOND
        return None if long_after else self.visible
