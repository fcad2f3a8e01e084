"""What is decided about dead letters without asking anybody: fields, edits, when to stop, when to alert."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.adapters.redis.dead_letters.target_stream import as_entry, as_fields
from enricher.dead_letters.alert import DepthAlarm, LengthAlert
from enricher.dead_letters.bulk import StopRule
from enricher.dead_letters.edits import NO_EDIT, Edit, parse_assignment
from enricher.dead_letters.filters import FieldFilter, LetterFilter, parse_field
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import Outcome, merged, prepared
from enricher.errors import ConfigError
from tests.unit.test_dead_letters import OLD, STORE, letter

CHAIN = b'{"product": "NIFTY", "calls": [{"strike": 21500.0, "live": true}], "tick_id": 7, "note": null}'


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("product", "NIFTY"),
        ("product", "NIF*"),
        ("tick_id", "7"),
        ("tick_id", "7.0"),
        ("calls.0.strike", "21500"),
        ("calls.0.live", "true"),
        ("note", "null"),
        ("error_type", "Bad*"),
        ("task_name", "process_*"),
    ],
)
def test_a_field_is_looked_for_in_the_message_and_then_in_the_letter(path: str, value: str) -> None:
    assert LetterFilter(fields=(FieldFilter(path, value),)).matches(letter(body=CHAIN))


@pytest.mark.parametrize(
    ("path", "value"),
    [("product", "BANKNIFTY"), ("calls.1.strike", "21500"), ("tick_id.x", "7"), ("absent", "*")],
)
def test_a_field_that_is_absent_or_different_is_not_meant(path: str, value: str) -> None:
    assert not LetterFilter(fields=(FieldFilter(path, value),)).matches(letter(body=CHAIN))


def test_all_fields_must_match() -> None:
    both = (FieldFilter("product", "NIFTY"), FieldFilter("tick_id", "8"))
    assert not LetterFilter(fields=both).matches(letter(body=CHAIN))


def test_fields_of_a_message_that_is_no_json_are_those_of_its_letter_alone() -> None:
    broken = letter(body=b"\xff{")
    assert not LetterFilter(fields=(FieldFilter("product", "*"),)).matches(broken)
    assert LetterFilter(fields=(FieldFilter("stage", "decode"),)).matches(broken)


@pytest.mark.parametrize("parse", [parse_field, parse_assignment])
def test_a_field_without_a_value_is_answered_with_an_example(parse: Any) -> None:
    for wrong in ("product", "=NIFTY", ""):
        with pytest.raises(ValueError, match="such as pr"):
            parse(wrong)


def test_an_edit_sets_fields_anywhere_and_takes_others_out() -> None:
    edit = Edit(
        set=(("calls.0.strike", "21600"), ("product", "BANKNIFTY"), ("new", '{"a": [1]}'), ("text", '"7"')),
        drop=("note", "calls.0.live", "absent"),
    )
    assert json.loads(edit.apply(CHAIN)) == {
        "product": "BANKNIFTY",
        "calls": [{"strike": 21600}],
        "tick_id": 7,
        "new": {"a": [1]},
        "text": "7",
    }


def test_an_edit_leaves_the_bytes_of_all_other_fields() -> None:
    body = b'{"tick_id":1180591620717411303424000001,"price":1.10}'
    assert Edit(set=(("product", "N"),)).apply(body) == (
        b'{"tick_id":1180591620717411303424000001,"price":1.10,"product":"N"}'
    )
    assert NO_EDIT.apply(b"\xff no JSON") == b"\xff no JSON"


@given(st.dictionaries(st.text(min_size=1).filter(lambda t: "." not in t), st.integers(), min_size=1))
def test_an_edit_does_to_json_what_assignments_do_to_a_dictionary(message: dict[str, int]) -> None:
    name = next(iter(message))
    body = json.dumps(message).encode()
    assert json.loads(Edit(set=((name, '"changed"'),)).apply(body)) == {**message, name: "changed"}
    assert json.loads(Edit(drop=(name,)).apply(body)) == {k: v for k, v in message.items() if k != name}


@pytest.mark.parametrize(
    ("path", "why"),
    [("calls.3.strike", "a list of 1 has no item '3'"), ("puts.0", "has no 'puts'"), ("product.x", "not in")],
)
def test_an_edit_of_what_is_not_there_says_so(path: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Edit(set=((path, "1"),)).apply(CHAIN)


def test_a_letter_that_cannot_be_edited_fails_and_says_why() -> None:
    found = prepared(letter(body=b"no JSON"), Edit(set=(("price", "1"),)))
    assert isinstance(found, Outcome)
    assert (found.label, "'price'" in found.error) == ("failed", True)


def test_what_stays_of_an_edited_message_is_the_message_as_it_came() -> None:
    old = letter(body=CHAIN)
    stays = STORE.read(merged(old, letter(body=b'{"product": "edited"}', error="still wrong")))
    assert (stays.body, stays.error) == (CHAIN, "still wrong")
    assert stays.message == json.loads(CHAIN)
    before = STORE.read(json.dumps(OLD).encode())
    assert STORE.read(merged(before, letter(body=b'{"product": "edited"}'))).message == OLD["args"][0]  # type: ignore[index]


def mail() -> StoredLetter:
    """An entry as an old intake of mails left it."""
    fields = {
        "original_data": '{"subject": "hello", "raw": {"base64": "/w=="}, "n": 7}',
        "error": "no such folder",
        "retry_count": "2",
        "message_id": "<a@b>",
        "failed_at": "2023-11-14T22:13:20",
    }
    return STORE.read(json.dumps(fields).encode(), id=b"1-1")


def test_an_entry_of_an_old_intake_of_mails_has_a_time_attempts_and_a_message() -> None:
    found = mail()
    assert (found.at_us, found.attempts, found.error) == (1_700_000_000_000_000, 3, "no such folder")
    assert found.message["subject"] == "hello"
    assert LetterFilter(fields=(FieldFilter("message_id", "<a@*"),)).matches(found)


def test_an_entry_of_a_stream_is_made_of_body_and_topic_or_of_the_messages_own_fields() -> None:
    found = STORE.read(json.dumps({**mail().record, "topic": "mails"}).encode())
    message = prepared(found)
    assert not isinstance(message, Outcome)
    assert as_entry(message) == {b"body": found.body, b"topic": b"mails"}
    assert as_fields(message) == {b"subject": b"hello", b"raw": b"\xff", b"n": b"7"}
    for body in (b"[1]", b"\xff", b"{}"):
        bad = prepared(letter(body=body))
        assert not isinstance(bad, Outcome)
        with pytest.raises(ValueError, match="not a JSON object"):
            as_fields(bad)


@pytest.mark.parametrize(
    ("answers", "stops"),
    [("", False), ("xxx", False), ("xxxx", True), ("..xx", True), (".x..x.", False), ("xxxx....", False)],
)
def test_it_stops_when_the_share_of_the_last_ones_is_reached_and_not_before_there_are_so_many(
    answers: str, stops: bool
) -> None:
    assert StopRule(share=0.5, last=4).broken([a == "x" for a in answers]) is stops


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 30), st.floats(0.01, 1))
def test_only_the_last_answers_count(answers: list[bool], last: int, share: float) -> None:
    recent = answers[-last:]
    expected = len(answers) >= last and sum(recent) >= share * last
    assert StopRule(share, last).broken(answers) is expected


class Told:
    """A hook that remembers, and a clock that stands still."""

    def __init__(self) -> None:
        self.alerts: list[int] = []
        self.now = 0.0

    def __call__(self, alert: LengthAlert) -> None:
        assert (alert.store, alert.threshold) == ("s", 10)
        self.alerts.append(alert.length)


def test_the_hook_is_called_when_the_length_passes_the_threshold_and_only_then() -> None:
    told = Told()
    watch = DepthAlarm(10, told, clock=lambda: told.now)
    for before in range(15):
        watch.saw("s", before, before + 1)
    assert told.alerts == [11]


def test_what_passes_again_within_the_quiet_time_is_told_after_it_if_it_still_holds() -> None:
    told = Told()
    watch = DepthAlarm(10, told, quiet=60, clock=lambda: told.now)
    watch.saw("s", 10, 11)
    watch.saw("s", 10, 11)
    told.now = 59.0
    watch.saw("s", 11, 12)
    assert told.alerts == [11]
    told.now = 61.0
    watch.saw("s", 12, 13)
    assert told.alerts == [11, 13]


def test_a_hook_that_would_have_to_be_waited_for_is_refused() -> None:
    async def mail(alert: LengthAlert) -> None:
        raise AssertionError

    with pytest.raises(ConfigError, match="hook = 'mail': expected a plain function"):
        DepthAlarm(10, mail)  # type: ignore[arg-type]  # as a program without a type checker would


def test_what_has_sunk_below_the_threshold_meanwhile_is_told_no_more() -> None:
    told = Told()
    watch = DepthAlarm(10, told, quiet=60, clock=lambda: told.now)
    watch.saw("s", 10, 11)
    watch.saw("s", 10, 11)
    watch.saw("s", 4, 5)
    told.now = 100.0
    assert not watch.saw("s", 11, 12)
    assert watch.saw("s", 10, 11)
    assert told.alerts == [11, 11]


def test_a_threshold_of_nothing_never_alerts_and_a_hook_that_raises_stops_nothing() -> None:
    def broken(alert: LengthAlert) -> None:
        raise OSError("the pager is out of order")

    assert not DepthAlarm(0, broken).saw("s", 0, 1_000_000)
    assert DepthAlarm(10, broken).saw("s", 10, 11)
