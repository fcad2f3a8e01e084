"""What the lane of one product remembers, and how it is rebuilt from what was stored.

Bars, rolling windows, last chains and the quote surface are the fold of the product's stored messages, so
stopping, killing and starting in the middle of a window changes no number: `load` reads back what any window
can still need, from a lower bound that a checkpoint gives (a range with a lower bound costs the same whatever
the history).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from enricher.engine.ports import Delivery, Reader
from enricher.market.bars import Bars, BarTick, Content
from enricher.market.buildup import Snapshot, SnapshotHistory
from enricher.market.clock import MINUTE, SECOND, to_date
from enricher.market.models import Chain, Number, Quote, Tick
from enricher.market.stored import bar_content, chain_of, event_time, micros, quote_of
from enricher.market.surface import QuoteSurface
from enricher.market.ticks import TickWindow, identity_key, order_key

TICKS = "underlying_ticks"
QUOTES = "option_quotes"
CHAINS = "option_chains"
BARS = "ohlc_bars"
STATE = "enricher_state"

CHECKPOINT_US = 60 * SECOND
"""How far event time moves before a product's checkpoint is written again: it only bounds a range."""


class Spans(msgspec.Struct, frozen=True, kw_only=True):
    """How far back state reaches: bar windows in minutes, the rest in microseconds."""

    windows: tuple[int, ...]
    lateness_us: int
    quote_us: int
    buildup_us: int

    @property
    def retention_us(self) -> int:
        """Ticks older than the newest by more than this fold into nothing."""
        return max(max(self.windows) * MINUTE, self.lateness_us)

    @property
    def reload_us(self) -> int:
        """How far before the newest tick the ticks of a bar that can still change may lie."""
        return self.retention_us + max(self.windows) * MINUTE


class LatestTick(msgspec.Struct, frozen=True, gc=False):
    """The newest tick as sent; ``rank`` (event time, order key) says which of two is newer."""

    rank: tuple[int, int]
    price: Number
    timestamp: str
    naive: bool


class ProductState:
    """Everything one product's lane remembers. Owned by the lane, touched by nobody else."""

    __slots__ = (
        "bars",
        "chain_ids",
        "checkpoint_us",
        "heard_us",
        "latest",
        "members",
        "newest_chain_us",
        "primed_chains",
        "product",
        "pruned",
        "recent_chains",
        "recent_quotes",
        "snapshots",
        "spans",
        "spot",
        "surface",
        "surface_text",
        "ticks",
        "ticks_changed",
    )

    def __init__(self, product: str, spans: Spans) -> None:
        self.product = product
        self.spans = spans
        self.ticks = TickWindow(spans.retention_us)
        self.bars = Bars(spans.windows, spans.lateness_us, spans.retention_us)
        self.snapshots: dict[str, SnapshotHistory] = {}
        self.surface = QuoteSurface(spans.quote_us)
        # The last identity of each symbol and expiry: most duplicates come at once.
        self.recent_quotes: dict[str, tuple[int, str]] = {}
        self.recent_chains: dict[str, tuple[int, str]] = {}
        self.primed_chains: dict[int, set[str]] = {}
        # Expiry -> _id of its newest chain, for the checkpoint.
        self.chain_ids: dict[str, str] = {}
        self.newest_chain_us = 0
        self.spot: Number | None = None
        # What `settle` has still to say.
        self.latest: LatestTick | None = None
        self.ticks_changed = False
        self.members: dict[tuple[str, Number, str], tuple[bytes, int]] = {}
        self.surface_text: tuple[str, bool, int] | None = None
        self.pruned = ""
        self.checkpoint_us: int | None = None
        self.heard_us: int | None = None

    # -- folding -----------------------------------------------------------------------------------

    def is_late(self, event_us: int) -> bool:
        """Whether a tick of this time is too old to fold into anything."""
        newest = self.ticks.newest
        return newest is not None and event_us < newest - self.spans.retention_us

    def fold_tick(self, tick: Tick, ident: int, received_us: int) -> str | None:
        """Fold a tick; `future` or `late` when it folds into nothing."""
        if tick.future:
            return "future"
        self.heard_us = received_us
        order = order_key(tick.tick_id)
        if not self.ticks.add(tick.event_us, tick.price, order, ident):
            return "late"
        self.bars.fold(tick.event_us, tick.price, order, tick.volume)
        self.ticks_changed = True
        rank = (tick.event_us, order)
        if tick.event_us == self.ticks.newest and (self.latest is None or rank >= self.latest.rank):
            self.latest = LatestTick(rank, tick.price, tick.timestamp, tick.naive)
        return None

    def fold_quote(self, quote: Quote, digest: str) -> str | None:
        """Fold a quote into the surface; its member of the sorted set is noted for `settle`."""
        self.recent_quotes[quote.symbol] = (quote.event_us, digest)
        if quote.future:
            return "future"
        change = self.surface.fold_quote(quote, digest)
        if change.add is not None or change.remove:
            text = change.add.text.encode() if change.add is not None else b""
            self.members[quote.expiry, quote.strike, quote.option_type] = (text, quote.event_us)
        return None

    def fold_chain(self, chain: Chain, digest: str, taken: Snapshot, document_id: str) -> str | None:
        """Fold a chain: baseline of later build-up, and the surface. A late one changes neither."""
        self.recent_chains[chain.expiry] = (chain.event_us, digest)
        if chain.future:
            return "future"
        self.history(chain.expiry).add(taken)
        if not self.surface.fold_chain(chain, digest):
            return "late"
        self.chain_ids[chain.expiry] = document_id
        if chain.event_us >= self.newest_chain_us:
            self.newest_chain_us = chain.event_us
            self.spot = chain.spot_price
            self.surface_text = (chain.timestamp, chain.naive, chain.event_us)
        return None

    def history(self, expiry: str) -> SnapshotHistory:
        """The snapshots of one expiry."""
        found = self.snapshots.get(expiry)
        if found is None:
            age = self.spans.buildup_us
            # Without a least age the baseline is simply the snapshot before, however near.
            step = min(30 * SECOND, age // 4)
            found = self.snapshots[expiry] = SnapshotHistory(age, step)
        return found

    def baseline(self, expiry: str, event_us: int) -> Snapshot | None:
        """The snapshot that build-up at ``event_us`` compares with; strictly earlier."""
        found = self.history(expiry).baseline(event_us)
        return found if found is not None and found.event_us < event_us else None


# -- loading -----------------------------------------------------------------------------------------


async def load(
    reader: Reader,
    wanted: Mapping[str, Delivery],
    first_us: Mapping[str, int],
    spans: Spans,
) -> dict[str, ProductState]:
    """The state of each wanted product, rebuilt from what is stored.

    ``first_us`` is the event time of the message that asked, the lower bound's origin for a product without
    a checkpoint. Raises `SinkUnavailable`.
    """
    states = {product: ProductState(product, spans) for product in wanted}
    checkpoints = {
        document["_id"]: document
        for document in await reader.find(STATE, {"_id": {"$in": list(wanted)}})
    }
    origins = {
        product: int(checkpoints[product]["newest_us"]) if product in checkpoints else first_us[product]
        for product in wanted
    }
    for products in _near_each_other(origins):
        bounds = {product: origins[product] - spans.reload_us for product in products}
        await _load_ticks(reader, {p: states[p] for p in products}, bounds)
        await _load_options(reader, {p: states[p] for p in products}, origins, checkpoints)
    for product, document in checkpoints.items():
        states[product].checkpoint_us = int(document["newest_us"])
    return states


def _near_each_other(origins: Mapping[str, int]) -> list[list[str]]:
    """Products whose bounds lie within an hour share a query, so that a replay drags no other along."""
    groups: list[list[str]] = []
    first = 0
    for product in sorted(origins, key=lambda p: origins[p]):
        if not groups or origins[product] - first > 60 * MINUTE:
            groups.append([])
            first = origins[product]
        groups[-1].append(product)
    return groups


async def _load_ticks(
    reader: Reader, states: Mapping[str, ProductState], bounds: Mapping[str, int]
) -> None:
    since = {"$gte": to_date(min(bounds.values()))}
    ticks: dict[str, list[dict[str, Any]]] = {product: [] for product in states}
    query = {"product": {"$in": list(states)}, "timestamp": since}
    for document in await reader.find(TICKS, query):
        mine = document["product"]
        if document.get("folded") is not False and event_time(document) >= bounds[mine]:
            ticks[mine].append(document)
    stored: dict[str, dict[tuple[int, int], tuple[int, Content]]] = {p: {} for p in states}
    for document in await reader.find(BARS, {"product": {"$in": list(states)}, "start": since}):
        key = (document["window_minutes"], micros(document["start"]))
        stored[document["product"]][key] = (document["revision"], bar_content(document))
    for product, state in states.items():
        rows = []
        for document in sorted(ticks[product], key=_tick_rank):
            event_us, order = _tick_rank(document)
            price = float(document["price"])
            digest = str(document["_id"]).rpartition("#")[2]
            ident = identity_key(document.get("tick_id"), digest)
            state.ticks.add(event_us, price, order, ident, False)
            rows.append(BarTick(event_us, price, order, document.get("volume")))
        state.bars.restore(rows, stored[product], bounds[product])


async def _load_options(
    reader: Reader,
    states: Mapping[str, ProductState],
    origins: Mapping[str, int],
    checkpoints: Mapping[str, Mapping[str, Any]],
) -> None:
    spans = next(iter(states.values())).spans
    origin = min(origins[product] for product in states)
    names = {"$in": list(states)}
    since = {"$gte": to_date(origin - spans.quote_us - spans.reload_us)}
    for document in await reader.find(QUOTES, {"product": names, "timestamp": since}):
        quote = quote_of(document)
        if quote is not None:
            states[quote.product].surface.fold_quote(quote, document["_id"].rpartition("#")[2])
    back = max(spans.quote_us, 4 * spans.buildup_us) + spans.reload_us
    chains = await reader.find(CHAINS, {"product": names, "timestamp": {"$gte": to_date(origin - back)}})
    # The last chain of an expiry may be older than any range: the checkpoint knows its _id.
    have = {document["_id"] for document in chains}
    older = {
        identity
        for product in states
        for identity in checkpoints.get(product, {}).get("chains", {}).values()
        if identity not in have
    }
    if older:
        chains += await reader.find(CHAINS, {"_id": {"$in": sorted(older)}})
    for document in sorted(chains, key=event_time):
        found = chain_of(document)
        if found is None:
            continue
        chain, taken = found
        state = states[chain.product]
        digest = str(document["_id"]).rpartition("#")[2]
        state.fold_chain(chain, digest, taken, str(document["_id"]))
        state.primed_chains.setdefault(chain.event_us, set()).add(digest)
        state.recent_chains.pop(chain.expiry, None)
    for state in states.values():
        state.surface_text = None


def _tick_rank(document: Mapping[str, Any]) -> tuple[int, int]:
    return event_time(document), order_key(document.get("tick_id"))
