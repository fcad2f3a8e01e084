"""Which route a topic has and which are refused; what an effect says of its sink."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar

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
from enricher.engine.retry import IO_RETRY, NO_RETRY, RetryPolicy
from enricher.engine.router import Context, HandlerKind, Overload, Route, Router, Slots, covers, decode_json
from enricher.engine.writer import replace_visible
from enricher.errors import BadMessage, ConfigError
from tests.rig import Sums, key_of

CONTEXT = Context("t", b"", 0, 1, {})


def pure(event: Any, context: Context) -> list[Effect]:
    return []


async def waits(event: Any, context: Context) -> list[Effect]:
    return []


def steps(event: Any, context: Context) -> Iterator[None]:
    yield


async def streams(event: Any, context: Context) -> AsyncIterator[Effect]:
    yield Effect()


class Callables:
    def __call__(self, event: Any, context: Context) -> list[Effect]:
        return []


class AsyncCallables:
    async def __call__(self, event: Any, context: Context) -> list[Effect]:
        return []


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (pure, HandlerKind.PURE),
        (waits, HandlerKind.ASYNC),
        (steps, HandlerKind.GENERATOR),
        (Callables(), HandlerKind.PURE),
        (AsyncCallables(), HandlerKind.ASYNC),
        (functools.partial(pure), HandlerKind.PURE),
        (functools.partial(waits), HandlerKind.ASYNC),
        (functools.partial(steps), HandlerKind.GENERATOR),
    ],
)
def test_the_kind_of_a_handler_is_read_off_the_function(
    handler: Callable[..., Any], kind: HandlerKind
) -> None:
    assert Route(topic="t", handler=handler).kind is kind


def test_a_plain_function_marked_blocking_runs_in_a_thread() -> None:
    assert Route(topic="t", handler=pure, blocking=True).kind is HandlerKind.BLOCKING


def test_retries_default_to_none_for_pure_handlers_and_three_for_those_with_io() -> None:
    assert Route(topic="t", handler=pure).policy is NO_RETRY
    assert Route(topic="t", handler=steps).policy is NO_RETRY
    assert Route(topic="t", handler=waits).policy is IO_RETRY
    assert Route(topic="t", handler=pure, blocking=True).policy is IO_RETRY
    assert Route(topic="t", handler=pure, retry=RetryPolicy(max_retries=7)).policy.max_retries == 7


def test_a_route_is_named_after_its_handler() -> None:
    assert Route(topic="t", handler=pure).name == "pure"
    assert Route(topic="t", handler=pure, name="other").name == "other"
    assert Route(topic="t", handler=Callables()).name == "t"


def test_an_exact_topic_wins_over_a_pattern_and_patterns_go_in_order() -> None:
    routes = [Route(topic=t, handler=pure) for t in ("orders.*", "orders.eu.?", "orders.eu.1")]
    router = Router(routes)
    found = {t: router.match(t) for t in ("orders.eu.1", "orders.eu.2", "orders.us", "other", "Orders.us")}
    assert {t: r and r.topic for t, r in found.items()} == {
        "orders.eu.1": "orders.eu.1",
        "orders.eu.2": "orders.*",
        "orders.us": "orders.*",
        "other": None,
        "Orders.us": None,
    }


def test_a_pattern_matches_itself_by_name() -> None:
    router = Router([Route(topic="orders.[12]", handler=pure)])
    assert router.match("orders.2") is router.match("orders.[12]") is router.routes[0]


def test_routes_with_one_state_store_share_a_family_and_others_have_their_own() -> None:
    sums = Sums()
    shared = [Route(topic=t, handler=pure, key=key_of, state_store=sums) for t in ("a", "b")]
    assert {r.lane_group for r in shared} == {"sums"}
    assert Route(topic="c", handler=pure).lane_group == "c"
    assert Router(shared).topics == ("a", "b")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"topic": ""}, "pattern"),
        ({"weight": 0}, "weight"),
        ({"max_concurrency": -1}, "max_concurrency"),
        ({"slots": 3}, r"Slots\(name, limit\)"),
        ({"state_store": Sums()}, "key function"),
        ({"overload": Overload.CONFLATE}, "conflation"),
        ({"handler": waits, "blocking": True}, "plain function"),
        ({"handler": steps, "blocking": True}, "plain function"),
        ({"handler": None}, "a function of event and context"),
        ({"handler": streams}, "returns its effects"),
        ({"topic": b"t"}, "a channel"),
        ({"sinks": "documents"}, "a tuple of names"),
        ({"sinks": ()}, "a tuple of names"),
        ({"retry": 3}, "a RetryPolicy"),
        ({"overload": "drop_oldest"}, "a member of Overload"),
        ({"handler": waits, "timeout": 0}, "seconds above 0"),
        ({"handler": waits, "timeout": "5s"}, "seconds above 0"),
        ({"timeout": 5}, "blocking = True"),
        ({"drain_deadline": -1}, "seconds above 0"),
        ({"slow_handler": 0}, "seconds above 0, or None for the setting"),
        ({"intake": "memory"}, "'pubsub', 'stream' or 'none'"),
        ({"max_bytes": -1}, "a number of bytes"),
        ({"decode": waits}, "decode = .*not an async one"),
        ({"key": waits}, "key = .*not an async one"),
    ],
)
def test_a_wrong_route_is_refused_with_what_would_be_right(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Route(**{"topic": "t", "handler": pure, **settings})


def test_two_routes_for_one_topic_are_refused() -> None:
    with pytest.raises(ConfigError, match="one route per topic"):
        Router([Route(topic="t", handler=pure), Route(topic="t", handler=pure)])


@pytest.mark.parametrize(
    "different",
    [{"weight": 2}, {"priority": 1}, {"max_concurrency": 3}, {"slots": Slots("s", 1)}, {"sinks": ("live",)}],
)
def test_routes_that_share_lanes_must_agree(different: dict[str, Any]) -> None:
    sums = Sums()
    one = Route(topic="a", handler=pure, key=key_of, state_store=sums)
    other = Route(topic="b", handler=pure, key=key_of, state_store=sums, **different)
    with pytest.raises(ConfigError, match="share the lanes of 'sums'"):
        Router([one, other])


def test_a_share_of_slots_has_a_name_and_one_limit() -> None:
    same = [Route(topic=topic, handler=pure, slots=Slots("jobs", 8)) for topic in "ab"]
    assert Router(same).topics == ("a", "b")
    with pytest.raises(ConfigError, match=r"route 'c': slots 'jobs' = 9: expected 8, as other routes"):
        Router([*same, Route(topic="c", handler=pure, slots=Slots("jobs", 9))])
    with pytest.raises(ConfigError, match=r"slots 'jobs': limit = 0: expected a whole number of 1"):
        Slots("jobs", 0)
    with pytest.raises(ConfigError, match="a name for them"):
        Slots("", 1)


def test_plain_json_is_decoded_as_it_is() -> None:
    assert decode_json(b'{"a": [1, null, "x"]}', CONTEXT) == {"a": [1, None, "x"]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'"\xc3\x28"', b"[" * 100_000, b"NaN"])
def test_what_is_no_json_is_a_bad_message(body: bytes) -> None:
    with pytest.raises(BadMessage, match="JSON in UTF-8"):
        decode_json(body, CONTEXT)


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("tick:[^x]*", "tick:x1", False),
        ("tick:[^x]*", "tick:y1", True),
        ("tick:[xy]*", "tick:x1", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a?c", "abc", True),
    ],
)
def test_patterns_mean_what_redis_means(pattern: str, topic: str, matches: bool) -> None:
    assert covers(pattern, topic) is matches


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
