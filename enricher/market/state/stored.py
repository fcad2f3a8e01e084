"""What is stored of products, as a restart reads it: in slices of time, giving way to everybody else.

One large query is decoded in one piece, which holds the event loop (a second for 80,000 ticks), and a driver
may wait for it longer than it waits for anything. A slice is found by equality of the product and a
range of time, which the indexes answer on every server; some read all rows of all products for ``$in``, and
the whole range whatever the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import anyio

from enricher.clock import to_date, to_millis
from enricher.engine.ports import Reader
from enricher.market.documents import BARS, CHAINS, QUOTES, TICKS, micros
from enricher.market.folds.checkpoint import CHECKPOINT_US
from enricher.market.state.read_back import event_time, read

R = TypeVar("R")

IN_ONE_PIECE: Final = 200
"""Documents folded before others have their turn: about 2 ms."""

_AT_ONCE: Final = {TICKS: 500, BARS: 500, QUOTES: 250, CHAINS: 20}
"""Documents that are decoded in one piece: 2 to 5 ms, with the loop waiting."""

_BEYOND_US: Final = 2 * CHECKPOINT_US
"""Nearly all that is stored lies before a product's checkpoint or within this time of it."""

_MILLISECOND: Final = 1000  # BSON dates go no finer, so neither do slices
_GROWTH: Final = 8
_FIRST_PART: Final = 32  # of the range: the first slice, when nothing is known of how dense it is


class Pace:
    """How wide (microseconds) the next slice of a collection is to be: what is learned from one product
    serves the next. ``most`` documents are read at once, about half of that is aimed at."""

    __slots__ = ("most", "us")

    def __init__(self, most: int) -> None:
        self.most = most
        self.us = 0

    def learn(self, width_us: int, documents: int) -> None:
        """A slice of this width held so many documents."""
        if width_us <= 0:
            return
        if documents * _GROWTH < self.most:
            self.us = max(self.us, width_us * _GROWTH)
        else:
            self.us = width_us * self.most // (2 * documents)


def paces() -> dict[str, Pace]:
    """The pace of each collection, to be kept from one product to the next."""
    return {collection: Pace(most) for collection, most in _AT_ONCE.items()}


class Stored:
    """A reader with ``paces``; messages are found by ``time_field``."""

    def __init__(self, reader: Reader, paces: Mapping[str, Pace], time_field: str) -> None:
        self.find = reader.find
        self.paces = paces
        self._time_field = time_field

    def since(
        self, collection: str, product: str, since_us: int, origin_us: int
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The product's messages from ``since_us`` on, slice by slice, most of them up to ``origin_us``."""
        return self.slices(collection, product, since_us, origin_us + _BEYOND_US, self._time_field)

    async def slices(
        self, collection: str, product: str, since_us: int, until_us: int, field: str
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The product's documents with ``field`` at or after ``since_us``, slice by slice in time order.

        ``until_us`` is up to where most of them reach; those beyond it are found, too, but in slices without
        an end, for each of which some servers go through all that is left. Within a slice they come in any
        order. More than the pace's ``most`` come at once only where one millisecond holds more.
        """
        pace, at = self.paces[collection], since_us - since_us % _MILLISECOND
        pace.us = pace.us or (until_us - at) // _FIRST_PART
        while True:
            width = max(pace.us - pace.us % _MILLISECOND, _MILLISECOND)
            last = at + width >= until_us
            query = {"product": product, field: _within(field, at, None if last else at + width)}
            documents = await self.find(collection, query, sort=[(field, 1)], limit=pace.most + 1)
            if len(documents) <= pace.most:
                pace.learn(until_us - at if last else width, len(documents))
                yield documents
                if last:
                    return
                at += width
                continue
            # Too many: complete up to the millisecond of the last, and the next slice is narrower.
            edge = _millis(documents[-1][field])
            if edge > at:
                documents = [document for document in documents if _millis(document[field]) < edge]
            else:
                edge = at + _MILLISECOND
                only = {"product": product, field: _within(field, at, edge)}
                documents = await self.find(collection, only)
            pace.learn(edge - at, len(documents))
            yield documents
            at = edge

    async def newest(self, collection: str, product: str, near_us: int, step_us: int) -> int | None:
        """The event time of the product's newest message; None if there is none.

        It is looked for backwards from ``near_us`` in stretches that grow from ``step_us`` on: a server that
        sorts what it has found, instead of following its index, has little to sort.
        """
        field, before, back = self._time_field, dict[str, Any](), step_us
        while True:
            last = near_us - back <= 0
            bounds = before if last else {**_within(field, near_us - back, None), **before}
            query = {"product": product, field: bounds} if bounds else {"product": product}
            documents = await self.find(collection, query, sort=[(field, -1)], limit=1)
            if documents or last:
                return read(event_time, documents[0]) if documents else None
            before = {"$lt": bounds["$gte"]}
            back *= 4


def _within(field: str, since_us: int, until_us: int | None) -> dict[str, Any]:
    """The condition that ``field`` lies at or after ``since_us`` and, unless None, before ``until_us``.

    ``event_us`` holds microseconds, every other field a date.
    """
    value: Callable[[int], Any] = int if field == "event_us" else to_date
    bounds = {"$gte": value(since_us)}
    return bounds if until_us is None else {**bounds, "$lt": value(until_us)}


def _millis(time: Any) -> int:
    """The whole millisecond of what was found: a date, or microseconds."""
    return to_millis(int(time)) if isinstance(time, int | float) else micros(time)


async def giving_way(items: Sequence[R], every: int = IN_ONE_PIECE) -> AsyncIterator[R]:
    """The items, with a turn for everybody else after ``every`` of them."""
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0:
            await asyncio.sleep(0)


async def at_once(items: Iterable[R], work: Callable[[R], Awaitable[None]], workers: int = 4) -> None:
    """Do the work of every item, ``workers`` at a time; the first error is raised plainly, when all ended."""
    errors: list[Exception] = []
    waiting = iter(items)

    async def serve() -> None:
        for item in waiting:
            if errors:
                return
            try:
                await work(item)
            except Exception as error:  # noqa: BLE001  raised below
                errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            tasks.start_soon(serve)
    if errors:
        raise errors[0]
