"""Effects are frozen data that name their sink."""

from __future__ import annotations

from typing import ClassVar

import pytest

from enricher.engine.effects import (
    DropMembers,
    Effect,
    Insert,
    KeyClaim,
    Publish,
    SetClaim,
    SetKey,
    SetMember,
    Upsert,
)
from enricher.engine.ports import Delivery, Stored, Write
from enricher.engine.writer import replace_visible


class Search(Effect, frozen=True, gc=False):
    sink: ClassVar[str] = "search"
    text: str


class Acked(Delivery):
    __slots__ = ()

    def ack(self) -> tuple[Effect, ...]:
        return (Publish("acks", b"1"),)


def test_documents_are_durable_and_the_rest_is_live() -> None:
    assert {e.sink for e in (Insert("c", {}), Upsert("c", {}))} == {"documents"}
    live = (SetKey("k", b"", 0), SetMember("k", "f", "t", b"", 0, 0), DropMembers("k", ""), Publish("c", b""))
    assert {e.sink for e in (*live, KeyClaim("k", 1, 1), SetClaim("k", "m", 1))} == {"live"}


def test_an_effect_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Publish("c", b"").channel = "other"  # type: ignore[misc]


def test_effects_are_compared_by_value() -> None:
    assert SetKey("k", b"v", 5) == SetKey("k", b"v", 5)


def test_a_program_adds_an_effect_of_its_own_kind() -> None:
    assert Search("text").sink == "search"


def test_a_write_is_as_large_as_the_body_of_its_delivery() -> None:
    assert Write((), Delivery("t", b"12345", 0)).body_size == 5
    assert Write(()).body_size == 0


def test_what_was_stored_before_replaces_what_would_be_published_and_is_acknowledged() -> None:
    new = Insert("c", {"_id": 1, "v": 2}, stored=lambda document: [Publish("out", b"%d" % document["v"])])
    write = Write((new, Publish("out", b"2")), Acked("t", b"", 0))
    replace_visible(write, Stored({"_id": 1, "v": 1}))
    assert write.effects == (Publish("out", b"1"), Publish("acks", b"1"))
    assert write.label == "processed"


def test_a_mere_duplicate_is_acknowledged_and_makes_nothing_visible() -> None:
    write = Write((Insert("c", {"_id": 1}, stored=lambda d: None), Publish("out", b"")), Acked("t", b"", 0))
    replace_visible(write, Stored({"_id": 1}))
    assert write.effects == (Publish("acks", b"1"),)
    assert write.label == "duplicate"
