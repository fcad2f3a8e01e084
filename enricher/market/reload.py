"""Rebuilding what the lane of a product remembers from what was stored.

Each query is a range with a lower bound, which costs the same whatever the history. The bound comes from the
product's checkpoint; without one, or with one that is ahead of what was stored (the crash came in the middle
of a commit), the newest stored message is looked up. Documents that an old worker left are read for what they
hold; one that makes no sense is left out, for a product must not stand still because of it. Whatever folds
documents gives way to the event loop every few of them, for other products go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import structlog

from enricher.engine.ports import Delivery, Reader
from enricher.market.bars import BarTick, Content
from enricher.market.clock import MINUTE, to_date
from enricher.market.state import BARS, CHAINS, QUOTES, STATE, TICKS, Checkpoint, ProductState, Spans
from enricher.market.stored import bar_content, chain_of, event_time, micros, quote_of
from enricher.market.ticks import identity_key, order_key

log = structlog.get_logger("enricher")

Document = Mapping[str, Any]
States = Mapping[str, ProductState]
Read = tuple[int, Document]  # event time and what was read
R = TypeVar("R")

_IN_ONE_PIECE: Final = 200  # documents folded before others have their turn: about 2 ms
_CHAINS_IN_ONE_PIECE: Final = 4  # a chain has hundreds of legs


async def load(reader: Reader, wanted: Mapping[str, Delivery], spans: Spans) -> dict[str, ProductState]:
    """The state of each wanted product, rebuilt from what is stored. Raises `SinkUnavailable`."""
    states = {product: ProductState(product, spans) for product in wanted}
    chains: dict[str, list[str]] = {}
    for document in await reader.find(STATE, {"_id": {"$in": list(wanted)}}):
        product = document["_id"]
        numbers = (int(document.get(name, 0)) for name in ("revision", "ticks_us", "options_us"))
        states[product].checkpoint = Checkpoint(*numbers)
        chains[product] = list(document.get("chains", {}).values())
    await _load_all_ticks(reader, states)
    await _load_all_options(reader, states, chains)
    for product, state in states.items():
        state.surface_text, state.chains_unsaid = None, False
        # Some of these may never have reached the sorted set, and would not as long as they do not move.
        for key, text, event_us in state.surface.standing():
            state.members[key] = (text.encode(), event_us)
        await asyncio.sleep(0)
        if state.bars.open_bars:
            # Should no further tick come, the open bars are closed when it has been idle for long enough.
            state.heard_us = wanted[product].received_us
    return states


# -- ticks -------------------------------------------------------------------------------------------


async def _load_all_ticks(reader: Reader, states: States) -> None:
    origins: dict[str, int] = {}
    new = await _without_history(reader, TICKS, [p for p, s in states.items() if not s.checkpoint.ticks_us])
    for product, state in states.items():
        if product in new:
            continue
        newest = state.checkpoint.ticks_us or await _newest(reader, TICKS, product)
        if newest is not None:
            origins[product] = newest
    for products in _near_each_other(origins):
        await _load_ticks(reader, {p: states[p] for p in products}, origins)
    for product, origin in origins.items():
        state = states[product]
        if (state.ticks.newest or 0) < origin and (newest := await _newest(reader, TICKS, product)):
            # The checkpoint ran ahead: what it bounded may lack the beginning.
            fresh = ProductState(product, state.spans)
            state.ticks, state.bars = fresh.ticks, fresh.bars
            await _load_ticks(reader, {product: state}, {product: newest})


async def _load_ticks(reader: Reader, states: States, origins: Mapping[str, int]) -> None:
    bounds = {product: origins[product] - state.spans.reload_us for product, state in states.items()}
    since = {"$gte": to_date(min(bounds.values()))}
    ticks: dict[str, list[tuple[BarTick, int]]] = {product: [] for product in states}
    found = await reader.find(TICKS, {"product": {"$in": list(states)}, "timestamp": since})
    async for document in _giving_way(found):
        product = document["product"]
        row = _read(_tick, document)
        if row is None or row[0].event_us < bounds[product]:
            continue
        if document.get("folded") is False:
            states[product].set_aside(row[0].event_us, row[1])
        else:
            ticks[product].append(row)
            states[product].naive = bool(document.get("naive"))
    bars: dict[str, dict[tuple[int, int], tuple[int, Content]]] = {product: {} for product in states}
    found = await reader.find(BARS, {"product": {"$in": list(states)}, "start": since})
    async for document in _giving_way(found):
        bar = _read(_bar, document)
        if bar is not None:
            bars[document["product"]][bar[0]] = bar[1]
    for product, state in states.items():
        rows = sorted(ticks[product], key=_tick_rank)
        for at in range(0, len(rows), _IN_ONE_PIECE):
            piece = rows[at : at + _IN_ONE_PIECE]
            for tick, ident in piece:
                state.ticks.add(tick.event_us, tick.price, tick.order, ident, False)
            state.bars.restore([tick for tick, _ in piece], {}, bounds[product])
            await asyncio.sleep(0)
        state.bars.restore((), bars[product], bounds[product])


def _tick(document: Document) -> tuple[BarTick, int]:
    tick_id, volume = document.get("tick_id"), document.get("volume")
    if not isinstance(volume, (int, float)):
        volume = None
    ident = identity_key(tick_id, str(document["_id"]).rpartition("#")[2])
    price = float(document["price"])
    return BarTick(event_time(document), price, order_key(tick_id), volume), ident


def _tick_rank(row: tuple[BarTick, int]) -> tuple[int, int]:
    return row[0].event_us, row[0].order


def _bar(document: Document) -> tuple[tuple[int, int], tuple[int, Content]]:
    key = (int(document["window_minutes"]), micros(document["start"]))
    return key, (int(document["revision"]), bar_content(document))


# -- quotes and chains -------------------------------------------------------------------------------


async def _load_all_options(reader: Reader, states: States, chains: Mapping[str, list[str]]) -> None:
    origins: dict[str, int] = {}
    unknown = [product for product, state in states.items() if not state.checkpoint.options_us]
    no_quotes = await _without_history(reader, QUOTES, unknown)
    no_chains = await _without_history(reader, CHAINS, unknown)
    for product, state in states.items():
        newest = state.checkpoint.options_us
        if not newest:
            found = [
                await _newest(reader, name, product)
                for name, without in ((QUOTES, no_quotes), (CHAINS, no_chains))
                if product not in without
            ]
            newest = max((us for us in found if us is not None), default=0)
        if newest:
            origins[product] = newest
    for products in _near_each_other(origins):
        group = {product: states[product] for product in products}
        await _load_quotes(reader, group, min(origins[product] for product in products))
        await _load_chains(reader, group, origins, {i for p in products for i in chains.get(p, ())})


async def _load_quotes(reader: Reader, states: States, origin: int) -> None:
    spans = next(iter(states.values())).spans
    since = {"$gte": to_date(origin - spans.quote_us - spans.reload_us)}
    found = await reader.find(QUOTES, {"product": {"$in": list(states)}, "timestamp": since})
    async for document in _giving_way(found):
        state, digest = states[document["product"]], _digest(document)
        if document.get("folded") is False:
            state.set_aside(_read(event_time, document) or 0, digest)
            continue
        quote = _read(quote_of, document)
        if quote is not None:
            state.surface.fold_quote(quote, digest)


async def _load_chains(
    reader: Reader, states: States, origins: Mapping[str, int], last: set[str]
) -> None:
    spans = next(iter(states.values())).spans
    back = max(spans.quote_us, 4 * spans.buildup_us)
    if spans.buildup_us:
        # The baseline is by its age the chain before the last or an earlier one, and chains may be rare.
        back += spans.reload_us
    bounds = {product: origins[product] - back for product in states}
    since = {"$gte": to_date(min(bounds.values()))}
    found = await reader.find(CHAINS, {"product": {"$in": list(states)}, "timestamp": since})
    documents: list[Document] = list(found)
    # The last chain of an expiry may be older than any range: the checkpoint knows its _id.
    older = last - {str(document["_id"]) for document in documents}
    if older:
        documents += await reader.find(CHAINS, {"_id": {"$in": sorted(older)}})
    known: list[Read] = []
    async for document in _giving_way(documents):
        us = _read(event_time, document)
        if us is not None and (us >= bounds[document["product"]] or str(document["_id"]) in last):
            known.append((us, document))
    known.sort(key=lambda pair: pair[0])
    folded: list[Read] = []
    async for event_us, document in _giving_way(known):
        state, digest = states[document["product"]], _digest(document)
        if document.get("folded") is False:
            state.set_aside(event_us, digest)
        else:
            state.primed_chains.setdefault(event_us, set()).add(digest)
            folded.append((event_us, document))
    if not spans.buildup_us:
        folded = await _last_of_each_expiry(folded)
    async for _, document in _giving_way(folded, _CHAINS_IN_ONE_PIECE):
        sent = _read(chain_of, document)
        if sent is not None:
            chain, taken = sent
            state = states[document["product"]]
            state.fold_chain(chain, _digest(document), taken, str(document["_id"]))
            state.recent_chains.pop(chain.expiry, None)


async def _last_of_each_expiry(ascending: Sequence[Read]) -> list[Read]:
    """All that counts when build-up compares with the chain before: the last that can be read.

    All of its moment, for then the digest decides.
    """
    last: dict[tuple[str, Any], int] = {}
    found: list[Read] = []
    async for event_us, document in _giving_way(ascending[::-1]):
        key = (document["product"], str(document.get("expiry")))
        if event_us < last.get(key, event_us):
            continue
        if _read(chain_of, document) is not None:
            last[key] = event_us
            found.append((event_us, document))
            await asyncio.sleep(0)
    return found[::-1]


# -- both --------------------------------------------------------------------------------------------


async def _without_history(reader: Reader, collection: str, products: list[str]) -> set[str]:
    """All of ``products`` if nothing of any of them is stored: a new market costs one look, not thousands."""
    if products and await reader.find(collection, {"product": {"$in": products}}, limit=1):
        return set()
    return set(products)


async def _newest(reader: Reader, collection: str, product: str) -> int | None:
    """The event time of the product's newest message; None if there is none (which is quickly found)."""
    query = {"product": product}
    if not await reader.find(collection, query, limit=1):
        return None
    found = await reader.find(collection, query, sort=[("timestamp", -1)], limit=1)
    return _read(event_time, found[0]) if found else None


async def _giving_way(items: Sequence[R], every: int = _IN_ONE_PIECE) -> AsyncIterator[R]:
    """The items, with a turn for everybody else after ``every`` of them."""
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0:
            await asyncio.sleep(0)


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


def _digest(document: Document) -> str:
    return str(document["_id"]).rpartition("#")[2]


def _read(read: Callable[[Document], R], document: Document) -> R | None:
    """What ``read`` makes of a stored document; None, and a line in the log, when it makes no sense."""
    try:
        return read(document)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        log.warning("unreadable_document", id=str(document.get("_id")), error=repr(error))
        return None
