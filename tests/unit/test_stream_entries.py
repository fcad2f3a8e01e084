"""What an entry of a stream says, also from the delay set, and which entries are set aside."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.adapters.redis.stream.entry import EntryReader, GroupKeys, ReadEntry, StreamDelivery, whole
from enricher.adapters.redis.stream.quarantine import COHORTS, FEW, NOTHING, Quarantined, next_release
from enricher.engine.effects import Ack, Delay
from enricher.engine.ports import Delivery

PLACE = GroupKeys("in", "g")
NOW = 1_750_000_000_000_000


def read(
    fields: dict[bytes, bytes], hook: ReadEntry | None = None
) -> tuple[StreamDelivery, Exception | None]:
    """The delivery of entry 5-1."""
    reader = EntryReader("ticks", PLACE.later, lambda: NOW, hook, lambda d, label: None)
    return reader.delivery(PLACE, "5-1", fields)


def deferred(delivery: StreamDelivery) -> dict[bytes, bytes]:
    """The fields that come back after a failed attempt."""
    delivery.attempts += 1
    later, ack = delivery.defer(1.500001)
    assert isinstance(later, Delay)
    assert (later.key, later.delay_ms) == ("in:g:later", 1501)
    assert ack == Ack("in", "g", "5-1")
    return dict(later.fields)


def test_an_entry_without_topic_and_time_has_those_of_its_source() -> None:
    delivery, problem = read({b"body": b"x"})
    assert problem is None
    assert (delivery.topic, delivery.body, delivery.received_us) == ("ticks", b"x", NOW)
    assert delivery.id == "in/g/5-1"


def test_an_entry_may_name_its_topic_and_time() -> None:
    delivery, problem = read({b"body": b"x", b"topic": b"quotes", b"at": b"17"})
    assert (problem, delivery.topic, delivery.received_us) == (None, "quotes", 17)


def test_an_entry_that_cannot_be_read_keeps_all_its_fields() -> None:
    for wrong in ({b"text": b"x"}, {b"body": b"x", b"at": b"-1"}, {b"body": b"x", b"topic": b"\xff"}):
        delivery, problem = read(wrong)
        assert problem is not None
        assert delivery.body == whole(wrong)


def test_a_hook_may_say_everything_about_the_delivery_but_who_it_is() -> None:
    delivery, problem = read({b"raw": b"x"}, lambda fields: Delivery("mails", fields[b"raw"], 9, "mine"))
    assert (problem, delivery.topic, delivery.body, delivery.received_us) == (None, "mails", b"x", 9)
    assert delivery.id == "in/g/5-1"


@given(st.dictionaries(st.binary(max_size=8), st.binary(max_size=8)), st.integers(0, 5))
def test_what_comes_back_is_what_went_with_its_history(fields: dict[bytes, bytes], crashes: int) -> None:
    first, _ = read({**fields, b"body": b"x", b"topic": b"t", b"at": b"17"})
    first.unfinished = crashes
    identity = first.identity
    for attempt in (1, 2, 3):
        again = deferred(first)
        first, problem = read(again)
        assert problem is None
        assert (first.topic, first.body, first.received_us) == ("t", b"x", 17)
        assert (first.id, first.attempts, first.unfinished) == ("in/g/5-1", attempt, crashes)
        assert first.identity == identity
        assert first.fields == {**fields, b"body": b"x", b"topic": b"t", b"at": b"17"}


def test_a_hook_never_sees_the_history() -> None:
    seen: list[Any] = []

    def hook(fields: Any) -> bytes:
        seen.append(dict(fields))
        return b""

    delivery, _ = read({b"a": b"b"}, hook)
    read(deferred(delivery), hook)
    assert seen == [{b"a": b"b"}] * 2


def test_what_cannot_be_understood_is_whole_in_its_body_and_keeps_its_name() -> None:
    (first, problem), (second, _) = (read({b"text": b"\xff"}) for _ in range(2))
    assert problem is not None
    assert json.loads(first.body) == {"text": {"base64": "/w=="}}
    assert first.id == second.id == "in/g/5-1"


KEYS = GroupKeys("s", "g")


def left(number: int, delivery: int = 2, *, exposed: int = 0, begin: int = 0) -> list[Quarantined]:
    """``number`` entries that wait for that delivery."""
    return [Quarantined(KEYS, f"{begin + n}-0", delivery, exposed) for n in range(number)]


def test_of_many_that_were_merely_read_a_cohort_is_tried_and_it_counts_for_none_of_them() -> None:
    many = left(2000)
    release = next_release(many, 3, uptime=0)
    assert (list(release.entries), release.apart, release.exposes) == (many[: COHORTS[0]], True, 1)
    assert len(next_release(many, 3, uptime=0, largest=32).entries) == 32
    assert len(next_release(left(FEW + 1) + left(5, exposed=1, begin=10), 3, uptime=0).entries) == FEW + 1


@pytest.mark.parametrize(
    ("many", "exposes", "size"),
    [
        (left(200, exposed=1), 2, 128),
        (left(17, exposed=1), 2, 17),
        (left(16, exposed=1), 3, 16),
        (left(5, exposed=1) + left(5, exposed=2, begin=5), 3, 10),
        (left(100, exposed=2), 3, 16),
    ],
)
def test_those_whose_cohort_was_left_are_tried_in_a_smaller_one(
    many: list[Quarantined], exposes: int, size: int
) -> None:
    release = next_release(many, 3, uptime=0.5)
    assert (list(release.entries), release.apart, release.exposes) == (many[:size], True, exposes)
    assert next_release(many, 3, uptime=0.3) == NOTHING


@pytest.mark.parametrize("waiting", [left(FEW), left(FEW, exposed=1), left(100, exposed=3), left(100, 3)])
def test_a_few_and_those_whose_smallest_cohort_was_left_are_tried_one_by_one(
    waiting: list[Quarantined],
) -> None:
    release = next_release(waiting, 5, uptime=0.5)
    assert (list(release.entries), release.apart, release.exposes) == (waiting[:1], True, 0)


def test_whoever_was_left_alone_comes_after_those_that_were_not() -> None:
    once, twice = left(3, exposed=3, begin=10), left(3, 3)
    assert next_release(twice + once, 4, uptime=0.5).entries == (once[0],)


def test_the_last_delivery_waits_until_the_worker_has_lived_for_a_lease() -> None:
    last = left(2, 3)
    assert next_release(last, 3, uptime=0.9) == NOTHING
    assert next_release(last, 3, uptime=1.1).entries == (last[0],)
    assert next_release(left(100), 2, uptime=0.9) == NOTHING
    assert len(next_release(left(100), 2, uptime=1.1).entries) == 1


def test_what_nobody_died_of_and_what_nobody_will_try_waits_for_nothing() -> None:
    free = left(2, 1) + left(2, 4, begin=10)
    release = next_release(left(50, begin=20) + free, 3, uptime=0)
    assert (list(release.entries), release.apart, release.exposes) == (free, False, 0)
    assert next_release([], 3, uptime=2) == NOTHING


class Life:
    """Processes that take what was left, as the source does, until ``ends`` says that they were killed."""

    def __init__(self, entries: int, max_deliveries: int) -> None:
        self.deliveries = dict.fromkeys((f"{n}-0" for n in range(entries)), 1)
        self.exposed: dict[str, int] = {}
        self.letters: list[str] = []
        self.max = max_deliveries

    def lived(self, poison: set[str], releases: float) -> bool:
        """A life that is killed in the last of so many releases; whether something ended it before."""
        while releases > 0:
            exposed = self.exposed.get
            waiting = [Quarantined(KEYS, i, n + 1, exposed(i, 0)) for i, n in self.deliveries.items()]
            release = next_release(waiting, self.max, uptime=2)
            if not release.entries:
                return False
            releases -= 1
            tried = [entry.id for entry in release.entries]
            for entry in release.entries:
                if self.deliveries[entry.id] >= self.max:
                    self.letters.append(entry.id)
                    del self.deliveries[entry.id]
            tried = [id_ for id_ in tried if id_ in self.deliveries]
            if release.exposes:
                self.exposed |= dict.fromkeys(tried, release.exposes)
            else:
                self.deliveries |= {id_: self.deliveries[id_] + 1 for id_ in tried}
            if poison & set(tried):
                return True
            if releases <= 0:
                return False  # killed, for whatever reason, in the middle of this one
            for id_ in tried:
                del self.deliveries[id_]
        return False


@pytest.mark.parametrize("max_deliveries", [2, 3, 5])
@pytest.mark.parametrize(("entries", "cohorts"), [(5, 0), (12, 2), (60, 3), (500, 3)])
def test_what_ends_every_process_is_set_aside_alone_and_after_few_of_them(
    entries: int, cohorts: int, max_deliveries: int
) -> None:
    life = Life(entries, max_deliveries)
    ended = 1  # by having been read with all the others
    while life.lived({"3-0"}, float("inf")):
        ended += 1
    assert (life.letters, life.deliveries) == (["3-0"], {})
    # A cohort that was left counts for none of its members, so that many take some processes more.
    assert ended == max_deliveries + (cohorts if max_deliveries > 2 else 0)


def test_processes_that_are_killed_again_and_again_in_the_middle_of_something_lose_nobody() -> None:
    chance = random.Random(7)
    for _ in range(100):
        life = Life(300, 3)
        for _ in range(50):
            life.lived(set(), chance.randint(1, 40))
        assert (life.letters, life.deliveries) == ([], {})
