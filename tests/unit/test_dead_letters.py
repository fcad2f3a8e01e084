"""Which dead letters are meant, what an entry says, and what stays of one that failed again."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click
import pytest

from enricher.adapters.redis.dead_letters.list_store import ListLetterStore
from enricher.cli.dlq_tables import as_json, details, row
from enricher.dead_letters.filters import EVERY, LetterFilter, parse_moment
from enricher.dead_letters.record import StoredLetter, body_of, encode
from enricher.dead_letters.replay import fresh_task_id, merged
from enricher.engine.effects import DeadLetter
from enricher.engine.pipeline import Pipeline
from enricher.engine.ports import Delivery
from enricher.engine.stats import Stats
from enricher.market.cli.feed import parse_defects, parse_products, parse_rate
from tests.rig import dead_letter

NOW_US = 1_700_000_000_000_000  # 2023-11-14T22:13:20Z
HOUR_US = 3_600_000_000


# Nothing here is asked of a server.
STORE = ListLetterStore(None, "dlq", {"process_underlying_tick": "market:underlying"})  # type: ignore[arg-type]


def letter(**changes: Any) -> StoredLetter:
    """A stored letter of a tick that could not be read, with these fields changed."""
    known = {"task_id": "3f2a9c71", "task_name": "process_underlying_tick", "topic": "market:underlying"}
    known |= {"key": "NIFTY", "stage": "decode", "error": "$.price: expected a number"}
    known |= {"error_type": "BadMessage", "path": "$.price", "first_us": NOW_US, "last_us": NOW_US}
    known |= {"body": b'{"product": "NIFTY"}', **changes}
    return STORE.read(encode(dead_letter(**known)))


OLD = {
    "task_id": "old-1",
    "task_name": "tasks.process_underlying_tick",
    "error": "boom",
    "args": [{"product": "NIFTY", "price": 1.5}],
    "timestamp": "2023-11-14T22:13:20",
}


@pytest.mark.parametrize(
    "wanted",
    [
        EVERY,
        LetterFilter(error="EXPECTED A NUMBER"),
        LetterFilter(pattern=r"^\$\.price"),
        LetterFilter(topic="market:*", stage="decode"),
        LetterFilter(since_us=NOW_US, until_us=NOW_US),
    ],
)
def test_a_filter_lets_through_what_it_describes(wanted: LetterFilter) -> None:
    assert wanted.matches(letter())


@pytest.mark.parametrize(
    "wanted",
    [
        LetterFilter(error="timeout"),
        LetterFilter(pattern="^price"),
        LetterFilter(topic="mail:*"),
        LetterFilter(topic="market:underlying", stage="commit"),
        LetterFilter(since_us=NOW_US + 1),
        LetterFilter(until_us=NOW_US - 1),
    ],
)
def test_a_filter_stops_everything_else(wanted: LetterFilter) -> None:
    assert not wanted.matches(letter())


def test_a_letter_without_a_time_is_outside_of_every_bound() -> None:
    timeless = STORE.read(b'{"task_id": "a", "timestamp": "soon"}')
    assert EVERY.matches(timeless)
    assert not LetterFilter(since_us=0).matches(timeless)


@pytest.mark.parametrize(
    ("text", "expected_us"),
    [
        ("2h", NOW_US - 2 * HOUR_US),
        ("90s", NOW_US - 90_000_000),
        ("2023-11-14T22:13:20Z", NOW_US),
        ("2023-11-14T22:13:20", NOW_US),
        ("2023-11-15T03:43:20+05:30", NOW_US),
    ],
)
def test_a_moment_is_iso_8601_or_a_while_ago(text: str, expected_us: int) -> None:
    assert parse_moment(text, NOW_US) == expected_us


def test_a_moment_without_an_offset_is_local_where_that_is_wanted() -> None:
    local = datetime(2026, 1, 1, 9, 30)  # noqa: DTZ001  the point of it
    assert parse_moment("2026-01-01T09:30", NOW_US, local=True) == local.timestamp() * 1e6
    assert parse_moment("2026-01-01T09:30+00:00", NOW_US, local=True) == 1_767_259_800_000_000


def test_a_moment_that_is_none_is_answered_with_examples() -> None:
    with pytest.raises(ValueError, match="such as 90s, 2h, 1d, got 'yesterday'"):
        parse_moment("yesterday", NOW_US)


def test_an_entry_of_an_old_worker_has_a_topic_a_time_and_a_body() -> None:
    found = STORE.read(json.dumps(OLD).encode())
    assert (found.topic, found.at_us, found.attempts) == ("market:underlying", NOW_US, 1)
    assert json.loads(found.body) == {"product": "NIFTY", "price": 1.5}


def test_an_entry_that_is_no_dead_letter_can_still_be_named_and_shown() -> None:
    found = STORE.read(b"\xffnonsense", position=4)
    assert not found.readable
    assert len(found.task_id) == 32
    assert row(found)[0] == "4"
    assert "not a dead letter" in details(found)
    assert json.loads(as_json(found))["position"] == 4


def test_two_entries_without_an_id_have_different_names() -> None:
    assert STORE.read(b'{"error": "a"}').task_id != STORE.read(b'{"error": "b"}').task_id


def test_bytes_that_are_not_text_come_back_as_they_were() -> None:
    assert letter(body=b"\xff\x00{").body == b"\xff\x00{"


def test_a_fresh_dead_letter_has_the_task_id_that_was_expected() -> None:
    pipeline = Pipeline(lambda: NOW_US, Stats(), {})
    delivery = Delivery("market:underlying", b"x", NOW_US, id="retry:3f2a9c71:1")
    (effect,) = pipeline.dead(delivery, "decode", ValueError("no")).effects
    assert isinstance(effect, DeadLetter)
    assert effect.task_id == fresh_task_id("market:underlying", "retry:3f2a9c71:1")


def test_what_stays_has_the_old_beginning_and_the_new_failure() -> None:
    old = letter(attempts=2)
    later = NOW_US + HOUR_US
    fresh = letter(task_id="other", error="still wrong", stage="commit", first_us=later, last_us=later)
    stays = STORE.read(merged(old, fresh))
    assert (stays.task_id, stays.attempts) == ("3f2a9c71", 3)
    assert (stays.error, stays.stage, stays.at_us) == ("still wrong", "commit", later)
    assert stays.record["first_at"] == old.record["first_at"]
    assert stays.body == old.body


def test_an_old_workers_entry_keeps_its_five_fields_when_it_failed_again() -> None:
    old = STORE.read(json.dumps(OLD).encode())
    stays = json.loads(merged(old, letter(error="still wrong")))
    assert {name: stays[name] for name in ("task_id", "task_name", "args")} == {
        name: OLD[name] for name in ("task_id", "task_name", "args")
    }
    assert stays["first_at"] == OLD["timestamp"]
    assert stays["error"] == "still wrong"


def test_numbers_of_any_size_survive_a_merge_and_json_output() -> None:
    huge = b'{"tick_id": 1180591620717411303424000001}'
    old = letter(body=huge)
    assert b"1180591620717411303424000001" in merged(old, letter(body=huge))
    assert "1180591620717411303424000001" in as_json(old)


def test_passwords_in_errors_are_not_shown_in_tables() -> None:
    assert "geheim" not in " ".join(row(letter(error="cannot reach redis://u:geheim@h/0")))


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_is_a_positive_number_or_max(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_rate(text)
    assert parse_rate("max") == float("inf")
    assert parse_rate("2.5") == 2.5


def test_products_are_a_number_or_different_names() -> None:
    assert parse_products("3") == 3
    assert parse_products("A, B") == ("A", "B")
    for wrong in ("0", "", "A,A"):
        with pytest.raises(click.BadParameter):
            parse_products(wrong)


def test_defects_are_shares_by_kind() -> None:
    assert parse_defects("malformed=0.25,late=0.5").late == 0.5
    for wrong in ("typo=0.1", "late", "late=2"):
        with pytest.raises(click.BadParameter):
            parse_defects(wrong)


@pytest.mark.parametrize("args", [{"product": "N"}, 7, "text"])
def test_an_entry_whose_arguments_are_no_list_is_unreadable_and_nothing_worse(args: object) -> None:
    with pytest.raises(ValueError, match="args is not a list"):
        body_of({"args": args})


def test_a_letter_about_half_a_surrogate_pair_can_be_stored() -> None:
    stored = letter(error="no file \udcff", key="\udcfe").record
    assert (stored["error"], stored["key"]) == ("no file \\udcff", "\\udcfe")
