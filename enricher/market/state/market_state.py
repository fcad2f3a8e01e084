"""The state of the products as the engine keeps it: restored, folded, shown once per turn, asked by time.

What one message does is the handlers' business (`enricher.market.routes`); what a number per product is made
of is a fold's (`enricher.market.folds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from enricher.clock import Zones
from enricher.engine.effects import Effect, SetKey
from enricher.engine.ports import Delivery, Folded, Reader
from enricher.engine.router import Context
from enricher.errors import BadMessage
from enricher.market.documents import STATE
from enricher.market.folds.configured import fold_of
from enricher.market.folds.fold import ChainChange, QuoteChange, TickChange
from enricher.market.products import Contracts
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import Makes, ProductState, harmless
from enricher.market.state.recent import aged
from enricher.market.state.restore import Restore
from enricher.messages.json_decoding import shown
from enricher.messages.models import Chain, Quote, Tick

Visible = Callable[[ProductState, str, Mapping[str, Any], int, int], Sequence[Effect]]
"""What was to be seen of a stored message: of a collection, processed at a moment, looked at now."""


class MarketState:
    """StateStore of the products' state: one `ProductState` per lane.

    ``time_field`` is what stored messages are found by: "timestamp", a date, or "event_us". ``folds`` are
    those of a program, besides those that the settings name.
    """

    name = "market"

    def __init__(
        self,
        settings: MarketSettings,
        zones: Zones,
        visible: Visible,
        time_field: str = "timestamp",
        folds: Sequence[Makes] = (),
    ) -> None:
        self._settings = settings
        self._zones = zones
        self._visible = visible
        self._folds: list[Makes] = [*(fold_of(name) for name in dict.fromkeys(settings.folds)), *folds]
        self._contracts = Contracts(settings.products, settings.names)
        self._restore = Restore(self.new, time_field)
        self._feed_gaps: list[tuple[int, int]] = []  # of the ticks' feed, by receipt
        if self._folds:
            self.new("")  # what is no fold is found before the first message

    def new(self, product: str) -> ProductState:
        """A product of which nothing is known yet."""
        contract, zone = self._contracts.of(product), self._zones.of(product)
        return ProductState(product, self._settings, contract, zone, self._feed_gaps, self._folds)

    async def restore(self, reader: Reader, wanted: Mapping[str, Delivery]) -> Mapping[str, ProductState]:
        return await self._restore.load(reader, wanted)

    async def unfinished(self, reader: Reader, now_us: int) -> Sequence[str]:
        """Every product that has a checkpoint, the one heard last first: what is known of it serves its next
        message at once, and its open bars are closed though it stays silent."""
        documents = await reader.find(STATE, {})
        documents.sort(key=lambda document: -int(document.get("heard_us", 0)))
        return [document["_id"] for document in documents]

    def unshown(self, state: ProductState, now_us: int) -> Sequence[Sequence[Effect]]:
        """What was stored last is shown unless it was, a write for each message, and what the state as a
        whole had to say then. Every message is claimed, and caches only give way to newer ones."""
        writes: list[Sequence[Effect]] = []
        last_us = now_us
        for processed_us, collection, document in state.recent.take():
            try:
                effects = self._visible(state, collection, document, processed_us, now_us)
            except (TypeError, ValueError, LookupError, AttributeError, OverflowError, BadMessage):
                continue  # a document of somebody else's; the log named it when it was read
            if effects:
                last_us = processed_us
                writes.append(tuple(aged(effects, now_us - processed_us)))
        if writes:
            caches = [*state.bars.show(now_us), *state.windows.show(now_us), *state.quotes.show(now_us)]
            if state.chains.newest_us:
                state.surface.want(state.quotes.naive)
                state.whole.wanted = state.surface.wanted
            # It may have waited for its time, behind a surface of the same moment that was shown.
            surface = aged(state.surface.show_now(now_us), now_us - last_us, behind_us=0)
            # Only cached: whether it was published is not known.
            for show in (state.whole.show, *(harmless(fold.show, ()) for fold in state.own)):
                caches += [effect for effect in show(now_us) if isinstance(effect, SetKey)]
            writes.append((*surface, *aged(caches, now_us - last_us)))
        return writes

    def seen(self, state: ProductState, event: Tick | Quote | Chain, context: Context) -> Folded | None:
        """Whether this very message was folded already.

        What is not recognised here is found out by its ``_id`` and its claim; this spares the trip.
        `BadMessage` for one that names a second product, whose state is in another lane.
        """
        if event.product != state.product:
            raise BadMessage("$.product", "one product", f"{shown(state.product)} and {shown(event.product)}")
        if isinstance(event, Tick):
            if self._settings.analytics:
                state.health.take(event, context.now_us)
            last, identities = state.last, state.identities
            if last is not None and event.event_us > last.event_us and not identities.aside:
                return None
            return identities.seen_tick(event, context.body)
        return state.identities.seen_option(event, context.body)

    def fold(self, state: ProductState, change: TickChange | QuoteChange | ChainChange | None) -> str | None:
        """Fold a tick, quote or chain; None is one that MongoDB is going to refuse.

        `future`, `no_price` or `late` when it folds into nothing, or not into everything.
        """
        if change is None:
            return None
        if change.aside:
            state.identities.set_aside(change.event_us, change.identity)
            return change.aside
        return state.fold(change)

    def show(self, state: ProductState, now_us: int) -> Sequence[Effect]:
        """What the folds of a product have to say after a turn."""
        state.settle()
        effects: list[Effect] = []
        folds, own = state.folds, state.own
        for at, show in state.shown:
            if own and folds[at] in own:
                effects += harmless(folds[at].show, ())(now_us)
            else:
                effects += show(folds[at], now_us)
        return effects

    def show_again(self, state: ProductState) -> None:
        """Have the next `show` say everything, whatever was shown."""
        for fold in state.folds:
            fold.show_again()

    def held(self, state: ProductState, now_us: int) -> Sequence[Sequence[Effect]]:
        """What was put off: a surface that came soon after another."""
        return [state.surface.show_now(now_us)]

    def due(self, state: ProductState) -> int | None:
        """When the first of the folds wants to be asked by the clock."""
        due_us, folds = None, state.folds
        for at, _ in state.timed:
            wanted = folds[at].due_us
            if wanted is not None and (due_us is None or wanted < due_us):
                due_us = wanted
        return due_us

    def on_time(self, state: ProductState, now_us: int) -> Sequence[Effect]:
        """What the folds have to say whose time has come."""
        effects: list[Effect] = []
        for at, _ in state.timed:
            fold = state.folds[at]
            if fold.due_us is not None and fold.due_us <= now_us:
                if fold not in state.own:
                    effects += fold.on_time(now_us)
                    continue
                due_us = fold.due_us
                effects += harmless(fold.on_time, ())(now_us)
                if fold.due_us == due_us:  # or it would be asked for ever
                    fold.due_us = None
        return effects

    def clock_set(self, state: ProductState, step_us: int) -> None:
        """The clock was set: what was heard was heard as long ago as before, and nothing is due for that."""
        for fold in state.folds:
            fold.clock_set(step_us)

    def on_gap(self, topic: str, from_us: int, to_us: int) -> None:
        """Messages of a topic may have been missed between these moments of the clock (0: ever before)."""
        if topic == self._settings.channels.underlying:
            self._feed_gaps.append((from_us, to_us))
