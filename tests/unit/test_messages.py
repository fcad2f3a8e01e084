"""Messages become events, or say exactly what is wrong with them."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.clock import SECOND, event_us
from enricher.errors import BadMessage
from enricher.market.documents import storable
from enricher.messages.models import (
    Chain,
    Quote,
    Tick,
    decode_chain,
    decode_quote,
    decode_tick,
    peek_product,
    peek_series,
)

STAMP = "2025-10-14T10:11:12.345678"
NOW = event_us(STAMP)[0]


def tick_fields(**changes: Any) -> dict[str, Any]:
    fields = {"type": "UNDERLYING", "product": "NIFTY", "price": 21543.25, "timestamp": STAMP}
    return fields | {"tick_id": 7} | changes


def quote_fields(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"symbol": "N21500C", "product": "NIFTY", "strike": 21500}
    fields |= {"expiry": "2025-10-30", "option_type": "CALL", "timestamp": STAMP, "iv": 0.15}
    return fields | changes


def leg(strike: Any, **fields: Any) -> dict[str, Any]:
    return {"strike": strike, "open_interest": 10, "last": 1.5, **fields}


def chain_fields(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"product": "NIFTY", "expiry": "2025-10-30", "spot_price": 21510}
    fields |= {"strikes": [21500, 21600], "timestamp": STAMP}
    fields |= {"calls": [leg(21500), leg(21600)], "puts": [leg(21500), leg(21600)]}
    return fields | changes


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def encoded(message: Any) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


def tick(message: Any) -> Tick:
    return decode_tick(encoded(message), now_us=NOW)


def quote(message: Any) -> Quote:
    return decode_quote(encoded(message), now_us=NOW)


def chain(message: Any) -> Chain:
    return decode_chain(encoded(message), now_us=NOW)


def test_a_tick_keeps_its_numbers_as_sent() -> None:
    event = tick(tick_fields(price=21543, volume=2**70, change=-3.5))
    assert (event.price, type(event.price)) == (21543, int)
    assert (event.volume, event.change, event.tick_id) == (2**70, -3.5, 7)
    assert (event.event_us, event.naive, event.timestamp) == (NOW, True, STAMP)


def test_a_missing_null_or_empty_tick_id_is_no_tick_id() -> None:
    assert tick(without(tick_fields(), "tick_id")).tick_id is None
    assert tick(tick_fields(tick_id=None)).tick_id is None
    assert tick(tick_fields(tick_id="")).tick_id is None
    assert tick(tick_fields(tick_id=0)).tick_id == 0


@pytest.mark.parametrize("note", ["caf\u00e9", "\\", '"', "\U0001f600"])
def test_a_field_nobody_knows_may_hold_any_text(note: str) -> None:
    for product in ("N", "\u0928\u093f\u092b\u094d\u091f\u0940"):
        assert tick(tick_fields(product=product, note=note)).product == product


def test_a_price_of_zero_is_a_price() -> None:
    assert tick(tick_fields(price=0)).price == 0


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (b"", "$"),
        (b"\xff\xfe", "$"),
        (b"{", "$"),
        (b"[1]", "$"),
        (b"null", "$"),
        (b'"text"', "$"),
        (b"NaN", "$"),
        (b"[" * 200_000, "$"),
        (b'{"product":' + b"[" * 100 + b"]" * 100 + b"}", "$"),
        (b'{"product":"\\ud800","price":1,"timestamp":"' + STAMP.encode() + b'"}', "$.product"),
        (b'{"price":1' + b"0" * 5000 + b"}", "$"),
        (encoded(tick_fields(note="??")).replace(b"??", b"\xff\xfe"), "$"),
        (encoded(tick_fields(note="??")).replace(b"??", b"\\udc80"), "$.note"),
        (without(tick_fields(), "product"), "$.product"),
        (without(tick_fields(), "price"), "$.price"),
        (without(tick_fields(), "timestamp"), "$.timestamp"),
        (tick_fields(product=""), "$.product"),
        (tick_fields(product=5), "$.product"),
        (tick_fields(product="  "), "$.product"),
        (tick_fields(product="\u00a0", note="x"), "$.product"),
        (tick_fields(price="21543"), "$.price"),
        (tick_fields(price=True), "$.price"),
        (tick_fields(price=None), "$.price"),
        (tick_fields(price=-0.01), "$.price"),
        (tick_fields(price=10**400), "$.price"),
        (tick_fields(price=float("nan")), "$.price"),
        (tick_fields(high=-1), "$.high"),
        (tick_fields(volume="many"), "$.volume"),
        (tick_fields(volume=False), "$.volume"),
        (tick_fields(unknown=float("inf")), "$.unknown"),
        (json.dumps(tick_fields()).encode()[:-1] + b',"other":1e999}', "$.other"),
        (tick_fields(tick_id=True), "$.tick_id"),
        (tick_fields(tick_id=1.5), "$.tick_id"),
        (tick_fields(timestamp=1760436672), "$.timestamp"),
        (tick_fields(timestamp="yesterday"), "$.timestamp"),
        (tick_fields(timestamp="2025-10-14"), "$.timestamp"),
        (tick_fields(timestamp="17430903506"), "$.timestamp"),
        (tick_fields(timestamp="1970-01-01T05:30:00"), "$.timestamp"),
        (tick_fields(timestamp="2025-10-14T10:12:12.345679"), "$.timestamp"),
    ],
)
def test_a_bad_tick_names_the_path_of_the_culprit(message: Any, path: str) -> None:
    with pytest.raises(BadMessage) as caught:
        tick(message)
    assert caught.value.path == path
    assert caught.value.expected


def test_unknown_nested_fields_are_welcome_up_to_a_reasonable_depth() -> None:
    nested: Any = "x"
    for _ in range(60):
        nested = [nested]
    wide = [[index] for index in range(500)]
    assert tick(tick_fields(nested=nested, wide=wide)).price == 21543.25


def test_the_error_says_what_was_expected_and_what_was_found() -> None:
    with pytest.raises(BadMessage) as caught:
        tick(tick_fields(price="21543"))
    assert (caught.value.expected, caught.value.found) == ("a number", '"21543"')


def test_a_time_is_flagged_from_five_seconds_ahead_and_bad_beyond_sixty() -> None:
    def ahead(seconds: float) -> Tick:
        return decode_tick(encoded(tick_fields()), now_us=NOW - int(seconds * SECOND))

    assert not ahead(5).future
    assert ahead(5.000001).future
    assert ahead(60).ahead_us == 60 * SECOND
    with pytest.raises(BadMessage, match=r"at most 60 s ahead"):
        ahead(60.000001)


def test_a_time_without_an_offset_that_is_far_ahead_is_told_where_its_zone_is_set() -> None:
    with pytest.raises(BadMessage, match=r"read in Asia/Kolkata: feed.timezone"):
        decode_tick(encoded(tick_fields()), zone=ZoneInfo("Asia/Kolkata"), now_us=NOW - 86_400 * SECOND)
    with pytest.raises(BadMessage) as caught:
        decode_tick(encoded(tick_fields(timestamp=STAMP + "Z")), now_us=NOW - 86_400 * SECOND)
    assert "feed.timezone" not in str(caught.value)


@pytest.mark.parametrize("text", ["1743090350654", "1743090350.654", "1743090350654000000"])
def test_a_count_since_1970_is_a_time_in_utc_and_stays_as_it_was_sent(text: str) -> None:
    event = decode_tick(encoded(tick_fields(timestamp=text)), zone=ZoneInfo("Asia/Kolkata"), now_us=NOW)
    assert (event.event_us, event.naive, event.timestamp) == (1_743_090_350_654_000, False, text)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59", "0001-01-01T00:00:00Z"])
def test_of_a_time_that_is_iso_but_out_of_range_the_error_names_the_range(text: str) -> None:
    with pytest.raises(BadMessage, match="in the years 2 to 9998 in UTC"):
        tick(tick_fields(timestamp=text))


def test_a_quote_keeps_the_whole_message() -> None:
    event = quote(quote_fields(bid=1, venue={"name": "x"}))
    assert event.raw == quote_fields(bid=1, venue={"name": "x"})
    assert (event.strike, event.bid, event.ask, event.iv) == (21500, 1, None, 0.15)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"symbol": ""}, "$.symbol"),
        ({"symbol": "\t"}, "$.symbol"),
        ({"product": ""}, "$.product"),
        ({"product": " \n"}, "$.product"),
        ({"strike": -1}, "$.strike"),
        ({"strike": "21500"}, "$.strike"),
        ({"bid": -0.05}, "$.bid"),
        ({"last": -1}, "$.last"),
        ({"iv": "15%"}, "$.iv"),
        ({"option_type": "call"}, "$.option_type"),
        ({"option_type": None}, "$.option_type"),
        ({"expiry": "30-Oct-2025"}, "$.expiry"),
        ({"expiry": "2025-W42-2"}, "$.expiry"),
        ({"expiry": "20251030"}, "$.expiry"),
        ({"expiry": "2025-02-30"}, "$.expiry"),
        ({"delta": float("nan")}, "$.delta"),
    ],
)
def test_a_bad_quote_names_the_path_of_the_culprit(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(BadMessage) as caught:
        quote(quote_fields(**changes))
    assert caught.value.path == path


def test_a_chain_has_its_legs_as_sent_and_by_strike() -> None:
    message = chain_fields(calls=[leg(21600, extra="x"), leg(21500)], strikes=[21600, 21500])
    event = chain(message)
    assert event.calls == message["calls"]
    assert event.strikes == (21500, 21600)
    assert event.call_at[21500].open_interest == 10
    assert event.flags == {}


def test_a_chain_needs_no_list_of_strikes_when_its_legs_give_them() -> None:
    event = chain(without(chain_fields(), "strikes"))
    assert (event.strikes, event.flags) == ((21500, 21600), {})


def test_missing_legs_and_stray_or_repeated_strikes_are_flagged() -> None:
    event = chain(chain_fields(strikes=[21500, 21500, 21700], puts=[leg(21600)]))
    assert event.strikes == (21500, 21600, 21700)
    assert event.flags == {
        "strikes": "repeated; only in a leg: 21600",
        "calls": "no leg at 21700",
        "puts": "no leg at 21500, 21700",
    }


def test_a_negative_or_infinite_leg_number_is_unknown_flagged_and_kept_as_sent() -> None:
    bad = [leg(21500, open_interest=-1, iv=float("nan"), delta=-0.4), leg(21600, last=10**400)]
    event = chain(chain_fields(puts=bad))
    assert event.put_at[21500].open_interest is None
    assert event.put_at[21500].iv is None
    assert event.put_at[21500].delta == -0.4
    assert event.put_at[21600].last is None
    assert event.puts[0]["open_interest"] == -1
    assert event.flags == {
        "puts[0].open_interest": "negative",
        "puts[0].iv": "not finite",
        "puts[1].last": "not finite",
    }


def test_a_whole_number_beyond_64_bits_stays_what_it_is() -> None:
    event = chain(chain_fields(calls=[leg(21500, volume=2**80), leg(21600)]))
    assert event.call_at[21500].volume == 2**80
    assert event.flags == {}


def test_an_identical_repeated_leg_is_dropped_and_flagged() -> None:
    twice = [leg(21500, x=float("nan")), leg(21600), leg(21500, x=float("nan"))]
    event = chain(chain_fields(calls=twice))
    assert [call["strike"] for call in event.calls] == [21500, 21600]
    assert event.flags == {"calls": "1 repeated legs dropped"}


def test_flags_name_the_place_of_a_leg_among_those_that_are_kept() -> None:
    bad = leg(21600, open_interest=-1)
    event = chain(chain_fields(calls=[leg(21500), leg(21500), bad, bad, leg(21700, last=-1)], puts=[]))
    assert [call["strike"] for call in event.calls] == [21500, 21600, 21700]
    told = {name: reason for name, reason in event.flags.items() if "[" in name}
    assert told == {"calls[1].open_interest": "negative", "calls[2].last": "negative"}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"product": " "}, "$.product"),
        ({"spot_price": -1}, "$.spot_price"),
        ({"spot_price": float("nan")}, "$.spot_price"),
        ({"spot_price": None}, "$.spot_price"),
        ({"expiry": "soon"}, "$.expiry"),
        ({"strikes": None}, "$.strikes"),
        ({"strikes": 5}, "$.strikes"),
        ({"strikes": [21500, "x"]}, "$.strikes[1]"),
        ({"strikes": [21500, -5]}, "$.strikes[1]"),
        ({"strikes": [True]}, "$.strikes[0]"),
        ({"strikes": [], "calls": [], "puts": []}, "$.strikes"),
        ({"calls": None}, "$.calls"),
        ({"calls": {}}, "$.calls"),
        ({"calls": [5]}, "$.calls[0]"),
        ({"calls": [leg(21500), {}]}, "$.calls[1].strike"),
        ({"calls": [leg(None)]}, "$.calls[0].strike"),
        ({"calls": [leg(-5)]}, "$.calls[0].strike"),
        ({"puts": [leg(float("nan"))]}, "$.puts[0].strike"),
        ({"calls": [leg(1), leg(2, open_interest="many")]}, "$.calls[1].open_interest"),
        ({"calls": [leg(1, volume=True)]}, "$.calls[0].volume"),
        ({"calls": [leg(1, changeinOpenInterest="x")]}, "$.calls[0].changeinOpenInterest"),
        ({"calls": [leg(1, option_type="PUT")]}, "$.calls[0].option_type"),
        ({"puts": [leg(1, option_type="CALL")]}, "$.puts[0].option_type"),
        ({"puts": [leg(1, option_type="X")]}, "$.puts[0].option_type"),
        ({"puts": [leg(1), leg(1.0, last=2)]}, "$.puts[1].strike"),
    ],
)
def test_a_bad_chain_names_the_path_of_the_culprit(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(BadMessage) as caught:
        chain(chain_fields(**changes))
    assert caught.value.path == path


@pytest.mark.parametrize("extra", [{}, {"venue": "x"}])
def test_legs_that_name_another_product_or_expiry_are_flagged_and_kept(extra: dict[str, Any]) -> None:
    own = {"product": "NIFTY", "expiry": "2025-10-30", **extra}
    calls = [leg(21500, **own), leg(21600, **own | {"product": "BANKNIFTY"})]
    puts = [leg(k, **own | {"expiry": "2025-11-27"}) for k in range(21000, 21700, 100)]
    event = chain(chain_fields(calls=calls, puts=puts, strikes=list(range(21000, 21700, 100))))
    assert event.clean is not bool(extra)
    assert len(event.put_at) == 7
    assert {name: event.flags[name] for name in event.flags if "." in name} == {
        "calls.product": "another than the chain's at 21600",
        "puts.expiry": "another than the chain's at 21000, 21100, 21200, 21300, 21400 and 2 more",
    }


@pytest.mark.parametrize("extra", [{}, {"venue": "x"}])
def test_legs_that_name_their_chain_or_nothing_are_not_flagged(extra: dict[str, Any]) -> None:
    named = leg(21500, product="NIFTY", expiry="2025-10-30", **extra)
    unnamed = leg(21600, product=None, **extra)
    assert chain(chain_fields(calls=[named, unnamed])).flags == {}


@pytest.mark.parametrize(("sent", "price"), [(21620.5, 21620.5), (21620, 21620.0), (None, None)])
def test_a_chain_may_bring_the_price_of_its_future(sent: Any, price: float | None) -> None:
    event = chain(chain_fields(future_price=sent))
    assert (event.future_price, event.flags, event.clean) == (price, {}, True)


@pytest.mark.parametrize("sent", [0, -1.5, "21620", True, [21620], 10**400])
def test_what_is_no_price_of_a_future_is_set_aside_with_a_flag(sent: Any) -> None:
    event = chain(chain_fields(future_price=sent))
    assert event.future_price is None
    assert event.flags == {"future_price": "no number above 0"}


def test_a_chain_of_known_fields_in_range_is_clean() -> None:
    full = leg(21500, symbol="N", product="NIFTY", expiry="2025-10-30", timestamp=STAMP, oi_change=-4)
    event = chain(chain_fields(calls=[full], type="CHAIN"))
    assert event.clean
    assert storable(encoded(chain_fields()), {"calls": event.calls})


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"spot_price": 2**63},
        {"type": ["a list"]},
        {"calls": [leg(21500, extra=[[1]])]},
        {"calls": [leg(21500, **{"a\0b": 1})]},
        {"calls": [leg(21500, symbol={"a": 1})]},
        {"puts": [leg(21500, bid=-1)]},
        {"puts": [leg(2**63)]},
        {"puts": [leg(21500, open_interest=2**62), leg(21600, open_interest=2**62)]},
        {"puts": [leg(21500, oi_change=-(2**62))]},
    ],
)
def test_a_chain_is_not_clean_with_unknown_fields_or_numbers_that_may_outgrow_64_bits(
    changes: dict[str, Any],
) -> None:
    assert not chain(chain_fields(**changes)).clean


@pytest.mark.parametrize(
    ("changes", "clean"),
    [
        ({}, True),
        ({"type": "QUOTE", "bid": None, "delta": -2, "gamma": -0.5}, True),
        ({"extra": 1}, False),
        ({"a\0b": 1}, False),
        ({"type": {"a": 1}}, False),
        ({"strike": 2**63}, False),
        ({"theta": 2**70}, False),
        ({"volume": 2**31}, False),
        ({"open_interest": -1}, False),
        ({"last": "-"}, False),
    ],
)
def test_a_quote_is_clean_with_known_fields_in_range_alone(changes: dict[str, Any], clean: bool) -> None:
    event = quote(quote_fields(**changes))
    assert event.clean is clean
    assert storable(encoded(quote_fields()), event.raw) or not clean


@pytest.mark.parametrize("nested", ["calls", "top"])
def test_a_chain_that_nests_too_deep_is_bad_wherever_it_does(nested: str) -> None:
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    message = chain_fields(calls=[leg(1, x=deep)]) if nested == "calls" else chain_fields(x=deep)
    with pytest.raises(BadMessage, match="64 levels"):
        chain(message)


@pytest.mark.parametrize("name", ["product", "expiry", "spot_price", "timestamp", "calls", "puts"])
def test_a_chain_without_a_required_field_says_which(name: str) -> None:
    with pytest.raises(BadMessage) as caught:
        chain(without(chain_fields(), name))
    assert caught.value.path == f"$.{name}"


def test_the_same_tick_id_as_number_or_text_is_one_identity() -> None:
    number, text = tick(tick_fields(tick_id=1)), tick(tick_fields(tick_id="1"))
    assert number.document_id(b"a") == text.document_id(b"b") == f"{NOW}:5:NIFTY:1"


def test_without_a_tick_id_the_bytes_are_the_identity() -> None:
    event = tick(tick_fields(tick_id=None))
    assert event.document_id(b"a") == event.document_id(b"a") != event.document_id(b"b")
    assert event.document_id(b"a").startswith(f"{NOW}:5:NIFTY#")


def test_products_with_colons_never_share_a_document_id() -> None:
    left = tick(tick_fields(product="A", tick_id="B:1"))
    right = tick(tick_fields(product="A:B", tick_id="1"))
    assert left.document_id(b"") != right.document_id(b"")


def test_quotes_and_chains_are_identified_by_their_bytes() -> None:
    assert quote(quote_fields()).document_id(b"a") != quote(quote_fields()).document_id(b"b")
    assert quote(quote_fields()).document_id(b"a").startswith(f"{NOW}:N21500C#")
    assert chain(chain_fields()).document_id(b"a").startswith(f"{NOW}:5:NIFTY:2025-10-30#")


@pytest.mark.parametrize(
    ("body", "product"),
    [
        (encoded(tick_fields()), "NIFTY"),
        (encoded(chain_fields()), "NIFTY"),
        (b'{"inner":{"product":"X"}}', None),
        (b'{"product":5}', None),
        (b'{"product":""}', None),
        (b"[", None),
        (b"", None),
        (b'{"product":"\xff"}', None),
        (b'{"x":' + b"[" * 200_000, None),
    ],
)
def test_the_product_can_be_peeked_at(body: bytes, product: str | None) -> None:
    assert peek_product(body) == product


def test_chains_of_one_product_and_expiry_are_told_from_others_however_long_they_are() -> None:
    sent = {"product": "NIFTY", "expiry": "2025-10-28", "spot_price": 1.5, "strikes": []}
    long = {**sent, "strikes": list(range(1000))}
    late = {"strikes": list(range(1000)), **sent}
    assert {peek_series(json.dumps(message).encode()) for message in (sent, long, late)} == {
        "2025-10-28:NIFTY"
    }
    assert peek_series(json.dumps({**long, "expiry": "2025-11-25"}).encode()) == "2025-11-25:NIFTY"
    assert peek_series(json.dumps({**long, "product": "BANKNIFTY"}).encode()) == "2025-10-28:BANKNIFTY"


finite = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no others
plain = st.one_of(st.none(), st.booleans(), st.integers(), finite, st.text(max_size=5))
values = st.one_of(plain, st.lists(plain, max_size=2), st.fixed_dictionaries({"product": plain}))
names = st.one_of(st.sampled_from(["product", "type", "a b", "pro\\duct"]), st.text(max_size=3))


@given(st.dictionaries(names, values, max_size=5), st.one_of(plain, st.sampled_from(["NIFTY", "M&M", 'a"b'])),
       st.booleans(), st.integers(0, 1))  # fmt: skip
def test_of_a_large_body_the_same_product_is_peeked_at(
    before: dict[str, Any], product: Any, ascii_only: bool, spaces: int
) -> None:
    message = {**before, "product": product, "rest": [{"product": "other"}] * 100}
    separators = (", ", ": ") if spaces else (",", ":")
    body = json.dumps(message, ensure_ascii=ascii_only, separators=separators).encode()
    expected = product if isinstance(product, str) and product else None
    assert peek_product(body) == expected
