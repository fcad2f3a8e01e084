"""Rebuilding what the lane of a product remembers from what was stored.

Each query is one product's range of time with a lower bound, which costs the same whatever the history; it is
read in slices (`state.time_ranges`). The bound comes from the product's checkpoint; without one, or with
one that is ahead of what was stored (the crash came in the middle of a commit), the newest stored message is
looked up. Documents that an old worker left are read for what they hold; one that makes no sense is left out,
for a product must not stand still because of it. Whatever folds documents gives way to the event loop every
few of them, for other products go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from itertools import pairwise
from typing import Any, Final, TypeVar

from enricher.analytics.sub_bars import Content
from enricher.engine.ports import Delivery, Reader
from enricher.log import log
from enricher.market.bars.bars import LARGEST_VOLUME, BarTick
from enricher.market.bars.rolling_windows import identity_key, order_key
from enricher.market.documents import bar_content, chain_of, event_time, micros, quote_of
from enricher.market.products import Contracts
from enricher.market.state.gaps import ProductGaps
from enricher.market.state.history import restore_history
from enricher.market.state.horizons import Checkpoint, Spans
from enricher.market.state.product_state import (
    BARS,
    CHAINS,
    CHECKPOINT_US,
    HISTORY,
    QUOTES,
    STATE,
    TICKS,
    ProductState,
)
from enricher.market.state.time_ranges import Pace, at_once, in_slices, newest_before
from enricher.market.surface.expiry_snapshot import Remembered, remember
from enricher.market.zeros import with_nulls
from enricher.messages.models import Chain

Document = Mapping[str, Any]
States = Mapping[str, ProductState]
Read = tuple[int, Document]  # event time and what was read
R = TypeVar("R")

_IN_ONE_PIECE: Final = 200  # documents folded before others have their turn: about 2 ms
_CHAINS_IN_ONE_PIECE: Final = 4  # a chain has hundreds of legs
# Documents that are decoded in one piece: 2 to 5 ms, with the loop waiting.
_TICKS_AT_ONCE: Final = 500
_BARS_AT_ONCE: Final = 500
_QUOTES_AT_ONCE: Final = 250
_CHAINS_AT_ONCE: Final = 20
_BEYOND_US: Final = 2 * CHECKPOINT_US
"""Nearly all that is stored lies before a product's checkpoint or within this time of it."""
_BOUNDS: Final = {TICKS: "ticks_us", QUOTES: "options_us", CHAINS: "options_us"}


class Paces:
    """The pace of each collection, kept from one product to the next."""

    def __init__(self) -> None:
        self.ticks = Pace(_TICKS_AT_ONCE)
        self.bars = Pace(_BARS_AT_ONCE)
        self.quotes = Pace(_QUOTES_AT_ONCE)
        self.chains = Pace(_CHAINS_AT_ONCE)


async def load(
    reader: Reader,
    wanted: Mapping[str, Delivery],
    spans: Spans,
    contracts: Contracts | None = None,
    paces: Paces | None = None,
) -> dict[str, ProductState]:
    """The state of each wanted product, rebuilt from what is stored. Raises `SinkUnavailable`."""
    terms, paces = contracts or Contracts(), paces or Paces()
    states = {product: ProductState(product, spans, terms.of(product)) for product in wanted}
    chains: dict[str, list[str]] = {}
    naive: set[str] = set()
    found, new = await _known(reader, list(wanted))
    for document in found:
        product = document["_id"]
        numbers = (int(document.get(name, 0)) for name in ("revision", "ticks_us", "options_us", "volume_us"))
        revision, ticks_us, options_us, volume_us = numbers
        volume = document.get("volume")
        states[product].checkpoint = Checkpoint(revision, ticks_us, options_us, volume_us, volume)
        if document.get("naive"):
            naive.add(product)
        gaps = document.get("gaps", ())
        states[product].gaps = ProductGaps((int(low), int(high)) for low, high in gaps)
        # The last of each expiry, the first of its day, and those that build-up is compared with.
        chains[product] = [*document.get("chains", {}).values(), *document.get("firsts", {}).values()]
        for identities in document.get("bases", {}).values():
            chains[product] += identities
    await _load_all_ticks(reader, states, wanted, new[TICKS], paces)
    await _load_all_options(reader, states, chains, wanted, new, paces)
    async for product, state in _giving_way(list(states.items())):
        state.surface_text, state.whole_text, state.chains_unsaid = None, None, False
        # Documents of quotes and chains do not say how their times were written.
        state.options_naive = state.naive or product in naive
        # Some of these may never have reached the sorted set, and would not as long as they do not move.
        for key, text, event_us in state.surface.standing():
            state.members[key] = (text.encode(), event_us)
        if state.bars.open_bars:
            # Should no further tick come, the open bars are closed when it has been idle for long enough.
            state.heard_us = wanted[product].received_us
    return states


# -- ticks -------------------------------------------------------------------------------------------


async def _load_all_ticks(
    reader: Reader, states: States, wanted: Mapping[str, Delivery], new: set[str], paces: Paces
) -> None:
    async def one(product: str) -> None:
        state, near_us = states[product], wanted[product].received_us
        origin = state.checkpoint.ticks_us or await _newest(reader, TICKS, product, near_us, state.spans)
        if not origin:
            return
        await _load_ticks(reader, state, origin, paces)
        if (state.ticks.newest or 0) < origin and (
            newest := await _newest(reader, TICKS, product, origin, state.spans)
        ):
            # The checkpoint ran ahead: what it bounded may lack the beginning.
            fresh = ProductState(product, state.spans, state.contract)
            state.ticks, state.bars = fresh.ticks, fresh.bars
            await _load_ticks(reader, state, newest, paces)

    await at_once([product for product in states if product not in new], one)


async def _load_ticks(reader: Reader, state: ProductState, origin: int, paces: Paces) -> None:
    product, bound = state.product, state.read_from(origin)
    if state.spans.cumulative:
        await _load_volume(reader, state, bound, origin, paces.ticks)
    until, field = origin + _BEYOND_US, state.spans.time_field
    async for found in in_slices(reader, TICKS, product, bound, until, paces.ticks, field):
        rows: list[tuple[BarTick, int, datetime]] = []
        async for document in _giving_way(found):
            row = _read(_tick, document)
            if row is None or row[0].event_us < bound:
                continue
            state.recent.add(TICKS, document)
            if document.get("folded") is False:
                state.set_aside(row[0].event_us, row[1])
            else:
                rows.append(row)
                state.naive = bool(document.get("naive"))
        # Slices come in the order of time, so that sorting each of them sorts all.
        rows.sort(key=_tick_rank)
        for at in range(0, len(rows), _IN_ONE_PIECE):
            piece = rows[at : at + _IN_ONE_PIECE]
            for tick, ident, _ in piece:
                state.ticks.add(tick.event_us, tick.price, tick.order, ident, False)
            state.bars.restore([tick for tick, _, _ in piece], {}, bound)
            await asyncio.sleep(0)
    bars: dict[tuple[int, int], tuple[int, Content]] = {}
    newest = state.ticks.newest
    if newest is not None:
        async for found in in_slices(reader, BARS, product, bound, newest, paces.bars, "start"):
            bars.update([bar for document in found if (bar := _read(_bar, document)) is not None])
    state.bars.restore((), bars, bound)


async def _load_volume(
    reader: Reader, state: ProductState, bound: int, origin: int, pace: Pace
) -> None:
    """What had been traded on the day of the bound before it: the highest volume of a tick that was folded.

    Not that of the last ticks, for a counter that has fallen counts from where it was. If no checkpoint knows
    it, all ticks of the day are gone through, in slices: some servers go through all of all products to find
    the highest.
    """
    day, known = state.session(bound).start_us, state.checkpoint
    highest = known.volume
    if known.volume_us != bound:
        highest = None
        async for found in in_slices(reader, TICKS, state.product, day, origin, pace, state.spans.time_field):
            reached = False
            async for document in _giving_way(found):
                row = _read(_tick, document)
                if row is None or document.get("folded") is False:
                    continue
                tick, reached = row[0], reached or row[0].event_us >= bound
                if tick.event_us < bound and tick.volume is not None and 0 <= tick.volume <= LARGEST_VOLUME:
                    highest = tick.volume if highest is None else max(highest, tick.volume)
            if reached:
                break
    if highest is not None:
        state.bars.start_volume(day, highest)


def _tick(document: Document) -> tuple[BarTick, int, datetime]:
    tick_id, volume = with_nulls(document).get("tick_id"), document.get("volume")
    if not isinstance(volume, (int, float)):
        volume = None
    ident = identity_key(tick_id, str(document["_id"]).rpartition("#")[2])
    price = float(document["price"])
    came = document.get("processed_at", document["timestamp"])
    return BarTick(event_time(document), price, order_key(tick_id), volume), ident, came


def _tick_rank(row: tuple[BarTick, int, datetime]) -> tuple[int, int, datetime]:
    """Ticks of one moment without an id stand in the order in which they came."""
    return row[0].event_us, row[0].order, row[2]


def _bar(document: Document) -> tuple[tuple[int, int], tuple[int, Content]]:
    key = (int(document["window_minutes"]), micros(document["start"]))
    return key, (int(document["revision"]), bar_content(document))


# -- quotes and chains -------------------------------------------------------------------------------


async def _load_all_options(
    reader: Reader,
    states: States,
    chains: Mapping[str, list[str]],
    wanted: Mapping[str, Delivery],
    new: Mapping[str, set[str]],
    paces: Paces,
) -> None:
    async def one(product: str) -> None:
        state, near_us = states[product], wanted[product].received_us
        origin = state.checkpoint.options_us
        if not origin:
            found = [
                await _newest(reader, name, product, near_us, state.spans)
                for name in (QUOTES, CHAINS)
                if product not in new[name]
            ]
            origin = max((us for us in found if us is not None), default=0)
        if origin:
            await _load_history(reader, state, {})
            await _load_chains(reader, state, origin, set(chains.get(product, ())), paces.chains)
            await _load_quotes(reader, state, origin, paces.quotes)

    await at_once([product for product in states if product not in new[QUOTES] & new[CHAINS]], one)


async def _load_history(reader: Reader, state: ProductState, days: Document) -> None:
    """The days that percentiles are of; ``days`` bounds them."""
    query, most = {"product": state.product, **days}, 2 * state.spans.look_back
    documents = await reader.find(HISTORY, query, sort=[("day", -1)], limit=most)
    # Ascending, so that none counts as too old.
    async for document in _giving_way(documents[::-1]):
        _read(partial(restore_history, state), document)


async def _load_quotes(reader: Reader, state: ProductState, origin: int, pace: Pace) -> None:
    # Quotes from before the window are in no surface. A checkpoint may be ahead by what was refused since.
    since = origin - state.spans.quote_us - CHECKPOINT_US
    state.surface.partial = True
    until, field = origin + _BEYOND_US, state.spans.time_field
    async for found in in_slices(reader, QUOTES, state.product, since, until, pace, field):
        async for document in _giving_way(found):
            digest = _digest(document)
            state.recent.add(QUOTES, document)
            if document.get("folded") is False:
                state.set_aside(_read(event_time, document) or 0, digest)
                continue
            quote = _read(quote_of, document)
            if quote is not None:
                state.surface.fold_quote(quote, digest)


async def _load_chains(
    reader: Reader, state: ProductState, origin: int, last: set[str], pace: Pace
) -> None:
    back = state.spans.quote_us
    if not state.checkpoint.options_us:
        back = max(back, 4 * state.bases.least_us)  # nobody wrote down what build-up is compared with
    bound = origin - back
    documents: list[Document] = []
    until, field = origin + _BEYOND_US, state.spans.time_field
    async for found in in_slices(reader, CHAINS, state.product, bound, until, pace, field):
        documents += found
    # Chains may be rare, so that those which count are older than any range: the checkpoint knows them.
    older = sorted(last - {str(document["_id"]) for document in documents})
    for at in range(0, len(older), pace.most):
        documents += await reader.find(CHAINS, {"_id": {"$in": older[at : at + pace.most]}})
    known: list[Read] = []
    async for document in _giving_way(documents):
        us = _read(event_time, document)
        if us is not None and (us >= bound or str(document["_id"]) in last):
            known.append((us, document))
            state.recent.add(CHAINS, document)
    known.sort(key=_time_and_id)
    folded: list[Read] = []
    async for event_us, document in _giving_way(known):
        digest = _digest(document)
        if document.get("folded") is False:
            state.set_aside(event_us, digest)
        else:
            state.primed_chains.setdefault(event_us, set()).add(digest)
            folded.append((event_us, document))
    needed = await _those_that_count(state, folded, last)
    async for _, document in _giving_way(needed, _CHAINS_IN_ONE_PIECE):
        sent = _read(chain_of, document)
        if sent is not None:
            chain, taken = sent
            kept = _read(partial(_remembered, chain, state), document)
            state.fold_chain(chain, _digest(document), taken, str(document["_id"]), kept)
            state.recent_chains.pop(chain.expiry, None)
    await _load_earlier_history(reader, state, [event_us for event_us, _ in folded])
    # The other chains count only for what they said of the product as a whole.
    async for event_us, document in _giving_way(folded):
        _read(partial(state.fold_said, event_us), document)


async def _load_earlier_history(reader: Reader, state: ProductState, moments: Sequence[int]) -> None:
    """The days before the last chains of a replay that stands where the newest days do not reach."""
    look_back = state.spans.look_back
    days = sorted({state.session(moment).day for moment in moments})
    latest = days[-1] if days else 0
    for day, following in pairwise((*days, latest)):
        if day < latest and following - day > look_back:
            bounds = [date.fromordinal(max(one, 1)).isoformat() for one in (day - look_back, day)]
            await _load_history(reader, state, {"day": {"$gte": bounds[0], "$lte": bounds[1]}})


def _remembered(chain: Chain, state: ProductState, document: Document) -> Remembered | None:
    return remember(chain, with_nulls(document), state.contract)


async def _those_that_count(
    state: ProductState, ascending: Sequence[Read], named: set[str]
) -> list[Read]:
    """Of each expiry the two last chains that can be read, the first of a local day and of a step of
    build-up, and those that a checkpoint ``named``.

    The last are all of their moments, for then the digest decides.
    """
    last: dict[str, set[int]] = {}
    first: dict[tuple[str, int, int], Read] = {}
    step_us = state.bases.step_us
    async for event_us, document in _giving_way(ascending):
        day, step = state.session(event_us).day, event_us // step_us if step_us else 0
        key = str(document.get("expiry")), day, step
        if key not in first and _read(chain_of, document) is not None:
            first[key] = (event_us, document)
    found: list[Read] = []
    async for event_us, document in _giving_way(ascending[::-1]):
        moments = last.setdefault(str(document.get("expiry")), set())
        if len(moments) > 1 and event_us not in moments and str(document["_id"]) not in named:
            continue
        if _read(chain_of, document) is not None:
            moments.add(event_us)
            found.append((event_us, document))
            await asyncio.sleep(0)
    chosen = {id(document) for _, document in found}
    found.extend(read for read in first.values() if id(read[1]) not in chosen)
    # As they came: where a replay stands beside the live feed follows from that.
    found.sort(key=_arrival)
    return found


def _arrival(read: Read) -> tuple[datetime, int, str]:
    document = read[1]
    return document.get("processed_at", document["timestamp"]), *_time_and_id(read)


def _time_and_id(read: Read) -> tuple[int, str]:
    return read[0], str(read[1]["_id"])


# -- both --------------------------------------------------------------------------------------------


async def _known(reader: Reader, products: list[str]) -> tuple[list[dict[str, Any]], dict[str, set[str]]]:
    """The checkpoints of ``products``, and by collection those of them of which nothing is stored.

    Several are new ones, whose messages wait: they cost one look at each collection, all at once, and a few
    old products among them some more. One may be old, and a look at it would cost its history.
    """
    checkpoints: list[dict[str, Any]] = []
    new: dict[str, set[str]] = {TICKS: set(), QUOTES: set(), CHAINS: set()}

    async def look(collection: str, some: list[str]) -> None:
        if not await reader.find(collection, {"product": {"$in": some}}, limit=1):
            new[collection].update(some)
        elif len(some) > 1:
            half = len(some) // 2
            await look(collection, some[:half])
            await look(collection, some[half:])

    async def one(collection: str) -> None:
        if collection is STATE:
            checkpoints.extend(await reader.find(STATE, {"_id": {"$in": products}}))
        elif len(products) > 1 or not any(d.get(_BOUNDS[collection]) for d in checkpoints):
            await look(collection, products)

    if len(products) == 1:
        await one(STATE)
        await at_once(new, one)
    else:
        await at_once((STATE, *new), one)
    return checkpoints, new


async def _newest(
    reader: Reader, collection: str, product: str, near_us: int, spans: Spans
) -> int | None:
    """The event time of the product's newest message, looked for from ``near_us`` on backwards."""
    found = await newest_before(reader, collection, product, near_us, spans.reload_us, spans.time_field)
    return None if found is None else _read(event_time, found)


async def _giving_way(items: Sequence[R], every: int = _IN_ONE_PIECE) -> AsyncIterator[R]:
    """The items, with a turn for everybody else after ``every`` of them."""
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0:
            await asyncio.sleep(0)


def _digest(document: Document) -> str:
    return str(document["_id"]).rpartition("#")[2]


def _read(read: Callable[[Document], R], document: Document) -> R | None:
    """What ``read`` makes of a stored document; None, and a line in the log, when it makes no sense."""
    try:
        return read(document)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        log.warning("unreadable_document", id=str(document.get("_id")), error=repr(error))
        return None
