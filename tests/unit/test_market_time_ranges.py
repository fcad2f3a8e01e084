"""Reading in slices finds the same documents as one query, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.clock import MINUTE, SECOND, to_date
from enricher.engine.effects import Insert
from enricher.engine.ports import Write
from enricher.market.state.stored import Pace, Stored, at_once
from tests.memory import MemoryDocuments
from tests.rig import NOW_US

HOUR = 60 * MINUTE


class Counted:
    """A reader over documents at the given moments; it keeps what each find gave."""

    def __init__(self, moments_us: Sequence[int], product: str = "N") -> None:
        self.documents = MemoryDocuments()
        self.sizes: list[int] = []
        self.queries: list[Mapping[str, Any]] = []
        made = [
            {"_id": number, "product": product, "timestamp": to_date(us - us % 1000)}
            for number, us in enumerate(moments_us)
        ]
        made.append({"_id": "another", "product": "another", "timestamp": to_date(NOW_US)})
        asyncio.run(self.documents.commit([Write((Insert("rows", d),)) for d in made]))

    async def find(self, collection: str, query: Mapping[str, Any], **how: Any) -> list[dict[str, Any]]:
        found = await self.documents.find(collection, query, **how)
        self.sizes.append(len(found))
        self.queries.append(query)
        return found


def read(
    reader: Counted, since_us: int, until_us: int, pace: Pace, product: str = "N"
) -> list[list[dict[str, Any]]]:
    async def every() -> list[list[dict[str, Any]]]:
        stored = Stored(reader, {"rows": pace}, "timestamp")
        return [found async for found in stored.slices("rows", product, since_us, until_us, "timestamp")]

    return asyncio.run(every())


@settings(deadline=None)
@given(
    moments=st.lists(st.integers(-HOUR, HOUR) | st.integers(0, 3000), max_size=60),
    until=st.integers(-HOUR, HOUR),
    length=st.integers(0, HOUR),
    most=st.integers(2, 20),
    width=st.integers(0, 10 * HOUR),
)
def test_slices_hold_every_document_from_the_bound_on_once_and_in_the_order_of_time(
    moments: list[int], until: int, length: int, most: int, width: int
) -> None:
    reader, pace = Counted([NOW_US + us for us in moments]), Pace(most)
    pace.us = width
    since = NOW_US + until - length
    slices = read(reader, since, NOW_US + until, pace)
    wanted = {"product": "N", "timestamp": {"$gte": to_date(since - since % 1000)}}
    expected = asyncio.run(reader.documents.find("rows", wanted))
    assert sorted(d["_id"] for found in slices for d in found) == sorted(d["_id"] for d in expected)
    filled = [[d["timestamp"] for d in found] for found in slices if found]
    assert all(max(a) < min(b) for a, b in pairwise(filled))
    assert all(len(times) <= most or len(set(times)) == 1 for times in filled)
    assert len(reader.sizes) < 100 * (len(moments) + 2)


def test_a_product_with_little_to_read_costs_one_find_once_another_has_been_read() -> None:
    reader, pace = Counted([NOW_US - n * MINUTE for n in range(10)]), Pace(500)
    read(reader, NOW_US - HOUR, NOW_US, pace)
    assert len(reader.sizes) <= 4
    reader.sizes.clear()
    read(reader, NOW_US - HOUR, NOW_US, pace)
    assert reader.sizes == [10]


def test_a_dense_product_is_read_in_slices_of_about_half_of_what_is_allowed() -> None:
    reader, pace = Counted([NOW_US - n * SECOND for n in range(3600)]), Pace(100)
    slices = read(reader, NOW_US - HOUR, NOW_US, pace)
    assert sum(map(len, slices)) == 3600
    assert max(reader.sizes) <= 101
    assert len(reader.sizes) < 3600 / 100 * 3


def test_every_query_names_one_product_and_no_list_of_them() -> None:
    reader = Counted([NOW_US])
    read(reader, NOW_US - HOUR, NOW_US, Pace(10))
    assert {query["product"] for query in reader.queries} == {"N"}


def test_what_lies_beyond_the_known_end_is_found_even_if_it_is_much() -> None:
    reader = Counted([NOW_US + n * SECOND for n in range(500)])
    slices = read(reader, NOW_US - MINUTE, NOW_US, Pace(20))
    assert sum(map(len, slices)) == 500
    assert max(reader.sizes) <= 21


def newest(reader: Counted) -> int | None:
    return asyncio.run(Stored(reader, {}, "timestamp").newest("rows", "N", NOW_US, 30 * MINUTE))


@pytest.mark.parametrize("ago", [0, 30 * SECOND, HOUR, 65 * HOUR, 60 * 365 * 24 * HOUR])
def test_the_newest_document_is_found_however_long_ago_it_was(ago: int) -> None:
    moments = [NOW_US - ago - n * MINUTE for n in range(5)]
    assert newest(Counted(moments)) == NOW_US - ago


def test_the_newest_document_may_lie_ahead_of_where_the_search_begins() -> None:
    assert newest(Counted([NOW_US, NOW_US + HOUR])) == NOW_US + HOUR


def test_nothing_is_found_where_nothing_is() -> None:
    assert newest(Counted([])) is None


def test_the_first_error_is_raised_as_it_is_and_no_further_work_begins() -> None:
    begun = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)
        if number == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match=r"^one$"):
        asyncio.run(at_once(range(100), work))
    assert len(begun) < 10


def test_all_work_is_done_a_few_at_a_time() -> None:
    active, most, done = 0, 0, []

    async def work(number: int) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1
        done.append(number)

    asyncio.run(at_once(range(10), work, workers=3))
    assert sorted(done) == list(range(10))
    assert most == 3
