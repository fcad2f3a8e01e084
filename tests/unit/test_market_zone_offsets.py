"""Whether a feed's times are those of another zone: which multiple of 15 minutes, and when it is certain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from enricher.clock import MINUTE, SECOND, Zones, event_us, render
from enricher.errors import BadMessage, Held
from enricher.market.quality.zone_offsets import (
    FARTHEST,
    QUARTER,
    Run,
    clock_text,
    lengthened,
    offset_of,
    zones_at,
)
from enricher.market.quality.zone_watch import ZoneWatch, host_zone
from enricher.messages.models import Tick, decode_tick

NOW, _ = event_us("2025-06-16T04:00:00+00:00")
KOLKATA = 22 * QUARTER
UTC = ZoneInfo("UTC")


def run_of(aheads: Iterable[int], step_us: int = SECOND) -> Run | None:
    """The run of messages that come ``step_us`` apart; None as soon as one does not fit."""
    run = None
    for number, ahead in enumerate(aheads):
        run = lengthened(run, ahead, NOW + number * step_us)
        if run is None:
            return None
    return run


@pytest.mark.parametrize(
    ("ahead", "offset"),
    [
        (KOLKATA, KOLKATA),
        (KOLKATA - 4 * MINUTE, KOLKATA),
        (KOLKATA + 59 * SECOND, KOLKATA),
        (KOLKATA - 10 * MINUTE - SECOND, KOLKATA),
        (KOLKATA - 12 * MINUTE, 0),
        (QUARTER - 6 * MINUTE, 0),
        (KOLKATA + 61 * SECOND, 0),
        (61 * SECOND, 0),
        (0, 0),
        (-20 * QUARTER - SECOND, -20 * QUARTER),
        (-20 * QUARTER - 16 * SECOND, 0),
        (-20 * QUARTER + 6 * SECOND, 0),
        (FARTHEST, FARTHEST),
        (FARTHEST + QUARTER, 0),
        (-FARTHEST - QUARTER, 0),
    ],
)
def test_only_what_is_about_a_multiple_of_15_minutes_is_an_offset(ahead: int, offset: int) -> None:
    assert offset_of(ahead) == offset


@given(st.integers(-56, 56).filter(bool), st.lists(st.integers(0, 2 * SECOND), min_size=20, max_size=40))
def test_a_live_feed_in_another_zone_is_always_found(quarters: int, late: list[int]) -> None:
    run = run_of(quarters * QUARTER - delay for delay in late)
    assert run is not None
    assert run.certain
    assert run.offset_us == quarters * QUARTER


@given(st.lists(st.integers(-5 * MINUTE, 60 * SECOND), min_size=1, max_size=30))
def test_a_feed_in_the_right_zone_never_is(aheads: list[int]) -> None:
    assert run_of(aheads) is None


@given(
    st.integers(-FARTHEST, -1),
    st.floats(2, 100) | st.floats(0, 0.5),
    st.lists(st.integers(1, 5 * SECOND), min_size=20, max_size=60),
)
def test_a_replay_slower_or_faster_than_it_was_recorded_never_is(
    behind: int, speed: float, gaps: list[int]
) -> None:
    """The clock goes on by a gap, the recording by ``speed`` gaps."""
    run, ahead, now = None, behind, NOW
    for number, gap in enumerate(gaps):
        run = lengthened(run, ahead, now) if run is not None or not number else None
        assert run is None or not run.certain
        now += gap
        ahead = min(ahead + int(gap * (speed - 1)), 0)
        if not ahead:
            return


@given(st.integers(FARTHEST + QUARTER, 10**15), st.integers(1, 30))
def test_what_was_recorded_another_day_never_is(behind: int, count: int) -> None:
    assert run_of([-behind] * count) is None


def test_one_message_or_a_burst_of_old_ones_is_not_enough() -> None:
    once, burst = run_of([KOLKATA] * 2), run_of([-KOLKATA] * 100, step_us=1000)
    assert once is not None
    assert not once.certain
    assert burst is not None
    assert not burst.certain


def test_the_zones_of_an_offset_are_the_hosts_own_first_and_then_homes_of_exchanges() -> None:
    assert zones_at(KOLKATA, UTC, NOW, ("Asia/Calcutta",))[:2] == ["Asia/Calcutta", "Asia/Kolkata"]
    assert zones_at(KOLKATA, UTC, NOW, ("Europe/Paris", "no zone"))[0] == "Asia/Kolkata"
    assert zones_at(23 * QUARTER, UTC, NOW) == ["Asia/Kathmandu"]
    assert zones_at(-16 * QUARTER, UTC, NOW)[0] == "America/New_York"  # in summer
    assert zones_at(-KOLKATA, ZoneInfo("Asia/Kolkata"), NOW) == ["UTC"]
    assert zones_at(44 * QUARTER, UTC, NOW) == ["Etc/GMT-11"]
    assert zones_at(QUARTER, UTC, NOW) == []
    assert clock_text(-KOLKATA) == "5:30"


def test_the_hosts_own_zone_is_read_from_where_it_stands(tmp_path: Path) -> None:
    zone = tmp_path / "zoneinfo" / "Asia" / "Tokyo"
    zone.parent.mkdir(parents=True)
    zone.touch()
    link = tmp_path / "localtime"
    link.symlink_to(zone)
    assert host_zone({"TZ": ":Asia/Kolkata"}, link) == ("Asia/Kolkata",)
    assert host_zone({}, link) == ("Asia/Tokyo",)
    assert host_zone({}, tmp_path) == ()


class Watched:
    """A `ZoneWatch` and what it makes of ticks sent ``ahead`` of the clock, one a second."""

    def __init__(self, zones: Zones | None = None) -> None:
        self.found: dict[str, str] = {}
        self.zones = zones or Zones()
        self.watch = ZoneWatch(self.zones, 60 * SECOND, self.found)
        self.now = NOW

    @property
    def settled(self) -> set[str]:
        return self.watch.settled["ticks"]

    def take(self, ahead: int, offset: str = "", product: str = "NIFTY") -> str:
        self.now += SECOND
        sent = render(self.now + ahead, naive=True, zone=self.zones.of(product)) + offset
        body = f'{{"product": "{product}", "price": 1, "timestamp": "{sent}"}}'.encode()
        try:
            tick = decode_tick(body, zone=self.zones.of(product), now_us=self.now)
        except BadMessage as error:
            judged = self.watch.refused("ticks", body, error, self.now)
            return str(judged) if isinstance(judged, Held) else "refused"
        assert isinstance(tick, Tick)
        if product not in self.watch.settled["ticks"]:
            self.watch.judge("ticks", tick, self.now)
        return "taken"


def test_messages_ahead_by_a_zone_are_held_and_say_the_setting_once_three_have_come() -> None:
    watched = Watched()
    first, second = watched.take(KOLKATA), watched.take(KOLKATA - SECOND)
    assert 'as with feed.timezone = "Asia/Kolkata"' in first
    assert "as with feed.timezone" in second
    assert not watched.found
    watched.take(KOLKATA)
    assert "lie 5:30 ahead of the clock" in watched.found["ticks"]
    assert 'feed.timezone = "Asia/Kolkata"' in watched.found["ticks"]
    # What is older by an hour and would be taken in that zone waits with the others.
    assert "feed.timezone" in watched.take(KOLKATA - 4 * QUARTER - 7 * MINUTE)
    assert watched.take(KOLKATA + 2 * MINUTE) == "refused"
    assert watched.take(KOLKATA, offset="+00:00") == "refused"


def test_a_message_near_the_clock_settles_it() -> None:
    watched = Watched()
    assert "feed.timezone" in watched.take(KOLKATA)
    for _ in range(3):
        watched.take(KOLKATA)
    assert watched.take(-9 * QUARTER - 3 * MINUTE) == "taken"  # an old one says nothing
    assert watched.found
    assert not watched.settled
    assert watched.take(0) == "taken"
    assert watched.settled
    assert not watched.found


def test_messages_behind_by_a_zone_are_taken_and_said() -> None:
    watched = Watched()
    for _ in range(12):
        assert watched.take(-16 * QUARTER - SECOND) == "taken"
    assert 'behind the clock: set feed.timezone = "America/New_York"' in watched.found["ticks"]
    watched.take(-17 * QUARTER - 3 * MINUTE)
    assert not watched.found


def test_the_setting_of_a_product_with_a_zone_of_its_own_is_named() -> None:
    watched = Watched(Zones("UTC", {"SPX": "America/New_York"}))
    assert 'market.timezones.SPX = "Asia/Kolkata"' in watched.take(38 * QUARTER, product="SPX")


def test_a_product_in_another_zone_beside_others_that_are_right_is_held_too_and_named() -> None:
    watched = Watched()
    assert watched.take(0, product="BTC") == "taken"
    with capture_logs() as lines:
        for _ in range(4):
            assert 'as with market.timezones.NIFTY = "Asia/Kolkata"' in watched.take(KOLKATA)
            tokyo = watched.take(36 * QUARTER, product="NIKKEI")
            assert 'as with market.timezones.NIKKEI = "Asia/Tokyo"' in tokyo
            assert watched.take(0, offset="Z", product="SPX") == "taken"
    settings = [line["setting"] for line in lines]
    assert settings == ['market.timezones.NIFTY = "Asia/Kolkata"', 'market.timezones.NIKKEI = "Asia/Tokyo"']
    assert 'market.timezones.NIFTY = "Asia/Kolkata"' in watched.found["ticks"]
    assert watched.take(0) == "taken"
    watched.take(36 * QUARTER, product="NIKKEI")
    assert 'market.timezones.NIKKEI = "Asia/Tokyo"' in watched.found["ticks"]
    assert watched.take(KOLKATA, product="BTC") == "refused"
    assert watched.settled == {"BTC", "SPX", "NIFTY"}


def test_a_feed_whose_clock_is_changed_later_is_held_and_some_odd_messages_are_not() -> None:
    watched = Watched(Zones("Etc/GMT+5"))
    assert [watched.take(0) for _ in range(2)] == ["taken"] * 2
    for _ in range(5):  # odd ones among others
        assert [watched.take(ahead) for ahead in (4 * QUARTER, 0)] == ["refused", "taken"]
    assert not watched.found
    summer = [watched.take(4 * QUARTER - SECOND) for _ in range(5)]
    assert summer[0] == "refused"
    assert all('as with market.timezones.NIFTY = "America/New_York"' in held for held in summer[3:])
    assert "lie 1:00 ahead of the clock" in watched.found["ticks"]
    assert watched.take(0) == "taken"
    assert not watched.found


@pytest.mark.parametrize("minutes", [10, 15, 20, 30])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Asia/Kolkata", "Australia/Adelaide"])
def test_a_delayed_feed_in_the_right_zone_is_no_trouble(minutes: int, zone: str) -> None:
    watched = Watched(Zones(zone))
    with capture_logs() as lines:
        for number in range(40):
            assert watched.take(-minutes * MINUTE - number % 3 * SECOND) == "taken"
            assert not watched.found
    said = [(line["event"], line["log_level"], line["off"]) for line in lines]
    assert said == ([("feed_is_delayed", "warning", f"0:{minutes}")] if minutes % 15 == 0 else [])


@pytest.mark.parametrize("minutes", [10, 15, 20])
def test_a_delayed_feed_in_another_zone_is_held_for_that_zone(minutes: int) -> None:
    watched = Watched()
    for _ in range(4):
        assert 'as with feed.timezone = "Asia/Kolkata"' in watched.take(KOLKATA - minutes * MINUTE - SECOND)
    assert 'feed.timezone = "Asia/Kolkata"' in watched.found["ticks"]
