"""What price and open interest say together between two snapshots."""

from __future__ import annotations

import json
import random

import pytest

from enricher.analytics.chain_numbers import chain_numbers
from enricher.analytics.position_buildup import Buildup, Snapshot, SnapshotHistory, Taken, buildup, snapshot
from enricher.clock import MINUTE, SECOND
from enricher.market.documents import chain_fields
from enricher.messages.models import Chain, Number, decode_chain

HALF_TICK = 0.025


def side(legs: dict[Number, tuple[Number | None, Number | None]]) -> Taken:
    return Taken(tuple(legs), *zip(*legs.values(), strict=True))


def label_of(
    now: tuple[Number | None, Number | None], before: tuple[Number | None, Number | None]
) -> str | None:
    found = buildup(Snapshot(1, side({100: now})), Snapshot(0, side({100: before})), HALF_TICK)
    return found.calls[100]


@pytest.mark.parametrize(
    ("now", "before", "label"),
    [
        ((11, 60), (10, 50), "long_buildup"),
        ((9, 60), (10, 50), "short_buildup"),
        ((11, 40), (10, 50), "short_covering"),
        ((9, 40), (10, 50), "long_unwinding"),
        ((10, 60), (10, 50), "neutral"),
        ((10.02, 60), (10, 50), "neutral"),
        ((10.05, 60), (10, 50), "long_buildup"),
        ((11, 50), (10, 50), "neutral"),
        ((0, 60), (10, 50), None),
        ((11, 60), (0, 50), None),
        ((None, 60), (10, 50), None),
        ((11, None), (10, 50), None),
        ((11, 60), (None, None), None),
        ((11, 60), (10, 0), "long_buildup"),
    ],
)
def test_a_leg_is_labelled_by_the_signs_of_both_changes(
    now: tuple[Number | None, Number | None],
    before: tuple[Number | None, Number | None],
    label: str | None,
) -> None:
    assert label_of(now, before) == label


def test_the_sides_sum_the_changes_of_legs_known_twice() -> None:
    now = Snapshot(9, side({100: (1, 10), 110: (1, 7), 120: (1, 5)}), side({100: (1, None)}))
    before = Snapshot(4, side({100: (1, 4), 110: (None, 8)}), side({100: (1, 3)}))
    assert buildup(now, before, HALF_TICK) == Buildup(
        since_us=4,
        calls={100: "neutral", 110: None, 120: None},
        puts={100: None},
        call_oi_change=5,
        put_oi_change=None,
    )


def test_a_baseline_must_be_earlier() -> None:
    with pytest.raises(ValueError, match="not before"):
        buildup(Snapshot(5), Snapshot(5), HALF_TICK)


def test_strikes_are_matched_as_numbers_however_they_are_written() -> None:
    def of(strike: float) -> Snapshot:
        leg = {"strike": strike, "last": 2, "open_interest": 3}
        message = {"product": "N", "expiry": "2025-10-30", "spot_price": 1, "calls": [leg]}
        message |= {"puts": [], "timestamp": f"2025-01-01T00:00:0{int(strike) % 10}"}
        return snapshot(decode_chain(json.dumps(message).encode(), now_us=2**52))

    earlier = moved(of(21500), -1)
    for strike in (21500.0, 21500):
        assert buildup(of(strike), earlier, HALF_TICK).calls == {21500: "neutral"}


def test_a_strike_listed_as_a_whole_number_finds_the_label_of_its_decimal_leg() -> None:
    def of(at: int, last: float) -> Chain:
        leg = {"strike": 21500.0, "last": last, "open_interest": 3 * last}
        message = {"product": "N", "expiry": "2025-10-30", "spot_price": 1, "strikes": [21500]}
        message |= {"calls": [leg], "puts": [leg], "timestamp": f"2025-01-01T00:00:0{at}"}
        return decode_chain(json.dumps(message).encode(), now_us=2**52)

    before, now = of(0, 2.0), of(1, 5.0)
    change = buildup(snapshot(now), snapshot(before), HALF_TICK)
    fields = chain_fields(now, chain_numbers(now), change, "")
    (row,) = fields["buildup"]["strikes"]
    assert row == {"strike": 21500, "call": "long_buildup", "put": "long_buildup"}


def moved(taken: Snapshot, by_us: int) -> Snapshot:
    return Snapshot(taken.event_us + by_us, taken.calls, taken.puts)


def taken(at_us: int) -> Snapshot:
    return Snapshot(at_us)


def test_the_baseline_is_the_newest_that_is_old_enough() -> None:
    history = SnapshotHistory()
    for minute in (0, 1, 2, 3):
        history.add(taken(minute * MINUTE))
    assert history.baseline(3 * MINUTE - 1) is None
    assert history.baseline(3 * MINUTE) == taken(0)
    assert history.baseline(4 * MINUTE + 1) == taken(MINUTE)
    assert SnapshotHistory().baseline(0) is None


def test_the_history_stays_small_at_any_pace() -> None:
    history = SnapshotHistory()
    for second in range(3600):
        history.add(taken(second * SECOND))
        if second >= 180:
            baseline = history.baseline(second * SECOND)
            assert baseline is not None
            assert 180 * SECOND <= second * SECOND - baseline.event_us < 211 * SECOND
    assert len(history) <= 8


def test_a_late_snapshot_takes_its_place_without_disturbing_the_others() -> None:
    history = SnapshotHistory()
    for minute in (1, 4, 2):
        history.add(taken(minute * MINUTE))
    assert history.baseline(5 * MINUTE) == taken(2 * MINUTE)
    history.add(taken(-10 * MINUTE))
    assert history.baseline(4 * MINUTE) == taken(MINUTE)


def test_the_order_of_arrival_does_not_show_in_any_baseline() -> None:
    rng = random.Random(3)
    moments = sorted(rng.sample(range(1800), 200))
    straight, mixed, tail = SnapshotHistory(), SnapshotHistory(), SnapshotHistory()
    for second in moments:
        straight.add(taken(second * SECOND))
    for second in sorted(moments, key=lambda s: s + rng.randrange(60)):
        mixed.add(taken(second * SECOND))
    for second in (s for s in moments if s > 1000):
        tail.add(taken(second * SECOND))
    for second in range(moments[-1], 2200):
        baseline = straight.baseline(second * SECOND)
        assert baseline is not None
        assert mixed.baseline(second * SECOND) == tail.baseline(second * SECOND) == baseline
