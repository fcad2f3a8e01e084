"""What the lane of one product remembers, as the engine keeps it: loading, folding, and what it has to say.

What one message does is the handlers' business (`enricher.market.routes`); what the state as a whole has to
say (caches of rolling windows, closed bars, the surface, a checkpoint) is said here, once per turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from enricher.analytics.position_buildup import Snapshot
from enricher.clock import MINUTE, SECOND, Zones, render, to_date, to_millis
from enricher.engine.effects import (
    DropMembers,
    Effect,
    Insert,
    Publish,
    SetClaim,
    SetKey,
    SetMember,
    Upsert,
)
from enricher.engine.ports import Delivery, Folded, Reader
from enricher.engine.router import Context
from enricher.errors import BadMessage
from enricher.market.bars.bars import Bar
from enricher.market.bars.rolling_windows import identity_key
from enricher.market.documents import bar_document, encode, encode_large
from enricher.market.products import Contracts
from enricher.market.quality.feed_health import FeedHealth
from enricher.market.settings import MarketSettings
from enricher.market.state.gaps import GAP
from enricher.market.state.history import history_documents
from enricher.market.state.horizons import Spans
from enricher.market.state.product_state import BARS, HISTORY, STATE, ProductState
from enricher.market.state.recent import aged
from enricher.market.state.restore import Paces, load
from enricher.market.surface.expiry_snapshot import Remembered
from enricher.market.surface.product_summary import whole
from enricher.market.surface.surface_view import Drawing
from enricher.messages.json_decoding import shown
from enricher.messages.models import Chain, Number, Quote, Tick, digest

CLAIM_TTL = 600
"""Seconds that what was published of a product as a whole is remembered, in case its commit is repeated."""

HEALTH_TTL_MS = 86_400_000
"""A day: that a feed fell silent is to be seen in the morning."""


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
    known: Remembered | None = None


Visible = Callable[[ProductState, str, Mapping[str, Any], int, int], Sequence[Effect]]
"""What was to be seen of a stored message: of a collection, processed at a moment, looked at now."""


class MarketState:
    """StateStore of the products' state: one `ProductState` per lane."""

    name = "market"

    def __init__(
        self,
        settings: MarketSettings,
        zones: Zones,
        spans: Spans,
        contracts: Contracts | None = None,
        visible: Visible | None = None,
    ) -> None:
        self._visible = visible
        self._zones = zones
        self._spans = spans
        self._contracts = contracts or Contracts(settings.products)
        self._idle_us = int(settings.idle_close * SECOND)
        self._cache_ms = settings.cache_ttl * 1000
        self._analytics = settings.analytics
        self._watching = settings.watch
        self._drawing = Drawing(settings, zones)
        self._paces = Paces()
        self._ticks = settings.channels.underlying
        self._gaps: list[tuple[int, int]] = []  # of the ticks' feed, by receipt
        self._gap_count = 0

    async def restore(
        self, reader: Reader, wanted: Mapping[str, Delivery]
    ) -> Mapping[str, ProductState]:
        """State rebuilt from what is stored."""
        return await load(reader, wanted, self._spans, self._contracts, self._paces)

    async def unfinished(self, reader: Reader, now_us: int) -> Sequence[str]:
        """Every product that has a checkpoint, the one heard last first: what is known of it serves its next
        message at once, and its open bars are closed though it stays silent."""
        documents = await reader.find(STATE, {})
        documents.sort(key=lambda document: -int(document.get("heard_us", 0)))
        return [document["_id"] for document in documents]

    def unshown(self, state: ProductState, now_us: int) -> Sequence[Sequence[Effect]]:
        """What was stored last is shown unless it was, a write for each message, and what the state as a
        whole had to say then. Every message is claimed, and caches only give way to newer ones."""
        found: list[Sequence[Effect]] = []
        last_us = now_us
        for processed_us, collection, document in state.recent.take():
            if self._visible is None:
                break
            try:
                effects = self._visible(state, collection, document, processed_us, now_us)
            except (TypeError, ValueError, LookupError, AttributeError, OverflowError, BadMessage):
                continue  # a document of somebody else's; that it makes no sense was said when it was read
            if effects:
                last_us = processed_us
                found.append(tuple(aged(effects, now_us - processed_us)))
        if found:
            caches: list[Effect] = []
            if state.ticks_changed:
                state.ticks_changed = False
                self._show_ticks(state, caches, now_us)
            if state.surface.newest_us is not None:
                self._show_members(state, caches)
            if state.newest_chain_us:
                state.surface_text = ("", state.options_naive, state.newest_chain_us)
                self._drawing.show(state, caches, now_us)
                # Only cached: whether it was published is not known.
                said: list[Effect] = []
                self._show_whole(state, "", state.options_naive, state.newest_chain_us, said)
                caches += [effect for effect in said if isinstance(effect, SetKey)]
            found.append(tuple(aged(caches, now_us - last_us)))
        return found

    def seen(
        self, state: ProductState, event: Tick | Quote | Chain, context: Context
    ) -> Folded | None:
        """Whether this very message was folded already.

        What is not recognised here is found out by its ``_id`` and its claim; this spares the trip.
        `BadMessage` for one that names a second product, whose state is in another lane.
        """
        if event.product != state.product:
            raise BadMessage("$.product", "one product", f"{shown(state.product)} and {shown(event.product)}")
        if isinstance(event, Tick):
            if self._analytics:
                self._watch(state, event, context.now_us)
            ident = tick_key(event, digest(context.body) if event.tick_id is None else "")
            if (event.event_us, ident) in state.aside:
                return Folded.RESTORED
            mark = state.ticks.seen(event.event_us, ident)
            if mark is Folded.RESTORED:
                # The crash may have come after it was stored and before it was shown.
                state.show_tick(event, ident)
            return mark
        if state.aside and (event.event_us, digest(context.body)) in state.aside:
            return Folded.RESTORED
        if isinstance(event, Quote):
            last = state.recent_quotes.get(event.symbol)
            same = last is not None and last[0] == event.event_us and last[1] == digest(context.body)
            return Folded.HERE if same else None
        last = state.recent_chains.get(event.expiry)
        if last is not None and last[0] == event.event_us and last[1] == digest(context.body):
            return Folded.HERE
        if event.event_us in state.primed_chains:
            return Folded.RESTORED if digest(context.body) in state.primed_chains[event.event_us] else None
        return None

    def _watch(self, state: ProductState, tick: Tick, received_us: int) -> None:
        """Every tick counts here, whatever comes of it."""
        if state.health is None:
            state.health = FeedHealth(state.product, state.contract, received_us, self._watching)
        state.health.take(tick, received_us)

    def fold(
        self, state: ProductState, change: TickChange | QuoteChange | ChainChange | None
    ) -> str | None:
        """Fold a tick, quote or chain; None is one that MongoDB is going to refuse."""
        if change is None:
            return None
        if isinstance(change, TickChange):
            if state.gaps.passed != self._gap_count:
                self._pass_gaps(state, change)
            return state.fold_tick(change.tick, change.ident, change.received_us)
        if isinstance(change, QuoteChange):
            # The surface is as of the last chain: what comes after it in the same turn is not in it.
            self._drawing.take(state)
            mark = state.fold_quote(change.quote, change.digest)
            if state.pass_time() and state.newest_chain_us:
                # What was shown as of the last chain holds an expiry that the sorted set is about to lose.
                state.surface_text = (state.newest_chain_text, change.quote.naive, state.newest_chain_us)
            return mark
        mark = state.fold_chain(change.chain, change.digest, change.taken, change.identity, change.known)
        state.pass_time()
        return mark

    def on_gap(self, topic: str, from_us: int, to_us: int) -> None:
        """Messages of a topic may have been missed between these moments of the clock (0: ever before)."""
        if topic == self._ticks:
            self._gaps.append((from_us, to_us))
            self._gap_count += 1

    def _pass_gaps(self, state: ProductState, change: TickChange) -> None:
        """The gaps before this tick, if it is the first after them."""
        gaps, tick = state.gaps, change.tick
        if tick.future:
            return
        while gaps.passed < len(self._gaps):
            from_us, to_us = self._gaps[gaps.passed]
            newest, received_us = state.ticks.newest, change.received_us - gaps.set_us
            if received_us < to_us:
                return  # it came before, and waited
            gaps.begin(from_us, newest, state.heard_us)
            if newest is not None and tick.event_us <= newest:
                return  # a late one
            if gaps.end(to_us, tick.event_us, received_us, state.spans.reload_us):
                state.chains_unsaid = True
        gaps.set_us = 0

    def show(self, state: ProductState, now_us: int) -> Sequence[Effect]:
        """Caches of windows, surface and the product as a whole, members of the sorted set, closed bars, the
        checkpoint."""
        effects: list[Effect] = []
        if state.ticks_changed:
            state.ticks_changed = False
            self._show_ticks(state, effects, now_us)
        newest_us = state.surface.newest_us
        if newest_us is not None:
            self._show_members(state, effects)
            if newest_us != state.options_us:
                state.hear_options(newest_us, now_us)
        if self._drawing.show(state, effects, now_us) and state.whole_text is not None:
            self._show_whole(state, *state.whole_text, effects)
        if state.health is not None:
            self._show_health(state, state.health, now_us, effects)
        checkpoint = state.next_checkpoint()
        if checkpoint is not None:
            bases, firsts = state.bases.identities()
            for expiry, line in state.asof.items():
                named = [one.identity for one in line.standing()]
                bases[expiry] = list(dict.fromkeys(bases[expiry] + named))
            document = {
                "_id": state.product,
                **{k: v for k, v in msgspec.structs.asdict(checkpoint).items() if v is not None},
                "heard_us": now_us,
                "naive": state.options_naive or state.naive,
                "chains": dict(state.chain_ids),
                "bases": bases,
                "firsts": firsts,
                "gaps": [list(span) for span in state.gaps.spans],
            }
            effects.append(Upsert(STATE, document, "revision"))
            effects.extend(
                Upsert(HISTORY, {**document, "processed_at": to_date(to_millis(now_us))}, "event_us")
                for document in history_documents(state)
            )
        return effects

    def show_again(self, state: ProductState) -> None:
        """Have the next `settle` show the windows, the last price and the surface, whatever was shown."""
        newest = state.ticks.newest
        for minutes in self._spans.windows[:1]:
            window = state.ticks.window(minutes * MINUTE)
            if newest is None or window is None:
                continue
            state.ticks_changed = True
            state.latest = Tick(
                product=state.product,
                timestamp=render(newest, state.naive, self._zones.of(state.product)),
                event_us=newest,
                moment=to_date(newest),
                naive=state.naive,
                ahead_us=0,
                price=window.close,
            )
        if state.newest_chain_us:
            state.surface_text = (state.newest_chain_text, state.options_naive, state.newest_chain_us)

    def _show_ticks(self, state: ProductState, effects: list[Effect], now_us: int) -> None:
        product, latest, zone = state.product, state.latest, self._zones.of(state.product)
        newest, gaps = state.ticks.newest or 0, state.gaps
        missing = gaps.some
        if latest is not None and latest.event_us == newest:
            tick = {"price": latest.price, "timestamp": latest.timestamp}
            effects.append(SetKey(f"latest:underlying:{product}", encode(tick), self._cache_ms, newest))
        for minutes in self._spans.windows:
            window = state.ticks.window(minutes * MINUTE)
            if window is None:
                continue
            value: dict[str, Any] = {
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
            if missing and gaps.touches(newest - minutes * MINUTE, newest + 1):
                value["flags"] = {"gap": GAP}
            effects.append(
                SetKey(f"ohlc:{product}:{minutes}m", encode(value), minutes * 60_000, newest)
            )
        if state.bars.due():
            _write_bars(state, state.bars.close(), effects, now_us)

    def _show_health(
        self, state: ProductState, health: FeedHealth, now_us: int, effects: list[Effect]
    ) -> None:
        payload = health.payload(now_us)
        if payload is not None:
            effects.append(SetKey(f"feed:health:{state.product}", encode(payload), HEALTH_TTL_MS))

    def _show_whole(
        self, state: ProductState, timestamp: str, naive: bool, event_us: int, effects: list[Effect]
    ) -> None:
        """The product as a whole, as of its newest chain: cached and published."""
        state.whole_text = None
        found = whole(state, timestamp or render(event_us, naive, self._zones.of(state.product)), event_us)
        if found is None:
            return
        message = encode_large(found)
        # Of one moment there may be several, one a turn, and a commit that is repeated publishes none twice.
        claim = f"{state.product}#{digest(message)}"
        effects += (
            SetClaim(f"claims:product:{event_us // MINUTE}", claim, CLAIM_TTL),
            SetKey(f"latest:product:{state.product}", message, self._cache_ms, event_us),
            Publish("enriched:product", message),
        )

    def _show_members(self, state: ProductState, effects: list[Effect]) -> None:
        key = f"iv_surface:{state.product}"
        state.pass_time()  # nothing may have come since the state was loaded
        before = state.cutoff.before
        if before != state.pruned:
            # Whether or not a member moves: the sorted set may hold what an earlier process put there.
            state.pruned = before
            effects.append(DropMembers(key, before))
        for (expiry, strike, option_type), (member, event_us) in state.members.items():
            if state.cutoff.expired(expiry):
                continue
            other = "PUT" if option_type == "CALL" else "CALL"
            where = f"{expiry}|{strike_text(strike)}"
            field, twin = f"{where}|{option_type}", f"{where}|{other}"
            effects.append(SetMember(key, field, twin, member, float(strike), event_us))
        state.members.clear()

    def due(self, state: ProductState) -> int | None:
        """When open bars are to be closed because nothing was heard, an expiry has to go, a smile is to be
        fitted or a feed looked at."""
        idle_us, lapse_us = None if state.heard_us is None else state.heard_us + self._idle_us, state.lapse_us
        if lapse_us is not None and (idle_us is None or lapse_us < idle_us):
            idle_us = lapse_us
        if not self._analytics:
            return idle_us
        look_us = None if state.health is None else state.health.due_us
        return min((us for us in (idle_us, look_us, state.fits.due()) if us is not None), default=None)

    def on_time(self, state: ProductState, now_us: int) -> Sequence[Effect]:
        """A smile is fitted a little further, a silent feed noticed; of an idle product bars are final, and
        what expires in silence goes."""
        effects: list[Effect] = []
        if state.lapse_us is not None and state.lapse_us <= now_us:
            state.lapse_us = None
            shown = now_us - state.options_heard_us <= self._cache_ms * 1000
            if state.pass_time(state.cutoff.until_us) and state.newest_chain_us and shown:
                state.surface_text = (state.newest_chain_text, state.options_naive, state.newest_chain_us)
            self._show_members(state, effects)
            self._drawing.show(state, effects, now_us)
        if state.health is not None and state.health.due_us is not None and state.health.due_us <= now_us:
            state.health.on_clock(now_us)
            self._show_health(state, state.health, now_us, effects)
        if state.fits.work(now_us):
            self._drawing.show_curves(state, effects)
        if state.heard_us is not None and state.heard_us + self._idle_us <= now_us:
            if state.gaps.passed < len(self._gaps):
                from_us, _ = self._gaps[state.gaps.passed]
                state.gaps.begin(from_us, state.ticks.newest, state.heard_us)
            _write_bars(state, state.bars.idle_close(now_us + _set_since(state)), effects, now_us)
            # Bars that reach into the future of the clock need another look.
            state.heard_us = now_us if state.bars.open_bars else None
            if state.heard_us is None:
                state.clock_set_us = 0
        return effects

    def clock_set(self, state: ProductState, step_us: int) -> None:
        """The clock was set: what was heard was heard as long ago as before, and nothing is due for that."""
        if state.heard_us is not None:
            state.heard_us += step_us
            state.clock_set_us -= step_us
        if state.lapse_us is not None:
            state.lapse_us += step_us
        state.options_heard_us += step_us
        if state.gaps.passed < len(self._gaps):
            state.gaps.set_us += step_us
        if state.health is not None:
            state.health.stepped(step_us)


def _set_since(state: ProductState) -> int:
    """What makes the clock agree with the product's newest tick again: a clock that was set may be wrong."""
    newest, heard, was = state.ticks.newest, state.heard_us, state.clock_set_us
    if not was or newest is None or heard is None:
        return 0
    return was if abs(heard + was - newest) < abs(heard - newest) else 0


def strike_text(strike: Number) -> str:
    """One text for one strike: 21000 for 21000 and 21000.0, else the shortest that reads back."""
    return repr(float(strike) + 0.0).removesuffix(".0")


def tick_key(tick: Tick, identity: str) -> int:
    """The 64-bit stand-in for a tick's identity beside its event time."""
    return identity_key(tick.tick_id, identity.rpartition("#")[2] if tick.tick_id is None else "")


def _write_bars(state: ProductState, bars: Sequence[Bar], effects: list[Effect], now_us: int) -> None:
    for bar in bars:
        document = bar_document(state.product, bar, state.spans.cumulative)
        if state.gaps.touches(bar.start_us, bar.end_us):
            document["flags"] = {**document.get("flags", {}), "gap": GAP}
        document["processed_at"] = to_date(to_millis(now_us))
        # A first revision is a plain insert, many times cheaper than an upsert.
        if bar.revision == 0:
            effects.append(Insert(BARS, document))
        else:
            effects.append(Upsert(BARS, document, "revision"))
