"""What is stored of products, as a restart reads it: in slices of time, giving way to everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from enricher.engine.ports import Reader
from enricher.log import log
from enricher.market.documents import BARS, CHAINS, QUOTES, TICKS
from enricher.market.folds.checkpoint import CHECKPOINT_US
from enricher.market.state.read_back import event_time
from enricher.market.state.time_ranges import Pace, in_slices, newest_before

Document = Mapping[str, Any]
R = TypeVar("R")

IN_ONE_PIECE: Final = 200
"""Documents folded before others have their turn: about 2 ms."""

_AT_ONCE: Final = {TICKS: 500, BARS: 500, QUOTES: 250, CHAINS: 20}
"""Documents that are decoded in one piece: 2 to 5 ms, with the loop waiting."""

_BEYOND_US: Final = 2 * CHECKPOINT_US
"""Nearly all that is stored lies before a product's checkpoint or within this time of it."""


def paces() -> dict[str, Pace]:
    """The pace of each collection, to be kept from one product to the next."""
    return {collection: Pace(most) for collection, most in _AT_ONCE.items()}


class Stored:
    """A reader with ``paces``; messages are found by ``time_field``."""

    def __init__(self, reader: Reader, paces: Mapping[str, Pace], time_field: str) -> None:
        self.find = reader.find
        self.paces = paces
        self._reader = reader
        self._time_field = time_field

    def since(
        self, collection: str, product: str, since_us: int, origin_us: int
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The product's messages from ``since_us`` on, slice by slice, most of them up to ``origin_us``."""
        pace, until_us = self.paces[collection], origin_us + _BEYOND_US
        return in_slices(self._reader, collection, product, since_us, until_us, pace, self._time_field)

    def bars(self, product: str, since_us: int, until_us: int) -> AsyncIterator[list[dict[str, Any]]]:
        """The product's bars that start from ``since_us`` on."""
        return in_slices(self._reader, BARS, product, since_us, until_us, self.paces[BARS], "start")

    async def newest(self, collection: str, product: str, near_us: int, step_us: int) -> int | None:
        """The event time of the product's newest message, looked for from ``near_us`` on backwards."""
        newest = await newest_before(self._reader, collection, product, near_us, step_us, self._time_field)
        return None if newest is None else read(event_time, newest)


async def giving_way(items: Sequence[R], every: int = IN_ONE_PIECE) -> AsyncIterator[R]:
    """The items, with a turn for everybody else after ``every`` of them."""
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0:
            await asyncio.sleep(0)


def digest_of(document: Document) -> str:
    """The digest of the message, as its document's ``_id`` ends with it."""
    return str(document["_id"]).rpartition("#")[2]


def read(reading: Callable[[Document], R], document: Document) -> R | None:
    """What ``reading`` makes of a stored document; None, and a line in the log, when it makes no sense."""
    try:
        return reading(document)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        log.warning("unreadable_document", id=str(document.get("_id")), error=repr(error))
        return None
