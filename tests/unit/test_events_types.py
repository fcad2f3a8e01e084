"""Bodies of events: read as their type, or refused with every path, in the shape that clients know."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import pydantic
import pytest

from enricher.errors import ConfigError
from enricher.events.types import EventTypes, InvalidEvent


class Order(msgspec.Struct):
    id: int
    lines: list[int]
    at: datetime | None = None


@dataclass
class Ticket:
    text: str
    user: dict[str, int]
    tags: list[str] = field(default_factory=list)


class Lead(pydantic.BaseModel):
    email: str
    score: float


def wrong(types: EventTypes, body: bytes | str) -> list[tuple[str, list[Any]]]:
    with pytest.raises(InvalidEvent) as caught:
        types.read(body.encode() if isinstance(body, str) else body)
    assert all(each["msg"] for each in caught.value.details)
    return [(each["type"], each["loc"]) for each in caught.value.details]


ONE = EventTypes({"Order": Order})
ALL = EventTypes({"Order": Order, "Ticket": Ticket, "Lead": Lead})


def test_an_event_is_read_by_the_one_type_that_fits_or_by_its_name() -> None:
    assert ONE.read(b'{"id": "7", "lines": []}').data == {"id": 7, "lines": [], "at": None}
    assert ALL.read(b'{"id": 7, "lines": [1]}').type == "Order"
    assert ALL.read(b'{"text": "x", "user": {}}').event == Ticket("x", {})
    lead = ALL.read(b'{"type": "Lead", "email": "a@b", "score": 1}')
    assert (lead.type, lead.data) == ("Lead", {"email": "a@b", "score": 1.0})
    dated = ONE.read(b'{"id": 1, "lines": [], "at": "2026-01-01T00:00:00Z"}')
    assert dated.data["at"] == "2026-01-01T00:00:00Z"
    assert ONE.event_of("Order", dated.data) == dated.event


def test_everything_that_is_wrong_is_said_with_its_path() -> None:
    assert wrong(ONE, '{"lines": ["x"]}') == [
        ("missing", ["body", "id"]),
        ("type_error", ["body", "lines", 0]),
    ]
    assert wrong(EventTypes({"Ticket": Ticket}), '{"user": {"a": "b"}}') == [
        ("missing", ["body", "text"]),
        ("type_error", ["body", "user", "..."]),
    ]
    assert wrong(EventTypes({"Lead": Lead}), '{"score": "x"}') == [
        ("missing", ["body", "email"]),
        ("float_parsing", ["body", "score"]),
    ]
    assert wrong(EventTypes({"Order": Order}, strict=True), '{"id": "7", "lines": []}') == [
        ("type_error", ["body", "id"])
    ]


def test_two_types_that_fit_are_named() -> None:
    types = EventTypes({"A": Order, "B": Order})
    with pytest.raises(InvalidEvent, match="Input fits A and B: name its type in the field 'type'"):
        types.read(b'{"id": 1, "lines": []}')
    assert types.read(b'{"type": "B", "id": 1, "lines": []}').type == "B"
    assert wrong(types, '{"type": "C", "id": 1, "lines": []}') == [("literal_error", ["body", "type"])]


def test_a_body_that_fits_none_is_told_what_is_wrong_for_the_type_it_has_most_of() -> None:
    assert wrong(ALL, '{"text": 1}') == [("type_error", ["body", "text"]), ("missing", ["body", "user"])]
    assert wrong(ALL, '{"email": 1}')[-1] == ("missing", ["body", "score"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        b"[1]",
        b"7",
        b'{"id": 1',
        b'{"id": NaN, "lines": []}',
        b'{"id": 1e400, "lines": []}',
        b"\xff\xfe{}",
        b'{"id": 1, "lines": [], "x": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"id": 1180591620717411303424, "lines": []}',
    ],
)
def test_hostile_bodies_are_refused_with_a_reason(body: bytes) -> None:
    assert wrong(ONE, body)


def test_what_is_no_type_of_events_is_named() -> None:
    with pytest.raises(ConfigError, match="a msgspec Struct, a dataclass or a pydantic model"):
        EventTypes({"Order": dict})


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"id": 1, "lines": [], "id": 2}', ["id"]),
        ('{"id": 1, "lines": [{"a": [{"b": {"c": 1, "x": 9, "c": 1}}]}]}', ["lines", 0, "a", 0, "b", "c"]),
        ('{"id": 1, "lines": [], "\\u0069d": 1}', ["id"]),
    ],
)
def test_a_key_that_is_there_twice_is_refused_wherever_it_is(body: str, path: list[Any]) -> None:
    assert wrong(ONE, body) == [("json_duplicate_key", ["body", *path])]


def test_what_is_said_is_never_long() -> None:
    many = b'{"id": "x", "lines": [' + b'"x",' * 10_000 + b'""], "' + b"k" * 10**6 + b'": 1}'
    strict = EventTypes({"Some": pydantic.create_model("Some", lines=(list[int], ...))})
    for types in (ONE, ALL, strict):
        with pytest.raises(InvalidEvent) as caught:
            types.read(many)
        assert len(msgspec.json.encode(caught.value.details)) < 50_000
