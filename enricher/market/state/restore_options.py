"""Giving the stored quotes and chains of a product to its folds again, and the daily history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from itertools import pairwise
from typing import Final

from enricher.clock import SECOND
from enricher.market.documents import CHAINS, HISTORY, QUOTES
from enricher.market.folds.checkpoint import CHECKPOINT_US
from enricher.market.folds.fold import ChainChange, QuoteChange
from enricher.market.state.product_state import ProductState
from enricher.market.state.read_back import Document, chain_of, digest_of, event_time, quote_of, read
from enricher.market.state.stored import Stored, giving_way
from enricher.market.surface.expiry_snapshot import expiry_snapshot
from enricher.market.zeros import with_nulls

Row = tuple[int, Document]  # event time and what was read

_CHAINS_IN_ONE_PIECE: Final = 4  # a chain has hundreds of legs


async def restore_options(stored: Stored, state: ProductState, origin: int, named: set[str]) -> None:
    """The history, the chains and the quotes up to ``origin``, about the newest, and those stored since.

    ``named`` are the ``_id`` of chains that count however old they are.
    """
    await _restore_history(stored, state, {})
    await _restore_chains(stored, state, origin, named)
    await _restore_quotes(stored, state, origin)


async def _restore_history(stored: Stored, state: ProductState, days: Document) -> None:
    """The days that percentiles are of; ``days`` bounds them."""
    query, most = {"product": state.product, **days}, 2 * state.settings.history_days
    documents = await stored.find(HISTORY, query, sort=[("day", -1)], limit=most)
    # Ascending, so that none counts as too old.
    async for document in giving_way(documents[::-1]):
        read(state.history.restore_day, document)


async def _restore_quotes(stored: Stored, state: ProductState, origin: int) -> None:
    # Quotes from before the window are in no surface. A checkpoint may be ahead by what was refused since.
    since = origin - int(state.settings.quote_window * SECOND) - CHECKPOINT_US
    state.quotes.surface.partial = True
    steps = state.restoring(QuoteChange)
    async for documents in stored.since(QUOTES, state.product, since, origin):
        async for document in giving_way(documents):
            state.recent.add(QUOTES, document)
            if document.get("folded") is False:
                state.identities.set_aside(read(event_time, document) or 0, digest_of(document))
                continue
            quote = read(quote_of, document)
            if quote is not None:
                change = QuoteChange(quote.event_us, quote, digest_of(document), restored=True)
                for step in steps:
                    step(change)


async def _restore_chains(stored: Stored, state: ProductState, origin: int, named: set[str]) -> None:
    back = int(state.settings.quote_window * SECOND)
    if not state.checkpoint.last.options_us:
        back = max(back, 4 * state.baselines.least_us)  # nobody wrote down what build-up is compared with
    bound = origin - back
    documents: list[Document] = []
    async for slice_ in stored.since(CHAINS, state.product, bound, origin):
        documents += slice_
    # Chains may be rare, so that those which count are older than any range: the checkpoint knows them.
    older = sorted(named - {str(document["_id"]) for document in documents})
    most = stored.paces[CHAINS].most
    for at in range(0, len(older), most):
        documents += await stored.find(CHAINS, {"_id": {"$in": older[at : at + most]}})
    rows: list[Row] = []
    async for document in giving_way(documents):
        us = read(event_time, document)
        if us is not None and (us >= bound or str(document["_id"]) in named):
            rows.append((us, document))
            state.recent.add(CHAINS, document)
    rows.sort(key=_time_and_id)
    folded: list[Row] = []
    async for event_us, document in giving_way(rows):
        if document.get("folded") is False:
            state.identities.set_aside(event_us, digest_of(document))
        else:
            state.identities.restored_chains.setdefault(event_us, set()).add(digest_of(document))
            folded.append((event_us, document))
    needed, steps = await _those_that_count(state, folded, named), state.restoring(ChainChange)
    async for _, document in giving_way(needed, _CHAINS_IN_ONE_PIECE):
        change = read(partial(_chain, state), document)
        for step in steps if change is not None else ():
            if step(change) is not None:
                break
    await _restore_earlier_history(stored, state, [event_us for event_us, _ in folded])
    # The other chains count only for what they say of the product as a whole.
    async for event_us, document in giving_way(folded):
        read(partial(state.history.fold_stored, event_us), document)


def _chain(state: ProductState, document: Document) -> ChainChange | None:
    read_chain = chain_of(document)
    if read_chain is None:
        return None
    chain, taken = read_chain
    known = read(lambda stored: expiry_snapshot(chain, with_nulls(stored), state.contract), document)
    document_id = str(document["_id"])
    return ChainChange(chain.event_us, chain, digest_of(document), taken, document_id, known, restored=True)


async def _restore_earlier_history(stored: Stored, state: ProductState, moments: Sequence[int]) -> None:
    """The days before the last chains of a replay that stands where the newest days do not reach."""
    look_back = state.settings.history_days
    days = sorted({state.session(moment).day for moment in moments})
    latest = days[-1] if days else 0
    for day, following in pairwise((*days, latest)):
        if day < latest and following - day > look_back:
            bounds = [date.fromordinal(max(bound, 1)).isoformat() for bound in (day - look_back, day)]
            await _restore_history(stored, state, {"day": {"$gte": bounds[0], "$lte": bounds[1]}})


async def _those_that_count(state: ProductState, ascending: Sequence[Row], named: set[str]) -> list[Row]:
    """Of each expiry the two last chains that can be read, the first of a local day and of a step of
    build-up, and those that a checkpoint ``named``.

    The last are all of their moments, for then the digest decides.
    """
    last: dict[str, set[int]] = {}
    first: dict[tuple[str, int, int], Row] = {}
    step_us = state.baselines.step_us
    async for event_us, document in giving_way(ascending):
        day, step = state.session(event_us).day, event_us // step_us if step_us else 0
        key = str(document.get("expiry")), day, step
        if key not in first and read(chain_of, document) is not None:
            first[key] = (event_us, document)
    counting: list[Row] = []
    async for event_us, document in giving_way(ascending[::-1]):
        moments = last.setdefault(str(document.get("expiry")), set())
        if len(moments) > 1 and event_us not in moments and str(document["_id"]) not in named:
            continue
        if read(chain_of, document) is not None:
            moments.add(event_us)
            counting.append((event_us, document))
            await asyncio.sleep(0)
    chosen = {id(document) for _, document in counting}
    counting.extend(row for row in first.values() if id(row[1]) not in chosen)
    # As they came: where a replay stands beside the live feed follows from that.
    counting.sort(key=_arrival)
    return counting


def _arrival(row: Row) -> tuple[datetime, int, str]:
    document = row[1]
    return document.get("processed_at", document["timestamp"]), *_time_and_id(row)


def _time_and_id(row: Row) -> tuple[int, str]:
    return row[0], str(row[1]["_id"])
