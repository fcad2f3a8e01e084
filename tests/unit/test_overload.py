"""Whom an overload drops: the queue of arrivals of one route."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enricher.engine.admission import Admission
from enricher.engine.overload import Overload, Waiting
from enricher.engine.ports import Delivery
from enricher.engine.router import Route, Router
from enricher.engine.stats import Stats


def arrived(number: int) -> Delivery:
    return Delivery("t", b"%d" % number, number)


def test_the_oldest_is_the_one_that_was_queued_first_and_is_still_there() -> None:
    waiting, deliveries = Waiting(conflate=False), [arrived(n) for n in range(3)]
    for delivery in deliveries:
        waiting.add(delivery, None)
    deliveries[0].gone = True
    waiting.left()
    assert waiting.oldest() is deliveries[1]
    assert waiting.queued == 2


def test_with_nothing_queued_there_is_no_oldest() -> None:
    assert Waiting(conflate=True).oldest() is None


def test_the_oldest_of_the_same_is_what_a_newer_one_replaces() -> None:
    waiting, first, second = Waiting(conflate=True), arrived(1), arrived(2)
    waiting.add(first, "k")
    waiting.add(second, "k")
    assert waiting.older("k") is first
    first.gone = True
    waiting.left()
    assert waiting.older("k") is second
    assert waiting.older("other") is None
    assert waiting.older(None) is None


def test_what_was_taken_meanwhile_is_not_replaced() -> None:
    waiting, delivery = Waiting(conflate=True), arrived(1)
    waiting.add(delivery, "k")
    delivery.gone = True
    waiting.left()
    assert waiting.older("k") is None


@given(st.lists(st.booleans(), max_size=2000))
def test_the_oldest_is_always_the_first_that_is_left(adds: list[bool]) -> None:
    waiting, queued = Waiting(conflate=False), list[Delivery]()
    for number, add in enumerate(adds):
        if add or not queued:
            queued.append(arrived(number))
            waiting.add(queued[-1], None)
        else:
            queued.pop(len(queued) // 2).gone = True
            waiting.left()
        assert waiting.oldest() is (queued[0] if queued else None)
        assert waiting.queued == len(queued)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=2000))
def test_the_oldest_of_the_same_is_the_first_of_its_key_that_is_left(steps: list[tuple[str, int]]) -> None:
    waiting, queued = Waiting(conflate=True), list[tuple[str, Delivery]]()
    for number, (key, step) in enumerate(steps):
        if step or not queued:
            queued.append((key, arrived(number)))
            waiting.add(queued[-1][1], key)
        else:
            queued.pop(len(queued) // 2)[1].gone = True
            waiting.left()
        for wanted in "abc":
            assert waiting.older(wanted) is next((d for k, d in queued if k == wanted), None)


def test_what_has_left_is_not_kept_alive_until_the_next_arrives() -> None:
    waiting, deliveries = Waiting(conflate=True), [arrived(n) for n in range(3)]
    for delivery in deliveries:
        waiting.add(delivery, "k")
    for delivery in deliveries:
        delivery.gone = True
        waiting.left()
    assert len(waiting) == 0


def test_a_flood_makes_room_for_many_at_once_and_leaves_other_routes_alone() -> None:
    routes = [Route(topic=t, handler=list, overload=Overload.DROP_OLDEST) for t in ("flood", "rare")]
    stats = Stats()
    admission = Admission(
        Router(routes), stats, lambda: 1, max_messages=5000, max_bytes=1 << 20, max_message_bytes=100
    )
    rare = [Delivery("rare", b"r", 0) for _ in range(20)]
    flood = [Delivery("flood", b"f", 0) for _ in range(4980)]
    for delivery in (*rare, *flood):
        assert admission.admit(delivery) is not None
    assert admission.admit(Delivery("flood", b"f", 0)) is not None
    # One for the new one, and one of each thousand more.
    assert [d.gone for d in flood[:6]] == [True] * 5 + [False]
    assert stats.topic("flood").counts["dropped"] == 5
    assert (admission.count, admission.bytes) == (4996, 4996)
    for _ in range(4):
        assert admission.admit(Delivery("rare", b"r", 0)) is not None
    assert not any(d.gone for d in rare)
    assert admission.admit(Delivery("rare", b"r", 0)) is not None
    assert [d.gone for d in rare[:2]] == [True, False]
    assert stats.topic("rare").counts["dropped"] == 1
