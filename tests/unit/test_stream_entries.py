"""What an entry of a stream says, and what it still says after a while in the delay set."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from enricher.adapters.redis.stream.entry import EntryReader, GroupKeys, ReadEntry, StreamDelivery, whole
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
