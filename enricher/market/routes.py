"""Where a tick goes: the three market routes, their handlers and what their lanes have to say.

All three routes share one lane per product. A handler is a plain function of state, event and context that
returns the change to fold and the effects of this one message; what the state as a whole has to say
(caches of rolling windows, closed bars, the surface, a checkpoint) is said once per turn, by
`MarketKeeper.settle`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import orjson

from enricher.config import FeedSettings
from enricher.engine.effects import (
    DropMembers,
    Effect,
    Insert,
    KeyClaim,
    Publish,
    SetClaim,
    SetKey,
    SetMember,
    Upsert,
)
from enricher.engine.overload import Overload
from enricher.engine.ports import Delivery, Reader
from enricher.engine.router import Context, Route
from enricher.market.bars import Bar
from enricher.market.buildup import Snapshot, buildup, snapshot
from enricher.market.chain import analyse
from enricher.market.clock import MINUTE, SECOND, render, to_date, to_millis
from enricher.market.models import (
    Chain,
    Quote,
    Tick,
    decode_chain,
    decode_quote,
    decode_tick,
    digest,
    peek_product,
)
from enricher.market.reload import load
from enricher.market.settings import MarketSettings
from enricher.market.state import BARS, CHAINS, QUOTES, STATE, TICKS, ProductState, Spans
from enricher.market.stored import (
    bar_document,
    chain_fields,
    micros,
    quote_document,
    storable,
    tick_document,
)
from enricher.market.surface import expired_by, volatility_surface
from enricher.market.ticks import identity_key

INDEXES = (
    (TICKS, (("product", 1), ("timestamp", -1))),
    (TICKS, (("timestamp", -1),)),
    (QUOTES, (("symbol", 1), ("timestamp", -1))),
    (QUOTES, (("product", 1), ("timestamp", -1))),
    (CHAINS, (("product", 1), ("expiry", 1), ("timestamp", -1))),
    (CHAINS, (("product", 1), ("timestamp", -1))),
    (BARS, (("product", 1), ("window_minutes", 1), ("start", -1))),
    (BARS, (("product", 1), ("start", -1))),
)

RECENT_US = 86_400 * SECOND
"""Receipt within this time before a start: such products' state is loaded without waiting for a message."""

OPTION_CLAIM_TTL = 600
"""Seconds: nothing replays a quote or chain of a channel later than this."""


class TickChange(msgspec.Struct, frozen=True, gc=False):
    """A tick to fold: with the 64-bit stand-in for its identity and its receipt (microseconds)."""

    tick: Tick
    ident: int
    received_us: int


class QuoteChange(msgspec.Struct, frozen=True, gc=False):
    """A quote to fold, with the digest of its bytes."""

    quote: Quote
    digest: str


class ChainChange(msgspec.Struct, frozen=True):
    """A chain to fold: the digest of its bytes, what build-up needs of it, its document's ``_id``."""

    chain: Chain
    digest: str
    taken: Snapshot
    identity: str


class Market:
    """The handlers, closed over the settings they need."""

    def __init__(self, settings: MarketSettings, feed: FeedSettings) -> None:
        self.settings = settings
        self._max_future_us = int(feed.max_future * SECOND)
        self._zone = ZoneInfo(feed.timezone)
        self._zones = {product: ZoneInfo(zone) for product, zone in settings.timezones.items()}
        self._cache_ms = settings.cache_ttl * 1000

    def zone(self, product: str) -> ZoneInfo:
        """The zone in which naive times of ``product`` are read and written."""
        return self._zones.get(product, self._zone) if self._zones else self._zone

    def _decode(self, decode: Callable[..., Any], body: bytes, context: Context) -> Any:
        zone = self._zone
        if self._zones:
            zone = self.zone(peek_product(body) or "")
        return decode(body, zone=zone, now_us=context.now_us, max_future_us=self._max_future_us)

    # -- ticks -------------------------------------------------------------------------------------

    def decode_tick(self, body: bytes, context: Context) -> Tick:
        """The tick, or `BadMessage`."""
        return self._decode(decode_tick, body, context)  # type: ignore[no-any-return]

    def tick(
        self, state: ProductState, tick: Tick, context: Context
    ) -> tuple[TickChange | None, Sequence[Effect]]:
        """Store the tick, claim it, publish it enriched."""
        processed_us = to_millis(context.now_us)
        identity = tick.document_id(context.body)
        folded = not (tick.future or state.is_late(tick.event_us))
        claim = self._tick_claim(tick, identity)
        document = tick_document(tick, identity, processed_us, folded)
        effects = (
            Insert(TICKS, document, partial(self._stored_tick, tick, claim, processed_us)),
            claim,
            self._publish_tick(tick, processed_us),
        )
        if not storable(context.body, document):
            return None, effects
        return TickChange(tick, tick_key(tick, identity), context.now_us), effects

    def _tick_claim(self, tick: Tick, identity: str) -> KeyClaim | SetClaim:
        ttl = self.settings.claim_ttl
        if tick.tick_id is None:
            return SetClaim(f"claims:underlying:{tick.event_us // MINUTE}", identity, ttl)
        return KeyClaim(f"processed:underlying:{tick.product}:{tick.tick_id}", tick.event_us, ttl)

    def _publish_tick(self, tick: Tick, processed_us: int) -> Publish:
        message = {
            "type": "UNDERLYING_ENRICHED",
            "product": tick.product,
            "price": tick.price,
            "timestamp": tick.timestamp,
            "processed_at": render(processed_us, tick.naive, self.zone(tick.product)),
        }
        return Publish("enriched:underlying", encode(message))

    def _stored_tick(
        self, tick: Tick, claim: Effect, processed_us: int, document: Mapping[str, Any]
    ) -> Sequence[Effect] | None:
        before_us = micros(document["processed_at"])
        if processed_us - before_us > self.settings.claim_ttl * SECOND:
            return None  # long after: its claim has gone, and so has the occasion
        return (claim, self._publish_tick(tick, before_us))

    # -- quotes ------------------------------------------------------------------------------------

    def decode_quote(self, body: bytes, context: Context) -> Quote:
        """The quote, or `BadMessage`."""
        return self._decode(decode_quote, body, context)  # type: ignore[no-any-return]

    def quote(
        self, state: ProductState, quote: Quote, context: Context
    ) -> tuple[QuoteChange | None, Sequence[Effect]]:
        """Store the quote as sent and keep the newest of its symbol in the cache."""
        processed_us = to_millis(context.now_us)
        identity = quote.document_id(context.body)
        claim = SetClaim(f"claims:option_quote:{quote.event_us // MINUTE}", identity, OPTION_CLAIM_TTL)
        visible: tuple[Effect, ...] = (claim,)
        if not quote.future:
            key = f"latest:option:{quote.symbol}"
            visible = (claim, SetKey(key, context.body, self._cache_ms, quote.event_us))
        insert = Insert(
            QUOTES,
            quote_document(quote, identity, processed_us),
            partial(_stored_option, visible, processed_us, OPTION_CLAIM_TTL * SECOND),
        )
        change = None
        if storable(context.body, quote.raw):
            change = QuoteChange(quote, identity.rpartition("#")[2])
        return change, (insert, *visible)

    # -- chains ------------------------------------------------------------------------------------

    def decode_chain(self, body: bytes, context: Context) -> Chain:
        """The chain, or `BadMessage`."""
        return self._decode(decode_chain, body, context)  # type: ignore[no-any-return]

    def chain(
        self, state: ProductState, chain: Chain, context: Context
    ) -> tuple[ChainChange | None, Sequence[Effect]]:
        """Store the chain with its numbers, cache and publish it."""
        processed_us = to_millis(context.now_us)
        identity = chain.document_id(context.body)
        taken = snapshot(chain)
        before = state.baseline(chain.expiry, chain.event_us)
        change = None if before is None else buildup(taken, before, self.settings.half_tick)
        fields = chain_fields(chain, analyse(chain), change, "no earlier snapshot to compare with")
        document = {
            "_id": identity,
            **fields,
            "timestamp": to_date(chain.event_us),
            "processed_at": to_date(processed_us),
            "event_us": chain.event_us,
        }
        if chain.future:
            document["folded"] = False
        effects = (
            Insert(CHAINS, document, partial(self._stored_chain, chain, identity, processed_us)),
            *self._show_chain(chain, identity, fields, processed_us),
        )
        if not storable(context.body, document):
            return None, effects
        return ChainChange(chain, identity.rpartition("#")[2], taken, identity), effects

    def _show_chain(
        self, chain: Chain, identity: str, fields: Mapping[str, Any], processed_us: int
    ) -> tuple[Effect, ...]:
        zone = self.zone(chain.product)
        message = encode(
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
        left_out = ("_id", "timestamp", "processed_at", "event_us", "folded")
        fields = {name: value for name, value in document.items() if name not in left_out}
        return self._show_chain(chain, identity, fields, before_us)


class MarketKeeper:
    """Keeper of the products' state: one `ProductState` per lane."""

    name = "market"

    def __init__(self, market: Market, spans: Spans) -> None:
        self._market = market
        self._spans = spans
        self._idle_us = int(market.settings.idle_close * SECOND)
        self._cache_ms = market.settings.cache_ttl * 1000

    async def load(
        self, reader: Reader, wanted: Mapping[str, Delivery]
    ) -> Mapping[str, ProductState]:
        """State rebuilt from what is stored."""
        return await load(reader, wanted, self._spans)

    async def unfinished(self, reader: Reader, now_us: int) -> Sequence[str]:
        """Products heard of in the last 24 hours: their open bars are closed though they stay silent."""
        since = now_us - RECENT_US
        documents = await reader.find(STATE, {"heard_us": {"$gte": since}})
        return [document["_id"] for document in documents]

    def seen(
        self, state: ProductState, event: Tick | Quote | Chain, context: Context
    ) -> str | None:
        """Whether this very message was folded: by this process (live), or before (primed).

        What is not recognised here is found out by its ``_id`` and its claim; this spares the trip.
        """
        if isinstance(event, Tick):
            ident = tick_key(event, digest(context.body) if event.tick_id is None else "")
            if (event.event_us, ident) in state.aside:
                return "primed"
            mark = state.ticks.seen(event.event_us, ident)
            if mark == "primed":
                # The crash may have come after it was stored and before it was shown.
                state.show_tick(event)
            return mark
        if state.aside and (event.event_us, digest(context.body)) in state.aside:
            return "primed"
        if isinstance(event, Quote):
            last = state.recent_quotes.get(event.symbol)
            same = last is not None and last[0] == event.event_us and last[1] == digest(context.body)
            return "live" if same else None
        last = state.recent_chains.get(event.expiry)
        if last is not None and last[0] == event.event_us and last[1] == digest(context.body):
            return "live"
        if event.event_us in state.primed_chains:
            return "primed" if digest(context.body) in state.primed_chains[event.event_us] else None
        return None

    def apply(
        self, state: ProductState, change: TickChange | QuoteChange | ChainChange | None
    ) -> str | None:
        """Fold a tick, quote or chain; None is one that MongoDB is going to refuse."""
        if change is None:
            return None
        if isinstance(change, TickChange):
            return state.fold_tick(change.tick, change.ident, change.received_us)
        if isinstance(change, QuoteChange):
            return state.fold_quote(change.quote, change.digest)
        return state.fold_chain(change.chain, change.digest, change.taken, change.identity)

    def settle(self, state: ProductState, now_us: int) -> Sequence[Effect]:
        """Caches of windows and surface, members of the sorted set, closed bars, the checkpoint."""
        effects: list[Effect] = []
        if state.ticks_changed:
            state.ticks_changed = False
            self._show_ticks(state, effects)
        if state.members:
            self._show_members(state, effects)
        if state.surface_text is not None:
            self._show_surface(state, effects)
        checkpoint = state.next_checkpoint()
        if checkpoint is not None:
            document = {
                "_id": state.product,
                **msgspec.structs.asdict(checkpoint),
                "heard_us": now_us,
                "chains": dict(state.chain_ids),
            }
            effects.append(Upsert(STATE, document, "revision"))
        return effects

    def _show_ticks(self, state: ProductState, effects: list[Effect]) -> None:
        product, latest, zone = state.product, state.latest, self._market.zone(state.product)
        newest = state.ticks.newest or 0
        if latest is not None and latest.rank[0] == newest:
            value = {"price": latest.price, "timestamp": latest.timestamp}
            effects.append(SetKey(f"latest:underlying:{product}", encode(value), self._cache_ms, newest))
        for minutes in self._spans.windows:
            window = state.ticks.window(minutes * MINUTE)
            if window is None:
                continue
            value = {
                "product": product,
                "window_minutes": minutes,
                "open": window.open,
                "high": window.high,
                "low": window.low,
                "close": window.close,
                "start_time": render(window.start_us, state.naive, zone),
                "end_time": render(window.end_us, state.naive, zone),
                "num_ticks": window.count,
            }
            effects.append(
                SetKey(f"ohlc:{product}:{minutes}m", encode(value), minutes * 60_000, newest)
            )
        if state.bars.due():
            _write_bars(state, state.bars.close(), effects)

    def _show_members(self, state: ProductState, effects: list[Effect]) -> None:
        product = state.product
        key = f"iv_surface:{product}"
        zone = self._market.zone(product)
        today = render(state.surface.newest_us or 0, True, zone)[:10]
        if today > state.pruned:
            state.pruned = today
            state.surface.drop_expired(expired_by(state.surface.newest_us or 0, zone))
            effects.append(DropMembers(key, today))
        for (expiry, strike, option_type), (member, event_us) in state.members.items():
            if expiry < today:
                continue
            other = "PUT" if option_type == "CALL" else "CALL"
            field = f"{expiry}|{strike}|{option_type}"
            twin = f"{expiry}|{strike}|{other}"
            effects.append(SetMember(key, field, twin, member, float(strike), event_us))
        state.members.clear()

    def _show_surface(self, state: ProductState, effects: list[Effect]) -> None:
        assert state.surface_text is not None  # noqa: S101  asked by settle
        timestamp, _, event_us = state.surface_text
        state.surface_text = None
        expired = expired_by(event_us, self._market.zone(state.product))
        payload = volatility_surface(state.surface, state.product, timestamp, state.spot, expired)
        key = f"volatility_surface:{state.product}"
        effects.append(SetKey(key, encode(payload), self._cache_ms, event_us))

    def due(self, state: ProductState) -> int | None:
        """When an open bar is to be closed because nothing was heard."""
        if state.heard_us is None:
            return None
        return state.heard_us + self._idle_us

    def on_clock(self, state: ProductState, now_us: int) -> Sequence[Effect]:
        """The product fell idle: the bars that the clock has left behind are final."""
        effects: list[Effect] = []
        _write_bars(state, state.bars.idle_close(now_us), effects)
        # Bars that reach into the future of the clock need another look.
        state.heard_us = now_us if state.bars.open_bars else None
        return effects


def tick_key(tick: Tick, identity: str) -> int:
    """The 64-bit stand-in for a tick's identity beside its event time."""
    return identity_key(tick.tick_id, identity.rpartition("#")[2] if tick.tick_id is None else "")


def _write_bars(state: ProductState, bars: Sequence[Bar], effects: list[Effect]) -> None:
    for bar in bars:
        document = bar_document(state.product, bar)
        # A first revision is a plain insert, many times cheaper than an upsert.
        if bar.revision == 0:
            effects.append(Insert(BARS, document))
        else:
            effects.append(Upsert(BARS, document, "revision"))


def _stored_option(
    visible: Sequence[Effect], processed_us: int, ttl_us: int, document: Mapping[str, Any]
) -> Sequence[Effect] | None:
    long_after = processed_us - micros(document["processed_at"]) > ttl_us
    return None if long_after else visible


def build(settings: MarketSettings, feed: FeedSettings) -> list[Route]:
    """The routes of the three channels, sharing one lane per product."""
    market = Market(settings, feed)
    spans = Spans(
        windows=settings.windows,
        lateness_us=int(settings.lateness * SECOND),
        quote_us=int(settings.quote_window * SECOND),
        buildup_us=int(settings.buildup_min_age * SECOND),
    )
    keeper = MarketKeeper(market, spans)
    shared: dict[str, Any] = {
        "key": peek_product,
        "keeper": keeper,
        "overload": Overload(settings.overload),
        "weight": settings.weight,
        "priority": settings.priority,
        "cap": settings.cap,
    }
    channels = settings.channels
    return [
        Route(
            topic=channels.underlying,
            handler=market.tick,
            decode=market.decode_tick,
            name="process_underlying_tick",
            **shared,
        ),
        Route(
            topic=channels.option_quote,
            handler=market.quote,
            decode=market.decode_quote,
            conflation=_symbol,
            name="process_option_quote",
            **shared,
        ),
        Route(
            topic=channels.option_chain,
            handler=market.chain,
            decode=market.decode_chain,
            conflation=_product_and_expiry,
            name="process_option_chain",
            **shared,
        ),
    ]


class _Names(msgspec.Struct):
    symbol: str = ""
    product: str = ""
    expiry: str = ""


_NAMES = msgspec.json.Decoder(_Names)


def _symbol(body: bytes) -> str:
    return _NAMES.decode(body).symbol


def _product_and_expiry(body: bytes) -> str:
    names = _NAMES.decode(body)
    return f"{names.expiry}:{names.product}"


def encode(value: Any) -> bytes:
    """JSON as UTF-8. Integers beyond 64 bits are written out too; NaN becomes null."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
