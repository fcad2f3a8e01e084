"""Rebuilding what the lane of a product remembers from what was stored.

Each query is one product's range of time with a lower bound, which costs the same whatever the history; it is
read in slices (`state.stored`). The bound comes from the product's checkpoint; without one, or with
one that is ahead of what was stored (the crash came in the middle of a commit), the newest stored message is
looked up. Documents that an old worker left are read for what they hold; one that makes no sense is left out,
for a product must not stand still because of it. Whatever folds documents gives way to the event loop every
few of them, for other products go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from enricher.engine.ports import Delivery, Reader
from enricher.market.documents import CHAINS, QUOTES, STATE, TICKS
from enricher.market.state.product_state import ProductState, harmless
from enricher.market.state.restore_options import restore_options
from enricher.market.state.restore_ticks import restore_ticks
from enricher.market.state.stored import Stored, at_once, giving_way, paces

_BOUNDS: Final = {TICKS: "ticks_us", QUOTES: "options_us", CHAINS: "options_us"}


class Restore:
    """Rebuilds states that ``new`` makes; what is learned of how dense messages lie serves the next."""

    def __init__(self, new: Callable[[str], ProductState], time_field: str) -> None:
        self._new = new
        self._time_field = time_field
        self._paces = paces()

    async def load(self, reader: Reader, wanted: Mapping[str, Delivery]) -> dict[str, ProductState]:
        """The state of each wanted product, rebuilt from what is stored. Raises `SinkUnavailable`."""
        stored = Stored(reader, self._paces, self._time_field)
        checkpoints, new = await _known(reader, list(wanted))
        documents = {document["_id"]: document for document in checkpoints}
        states: dict[str, ProductState] = {}
        named: dict[str, set[str]] = {}

        def start(product: str) -> ProductState:
            state = states[product] = self._new(product)
            named[product] = state.checkpoint.restore(documents.get(product, {}))
            return state

        async def ticks(product: str) -> None:
            state, step_us = states[product], states[product].settings.reload_us
            origin = state.checkpoint.last.ticks_us
            if not origin:
                origin = await stored.newest(TICKS, product, wanted[product].received_us, step_us) or 0
            if not origin:
                return
            await restore_ticks(stored, state, origin)
            if (state.windows.ticks.newest or 0) < origin and (
                newest := await stored.newest(TICKS, product, origin, step_us)
            ):
                # The checkpoint ran ahead: what it bounded may lack the beginning.
                await restore_ticks(stored, start(product), newest)

        async def options(product: str) -> None:
            state, near_us = states[product], wanted[product].received_us
            origin = state.checkpoint.last.options_us
            if not origin:
                newest = [
                    await stored.newest(name, product, near_us, state.settings.reload_us) or 0
                    for name in (QUOTES, CHAINS)
                    if product not in new[name]
                ]
                origin = max(newest, default=0)
            if origin:
                await restore_options(stored, state, origin, named[product])

        for product in wanted:
            start(product)
        await at_once([product for product in states if product not in new[TICKS]], ticks)
        await at_once([product for product in states if product not in new[QUOTES] & new[CHAINS]], options)
        async for product, state in giving_way(list(states.items())):
            for fold in state.folds:
                restored = harmless(fold.restored) if fold in state.own else fold.restored
                restored(wanted[product].received_us)
        return states


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
