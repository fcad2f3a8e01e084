"""A bar is the fold of its ticks, in whatever order and however often they are looked at."""

from __future__ import annotations

import random
from math import isfinite
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.bar_boundaries import Opening, bar_start
from enricher.analytics.sub_bars import Content
from enricher.clock import MINUTE, SECOND, event_us
from enricher.market.bars.bars import Bar, Bars
from enricher.market.documents import bar_document

HOUR = 60 * MINUTE


def bars(*windows: int, lateness: int = 2 * SECOND, retention: int = HOUR) -> Bars:
    return Bars(windows or (1,), lateness, retention)


def at(minute: float) -> int:
    return int(minute * MINUTE)


def test_a_bar_is_final_when_the_watermark_reaches_its_end_and_not_before() -> None:
    state = bars()
    for order, (minute, price) in enumerate([(0, 10), (0.2, 12), (0.9, 11), (1, 13)]):
        assert state.fold(at(minute), price, order)
    assert (state.due(), state.close()) == (False, [])
    state.fold(at(1) + 2 * SECOND, 14, 9)
    assert state.due()
    assert state.close() == [Bar(0, 1, Content(10, 12, 10, 11, 3), revision=0)]
    assert (state.due(), state.close()) == (False, [])


def test_every_window_has_its_own_bar_and_the_oldest_comes_first() -> None:
    state = bars(1, 5)
    for minute in range(6):
        state.fold(at(minute), minute, 0)
    state.fold(at(7), 7, 0)
    found = [(bar.start_us, bar.minutes) for bar in state.close()]
    assert found == [(0, 1), (0, 5), *((at(minute), 1) for minute in range(1, 6))]


def test_a_late_tick_gives_the_bar_out_again_one_revision_later() -> None:
    state = bars()
    state.fold(at(0.5), 10, 0)
    state.fold(at(3), 11, 0)
    assert [bar.revision for bar in state.close()] == [0]
    assert state.fold(at(0.2), 9, 0)
    assert state.close() == [Bar(0, 1, Content(9, 10, 9, 10, 2), revision=1)]
    state.fold(at(0.3), 8, 0)
    state.fold(at(0.4), 7, 0)
    assert state.close() == [Bar(0, 1, Content(9, 10, 7, 10, 4), revision=2)]


def test_a_late_tick_where_no_bar_was_makes_a_final_one() -> None:
    state = bars()
    state.fold(at(5), 10, 0)
    state.fold(at(1), 9, 0)
    assert state.close() == [Bar(at(1), 1, Content(9, 9, 9, 9, 1), revision=0)]


def test_a_tick_beyond_retention_is_dropped_and_counted() -> None:
    state = bars(retention=at(10))
    state.fold(at(20), 10, 0)
    assert state.fold(at(10), 9, 0)
    assert not state.fold(at(10) - 1, 9, 0)


def test_final_bars_beyond_retention_are_forgotten() -> None:
    state = bars(retention=at(10))
    for minute in range(1000):
        state.fold(at(minute), 1, 0)
        state.close()
    assert len(state) <= 12


def test_an_idle_product_has_its_bars_closed_by_the_clock() -> None:
    state = bars(1, 5)
    state.fold(at(0.5), 10, 0)
    assert state.idle_close(at(1)) == []
    assert [bar.minutes for bar in state.idle_close(at(1) + 2 * SECOND)] == [1]
    state.fold(at(0.6), 11, 0)
    assert [(bar.minutes, bar.revision) for bar in state.idle_close(HOUR)] == [(1, 1), (5, 0)]
    assert state.idle_close(2 * HOUR) == []


def test_without_ticks_there_are_no_bars() -> None:
    state = bars()
    assert (state.newest, state.due(), state.close(), state.idle_close(HOUR)) == (
        None,
        False,
        [],
        [],
    )


def test_open_and_close_of_one_moment_go_by_order_key_then_arrival() -> None:
    state = bars()
    for price, order in ((3, 7), (1, 5), (2, 5), (4, 7)):
        state.fold(at(0.5), price, order)
    (bar,) = state.idle_close(HOUR)
    assert (bar.content.open, bar.content.close) == (1, 4)


def test_volume_and_vwap_come_from_trade_sizes_and_are_null_without() -> None:
    state = bars()
    state.fold(at(0.1), 10, 0, 1)
    state.fold(at(0.2), 20, 0, 3)
    state.fold(at(0.3), 90, 0, None)
    state.fold(at(0.4), 90, 0, -5)
    state.fold(at(1.1), 5, 0)
    state.fold(at(2.1), 5, 0, 0)
    found = [(bar.content.volume, bar.content.vwap) for bar in state.idle_close(HOUR)]
    assert found == [(4, 17.5), (None, None), (0, None)]


def test_a_turnover_beyond_a_double_leaves_the_vwap_unknown() -> None:
    state = bars()
    state.fold(at(0.1), 1e300, 0, 1e99)
    (bar,) = state.idle_close(HOUR)
    assert (bar.content.volume, bar.content.vwap) == (1e99, None)


def storable_number(value: object) -> bool:
    return isfinite(value) if isinstance(value, float) else isinstance(value, int) and abs(value) < 2**63


def test_a_volume_beyond_64_bits_is_no_whole_number() -> None:
    state = bars()
    state.fold(0, 100.0, 1, 9 * 10**18)
    state.fold(1, 100.0, 2, 9 * 10**18)
    (bar,) = state.idle_close(HOUR)
    assert bar.content.volume == 18 * 10**18
    assert isinstance(bar.content.volume, float)


def test_volumes_of_whole_numbers_are_exact_beyond_the_digits_of_a_double() -> None:
    state = bars()
    for order, size in enumerate((2**53, 1, 2**53 + 1, 2**60)):
        state.fold(order, 1.0, order, size)
    (bar,) = state.idle_close(HOUR)
    assert bar.content.volume == 2**60 + 2**54 + 2


def test_prices_of_nothing_and_less_make_bars_like_any_other() -> None:
    state = bars()
    for order, (price, size) in enumerate([(10.01, 1), (0, 2), (-37.63, 4), (-0.0, 1)]):
        state.fold(order, price, order, size)
    (bar,) = state.idle_close(HOUR)
    assert bar.content == Content(10.01, 10.01, -37.63, 0.0, 4, 8, (10.01 - 4 * 37.63) / 8)
    assert repr(bar.content.close) == "0.0"


def test_a_clock_that_jumps_closes_bars_early_and_its_ticks_revise_them() -> None:
    state = bars()
    state.fold(at(0.5), 1, 0)
    assert [bar.revision for bar in state.idle_close(at(60 * 24))] == [0]
    state.fold(at(0.6), 2, 1)
    assert [(bar.revision, bar.content.close) for bar in state.close()] == [(1, 2)]
    assert state.idle_close(-at(60 * 24)) == []
    state.fold(at(1.5), 3, 2)
    assert [bar.start_us for bar in state.idle_close(at(3))] == [at(1)]


def test_a_bar_that_was_touched_and_says_the_same_is_not_given_out_again() -> None:
    state = bars()
    state.fold(at(0.5), 1, 0)
    (bar,) = state.idle_close(at(2))
    state.restore({(1, 0): (bar.revision, bar.content)})
    assert state.due()
    assert state.close() == []


def test_one_unknown_turnover_leaves_the_vwap_of_the_whole_bar_unknown() -> None:
    state = bars()
    state.fold(0, 1e308, 1, 1e99)
    state.fold(1, 2.0, 2, 10)
    (bar,) = state.idle_close(HOUR)
    assert bar.content.vwap is None


sizes = st.one_of(st.none(), st.integers(0, 10**400), st.floats(allow_nan=True))
prices = st.one_of(st.floats(0, allow_infinity=False), st.integers(0, 10**300))


@given(st.lists(st.tuples(prices, sizes), min_size=1, max_size=20))
def test_whatever_a_bar_carries_can_be_stored(trades: list[tuple[float, float | None]]) -> None:
    state = bars()
    for order, (price, size) in enumerate(trades):
        state.fold(order, price, order, size)
    (bar,) = state.idle_close(HOUR)
    document = bar_document("N", bar)
    numbers = ("open", "high", "low", "close", "num_ticks", "volume", "vwap", "revision")
    held = [document[name] for name in numbers if document[name] is not None]
    assert all(storable_number(value) for value in held), held


ticks = st.lists(
    st.tuples(
        st.integers(0, 40 * 60).map(lambda second: second * SECOND),
        st.integers(1, 50_000).map(lambda paise: paise / 20),
        st.one_of(st.none(), st.integers(0, 1000).map(lambda size: size / 8), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=40,
)


@given(ticks, st.randoms(use_true_random=False))
def test_bars_are_the_same_for_every_order_of_the_same_ticks(
    found: list[tuple[int, float, float | None]], rng: random.Random
) -> None:
    arrivals = [(time, price, at, size) for at, (time, price, size) in enumerate(found)]

    def contents(order: list[tuple[int, float, int, float | None]]) -> dict[tuple[int, int], Content]:
        state = bars(1, 5, 15)
        given_out: dict[tuple[int, int], Content] = {}
        for tick in order:
            state.fold(*tick)
            given_out |= {(bar.minutes, bar.start_us): bar.content for bar in state.close()}
        last = state.idle_close(10 * HOUR)
        return given_out | {(bar.minutes, bar.start_us): bar.content for bar in last}

    in_order = sorted(arrivals, key=lambda tick: (tick[0], tick[2]))
    shuffled = rng.sample(arrivals, len(arrivals))
    result = contents(shuffled)
    assert result == contents(in_order)
    for (minutes, start), content in result.items():
        inside = [tick for tick in in_order if start <= tick[0] < start + minutes * MINUTE]
        prices = [tick[1] for tick in inside]
        assert (content.open, content.close) == (prices[0], prices[-1])
        assert (content.high, content.low) == (max(prices), min(prices))
        assert content.num_ticks == len(inside)


def test_restoring_finds_which_bars_still_have_to_be_written() -> None:
    whole, again = bars(), bars()
    for minute in (0, 1, 2, 3, 10):
        for state in (whole, again):
            state.fold(at(minute), minute, 0)
    first, second, third, fourth = whole.close()
    stored = {
        (1, first.start_us): (4, first.content),
        (1, second.start_us): (2, Content(9, 9, 9, 9, 9)),
        (1, third.start_us): (0, third.content),
    }
    again.restore(stored)
    assert again.close() == [Bar(at(1), 1, second.content, revision=3), fourth]
    assert again.close() == []


def test_a_bar_stored_while_idle_is_revised_only_when_it_changed() -> None:
    content = Content(10, 10, 10, 10, 1)
    state = bars()
    state.fold(at(0.5), 10, 0)
    state.restore({(1, 0): (0, content)})
    assert state.idle_close(HOUR) == []
    state.fold(at(0.6), 11, 1)
    assert state.close() == [Bar(0, 1, Content(10, 11, 10, 11, 2), revision=1)]


def test_a_bar_cut_by_the_lower_bound_of_loading_is_left_alone() -> None:
    state = bars(1, 5)
    state.complete_from(at(2))
    for minute in (2, 5, 20):
        state.fold(at(minute), 1, 0)
    assert [(bar.minutes, bar.start_us) for bar in state.close()] == [
        (1, at(2)),
        (1, at(5)),
        (5, at(5)),
    ]
    assert not state.fold(at(1.5), 1, 0)


@pytest.mark.parametrize(
    ("windows", "lateness", "retention"), [((), 0, 0), ((0,), 0, 0), ((1,), -1, 0), ((1,), 5, 4)]
)
def test_impossible_settings_are_refused(windows: tuple[int, ...], lateness: int, retention: int) -> None:
    with pytest.raises(ValueError, match="retention"):
        Bars(windows, lateness, retention)


@pytest.mark.parametrize(
    ("minutes", "zone", "opens", "before", "after"),
    [
        (375, "Asia/Kolkata", 9 * 3600 + 900, "2025-10-14T23:50+05:30", "2025-10-15T00:10+05:30"),
        (240, "America/New_York", 9 * 3600 + 1800, "2026-03-08T23:50-04:00", "2026-03-09T00:10-04:00"),
    ],
)
def test_a_bar_that_the_next_day_cuts_short_takes_its_ticks_in_any_order(
    minutes: int, zone: str, opens: int, before: str, after: str
) -> None:
    session = Opening(ZoneInfo(zone), opens)
    ticks = [(event_us(before)[0], 1.0), (event_us(after)[0], 2.0)]
    starts = [bar_start(us, minutes, session) for us, _ in ticks]
    found = []
    for order in (ticks, ticks[::-1]):
        bars = Bars((minutes,), 0, 1500 * MINUTE, session)
        for us, price in order:
            bars.fold(us, price, 0)
        found.append([(bar.start_us, bar.content.num_ticks) for bar in bars.idle_close(2**61)])
    assert found[0] == found[1]
    assert [start for start, _ in found[0]] == sorted(set(starts))


@pytest.mark.parametrize(
    ("volume", "flags"),
    [
        (None, {"volume": "no tick has a known volume", "vwap": "no tick has a known volume"}),
        (0, {"vwap": "nothing was traded"}),
        (1e99, {"vwap": "numbers beyond what can be computed with"}),
    ],
)
def test_a_stored_bar_says_why_a_number_of_it_is_null(volume: float | None, flags: dict[str, str]) -> None:
    content = Content(1.0, 1.0, 1.0, 1.0, 1, volume, None)
    document = bar_document("N", Bar(0, 1, content, 0))
    assert document["flags"] == flags
    priced = msgspec.structs.replace(content, volume=7, vwap=1.0)
    assert "flags" not in bar_document("N", Bar(0, 1, priced, 0))
