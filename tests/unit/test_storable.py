"""What no store takes is found where it stands, in any message, or read with a defect named."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.engine.router import Context, decode_json
from enricher.errors import BadMessage
from enricher.mail.entries import read_entry
from enricher.mail.message import parse_message
from enricher.mail.parsed import mail_of_fields
from enricher.market.documents import storable
from enricher.messages.models import decode_chain, decode_quote, decode_tick
from enricher.storable import check_storable, misfit
from tests.integration.test_market_contract import AT, chain, leg, quote, tick

HALF = "half of a surrogate pair"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": ["x", {"b": "\ud800"}]}, "$.a[1].b"),
        ({"a": {"b\udfff": 1}}, "$.a.b\\udfff"),
        ({"a\0b": 1}, "$.a\\u0000b"),
        ({"n": [1, 2**63]}, "$.n[1]"),
        ({"n": -(2**63) - 1}, "$.n"),
        ({"a": {1: 2}}, "$.a"),
        ({"a": {1, 2}}, "$.a"),
        ({"a": date(2025, 1, 1)}, "$.a"),
        (nested(101), "$"),
        (nested(5000), "$"),
    ],
)
def test_what_cannot_be_stored_is_found_with_its_path(value: Any, path: str) -> None:
    found = misfit(value)
    assert found is not None
    assert found.path == path
    with pytest.raises(BadMessage, match=re.escape(path)):
        check_storable(value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.sampled_from([datetime(2025, 1, 1, tzinfo=UTC), "\ud800", 2**63, math.inf, "x\0y"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.just("\udc00"), inner),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_passes_is_encoded_and_nothing_else_is(value: Any) -> None:
    found = misfit({"v": value})
    try:
        bson.encode({"v": value})
    except (bson.errors.BSONError, UnicodeError, OverflowError):
        assert found is not None
    else:
        assert found is None


def escaped(message: Any) -> bytes:
    """As a careless producer writes it: every half of a pair as an escape."""
    return json.dumps(message).encode()


MARKET: list[tuple[Any, dict[str, Any], str]] = [
    (decode_tick, tick(1.0, product="A\ud800"), "$.product"),
    (decode_tick, tick(1.0, tick_id="\udfff"), "$.tick_id"),
    (decode_tick, tick(1.0, volume=2**70, more={"x": ["\ud83d"]}), "$.more.x[0]"),
    (decode_tick, tick(1.0, **{"n\ud800": 1}), "$.n\\ud800"),
    (decode_quote, quote(symbol="\ud800"), "$.symbol"),
    (decode_quote, quote(deep={"x": [{"y\udc00": 1}]}), "$.deep.x[0].y\\udc00"),
    (decode_chain, chain(calls=[leg(1, "CALL", 1, 1, 1, note="\udead")]), "$.calls[0].note"),
    (decode_chain, chain(expiry="\udead"), "$.expiry"),
]


@pytest.mark.parametrize(("decode", "message", "path"), MARKET)
def test_half_a_surrogate_pair_anywhere_in_a_market_message_is_refused_with_its_path(
    decode: Any, message: dict[str, Any], path: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        decode(escaped(message), now_us=AT)
    assert caught.value.path == path
    assert str(caught.value).encode()


def test_a_nul_in_a_name_is_refused_with_its_path_and_none_in_a_text() -> None:
    body = escaped(quote(more=[{"a\0b": 1}]))
    with pytest.raises(BadMessage) as caught:
        storable(body, json.loads(body))
    assert caught.value.path == "$.more[0].a\\u0000b"
    body = escaped(quote(more="a\0b"))
    assert storable(body, json.loads(body))


def test_any_json_route_says_where_half_a_pair_is() -> None:
    context = Context("t", b"", 0, 1, {})
    with pytest.raises(BadMessage) as caught:
        decode_json(escaped({"a": [1, "\ud800"]}), context)
    assert caught.value.path == "$.a[1]"
    with pytest.raises(BadMessage) as caught:
        read_entry(escaped({"raw": "From: a", "tenant": "\ud800"}))
    assert (caught.value.path, caught.value.found) == ("$.tenant", HALF)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"raw": "From: a@b\n\nx", "n": 2**70}, "$.n"),
        ({"subject": "s", "more": {"x": {"a\0b": 1}}}, "$.more.x.a\\u0000b"),
        ({"subject": "s", "more": nested(120)}, "$"),
    ],
)
def test_fields_of_an_entry_that_cannot_be_stored_are_refused_with_their_path(
    fields: dict[str, Any], path: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        read_entry(json.dumps(fields).encode())
    assert caught.value.path == path


WORD = "=?utf-7?Q?+2AA-=FF?="
HOSTILE = [
    f"Subject: {WORD}",
    f"From: {WORD} <a@b>",
    f"To: {WORD} <a@b>, \"{WORD}\" <c@d>, ({WORD}) e@f",
    f"X-Any: {WORD}",
    f"Message-ID: <{WORD}@x>",
    f"References: <{WORD}@x>",
    f"In-Reply-To: {WORD}",
    f"Date: {WORD}",
    f"Content-ID: <{WORD}>\nContent-Disposition: attachment",
    f"Content-Disposition: attachment; filename=\"{WORD}\"",
    "Content-Disposition: attachment; filename*=utf-7''%2B2AA-%FF",
    "Content-Disposition: attachment; filename*0*=utf-7''%2B2AA-; filename*1*=%FF",
    "Content-Type: text/plain; charset=utf-7\n\n+2AA-\xff",
    "Content-Type: text/html; charset=utf-7\n\n+2AA-",
    "Content-Type: text/plain; charset=utf-16\n\n\x00\xd8x",
    f"Content-Type: text/plain; name=\"{WORD}\"; charset=\"{WORD}\"",
    "Subject: \xed\xa0\x80 \udc80",
    "S\xed\xa0\x80: x",
]


@pytest.mark.parametrize("head", HOSTILE)
def test_a_mail_never_holds_what_cannot_be_stored(head: str) -> None:
    raw = head.encode("latin-1", "replace") + b"\n\nhi\n"
    document = parse_message(raw, id="x").document()
    assert misfit(document) is None
    bson.encode(document)


@given(st.binary(max_size=40), st.sampled_from(["utf-7", "utf-16", "utf-32-le", "cp949", "gb18030", "hz"]))
def test_no_charset_spells_what_cannot_be_stored(data: bytes, charset: str) -> None:
    word = "".join(f"={byte:02X}" for byte in data)
    head = f"Subject: =?{charset}?Q?{word}?=\nContent-Type: text/plain; charset={charset}\n\n"
    assert misfit(parse_message(head.encode() + data, id="x").document()) is None


@pytest.mark.parametrize("size", [2**70, -1, "9" * 30, 1e300])
def test_a_size_that_is_none_is_a_defect_of_a_parsed_mail(size: object) -> None:
    listed = json.dumps([{"filename": "a", "size": size}])
    mail = mail_of_fields({"subject": "s", "attachments": listed}, id="x", message_id=None)
    assert mail.defects == ("InvalidAttachmentsDefect",)
    assert misfit(mail.document()) is None
