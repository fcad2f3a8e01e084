"""Whom an overload drops: the queue of arrivals of one route."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from enricher.config import PoolSettings
from enricher.engine.admission import Admission
from enricher.engine.backlog import Backlog
from enricher.engine.ports import Delivery
from enricher.engine.router import Overload, Route, Router
from enricher.engine.stats import Stats


def arrived(number: int) -> Delivery:
    return Delivery("t", b"%d" % number, number)


def taken(backlog: Backlog, delivery: Delivery) -> None:
    delivery.gone = True
    backlog.left()


def test_the_oldest_is_the_one_that_was_queued_first_and_is_still_there() -> None:
    backlog, deliveries = Backlog(conflate=False), [arrived(n) for n in range(3)]
    for delivery in deliveries:
        backlog.add(delivery, None)
    taken(backlog, deliveries[0])
    assert backlog.queued == 2
    assert backlog.drop() is deliveries[1]
    assert deliveries[1].gone
    assert backlog.dropped == [deliveries[1]]
    assert backlog.queued == 1


def test_with_nothing_queued_there_is_no_oldest() -> None:
    backlog = Backlog(conflate=True)
    assert backlog.drop() is None
    assert backlog.drop("k") is None


def test_the_oldest_of_the_same_is_what_a_newer_one_replaces() -> None:
    backlog, deliveries = Backlog(conflate=True), [arrived(n) for n in range(3)]
    for delivery in deliveries:
        backlog.add(delivery, "k")
    taken(backlog, deliveries[0])
    assert backlog.drop("other") is None
    assert backlog.drop("k") is deliveries[1]
    assert backlog.drop("k") is deliveries[2]
    assert backlog.drop("k") is None
    assert backlog.conflated == deliveries[1:]


@given(st.lists(st.integers(0, 2), max_size=2000))
def test_the_oldest_is_always_the_first_that_is_left(steps: list[int]) -> None:
    backlog, queued = Backlog(conflate=False), list[Delivery]()
    for number, step in enumerate(steps):
        if step == 0:
            queued.append(arrived(number))
            backlog.add(queued[-1], None)
        elif step == 1:
            assert backlog.drop() is (queued.pop(0) if queued else None)
        elif queued:
            taken(backlog, queued.pop(len(queued) // 2))
        assert backlog.queued == len(queued)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=2000))
def test_the_oldest_of_the_same_is_the_first_of_its_key_that_is_left(steps: list[tuple[str, int]]) -> None:
    backlog, queued = Backlog(conflate=True), list[tuple[str, Delivery]]()
    for number, (key, step) in enumerate(steps):
        if step > 1:
            queued.append((key, arrived(number)))
            backlog.add(queued[-1][1], key)
        elif step == 1:
            first = next((pair for pair in queued if pair[0] == key), None)
            assert backlog.drop(key) is (first and first[1])
            queued = [pair for pair in queued if pair is not first]
        elif queued:
            taken(backlog, queued.pop(len(queued) // 2)[1])
        assert backlog.queued == len(queued)


def test_what_has_left_is_not_kept_alive_until_the_next_arrives() -> None:
    backlog, deliveries = Backlog(conflate=True), [arrived(n) for n in range(3)]
    for delivery in deliveries:
        backlog.add(delivery, "k")
    for delivery in deliveries:
        taken(backlog, delivery)
    assert not backlog._arrivals
    assert not backlog._same


class Told(Delivery):
    """A delivery that remembers how it ended."""

    __slots__ = ("ends",)

    def __init__(self, topic: str, body: bytes) -> None:
        super().__init__(topic, body, 0)
        self.ends: list[str] = []

    def settled(self, label: str) -> None:
        self.ends.append(label)


POLICIES = {"flood": Overload.DROP_OLDEST, "rare": Overload.DROP_OLDEST, "same": Overload.CONFLATE}


def gate(max_messages: int = 5000, max_bytes: int = 1 << 20) -> tuple[Admission, Stats]:
    routes = [
        Route(topic=topic, handler=list, overload=policy, key=first_letter)
        for topic, policy in POLICIES.items()
    ]
    routes.append(Route(topic="waits", handler=list))
    stats = Stats()
    limits = PoolSettings(max_messages=max_messages, max_bytes=max_bytes, max_message_bytes=100)
    return Admission(Router(routes), stats, limits), stats


def first_letter(body: bytes) -> str:
    return body[:1].decode()


def many(topic: str, number: int) -> list[Told]:
    return [Told(topic, b"%d" % (n % 10)) for n in range(number)]


def test_a_flood_keeps_the_newest_and_leaves_other_routes_alone() -> None:
    admission, stats = gate()
    rare, flood = many("rare", 20), many("flood", 4980)
    assert admission.admit([*rare, *flood]) == ([*rare, *flood], [])
    more = many("flood", 5000)
    assert admission.admit(more) == (more[20:], [])
    assert all(d.ends == ["dropped"] for d in (*flood, *more[:20]))
    assert not any(d.gone for d in rare)
    assert stats.topic("flood").counts == {"received": 9980, "dropped": 5000}
    assert (admission.count, admission.bytes) == (5000, 5000)


def test_of_routes_that_flood_none_displaces_another() -> None:
    admission, _ = gate(max_messages=100)
    mixed = [*many("flood", 9), *many("rare", 1)]
    admission.admit([Told(d.topic, d.body) for _ in range(10) for d in mixed])
    for _ in range(100):
        admission.admit([Told(d.topic, d.body) for d in mixed])
    assert {topic: backlog.queued for topic, backlog in admission._backlogs.items()} == {
        "flood": 90,
        "rare": 10,
        "same": 0,
    }


def test_the_first_of_a_read_has_no_better_chance_than_the_others() -> None:
    """Where a read ends inside a large message, the next one begins with it."""
    admission, _ = gate(max_messages=100)
    kept = Counter[str]()
    queued = [*many("flood", 95), *many("rare", 5)]
    admission.admit(queued)
    for _ in range(100):
        for delivery in [d for d in queued if not d.gone][:5]:
            delivery.gone = True
            kept[delivery.topic] += 1
            taken(delivery.backlog, delivery)
            admission.release(len(delivery.body))
        read = [*many("rare", 1), *many("flood", 19)]
        queued += admission.admit(read)[0]
    assert 0.03 < kept["rare"] / kept.total() < 0.07


def test_a_flood_of_one_route_does_not_shut_out_another_that_has_nothing_queued() -> None:
    admission, stats = gate(max_messages=100)
    flood, rare = many("flood", 100), many("rare", 2)
    admission.admit(flood)
    assert admission.admit(rare[:1]) == (rare[:1], [])
    assert flood[0].ends == ["dropped"]
    # It has one queued now, which is the one that goes.
    assert admission.admit(rare[1:]) == (rare[1:], [])
    assert rare[0].ends == ["dropped"]
    assert (stats.total("dropped"), admission.count) == (2, 100)


def test_nobody_makes_room_for_what_would_never_fit_or_may_not_displace_anything() -> None:
    admission, stats = gate(max_messages=3, max_bytes=50)
    queued, large, waits = many("flood", 3), Told("rare", b"x" * 60), Told("waits", b"w")
    admission.admit(queued)
    assert admission.admit([large, waits]) == ([], [])
    assert (large.ends, waits.ends) == (["dropped"], ["dropped"])
    assert not any(d.gone for d in queued)
    assert stats.total("dropped") == 2


MESSAGES = st.tuples(
    st.sampled_from(["flood", "rare", "same", "waits", "unknown"]),
    st.builds(bytes.__mul__, st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([1, 1, 1, 2, 7, 101])),
)


class Described:
    """The policies as they are described, one message after the other, on one list of what is queued."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages, self.max_bytes = max_messages, max_bytes
        self.queued: list[Told] = []
        self.aside: list[Told] = []
        self.reads = 0

    def admit(self, new: Told) -> None:
        if (new.topic == "unknown" or len(new.body) > 100) and not self.full(new):
            self.aside.append(new)
            return
        policy = POLICIES.get(new.topic)
        if self.full(new) and policy is not None and len(new.body) <= min(100, self.max_bytes):
            same = self.of(new.topic, new.body[:1]) if policy is Overload.CONFLATE else []
            if same:
                self.let_go(same[0], "conflated")
            while self.full(new) and (crowd := self.of(new.topic) or self.most()):
                self.let_go(crowd[0], "dropped")
        if self.full(new):
            new.ends.append("dropped")
        else:
            self.queued.append(new)

    def admit_read(self, read: list[Told]) -> None:
        """One after the other; but the room that there is goes to messages spread over the read."""
        room = self.max_messages - len(self.queued) - len(self.aside)
        plain = all(d.topic in ("flood", "rare") and self.of(d.topic) and len(d.body) <= 100 for d in read)
        fits = sum(len(d.body) for d in (*self.queued, *self.aside, *read)) <= self.max_bytes
        if not (len(read) > 1 and 0 <= room < len(read) and plain and fits):
            for new in read:
                self.admit(new)
            return
        self.reads += 1
        first = self.reads % (len(read) // room) if room else 0
        spared = {first + math.floor(number * len(read) / room) for number in range(room)}
        self.queued += read
        for at, new in enumerate(read):
            if at not in spared:
                self.let_go(self.of(new.topic)[0], "dropped")

    def full(self, new: Told) -> bool:
        held = [*self.queued, *self.aside]
        return len(held) >= self.max_messages or sum(len(d.body) for d in (*held, new)) > self.max_bytes

    def of(self, topic: str, start: bytes = b"") -> list[Told]:
        return [d for d in self.queued if d.topic == topic and d.body.startswith(start)]

    def most(self) -> list[Told]:
        return max(map(self.of, POLICIES), key=len)

    def let_go(self, delivery: Told, label: str) -> None:
        self.queued.remove(delivery)
        delivery.ends.append(label)


@given(
    st.integers(1, 8),
    st.integers(1, 40),
    st.lists(st.tuples(st.lists(MESSAGES, max_size=12), st.integers(0, 3)), max_size=8),
)
def test_what_is_read_at_once_is_judged_as_described(
    max_messages: int, max_bytes: int, reads: list[tuple[list[tuple[str, bytes]], int]]
) -> None:
    """In between some are taken, the oldest first."""
    admission, stats = gate(max_messages, max_bytes)
    described = Described(max_messages, max_bytes)
    every, expected, queued = list[Told](), list[Told](), list[Told]()
    for read, number in reads:
        told, same = ([Told(*message) for message in read] for _ in range(2))
        every += told
        expected += same
        queued = [d for d in [*queued, *admission.admit(told)[0]] if not d.gone]
        described.admit_read(same)
        for delivery, twin in zip(queued[:number], described.queued[:number], strict=True):
            delivery.ends.append("taken")
            twin.ends.append("taken")
            delivery.gone = True
            if delivery.backlog is not None:
                taken(delivery.backlog, delivery)
            admission.release(len(delivery.body))
        del queued[:number], described.queued[:number]
    assert [d.ends for d in every] == [d.ends for d in expected]
    held = [*described.queued, *described.aside]
    assert (admission.count, admission.bytes) == (len(held), sum(len(d.body) for d in held))
    ends = Counter(end for delivery in every for end in delivery.ends)
    assert (stats.total("dropped"), stats.total("conflated")) == (ends["dropped"], ends["conflated"])
    assert stats.total("received") == len(every)
