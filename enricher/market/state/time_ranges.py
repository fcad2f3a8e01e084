"""Reading a product's stored messages in slices of time.

One large query is decoded in one piece, which holds the event loop (a second for 80,000 ticks), and a driver
may wait for it longer than it waits for anything. A slice is found by equality of the product and a
range of time, which the indexes answer on every server; some read all rows of all products for ``$in``, and
the whole range whatever the limit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

import anyio

from enricher.clock import to_date, to_millis
from enricher.engine.ports import Reader
from enricher.market.documents import micros

T = TypeVar("T")

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


async def in_slices(
    reader: Reader,
    collection: str,
    product: str,
    since_us: int,
    until_us: int,
    pace: Pace,
    field: str = "timestamp",
) -> AsyncIterator[list[dict[str, Any]]]:
    """The product's documents with ``field`` at or after ``since_us``, slice by slice in the order of time.

    ``until_us`` is up to where most of them reach; those beyond it are found, too, but in slices without an
    end, for each of which some servers go through all that is left. Within a slice they come in any order.
    More than ``pace.most`` come at once only where one millisecond holds more.
    """
    at = since_us - since_us % _MILLISECOND
    pace.us = pace.us or (until_us - at) // _FIRST_PART
    while True:
        width = max(pace.us - pace.us % _MILLISECOND, _MILLISECOND)
        last = at + width >= until_us
        bounds = within(field, at, None if last else at + width)
        query = {"product": product, field: bounds}
        documents = await reader.find(collection, query, sort=[(field, 1)], limit=pace.most + 1)
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
            only = {"product": product, field: within(field, at, edge)}
            documents = await reader.find(collection, only)
        pace.learn(edge - at, len(documents))
        yield documents
        at = edge


async def newest_before(
    reader: Reader, collection: str, product: str, near_us: int, step_us: int, field: str = "timestamp"
) -> dict[str, Any] | None:
    """The product's document with the latest time (``field``); None if there is none.

    It is looked for backwards from ``near_us`` in stretches that grow from ``step_us`` on: a server that
    sorts what it has found, instead of following its index, has little to sort.
    """
    before: dict[str, Any] = {}
    back = step_us
    while True:
        last = near_us - back <= 0
        bounds = before if last else {**within(field, near_us - back, None), **before}
        query = {"product": product, field: bounds} if bounds else {"product": product}
        documents = await reader.find(collection, query, sort=[(field, -1)], limit=1)
        if documents or last:
            return documents[0] if documents else None
        before = {"$lt": within(field, near_us - back, None)["$gte"]}
        back *= 4


def within(field: str, since_us: int, until_us: int | None) -> dict[str, Any]:
    """The condition that ``field`` lies at or after ``since_us`` and, unless None, before ``until_us``.

    ``event_us`` holds microseconds, every other field a date.
    """
    value: Callable[[int], Any] = int if field == "event_us" else to_date
    bounds = {"$gte": value(since_us)}
    return bounds if until_us is None else {**bounds, "$lt": value(until_us)}


def _millis(time: Any) -> int:
    """The whole millisecond of what was found: a date, or microseconds."""
    return to_millis(int(time)) if isinstance(time, int | float) else micros(time)


async def at_once(items: Iterable[T], work: Callable[[T], Awaitable[None]], workers: int = 4) -> None:
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
