"""Volumes of bars where a tick says what was traded so far, and bars that count from the opening."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.bar_boundaries import Opening
from enricher.analytics.contracts import Contract
from enricher.clock import MINUTE, SECOND, event_us
from enricher.market.bars.bars import Bar, Bars

INDIA = Contract(name="X", zone="Asia/Kolkata", session_open="09:15", session_close="15:30")
OPEN = event_us("2025-10-14T09:15:00+05:30")[0]
DAY = 86_400 * SECOND
SESSION = Opening(ZoneInfo("Asia/Kolkata"), (9 * 60 + 15) * 60)


def bars(windows: tuple[int, ...] = (1,), lateness_us: int = 0) -> Bars:
    return Bars(windows, lateness_us, max(windows) * MINUTE, SESSION, lambda us: INDIA.session(us).start_us)


def volumes(found: list[Bar]) -> dict[int, Any]:
    return {(bar.start_us - OPEN) // MINUTE: bar.content.volume for bar in found}


def test_the_volume_of_a_bar_is_the_increase_of_the_running_maximum() -> None:
    kept = bars()
    ticks = [(0, 100, 10.0), (20, 150, 13.0), (59, 140, 99.0), (61, 160, 12.0), (119, 400, 14.0)]
    for second, volume, price in [*ticks, (185, 400, 1.0)]:
        kept.fold(OPEN + second * SECOND, price, second, volume)
    found = kept.close()
    assert volumes(found) == {0: 150, 1: 250}
    # What was traded since the tick before went at the price of the tick that tells.
    assert [bar.content.vwap for bar in found] == [(100 * 10 + 50 * 13) / 150, (10 * 12 + 240 * 14) / 250]
    (last,) = kept.idle_close(OPEN + DAY)
    assert (last.content.volume, last.content.vwap) == (0, None)


counted = st.lists(
    st.tuples(st.integers(0, 240), st.integers(0, 3), st.integers(0, 30), st.integers(1, 9)),
    min_size=1, max_size=40, unique_by=lambda tick: tick[:2],
)  # fmt: skip


@given(counted, st.randoms(use_true_random=False))
def test_the_price_by_volume_is_that_of_a_walk_through_the_ticks_in_their_order(
    sent: list[tuple[int, int, int, int]], chance: Any
) -> None:
    shuffled = list(sent)
    chance.shuffle(shuffled)
    kept = bars((1, 5))
    for second, order, volume, price in shuffled:
        kept.fold(OPEN + second * SECOND, float(price), order, volume)
    expected: dict[tuple[int, int], list[float]] = {}
    highest = 0
    for second, _, volume, price in sorted(sent):
        if volume > highest:
            for minutes in (1, 5):
                sums = expected.setdefault((minutes, second // (60 * minutes)), [0.0, 0.0])
                sums[0] += price * (volume - highest)
                sums[1] += volume - highest
            highest = volume
    for bar in kept.idle_close(OPEN + DAY):
        key = (bar.minutes, (bar.start_us - OPEN) // (bar.minutes * MINUTE))
        turnover, traded = expected.get(key, (0.0, 0.0))
        assert bar.content.volume == traded
        assert bar.content.vwap == (pytest.approx(turnover / traded) if traded else None)


def test_the_count_starts_again_with_the_day() -> None:
    kept = bars()
    kept.fold(OPEN, 1.0, 0, 1000)
    kept.fold(OPEN + DAY, 1.0, 0, 30)
    kept.fold(OPEN + DAY + MINUTE, 1.0, 0, 50)
    assert volumes(kept.idle_close(OPEN + 2 * DAY)) == {0: 1000, 1440: 30, 1441: 20}


def test_what_was_traded_before_anybody_listened_belongs_to_no_bar() -> None:
    kept = bars()
    kept.fold(OPEN + 60 * MINUTE, 1.0, 0, 5_000)
    kept.fold(OPEN + 60 * MINUTE + SECOND, 1.0, 1, 5_040)
    assert volumes(kept.idle_close(OPEN + DAY)) == {60: 40}
    told = bars()
    told.start_volume(INDIA.session(OPEN).start_us, 4_900)
    told.fold(OPEN + 60 * MINUTE, 1.0, 0, 5_000)
    assert volumes(told.idle_close(OPEN + DAY)) == {60: 100}


def test_a_late_volume_revises_its_bar_and_the_one_that_counted_from_there() -> None:
    kept = bars((1, 5))
    kept.fold(OPEN, 1.0, 0, 100)
    kept.fold(OPEN + MINUTE, 1.0, 1, 300)
    kept.fold(OPEN + 2 * MINUTE, 1.0, 2, 300)
    assert volumes(kept.close()) == {0: 100, 1: 200}
    kept.fold(OPEN + 30 * SECOND, 1.0, 3, 250)
    revised = kept.close()
    assert volumes(revised) == {0: 250, 1: 50}
    assert {bar.revision for bar in revised} == {1}


def test_bars_of_an_hour_count_from_the_opening() -> None:
    kept = bars((60, 1440))
    kept.fold(OPEN + 5 * SECOND, 1.0, 0)
    kept.fold(OPEN + 61 * MINUTE, 1.0, 1)
    found = kept.idle_close(OPEN + 3 * DAY)
    assert [(bar.minutes, bar.start_us - OPEN) for bar in found] == [
        (60, 0), (1440, 0), (60, 60 * MINUTE)
    ]  # fmt: skip


ticks = st.lists(
    st.tuples(st.integers(0, 6 * 60), st.integers(0, 50)), min_size=1, max_size=30, unique_by=lambda t: t[0]
)


@given(ticks, st.randoms(use_true_random=False))
@pytest.mark.parametrize("windows", [(1,), (1, 2), (2, 3)])
def test_volumes_do_not_depend_on_the_order_of_arrival_and_add_up_to_the_maximum(
    windows: tuple[int, ...], sent: list[tuple[int, int]], rng: Any
) -> None:
    def told(order: list[tuple[int, int]]) -> dict[tuple[int, int], Any]:
        kept = Bars(windows, 0, 60 * MINUTE, SESSION, lambda us: INDIA.session(us).start_us)
        kept.start_volume(INDIA.session(OPEN).start_us, 0)
        found: dict[tuple[int, int], Any] = {}
        for second, volume in order:
            kept.fold(OPEN + second * SECOND, 1.0, second, volume)
            found.update({(bar.minutes, bar.start_us): bar.content.volume for bar in kept.close()})
        found.update(
            {(bar.minutes, bar.start_us): bar.content.volume for bar in kept.idle_close(OPEN + DAY)}
        )
        return found

    in_order = told(sorted(sent))
    assert told(rng.sample(sent, len(sent))) == in_order
    for minutes in windows:
        total = sum(volume for (width, _), volume in in_order.items() if width == minutes)
        assert total == max(volume for _, volume in sent)


def test_bars_restored_from_stored_ticks_have_the_same_volumes() -> None:
    live, again = bars((1, 5)), bars((1, 5))
    rows = [(second, 10 * second) for second in range(0, 400, 7)]
    given_out: dict[tuple[int, int], Any] = {}
    for second, volume in rows:
        live.fold(OPEN + second * SECOND, 1.0, second, volume)
        given_out.update({(b.minutes, b.start_us): (b.revision, b.content) for b in live.close()})
    begin = OPEN + 3 * MINUTE
    again.start_volume(INDIA.session(OPEN).start_us, max(v for s, v in rows if OPEN + s * SECOND < begin))
    again.complete_from(begin)
    for second, volume in rows:
        if OPEN + second * SECOND >= begin:
            again.fold(OPEN + second * SECOND, 1.0, second, volume)
    again.restore(given_out)
    assert again.close() == []
    assert [b for b in again.idle_close(OPEN + DAY) if b.minutes == 1] == [
        b for b in live.idle_close(OPEN + DAY) if b.minutes == 1
    ]


def test_volumes_in_bars_that_are_not_complete_are_counted_from() -> None:
    kept = bars()
    kept.complete_from(OPEN + 10 * SECOND)
    for second in (30, 70, 130):
        kept.fold(OPEN + second * SECOND, 1.0, second, 100 + second)
    assert volumes(kept.idle_close(OPEN + DAY)) == {1: 40, 2: 60}


@given(
    st.lists(st.tuples(st.integers(-40 * 60, 30 * 60), st.integers(0, 999)), min_size=1, max_size=60),
    st.sampled_from([(1, 5, 15), (7, 3), (60,)]),
)
def test_what_a_day_had_traded_before_the_bars_that_are_kept_is_known(
    ticks: list[tuple[int, int]], windows: tuple[int, ...]
) -> None:
    kept, folded = bars(windows), []
    for number, (second, volume) in enumerate(ticks):
        at = OPEN + (second + 40 * number) * SECOND
        if kept.fold(at, 1.0, number, volume):
            folded.append((at, volume))
        kept.close()
        bound = kept.begin((kept.newest or 0) - kept.retention_us)
        day = INDIA.session(bound).start_us
        said = [volume for at, volume in folded if day <= at < bound]
        assert kept.traded(day, bound) == max(said, default=None)
