"""Rolling windows equal what a plain list of the same ticks says, in any order of arrival."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from enricher.engine.ports import Folded
from enricher.market.bars.rolling_windows import TickWindow, Window, identity_key, order_key

Arrival = tuple[int, int, int]  # event time, price, order key


class PlainList:
    """The same promises kept the slow way."""

    def __init__(self, retention: int) -> None:
        self.retention = retention
        self.ticks: list[tuple[int, int, int, int]] = []

    def add(self, arrival: int, tick: Arrival) -> bool:
        event, price, order = tick
        newest = max((kept[0] for kept in self.ticks), default=event)
        if event < newest - self.retention:
            return False
        self.ticks.append((event, order, arrival, price))
        oldest = max(newest, event) - self.retention
        self.ticks = sorted(kept for kept in self.ticks if kept[0] >= oldest)
        return True

    def window(self, span: int) -> Window:
        edge = self.ticks[-1][0] - span
        inside = [tick for tick in self.ticks if tick[0] > edge]
        prices = [float(tick[3]) for tick in inside]
        return Window(prices[0], max(prices), min(prices), prices[-1], len(prices), inside[0][0],
                      inside[-1][0])  # fmt: skip


arrivals = st.lists(st.tuples(st.integers(0, 60), st.integers(-3, 3), st.integers(0, 3)),
                    min_size=1, max_size=60)  # fmt: skip


@given(arrivals, st.integers(1, 80))
def test_every_window_equals_the_plain_list_after_every_tick(ticks: list[Arrival], retention: int) -> None:
    window, plain = TickWindow(retention), PlainList(retention)
    for arrival, tick in enumerate(ticks):
        event, price, order = tick
        assert window.add(event, price, order, ident=arrival) == plain.add(arrival, tick)
        assert len(window) == len(plain.ticks)
        for span in {1, 2, 5, retention // 2, retention} - {0}:
            if span <= retention:
                assert window.window(span) == plain.window(span)


@pytest.mark.parametrize("seed", range(3))
def test_long_feeds_with_late_ticks_equal_the_plain_list_across_evictions(seed: int) -> None:
    rng = random.Random(seed)
    window, plain = TickWindow(200), PlainList(200)
    for arrival in range(1500):
        tick = (arrival + rng.choice([0, 0, 0, -5, -150, -250]), rng.randrange(50), 0)
        assert window.add(*tick, ident=arrival) == plain.add(arrival, tick)
    for span in range(1, 201):
        assert window.window(span) == plain.window(span)


def test_the_left_edge_is_outside_and_the_newest_inside() -> None:
    window = TickWindow(100)
    for event in (0, 10, 20):
        window.add(event, event, 0, 0)
    assert window.window(20) == Window(10, 20, 10, 20, 2, 10, 20)


def test_a_price_of_minus_zero_is_shown_as_zero() -> None:
    window = TickWindow(100)
    for event in (1, 2, 3):
        window.add(event, -0.0, 0, event)
    found = window.window(100)
    assert found is not None
    assert repr((found.open, found.high, found.low, found.close)) == "(0.0, 0.0, 0.0, 0.0)"


def test_prices_below_zero_have_their_high_nearest_to_it() -> None:
    window = TickWindow(100)
    for event, price in enumerate((-1.5, -37.63, 0.0, -13.1)):
        window.add(event, price, 0, event)
    assert window.window(100) == Window(-1.5, 0.0, -37.63, -13.1, 4, 0, 3)
    assert window.window(1) == Window(-13.1, -13.1, -13.1, -13.1, 1, 3, 3)


def test_ticks_of_one_moment_stand_by_order_key_then_arrival() -> None:
    window = TickWindow(100)
    for price, order in ((3, 7), (1, 5), (2, 5), (4, 7)):
        window.add(50, price, order, 0)
    found = window.window(1)
    assert found is not None
    assert (found.open, found.close) == (1, 4)


def test_a_tick_older_than_the_retention_is_refused() -> None:
    window = TickWindow(100)
    assert window.add(1000, 1, 0, 0)
    assert not window.add(899, 1, 0, 0)
    assert window.add(900, 1, 0, 0)
    assert len(window) == 2


def test_an_identity_is_remembered_with_how_it_was_folded() -> None:
    window = TickWindow(100)
    window.add(10, 1, 0, ident=1, live=False)
    window.add(10, 1, 0, ident=2)
    assert window.seen(10, 1) is Folded.RESTORED
    assert window.seen(10, 2) is Folded.HERE
    assert window.seen(10, 3) is None
    assert window.seen(11, 1) is None
    window.add(111, 1, 0, ident=3)
    assert window.seen(10, 1) is None


def test_before_the_first_tick_there_is_no_window() -> None:
    window = TickWindow(100)
    assert window.newest is None
    assert window.window(10) is None
    assert len(window) == 0


@pytest.mark.parametrize("span", [0, -1, 101])
def test_a_window_longer_than_the_retention_is_refused(span: int) -> None:
    with pytest.raises(ValueError, match="100 us"):
        TickWindow(100).window(span)


@pytest.mark.parametrize("shape", ["rising", "falling", "random", "shuffled"])
def test_a_retained_tick_takes_at_most_64_bytes(shape: str) -> None:
    rng = random.Random(1)
    times = list(range(60_000))
    if shape == "shuffled":
        times = sorted(times, key=lambda time: time + rng.uniform(-50, 50))
    window, worst = TickWindow(20_000), 0.0
    for count, time in enumerate(times):
        price = {"rising": time, "falling": -time}.get(shape, rng.random())
        window.add(time, price, 0, time)
        if count > 20_000 and count % 61 == 0:
            held = sys.getsizeof(window) + sum(map(sys.getsizeof, window.columns))
            worst = max(worst, held / len(window))
    assert worst <= 64


def test_order_keys_put_numbers_before_texts_and_no_id_last() -> None:
    ascending = [-(2**70), -5, "-4", 0, "7", 10, "0011", 2**70, "", "AAAA", "B", "b", "\U0010ffff"]
    ascending += ["A-7", "B-0", "A-70000000", "B-69999999", "A-9000000000000000", "\U0010ffff" + "9" * 50]
    keys = [order_key(tick_id) for tick_id in [*ascending, None]]
    assert keys == sorted(keys)
    assert order_key(7) == order_key("7") == order_key("007")
    assert order_key("9" * 5000) == order_key(2**70)
    assert order_key("-" + "9" * 5000) == order_key(-(2**70))
    assert order_key("\U0010ffff") < order_key(None)


@given(st.text(), st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), st.integers(0, 18))
def test_ids_alike_but_for_the_number_at_their_end_go_by_that_number(
    beginning: str, one: int, other: int, width: int
) -> None:
    assume(not beginning.removeprefix("-").isdecimal() and beginning not in {"", "-"})
    assume(not beginning.endswith(tuple("0123456789")))
    first, second = (order_key(f"{beginning}{number:0{width}}") for number in (one, other))
    assert (first < second, first == second) == (one < other, one == other)


@given(st.text("AB-0123456789", min_size=1), st.integers(0, 10**18 - 2))
def test_numbers_of_full_width_go_up_whatever_digits_stand_before_them(beginning: str, number: int) -> None:
    first, second = order_key(f"A{beginning}{number:018}"), order_key(f"A{beginning}{number + 1:018}")
    assert first < second


@pytest.mark.parametrize("ids", [("NIFTY-0001", "NIFTY-0002"), ("NIFTY-0009", "NIFTY-0010"), ("T9", "T10"),
                                 ("2025-06-15T15:06:40-999", "2025-06-15T15:06:40-1000")])  # fmt: skip
def test_numbered_ids_of_one_moment_stand_in_the_order_of_their_numbers(ids: tuple[str, str]) -> None:
    for arrival in (ids, ids[::-1]):
        window = TickWindow(100)
        for tick_id in arrival:
            window.add(50, ids.index(tick_id), order_key(tick_id), 0)
        found = window.window(1)
        assert found is not None
        assert (found.open, found.close) == (0, 1)


def test_the_last_tick_is_told_by_order_key_and_arrival() -> None:
    window = TickWindow(100)
    assert not window.is_last(0, 1)
    for ident, order in ((1, 5), (2, 7), (3, 7), (4, 6)):
        window.add(50, 1.0, order, ident, live=False)
    assert [window.is_last(50, ident) for ident in (1, 2, 3, 4)] == [False, False, True, False]
    assert not window.is_last(49, 3)


@given(st.one_of(st.none(), st.integers(), st.text(), st.from_regex(r"\A[A-Z\U0010ffff]*-?[0-9]*\Z")))
def test_every_order_key_fits_a_64_bit_column(tick_id: int | str | None) -> None:
    assert -(2**63) <= order_key(tick_id) < 2**63


def test_identity_keys_tell_ids_from_digests_and_join_equal_ids() -> None:
    assert identity_key(1, "a") == identity_key("1", "b")
    assert identity_key(None, "a") != identity_key(None, "b")
    assert identity_key("a", "x") != identity_key(None, "a")
