"""What the watch over volumes says does not depend on when a worker was started anew."""

from __future__ import annotations

import random

import bson
import pytest

from enricher.clock import MINUTE, SECOND
from enricher.market.bars.volume_watch import VolumeWatch
from enricher.market.products import Contracts

START_US = 1_786_592_700_000_000
SESSION = Contracts().of("NIFTY").session
CHANCE = random.Random(5)
SIZES = [CHANCE.randrange(1, 9) * 75 for _ in range(90)]
OF_DAY = [sum(SIZES[: at + 1]) for at in range(90)]
FELL = [*OF_DAY[:40], 900, *OF_DAY[40:]]


def fed(watch: VolumeWatch, volumes: list[int], first: int = 0) -> VolumeWatch:
    for at, volume in enumerate(volumes[first:], first):
        at_us = START_US + at * SECOND
        if at_us >= watch.since_us:
            watch.take(at_us, volume)
    return watch


@pytest.mark.parametrize(
    ("volumes", "cumulative", "doubt"),
    [
        (OF_DAY, False, "volume never falls: cumulative? (market.volume)"),
        (SIZES, False, None),
        ([1000, 1100, 1250], False, "volume never falls: cumulative? (market.volume)"),
        ([75] * 30, False, None),
        (OF_DAY, True, None),
        (FELL, True, f"the volume of the day fell from {OF_DAY[39]} to 900"),
        ([100, 2**63 - 1, 200, 300], True, None),
    ],
)
def test_a_restart_at_any_tick_goes_on_where_the_watch_was(
    volumes: list[int], cumulative: bool, doubt: str | None
) -> None:
    assert fed(VolumeWatch(SESSION, cumulative), volumes).doubt(START_US, START_US + 2 * MINUTE) == doubt
    for cut in range(0, len(volumes), 7):
        before = fed(VolumeWatch(SESSION, cumulative), volumes[:cut])
        after = VolumeWatch(SESSION, cumulative)
        after.restore(bson.decode(bson.encode({"volumes": before.kept()}))["volumes"])
        # The last ticks are read back, and come again.
        assert fed(after, volumes, max(0, cut - 20)).doubt(START_US, START_US + 2 * MINUTE) == doubt


def test_of_a_day_on_which_it_is_clear_nothing_more_is_looked_at_and_the_next_begins_anew() -> None:
    watch = fed(VolumeWatch(SESSION, False), OF_DAY)
    assert watch.since_us == SESSION(START_US).end_us
    watch.take(watch.since_us, 5)
    assert watch.since_us < SESSION(START_US).end_us + SECOND
    for at, volume in enumerate(SIZES):
        watch.take(watch.since_us + at * SECOND, volume)
    assert watch.doubt(0, 0) is None
