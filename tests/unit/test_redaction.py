"""What is left of an address that a person or a log gets to see."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.config import MongoSettings, RedisSettings, Settings, load, redact, redact_text
from enricher.errors import ConfigError, SinkUnavailable
from enricher.redaction import parse, redact_value
from tests.secret_urls import MONGO, PW, REDIS, shown_halves

SHAPES = [("redis.url", url) for url in REDIS] + [("mongo.url", url) for url in MONGO]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://me:p@ss@h", "redis://me:***@h"),
        ("redis://pw@h", "redis://***@h"),
        ("redis://me%3Apw:@h", "redis://***@h"),
        ("mongodb://u:pw@h1:1,h2:2/d?w=majority", "mongodb://u:***@h1:1,h2:2/d?w=majority"),
        ("redis://h?db=1&password=pw&x=1", "redis://h?db=1&password=***&x=***"),
        ("unix://u:pw@/run/redis.sock?db=1", "unix://u:***@/run/redis.sock?db=1"),
        ("", ""),
        # Nobody knows where the password ends, or which part it is.
        ("mongodb://u:p@ss/w:rd@h1:1,h2:2/d", "***"),
        ("redis://:p w@h", "***"),
        ("user:pw@h", "***"),
        ("localhost:6379", "***"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(("key", "url"), SHAPES)
def test_no_shape_of_an_address_is_shown_with_its_password(key: str, url: str) -> None:
    # One with an end of line is refused; in a text, nobody could tell where it ends.
    reason = f"cannot reach {url}: timed out\nand {url!r} neither" if "\n" not in url else ""
    section = RedisSettings(url=url) if key == "redis.url" else MongoSettings(url=url)
    settings = Settings(**{key.partition(".")[0]: section})  # type: ignore[arg-type]
    printed = [redact(url), repr(section), repr(settings), str(settings.printable())]
    if "://" in url:
        away = SinkUnavailable("live", reason)
        printed += [redact_text(reason), str(away), repr(away), json.dumps(redact_value({"deep": [reason]}))]
    try:
        load(overrides={key: url})
    except ConfigError as error:
        printed += [str(error), repr(error), *traceback.format_exception(error)]
    assert [(text, shown_halves(text)) for text in printed if shown_halves(text)] == []


@pytest.mark.parametrize(("key", "url"), [(k, u) for k, u in SHAPES if parse(u) is None])
def test_an_address_that_cannot_be_taken_apart_is_refused(key: str, url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(overrides={key: url})
    assert raised.value.value == "***"


@pytest.mark.parametrize("text", ["mail to a@b.example: late", "at redis://h:6379/0: no answer from h:6379"])
def test_text_without_a_password_is_left_alone(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "tried redis://:one@a and then mongodb://u:two@b/x",
            "tried redis://:***@a and then mongodb://u:***@b/x",
        ),
        ("from ://:one@a", "from ://:***@a"),
        ("see https://h/@me?page=2&token=x or mail a@b", "see https://h/@me?page=2&token=*** or mail a@b"),
        ("get https://u:one@h/x?id=3", "get https://u:***@h/x?id=3"),
        ("at redis://:one@a:1/0#two", "at redis://:***@a:1/0#***"),
        ("redis://h?password=one two\nnext line", "redis://h?password=***\nnext line"),
    ],
)
def test_every_address_in_a_text_is_hidden(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact_text(shown) == shown
    assert redact_text(f"'{shown}', and more") == f"'{shown}', and more"


@given(st.text(min_size=1))
def test_no_password_survives(between: str) -> None:
    url = f"redis://user:hunt3r{between}s3cret@host:6379/0"
    assert redact(url) in ("redis://user:***@host:6379/0", "***")
    assert "s3cret" not in redact_text(url) or "\n" in between


@pytest.mark.parametrize(
    "text", ["a" * 300_000 + "://", "x:// " * 60_000, "://@ " * 60_000, "a://?b=\n" * 50_000]
)
def test_a_long_text_takes_no_longer_for_what_it_holds(text: str) -> None:
    """Each takes milliseconds; at a cost that grows with the square it would be minutes."""
    assert redact_text(text)


def test_values_within_values_are_hidden() -> None:
    url = f"redis://:{PW}@h"
    value: Any = {url: [url, (url,), {url}, {"n": 1, "x": None}], "error": ConnectionError(url)}
    assert shown_halves(str(redact_value(value))) == []
