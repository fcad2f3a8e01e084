"""Effects of nodes in the document of their event: what is kept comes back the same, and not for ever."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta

import pytest

from enricher.engine.effects import Append, Delay, Effect, Insert, KeyClaim, Publish, SetKey, Upsert
from enricher.events import Node, NodeError, Pipeline, TaskContext
from enricher.events.documents import failed, pending, started
from enricher.events.outbox import keeping, kept, once

NOW = 1_790_000_000_000_000
EVENT = started(pending("one", "Ticket", {}, token="", now_us=NOW), 1, NOW)


class Call(Effect, frozen=True):
    """A program's own."""

    sink = "calls"
    number: int


KINDS: Sequence[Effect] = [
    Publish("calls", b"fire\xff"),
    Append("stream", {b"a": b"b"}),
    SetKey("key", b"value", 5, 7),
    Delay("later", 5, {b"a": b"b"}),
    Insert("things", {"_id": 1, "more": [1, "x"]}),
    Upsert("things", {"_id": 2}, "at"),
    Call(7),
]


@pytest.mark.parametrize("effect", KINDS, ids=lambda effect: type(effect).__name__)
def test_an_effect_comes_back_as_it_was(effect: Effect) -> None:
    assert kept(keeping(EVENT, [effect]), NOW) == [effect]


def test_what_holds_a_function_is_left_out() -> None:
    insert = Insert("things", {"_id": 1}, lambda stored: None)
    assert kept(keeping(EVENT, [insert, Call(1)]), NOW) == [Call(1)]


def test_what_is_older_than_its_claim_is_not_written_again() -> None:
    event = keeping(EVENT, [Call(1)])
    day = timedelta(days=1) // timedelta(microseconds=1)
    assert kept(event, NOW + day // 2) == [Call(1)]
    assert kept(event, NOW + day) == []


def test_an_attempt_is_claimed_by_the_same_number_whatever_is_noted_later() -> None:
    event = keeping(EVENT, [])
    later = failed(event, {}, "Reply", OSError(), 1, NOW, final=True)
    claims = [once("key", each, [])[0] for each in (event, later, keeping(later, []))]
    first = EVENT["revision"]
    values = [claim.value for claim in claims if isinstance(claim, KeyClaim)]
    assert values == [first, first, first + 1]


class First(Node):
    """Emits and finishes."""

    async def process(self, context: TaskContext) -> TaskContext:
        context.emit(Call(1))
        context.nodes["First"] = "done"
        return context


class Second(Node):
    """Emits and fails; in a thread."""

    def process(self, context: TaskContext) -> TaskContext:
        context.emit(Call(2))
        raise OSError("no answer")


class Two(Pipeline):
    """One after the other."""

    event = dict
    start = First
    nodes = {First: [Second]}


async def test_effects_of_a_node_that_has_failed_are_dropped_and_no_others() -> None:
    context = TaskContext({})
    with pytest.raises(NodeError):
        await Two().arun({}, context=context)
    assert context.effects == [Call(1)]


@pytest.mark.parametrize("name", ["os:system", "not_imported_here:Effect", "enricher.events.outbox:kept"])
def test_what_names_no_imported_effect_is_left_out_and_nothing_is_imported(name: str) -> None:
    event = keeping(EVENT, [Publish("calls", b"fire")])
    wrong = {"effect": name, "data": b"\x80"}
    event["outbox"]["effects"] = [wrong, *event["outbox"]["effects"]]
    assert kept(event, NOW) == [Publish("calls", b"fire")]
    assert "not_imported_here" not in sys.modules
