"""A bar or window that a gap of the feed touches says so; every other is unmarked."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from enricher.clock import MINUTE, SECOND, render
from enricher.engine.effects import Insert, SetKey, Upsert
from enricher.engine.ports import Delivery, Write
from enricher.market.documents import BARS
from enricher.market.folds.gaps import GAP
from tests.memory import MemoryDocuments
from tests.unit.test_market_state import NOW_US, OneLane

TICKS = "market:underlying"
START = NOW_US - NOW_US % (15 * MINUTE)
YEARS = 3 * 365 * 86_400 * SECOND


class Feed(OneLane):
    """Ticks of a product, ``behind`` their receipt; what bars and windows say of gaps."""

    def __init__(self, behind: int = 0) -> None:
        super().__init__(settings={"market.idle_close": 30.0})
        self.behind = behind
        self.stored = MemoryDocuments()

    def tick(self, at: float, came: float | None = None) -> None:
        """A tick of so many seconds after the start, received then unless ``came`` says otherwise."""
        event_us = START + int(at * SECOND) - self.behind
        body = {"product": "N", "price": 1.0, "tick_id": int(at * 1000), "timestamp": render(event_us, False)}
        received_us = START + int((at if came is None else came) * SECOND)
        self.take("underlying", orjson.dumps(body), received_us)
        self.land(self.state_store.show(self.state, received_us))

    def land(self, effects: Any) -> None:
        self._land(effects)
        stored = [e for e in self.said if isinstance(e, Insert | Upsert)]
        asyncio.run(self.stored.commit([Write((effect,)) for effect in stored]))

    def missed(self, begin: float | None, end: float) -> None:
        since = 0 if begin is None else START + int(begin * SECOND)
        self.state_store.on_gap(TICKS, since, START + int(end * SECOND))

    def restart(self, at: float) -> Feed:
        """The next life of the worker, which begins to listen then."""
        new = Feed(self.behind)
        new.stored = self.stored
        wanted = {"N": Delivery("", b"", START + int(at * SECOND))}
        new.state = asyncio.run(new.state_store.restore(self.stored, wanted))["N"]
        new.missed(None, at)
        return new

    def marked(self) -> list[int]:
        """The minutes whose bars are marked."""
        return [minute for minute, mark in sorted(self.bars().items()) if mark]

    def bars(self) -> dict[int, bool]:
        found = {}
        for document in self.stored.collections.get(BARS, {}).values():
            if document["window_minutes"] == 1:
                start_us = int(document["_id"].split(":")[0]) + self.behind
                found[(start_us - START) // MINUTE] = document.get("flags", {}).get("gap") == GAP
        return found

    def windows(self) -> list[int]:
        """The windows, in minutes, that are marked."""
        keys = {minutes: orjson.loads(self.keys[f"ohlc:N:{minutes}m"]) for minutes in (1, 5, 15)}
        return [minutes for minutes, value in keys.items() if value.get("flags") == {"gap": GAP}]


@pytest.mark.parametrize("behind", [0, YEARS], ids=["live", "replayed"])
def test_bars_and_windows_that_touch_a_gap_are_marked_and_no_others(behind: int) -> None:
    feed = Feed(behind)
    for second in range(0, 130, 10):
        feed.tick(second)
    assert feed.windows() == []
    feed.missed(135, 200)
    feed.tick(205)  # nobody knows what came in the minutes 2 and 3
    for second in range(215, 400, 10):
        feed.tick(second)
    assert feed.marked() == [2, 3]
    assert sorted(feed.bars()) == [0, 1, 2, 3, 4, 5]
    assert feed.windows() == [5, 15]
    for second in range(400, 600, 10):
        feed.tick(second)
    assert feed.windows() == [15]
    for second in range(600, 1200, 10):
        feed.tick(second)
    assert feed.windows() == []
    assert feed.marked() == [2, 3]


@pytest.mark.parametrize("behind", [0, YEARS], ids=["live", "replayed"])
def test_the_worker_s_own_start_is_a_gap_that_later_lives_remember(behind: int) -> None:
    feed = Feed(behind)
    feed.missed(None, 30)  # subscribed in the middle of the first minute
    for second in range(31, 110, 10):
        feed.tick(second)
    assert feed.marked() == [0]
    assert feed.windows() == [5, 15]
    feed = feed.restart(190)
    for second in range(191, 300, 10):
        feed.tick(second)
    assert feed.marked() == [0, 1, 3]
    feed = feed.restart(300.5)
    for second in range(301, 400, 10):
        feed.tick(second)
    assert feed.marked() == [0, 1, 3, 4, 5]
    late = feed.restart(400.5)
    late.tick(199.5, 401)  # a late one revises a bar, which keeps its mark
    assert 3 in late.marked()


def test_a_feed_that_was_heard_and_silent_missed_nothing() -> None:
    feed = Feed()
    feed.missed(None, -600)
    for second in (0, 20, 40):  # the worker had listened for ten minutes
        feed.tick(second)
    feed.missed(310, 312)
    feed.tick(315)
    feed.tick(430)
    assert feed.bars() == {0: False, 5: True}
    assert feed.marked() == [5]


def test_what_was_received_before_a_gap_and_waited_is_before_it() -> None:
    feed = Feed()
    feed.tick(10)
    feed.missed(125, 180)
    feed.tick(70)
    feed.tick(119)
    feed.tick(170, 185)  # late, and the first after the gap
    feed.tick(181, 186)
    feed.tick(250)
    assert feed.bars() == {0: False, 1: False, 2: True, 3: False}


def test_a_clock_that_is_set_back_after_a_gap_hides_none() -> None:
    feed = Feed(YEARS)
    feed.tick(10)
    feed.missed(20, 70)
    feed.state_store.clock_set(feed.state, -3600 * SECOND)
    for second in (75, 130, 190):
        feed.tick(second, second - 3600)
    assert feed.marked() == [0, 1]
    assert feed.state.gaps.set_us == 0


def test_bars_that_the_clock_closes_after_a_gap_are_marked() -> None:
    feed = Feed(YEARS)
    feed.tick(10)
    feed.missed(20, 25)
    assert feed.state.bars.heard_us is not None
    feed.land(feed.state_store.on_time(feed.state, feed.state.bars.heard_us + 31 * SECOND))
    assert feed.marked() == [0]


def test_what_is_marked_is_in_no_way_other_than_that() -> None:
    feed, whole = Feed(), Feed()
    for second in range(0, 300, 10):
        if second == 100:
            feed.missed(95, 99)
        feed.tick(second)
        whole.tick(second)
    assert [e for e in feed.said if isinstance(e, SetKey)] != [e for e in whole.said if isinstance(e, SetKey)]
    for one, other in zip(
        feed.stored.collections[BARS].values(), whole.stored.collections[BARS].values(), strict=True
    ):
        flags = dict(one.get("flags", {}))
        flags.pop("gap", None)
        assert {**one, "flags": flags} == {**other, "flags": other.get("flags", {})}
