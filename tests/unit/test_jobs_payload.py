"""Arguments as JSON and back: what comes back is what was given, and what would not is named by its path."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypedDict
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import BadMessage
from enricher.jobs.errors import BadArguments
from enricher.jobs.payload import Arguments, plain_payload, split

if TYPE_CHECKING:
    from nowhere import Unknown

NAIVE = datetime(2026, 1, 2, 3)  # noqa: DTZ001


@dataclasses.dataclass
class Point:
    x: float
    name: str = ""


class Order(msgspec.Struct, frozen=True):
    id: UUID
    price: Decimal
    lines: list[Point] = []


class Colour(enum.Enum):
    RED = "red"


class Row(TypedDict):
    rows: int
    note: str


def anything(*args: Any, **kwargs: Any) -> None: ...


def import_user(user_id: int, data: dict[str, Any], limit: int = 10) -> None: ...


def path_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(BadArguments) as caught:
        Arguments(function).encode(args, kwargs)
    return caught.value.path


def both_ways(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    arguments = Arguments(function)
    payload = arguments.encode(args, kwargs)
    json.loads(payload)  # what others read
    return arguments.decode(payload)


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(plain_json, max_size=3), st.dictionaries(st.text(), plain_json, max_size=3))
def test_json_comes_back_as_it_was_given(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert both_ways(anything, *args, **kwargs) == (args, kwargs)


@given(st.recursive(plain_json | st.just(math.nan) | st.binary() | st.dates(), st.lists))
def test_whatever_is_accepted_comes_back_the_same(value: Any) -> None:
    try:
        args, _ = both_ways(anything, value)
    except BadArguments:
        return
    assert args == [value]


def test_the_payload_is_the_two_of_them_as_json() -> None:
    assert Arguments(import_user).encode((7,), {"data": {"a": [1, None]}}) == b'[[7],{"data":{"a":[1,null]}}]'


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'user_id'"),
        ((1,), {"user_id": 1, "data": {}}, "multiple values for argument 'user_id'"),
        ((1, {}, 2, 3), {}, "too many positional arguments"),
        ((), {"user_id": 1, "data": {}, "colour": "red"}, "unexpected keyword argument 'colour'"),
    ],
)
def test_arguments_have_to_fit_perform(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(BadArguments, match="arguments that fit perform") as caught:
        Arguments(import_user).encode(args, kwargs)
    assert said in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, BadMessage)


def test_arguments_that_fit_in_any_way_are_taken() -> None:
    def odd(first: int, /, second: int, *rest: int, third: int, **others: int) -> None: ...

    def by_place(first: int, /) -> None: ...

    assert both_ways(odd, 1, 2, 3, third=4, fourth=5) == ([1, 2, 3], {"third": 4, "fourth": 5})
    assert both_ways(import_user, data={}, user_id=3) == ([], {"data": {}, "user_id": 3})
    assert path_of(by_place, first=1) == "$"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), ""),
        ({"x": object()}, ".x"),
        ([1, {"x": {1, 2}}], "[1].x"),
        (b"bytes", ""),
        ({"a": {1: "one"}}, ".a"),
        (datetime(2026, 1, 1, tzinfo=UTC), ""),
        (Decimal("1.5"), ""),
        ({"id": uuid4()}, ".id"),
        (Point(1.0), ""),
        (Colour.RED, ""),
        (deque([1]), ""),
        (math.nan, ""),
        ([0.5, -math.inf], "[1]"),
        ([10**6000], "[0]"),
        ({"half": "\ud800"}, ".half"),
        ({"\udfff": 1}, ""),
        (lambda: None, ""),
    ],
)
def test_what_is_no_json_is_named_by_its_path(value: Any, path: str) -> None:
    assert path_of(anything, 0, value) == f"$.args[1]{path}"
    assert path_of(anything, data=value) == f"$.kwargs.data{path}"


def test_what_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert path_of(anything, circle).startswith("$.args[0][0][0]")


def test_a_number_of_any_size_is_json() -> None:
    assert both_ways(anything, 2**64, -(2**70), x=(2**65,)) == ([2**64, -(2**70)], {"x": [2**65]})


def test_a_tuple_is_a_list_and_an_ordered_dict_is_an_object() -> None:
    assert both_ways(anything, (1, (2,)), x=OrderedDict(a=1)) == ([[1, [2]]], {"x": {"a": 1}})


def test_large_arguments_are_refused_with_what_would_help() -> None:
    with pytest.raises(BadArguments, match=r"at most 100 bytes.*jobs\.max_payload"):
        Arguments(anything).encode(("x" * 100,), {}, 100)


def rich(
    when: datetime,
    day: date,
    id: UUID,  # noqa: A002
    price: Decimal,
    point: Point,
    order: Order | None = None,
    *rest: timedelta,
    tags: set[str] = frozenset(),  # type: ignore[assignment]
    by_number: Annotated[dict[int, Decimal] | None, "a note"] = None,
    colour: Optional[Colour] = None,  # noqa: UP045
    pair: tuple[int, str] = (0, ""),
    raw: bytes = b"",
    data: dict[str, Any] | None = None,
    **others: Decimal,
) -> None: ...


def test_annotated_arguments_are_converted_there_and_back() -> None:
    args = (
        datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        date(2026, 1, 2),
        uuid4(),
        Decimal("12.30"),
        Point(1.5, "a"),
        Order(uuid4(), Decimal("1e-9"), [Point(2.0)]),
        timedelta(seconds=90),
    )
    kwargs = {
        "tags": {"a", "b"},
        "by_number": {1: Decimal(2)},
        "colour": Colour.RED,
        "pair": (1, "x"),
        "raw": b"\x00\xff",
        "data": {"x": [1]},
        "tax": Decimal("0.19"),
    }
    assert both_ways(rich, *args, **kwargs) == (list(args), kwargs)


def test_a_naive_time_stays_naive() -> None:
    def at(when: datetime) -> None: ...

    assert both_ways(at, NAIVE)[0] == [NAIVE]


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("when", "tomorrow", "$.kwargs.when"),
        ("when", uuid4(), "$.kwargs.when"),
        ("price", "much", "$.kwargs.price"),
        ("point", {"x": "left"}, "$.kwargs.point.x"),
        ("point", Point(math.nan), "$.kwargs.point.x"),
        ("tags", ["a", 1], "$.kwargs.tags[1]"),
        ("tags", object(), "$.kwargs.tags"),
        ("colour", "blue", "$.kwargs.colour"),
        ("tax", "none", "$.kwargs.tax"),
        ("data", {"x": object()}, "$.kwargs.data.x"),
    ],
)
def test_what_its_annotation_does_not_take_is_named_by_its_path(name: str, value: Any, path: str) -> None:
    right = {
        "when": NAIVE,
        "day": date(2026, 1, 1),
        "id": uuid4(),
        "price": Decimal(1),
        "point": Point(1.0),
    }
    assert path_of(rich, **{**right, name: value}) == path


def test_plain_annotations_are_hints_and_not_checked() -> None:
    def hinted(user_id: int, row: Row, names: list[str], data: dict) -> None: ...  # type: ignore[type-arg]

    given_args = ["7", {"rows": "many"}, {"not": "a list"}, [1]]
    assert both_ways(hinted, *given_args)[0] == given_args


def test_annotations_that_cannot_be_read_mean_json() -> None:
    def partly(user: Unknown, when: datetime) -> None: ...

    assert both_ways(partly, {"id": 1}, NAIVE)[0] == [{"id": 1}, NAIVE]
    assert path_of(partly, object(), NAIVE) == "$.args[0]"


def test_classes_that_nobody_can_convert_have_to_be_json() -> None:
    class Model:
        pass

    def takes(model: Model, models: list[Model] | None = None) -> None: ...

    assert path_of(takes, Model()) == "$.args[0]"
    assert path_of(takes, 1, models=[Model()]) == "$.kwargs.models[0]"


def test_a_stored_payload_that_fits_no_more_says_so() -> None:
    def older(when: datetime) -> None: ...

    def newer(when: datetime, zone: str) -> None: ...

    payload = Arguments(older).encode((NAIVE,), {})
    with pytest.raises(BadArguments, match="missing a required argument: 'zone'"):
        Arguments(newer).decode(payload)
    with pytest.raises(BadArguments, match=r"\$\.args\[0\]: expected datetime"):
        Arguments(older).decode(b'[["yesterday"],{}]')


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1]", b"[[],[]]", b"\xff", b"[[],{}] x", b"[[],{},1]"])
def test_what_is_no_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(BadArguments, match=r"a JSON array \[args, kwargs\]"):
        split(payload)


def test_a_class_that_is_not_known_takes_any_json() -> None:
    assert split(plain_payload((1,), {"x": None})) == ([1], {"x": None})
    with pytest.raises(BadArguments, match=r"\$\.kwargs\.x"):
        plain_payload((), {"x": object()})


def test_arguments_by_name_are_the_same_however_they_are_given() -> None:
    arguments = Arguments(import_user)
    assert arguments.by_name((1, {}), {}) == arguments.by_name((), {"data": {}, "user_id": 1, "limit": 10})
