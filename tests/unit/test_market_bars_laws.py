"""The law of bars: what is given out in the end follows from the set of ticks, not from how they came."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.bar_boundaries import Opening
from enricher.analytics.contracts import Contract
from enricher.analytics.sub_bars import Content
from enricher.clock import MINUTE, SECOND, event_us
from enricher.market.bars.bars import Bar, Bars
from enricher.market.bars.rolling_windows import TickWindow

Sent = tuple[int, float, int, float | None]  # event time, price, number, volume
Given = dict[tuple[int, int], tuple[int, Content]]

INDIA = Contract(name="X", zone="Asia/Kolkata", session_open="09:15", session_close="15:30")
SESSION = Opening(ZoneInfo("Asia/Kolkata"), (9 * 60 + 15) * 60)
OPEN = event_us("2025-10-14T09:15:00+05:30")[0]
MIDNIGHT = event_us("2025-10-15T00:00:00+05:30")[0]
DAY = 1440 * MINUTE
END = OPEN + 4 * DAY


def day_of(moment: int) -> int:
    return INDIA.session(moment).start_us


def new_bars(windows: tuple[int, ...], lateness_us: int, retention_us: int, cumulative: bool) -> Bars:
    return Bars(windows, lateness_us, retention_us, SESSION, day_of if cumulative else None)


def note(given_out: Given, found: list[Bar]) -> None:
    """Takes down what was given out, and holds it against what was given out before."""
    for bar in found:
        before = given_out.get((bar.minutes, bar.start_us))
        if before is None:
            assert bar.revision == 0
        else:
            assert bar.revision == before[0] + 1
            assert bar.content != before[1]
        given_out[bar.minutes, bar.start_us] = (bar.revision, bar.content)


def in_order(sent: list[Sent], windows: tuple[int, ...], cumulative: bool) -> dict[tuple[int, int], Content]:
    """The bars of these ticks when each comes in its time and nothing is given out before the end."""
    kept = new_bars(windows, 0, 3 * DAY, cumulative)
    for moment, price, number, volume in sorted(sent):
        kept.fold(moment, price, number, volume)
    return {(bar.minutes, bar.start_us): bar.content for bar in kept.idle_close(END)}


def contents(given_out: Given) -> dict[tuple[int, int], Content]:
    return {key: content for key, (_, content) in given_out.items()}


def numbered(rows: list[tuple[int, float, float | None]]) -> list[Sent]:
    return [(moment, price, number, volume) for number, (moment, price, volume) in enumerate(rows)]


moments = st.builds(
    lambda day, second: OPEN + day * DAY + second * SECOND,
    st.integers(0, 1),
    st.one_of(st.integers(-600, 900), st.integers(0, 86_399 - 33_300)),
)
volumes = st.one_of(st.none(), st.integers(0, 60), st.sampled_from([2**53, 2**53 + 1, 0.5, -1]))
prices = st.sampled_from([-37.63, -0.0, 0.0, 0.05, 1.0, 2.0, 2.0**53])
feeds = st.lists(st.tuples(moments, prices, volumes), min_size=1, max_size=25).map(numbered)
some_windows = st.sampled_from([(1,), (1, 5), (2, 3), (7, 60), (100,), (15, 1440)])


@given(feeds, some_windows, st.integers(1, 8), st.integers(0, 90), st.booleans(), st.data())
def test_bars_follow_from_the_set_of_ticks(
    sent: list[Sent], windows: tuple[int, ...], every: int, lateness: int, cumulative: bool, data: Any
) -> None:
    """In any order, some sent twice, with a day that begins late, counters that fall, and idle hours."""
    arrivals = data.draw(st.permutations([*sent, *sent[:3]]))
    kept = new_bars(windows, lateness * SECOND, 3 * DAY, cumulative)
    seen = TickWindow(3 * DAY)
    given_out: Given = {}
    for count, (moment, price, number, volume) in enumerate(arrivals, 1):
        if seen.seen(moment, number) is None:
            seen.add(moment, price, number, number)
            kept.fold(moment, price, number, volume)
        if count % every == 0:
            idle = count % 3 == 0
            note(given_out, kept.idle_close(moment + 20 * MINUTE) if idle else kept.close())
    note(given_out, kept.idle_close(END))
    assert contents(given_out) == in_order(sent, windows, cumulative)


around = st.builds(lambda base, second: base + second * SECOND, st.sampled_from([OPEN, MIDNIGHT]),
                   st.integers(-1800, 1800))  # fmt: skip


@given(
    st.lists(st.tuples(around, prices, volumes), min_size=1, max_size=40).map(numbered),
    st.lists(st.integers(0, 300), min_size=40, max_size=40),
    st.sets(st.integers(0, 39), max_size=3),
    st.booleans(),
)
def test_bars_of_a_run_in_pieces_are_those_of_one_piece(
    sent: list[Sent], delays: list[int], restarts: set[int], cumulative: bool
) -> None:
    windows, retention, reload = (1, 5), 5 * MINUTE, 10 * MINUTE
    ordered = sorted(zip(sent, delays, strict=False), key=lambda pair: pair[0][0] + pair[1] * SECOND)
    arrivals = [tick for tick, _ in ordered]
    kept = new_bars(windows, SECOND, retention, cumulative)
    given_out: Given = {}
    for count, (moment, price, number, volume) in enumerate(arrivals):
        if count in restarts and kept.newest is not None:
            bound = kept.newest - reload
            kept = new_bars(windows, SECOND, retention, cumulative)
            day = day_of(bound)
            before = [
                v for at, _, _, v in arrivals[:count]
                if v is not None and v >= 0 and day <= at < bound
            ]  # fmt: skip
            if before:
                kept.start_volume(day, max(before))
            kept.complete_from(bound)
            for tick in sorted(arrivals[:count]):
                if tick[0] >= bound:
                    kept.fold(*tick)
            kept.restore({key: bar for key, bar in given_out.items() if key[1] >= bound})
            note(given_out, kept.close())
        assert kept.fold(moment, price, number, volume)
        note(given_out, kept.close())
    note(given_out, kept.idle_close(END))
    assert contents(given_out) == in_order(sent, windows, cumulative)
