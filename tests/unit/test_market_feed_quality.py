"""What the ticks of a product say about its feed."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.clock import SECOND, event_us, to_date
from enricher.market.products import Contracts
from enricher.market.quality.feed_quality import FeedWatch, Finding, WatchSettings
from enricher.messages.models import Tick, TickId

NIFTY = Contracts().of("NIFTY")
START = event_us("2025-10-14T10:00:00+05:30")[0]  # a Tuesday, while the market is open


def at(text: str) -> int:
    return event_us(text)[0]


def watch(**limits: float) -> FeedWatch:
    return FeedWatch("NIFTY", NIFTY, START, WatchSettings(**limits))


class Feed:
    """A watch and its ticks: (seconds after the start, id, price)."""

    def __init__(self, watched: FeedWatch) -> None:
        self.watched = watched

    def tick(self, second: float, tick_id: TickId = None, price: float = 100.0) -> list[tuple[str, float]]:
        moment = START + round(second * SECOND)
        found = self.watched.fold(moment, moment + 1000, tick_id, price)
        assert all(finding.event_us == moment for finding in found)
        return [(finding.kind, round(finding.amount, 6)) for finding in found]


def test_a_whole_feed_has_nothing_wrong() -> None:
    watched = watch()
    feed = Feed(watched)
    assert [feed.tick(second / 10, second) for second in range(100)] == [[]] * 100
    assert (watched.ticks, watched.missing, watched.counts) == (100, 0, {})


def test_missing_ids_are_a_gap_until_they_come() -> None:
    watched = watch()
    feed = Feed(watched)
    feed.tick(0, 1)
    assert feed.tick(5, 6) == [("gap", 4)]
    assert watched.missing == 4
    assert feed.tick(2, 3) == [("out_of_order", 3.0)]
    assert watched.missing == 3
    assert feed.tick(3, 4) == [("out_of_order", 2.0)]
    assert feed.tick(1, 2) == [("out_of_order", 4.0)]
    assert feed.tick(4, 5) == [("out_of_order", 1.0)]
    assert watched.missing == 0
    assert feed.tick(6, 7) == []


def test_a_tick_that_comes_again_is_repeated() -> None:
    feed = Feed(watch())
    feed.tick(0, 1)
    feed.tick(1, 2)
    feed.tick(2, 3)
    assert feed.tick(2, 3) == [("repeated", 1)]
    assert feed.tick(0, 1) == [("repeated", 1)]
    assert feed.tick(3, 4) == []


def test_a_late_tick_that_comes_twice_is_late_once_and_repeated_once() -> None:
    feed = Feed(watch())
    feed.tick(0, 1)
    feed.tick(2, 3)
    assert feed.tick(1, 2) == [("out_of_order", 1.0)]
    assert feed.tick(1, 2) == [("repeated", 1)]


def test_a_tick_from_before_the_first_is_out_of_order_and_no_repetition() -> None:
    feed = Feed(watch())
    feed.tick(5, 10)
    assert feed.tick(3, 8) == [("out_of_order", 2.0)]


def test_an_id_with_a_new_time_is_used_again() -> None:
    feed = Feed(watch())
    feed.tick(0, 0)
    assert feed.tick(1, 0) == [("reused_id", 1)]
    assert feed.tick(2, 0) == [("reused_id", 1)]


def test_ids_that_start_over_are_accepted_at_their_second_tick() -> None:
    watched = watch()
    feed = Feed(watched)
    feed.tick(0, 500)
    assert feed.tick(1, 1) == [("reused_id", 1)]
    assert feed.tick(2, 2) == [("restarted_ids", 1)]
    assert feed.tick(3, 3) == []
    assert feed.tick(4, 5) == [("gap", 1)]
    assert watched.missing == 1


def test_one_absurd_id_does_not_spoil_the_sequence() -> None:
    watched = watch()
    feed = Feed(watched)
    feed.tick(0, 1)
    assert feed.tick(1, 10**12) == [("gap", 10**12 - 2)]
    feed.tick(2, 2)
    assert feed.tick(3, 3) == [("restarted_ids", 1)]
    assert feed.tick(4, 4) == []
    assert watched.missing == 0


def test_a_new_local_day_may_start_its_ids_anywhere() -> None:
    feed = Feed(watch())
    feed.tick(0, 500)
    day = 86_400
    assert feed.tick(day, 1) == []
    assert feed.tick(day + 1, 2) == []


def test_ids_of_digits_count_as_numbers_and_other_texts_only_by_time() -> None:
    feed = Feed(watch())
    assert feed.tick(0, "7") == []
    assert feed.tick(1, 8) == []
    assert feed.tick(2, "11") == [("gap", 2)]
    other = Feed(watch())
    assert other.tick(0, "a-7") == []
    assert other.tick(0, "a-7") == [("repeated", 1)]
    assert other.tick(1, "a-9") == []
    assert other.tick(0.5, "a-8") == [("out_of_order", 0.5)]


def test_ticks_without_ids_are_judged_by_time() -> None:
    feed = Feed(watch())
    assert feed.tick(0) == []
    assert feed.tick(0) == []
    assert feed.tick(2) == []
    assert feed.tick(1) == [("out_of_order", 1.0)]


def test_whatever_the_order_what_stays_missing_is_what_never_came() -> None:
    rng = random.Random(11)
    lost = set(rng.sample(range(1, 999), 60))
    sent = [number for number in range(1000) if number not in lost]
    delayed = sorted(sent[1:-1], key=lambda number: number + rng.randrange(8))
    watched = watch(silence=1000)
    feed = Feed(watched)
    for number in [sent[0], *delayed, sent[-1]]:
        assert not {"repeated", "reused_id"} & {kind for kind, _ in feed.tick(number / 10, number)}
    assert watched.missing == len(lost)


def test_a_silence_between_two_ticks_of_a_session_is_found() -> None:
    feed = Feed(watch(silence=10))
    feed.tick(0, 1)
    assert feed.tick(12.5, 2) == [("silence", 12.5)]
    assert feed.tick(22, 3) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2025-10-14T15:29:59+05:30", "2025-10-15T09:15:01+05:30"),
        ("2025-10-14T15:29:59+05:30", "2025-10-14T15:45:00+05:30"),
        ("2025-10-14T09:00:00+05:30", "2025-10-14T09:15:00+05:30"),
        ("2025-10-18T12:00:00+05:30", "2025-10-18T13:00:00+05:30"),
    ],
)
def test_outside_the_hours_silence_is_nothing(before: str, after: str) -> None:
    watched = watch()
    watched.fold(at(before), at(before), 1, 100)
    assert watched.fold(at(after), at(after), 2, 100) == ()


def test_a_jump_of_the_price_is_told_with_its_share() -> None:
    feed = Feed(watch(price_jump=0.05))
    feed.tick(0, 1, 100)
    assert feed.tick(1, 2, 104.9) == []
    assert feed.tick(2, 3, 90) == [("price_jump", round(90 / 104.9 - 1, 6))]
    assert feed.tick(3, 4, 91) == []


def test_a_price_may_move_overnight_and_over_a_long_pause() -> None:
    feed = Feed(watch(price_jump=0.05, jump_within=20, silence=10))
    feed.tick(0, 1, 100)
    assert feed.tick(15, 2, 120) == [("silence", 15.0), ("price_jump", 0.2)]
    assert feed.tick(40, 3, 150) == [("silence", 25.0)]
    assert feed.tick(86_400, 4, 50) == []


def test_a_late_tick_moves_neither_price_nor_newest() -> None:
    watched = watch()
    feed = Feed(watched)
    feed.tick(0, 1, 100)
    feed.tick(2, 3, 100)
    assert feed.tick(1, 2, 50) == [("out_of_order", 1.0)]
    assert (watched.price, watched.newest_us) == (100, START + 2 * SECOND)


def test_a_price_of_zero_is_no_base_for_a_jump() -> None:
    feed = Feed(watch())
    feed.tick(0, 1, 0)
    assert feed.tick(1, 2, 5) == []


def test_a_feed_is_stale_after_its_limit_and_well_again_with_a_tick() -> None:
    watched = watch(stale_after=60)
    assert watched.status(START + 59 * SECOND) == "waiting"
    Feed(watched).tick(60, 1)
    received = START + 60 * SECOND + 1000
    assert watched.status(received + 59 * SECOND) == "ok"
    assert watched.check(received + 59 * SECOND) is None
    assert watched.check(received + 75 * SECOND) == Finding("stale", START + 60 * SECOND, 75.0)
    Feed(watched).tick(200, 2)
    assert watched.status(START + 201 * SECOND) == "ok"


def test_a_feed_that_never_began_is_stale_too() -> None:
    watched = watch(stale_after=60)
    assert watched.check(START + 60 * SECOND) == Finding("stale", START, 60.0)


@pytest.mark.parametrize(
    "moment", ["2025-10-14T15:30:00+05:30", "2025-10-15T09:14:59+05:30", "2025-10-18T12:00:00+05:30"]
)
def test_silence_after_the_close_and_on_weekends_is_no_alarm(moment: str) -> None:
    watched = watch()
    Feed(watched).tick(0, 1)
    assert watched.status(at(moment)) == "closed"
    assert watched.check(at(moment)) is None


def test_in_the_morning_silence_counts_from_the_opening() -> None:
    watched = watch(stale_after=60)
    Feed(watched).tick(0, 1)
    assert watched.status(at("2025-10-15T09:15:59+05:30")) == "waiting"
    assert watched.check(at("2025-10-15T09:15:59+05:30")) is None
    found = watched.check(at("2025-10-15T09:16:30+05:30"))
    assert found is not None
    assert found.amount == 90.0


def test_old_ticks_that_arrive_now_are_a_delayed_feed() -> None:
    watched = watch(stale_after=60)
    watched.fold(START - 600 * SECOND, START, 1, 100)
    assert watched.status(START + SECOND) == "delayed"
    assert watched.payload(START + SECOND)["delay"] == 600.0


def test_without_known_hours_there_is_no_verdict() -> None:
    watched = FeedWatch("ACME", Contracts().of("ACME"), START)
    assert watched.status(START + 10_000 * SECOND) == "unknown_hours"
    assert watched.check(START + 10_000 * SECOND) is None


def test_a_market_that_never_closes_is_watched_on_sundays() -> None:
    sunday = at("2025-10-19T03:00:00+00:00")
    watched = FeedWatch("BTC", Contracts().of("BTC"), sunday)
    assert watched.status(sunday + 60 * SECOND) == "stale"


def test_the_payload_is_plain_data() -> None:
    watched = watch()
    feed = Feed(watched)
    feed.tick(0, 1)
    feed.tick(2, 4)
    payload = watched.payload(START + 3 * SECOND)
    assert msgspec.json.decode(msgspec.json.encode(payload)) == payload
    assert payload == {
        "product": "NIFTY",
        "status": "ok",
        "at": "2025-10-14T04:30:03+00:00",
        "since": "2025-10-14T04:30:00+00:00",
        "last_event": "2025-10-14T04:30:02+00:00",
        "last_event_age": 1.0,
        "last_received_age": 0.999,
        "delay": 0.001,
        "ticks": 2,
        "missing": 2,
        "counts": {"gap": 1},
    }


def test_before_the_first_tick_the_payload_knows_no_times() -> None:
    payload = watch().payload(START)
    assert (payload["status"], payload["last_event"], payload["delay"]) == ("waiting", None, None)


def test_an_id_of_more_digits_than_a_feed_can_count_is_no_number() -> None:
    feed = Feed(watch())
    feed.tick(0, 1)
    assert feed.tick(1, 2**70) == []
    assert feed.tick(2, 2) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 1, 1, 1, 0, 2, -3]),  # from one id to the next
            st.sampled_from([0.1, 0.1, 0.0, 0.2, -0.1, 7.0, 40.0, 20_000.0]),  # seconds
            st.sampled_from([100.0, 100.5, 101.0, 106.0, 90.0]),
        ),
        max_size=12,
    ),
    st.lists(st.integers(1, 5), min_size=12, max_size=12),
)
def test_ticks_of_one_turn_say_what_they_say_one_after_the_other(
    steps: list[tuple[int, float, float]], turns: list[int]
) -> None:
    one, many, ticks, moment, number = watch(), watch(), list[tuple[Tick, int]](), START, 10
    for step, seconds, price in steps:
        number, moment = number + step, moment + round(seconds * SECOND)
        ticks.append((sent(moment, number, price), moment + 1000))
    alone = [(found, us) for t, us in ticks for found in one.fold(t.event_us, us, t.tick_id, t.price)]
    together = list[tuple[Finding, int]]()
    while ticks:
        size = turns.pop()
        together += many.fold_all(ticks[:size])
        del ticks[:size]
    assert together == alone
    assert all(getattr(many, name) == getattr(one, name) for name in FeedWatch.__slots__)


def sent(moment_us: int, number: int, price: float) -> Tick:
    return Tick(
        product="NIFTY", timestamp="", event_us=moment_us, moment=to_date(moment_us), naive=False, ahead_us=0,
        price=price, tick_id=number,
    )  # fmt: skip
