"""Giving the stored ticks and bars of a product to its folds again."""

from __future__ import annotations

import asyncio
from operator import attrgetter

from enricher.analytics.sub_bars import BarKey, Content
from enricher.market.bars.bars import LARGEST_VOLUME
from enricher.market.documents import BARS, TICKS
from enricher.market.folds.fold import TickChange
from enricher.market.state.product_state import ProductState, forgiving, harmless
from enricher.market.state.read_back import bar_of, read, tick_of
from enricher.market.state.stored import IN_ONE_PIECE, Stored, giving_way


async def restore_ticks(stored: Stored, state: ProductState, origin: int) -> None:
    """The ticks up to ``origin``, about the newest, and those stored since, in the order of event time.

    Bars and windows need them from the beginning of the earliest bar that may still change; a fold that looks
    further back gets those before it alone.
    """
    product, bars = state.product, state.bars.bars
    bound = state.bars.begin(origin)
    if state.settings.volume == "cumulative":
        await _restore_volume(stored, state, bound, origin)
    bars.complete_from(bound)
    steps = state.restoring(TickChange)
    further = [
        (max(since, 0), forgiving(fold.fold_tick))
        for fold in state.own
        if (since := harmless(fold.read_from)(origin)) is not None
    ]
    async for documents in stored.since(TICKS, product, min([bound, *(us for us, _ in further)]), origin):
        rows: list[TickChange] = []
        async for document in giving_way(documents):
            tick = read(tick_of, document)
            if tick is None:
                continue
            if tick.event_us >= bound:
                state.recent.add(TICKS, document)
                if document.get("folded") is False:
                    state.identities.set_aside(tick.event_us, tick.identity)
            if document.get("folded") is not False:
                rows.append(tick)
        # Slices come in the order of time, so that sorting each of them sorts all. Ticks of one moment that
        # have no id stand in the order in which they came.
        rows.sort(key=attrgetter("event_us", "order", "received_us"))
        for at in range(0, len(rows), IN_ONE_PIECE):
            for tick in rows[at : at + IN_ONE_PIECE]:
                if tick.event_us >= bound:
                    for step in steps:
                        step(tick)
                else:
                    for since, step in further:
                        if tick.event_us >= since:
                            step(tick)
            await asyncio.sleep(0)
    closed: dict[BarKey, tuple[int, Content]] = {}
    newest = state.windows.ticks.newest
    if newest is not None:
        async for documents in stored.slices(BARS, product, bound, newest, "start"):
            closed.update([bar for document in documents if (bar := read(bar_of, document)) is not None])
    bars.restore(closed)


async def _restore_volume(stored: Stored, state: ProductState, bound: int, origin: int) -> None:
    """What had been traded on the day of the bound before it: the highest volume of a tick that was folded.

    Not that of the last ticks, for a counter that has fallen counts from where it was. If no checkpoint knows
    it, all ticks of the day are gone through, in slices: some servers go through all of all products to find
    the highest.
    """
    day, last = state.day_start(bound), state.checkpoint.last
    highest = last.volume
    if last.volume_us != bound:
        highest = None
        async for documents in stored.since(TICKS, state.product, day, origin):
            reached = False
            async for document in giving_way(documents):
                tick = read(tick_of, document)
                if tick is None or document.get("folded") is False:
                    continue
                reached = reached or tick.event_us >= bound
                if tick.event_us < bound and tick.volume is not None and 0 <= tick.volume <= LARGEST_VOLUME:
                    highest = tick.volume if highest is None else max(highest, tick.volume)
            if reached:
                break
    if highest is not None:
        state.bars.bars.start_volume(day, highest)
