"""A wrong setting is reported with its source, key, value and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from enricher.config import Section, load
from enricher.config.sentinels import SentinelAddress, is_sentinel_url, sentinel_address
from enricher.config.types import redis_url_problem
from enricher.errors import ConfigError
from enricher.market.settings import MarketSettings
from enricher.redaction import redact

MARKET: dict[str, type[Section]] = {"market": MarketSettings}


def refusal(
    text: str | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    **overrides: Any,
) -> ConfigError:
    """The ConfigError of a file with this text, this environment or these options."""
    path = None
    if text is not None:
        assert folder is not None
        path = folder / "config.toml"
        path.write_text(text, encoding="utf-8")
    options = {key.replace("__", "."): value for key, value in overrides.items()}
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, options, MARKET)
    return caught.value


def test_a_wrong_value_in_a_file_names_file_key_value_and_range(tmp_path: Path) -> None:
    error = refusal("[pool]\nconcurrency = 0\n", tmp_path)
    assert str(error) == (
        f"{tmp_path / 'config.toml'}: pool.concurrency = 0: expected a whole number from 1 to 10000"
    )


def test_a_number_in_quotes_is_no_number_in_a_file(tmp_path: Path) -> None:
    error = refusal('[pool]\nconcurrency = "64"\n', tmp_path)
    assert (error.key, error.value) == ("pool.concurrency", "64")


def test_a_truth_value_is_no_number(tmp_path: Path) -> None:
    assert refusal("[pool]\nconcurrency = true\n", tmp_path).value is True


def test_a_wrong_value_in_the_environment_names_the_variable() -> None:
    error = refusal(environ={"ENRICHER_MARKET__WINDOWS": "1,x"})
    assert (error.source, error.key, error.value) == (
        "ENRICHER_MARKET__WINDOWS", "market.windows", "1,x",
    )  # fmt: skip
    assert error.expected == "a list of at least 1, each a whole number from 1 to 1440"


def test_a_wrong_value_under_an_old_name_names_the_old_name() -> None:
    error = refusal(environ={"REDIS_URL": "localhost"})
    assert (error.source, error.key) == ("REDIS_URL", "redis.url")
    assert "redis://localhost:6379/0" in error.expected


def test_a_wrong_override_is_named_as_its_caller_says() -> None:
    error = refusal(log__level="loud")
    assert error.source == "overrides"
    with pytest.raises(ConfigError, match=r"^command line: log\.level = 'loud'"):
        load(overrides={"log.level": "loud"}, overrides_from="command line")
    assert error.expected == "one of 'critical', 'debug', 'error', 'info', 'warning'"


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("market__overload", "drop_old", "did you mean 'drop_oldest'?"),
        ("redis__ulr", "redis://h", "did you mean 'redis.url'?"),
        ("redis__database", "3", "one of the keys of redis"),
        ("mrket__enabled", "1", "did you mean 'market'?"),
        ("feed__timezone", "Asia/Calcuta", "did you mean 'Asia/Calcutta'?"),
        ("market__timezones", "NIFTY=Asia/Kolkatta", "did you mean 'Asia/Kolkata'?"),
    ],
)
def test_the_nearest_right_word_is_named(key: str, value: str, hint: str) -> None:
    assert hint in refusal(**{key: value}).expected


@pytest.mark.parametrize(
    ("overload", "reason"),
    [
        ("block", "needs a source that can wait, and Redis pub/sub cannot"),
    ],
)
def test_an_overload_policy_the_market_cannot_have_says_why(overload: str, reason: str) -> None:
    error = refusal(market__overload=overload)
    assert error.expected.startswith("one of 'conflate', 'drop_oldest', 'spill'; ")
    assert reason in error.expected


def test_an_abbreviation_is_told_no_other_zone_of_three_letters() -> None:
    assert refusal(feed__timezone="IST").expected == "the name of a time zone such as 'UTC' or 'Asia/Kolkata'"


def test_an_unknown_name_in_the_environment_is_an_error() -> None:
    error = refusal(environ={"ENRICHER_REDIS__ULR": "redis://h"})
    assert (error.source, error.key) == ("environment", "ENRICHER_REDIS__ULR")


def test_a_key_with_one_underscore_too_few_is_told_its_name() -> None:
    error = refusal(environ={"ENRICHER_REDIS_URL": "redis://h"})
    assert "ENRICHER_REDIS__URL" in error.expected


def test_names_that_kubernetes_sets_for_a_service_called_enricher_are_left_alone() -> None:
    environ = {
        "ENRICHER_PORT": "tcp://10.0.0.1:80",
        "ENRICHER_SERVICE_HOST": "10.0.0.1",
        "ENRICHER_SERVICE_PORT": "80",
    }
    assert load(environ=environ) == load()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("redis__url", "http://localhost"),
        ("redis__url", "redis://h:99999"),
        ("redis__url", "redis://h/notadatabase"),
        ("redis__url", "unix://"),
        ("redis__url", ""),
        ("mongo__url", "mongodb://"),
        ("mongo__url", "mongo://h"),
        ("mongo__database", "a/b"),
        ("mongo__database", "admin"),
        ("mongo__database", "Local"),
        ("mongo__database", "config"),
        ("mongo__url", "mongodb://h/a.b"),
        ("mongo__url", "mongodb://h/" + 64 * "d"),
        ("service__name", "\udcff"),
        ("market__products", "\udcff"),
        ("market__claim_ttl", "9" * 20),
        ("pool__max_messages", "9" * 20),
        ("feed__max_future", "nan"),
        ("feed__max_future", "inf"),
        ("feed__max_future", "-1"),
        ("redis__socket_timeout", "0"),
        ("redis__socket_timeout", "5 parsecs"),
        ("redis__protocol", "4"),
        ("market__claim_ttl", "1500ms"),
        ("market__enabled", "maybe"),
        ("market__windows", ""),
        ("market__windows", "1441"),
        ("market__windows", "5,5"),
        ("market__timezones", "NIFTY"),
        ("market__channels__underlying", ""),
        ("market__channels__option_chain", "market:underlying"),
        ("market__weight", "0"),
        ("feed__timezone", "../etc/passwd"),
        ("service__name", ""),
        ("retry__max_delay", "1ms"),
        ("pool__max_message_bytes", "1GiB"),
    ],
)
def test_a_value_that_could_never_work_is_refused(key: str, value: str) -> None:
    assert refusal(**{key: value}).key == key.replace("__", ".")


def test_a_key_where_a_table_should_be_is_told_so(tmp_path: Path) -> None:
    error = refusal('redis = "redis://h"\n', tmp_path)
    assert (error.key, error.expected) == ("redis", "a table [redis]")


def test_a_section_nobody_knows_is_shown_with_its_keys_and_only_secrets_are_hidden(tmp_path: Path) -> None:
    error = refusal('[redus]\nsocket_timeout = 5.0\npassword = "x"\ndeep = { sizes = [1, 2] }\n', tmp_path)
    assert error.value == {"socket_timeout": 5.0, "password": "***", "deep": {"sizes": [1, 2]}}
    assert "did you mean 'redis'?" in error.expected


def test_a_default_that_no_longer_fits_is_told_with_the_key_that_made_it_so(tmp_path: Path) -> None:
    error = refusal("[retry]\nbase = 10\n", tmp_path)
    assert str(error) == (
        f"default (retry.base is from {tmp_path / 'config.toml'}): retry.max_delay = 5.0: "
        "expected at least retry.base, which is 10 s"
    )


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    text = "[pool]\nconcurency = 8\n[redis]\nsocket_timeout = -1\n[retry]\nbase = 10\n"
    products = {"NIFTY": {"lot": -1}, "SPX": {"lots": 1, "rate": "x"}}
    environ = {"ENRICHER_LOG__LEVEL": "loud", "ENRICHER_LOGLEVEL__X": "1"}
    error = refusal(text, tmp_path, environ, market__products=products)
    assert {(each.source, each.key) for each in error.every} == {
        (str(tmp_path / "config.toml"), "pool.concurency"),
        (str(tmp_path / "config.toml"), "redis.socket_timeout"),
        (f"default (retry.base is from {tmp_path / 'config.toml'})", "retry.max_delay"),
        ("ENRICHER_LOG__LEVEL", "log.level"),
        ("environment", "ENRICHER_LOGLEVEL__X"),
        ("overrides", "market.products.NIFTY.lot"),
        ("overrides", "market.products.SPX.lots"),
        ("overrides", "market.products.SPX.rate"),
    }
    assert str(error).splitlines() == [str(each) for each in error.every]
    assert (error.source, error.key) == (error.every[0].source, error.every[0].key)


def test_a_value_under_an_old_key_is_wrong_under_that_key(tmp_path: Path) -> None:
    assert refusal("[pool]\nturn_budget = 0\n", tmp_path).key == "pool.turn_budget"
    assert refusal("[retry]\ncap = 0.001\n", tmp_path).key == "retry.cap"


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    error = refusal("[redis\n", tmp_path)
    assert "line 1" in str(error)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_no_utf_8_says_so(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'[service]\nname = "\xff"\n')
    with pytest.raises(ConfigError, match="expected UTF-8"):
        load(file)


@pytest.mark.parametrize(
    "text",
    [
        '[redis]\nurl = "http://u:hunter2@h"\n',
        '[redis]\nurl = "u:hunter2@h:6379"\n',
        '[redis]\nurl = "redis://h/x?password=hunter2"\n',
        '[mongo]\nurl = "mongo://u:hunt/er2@hunter2@h"\n',
        '[redis]\npassword = "hunter2"\n',
        '[redis]\nulr = "redis://u:hunter2@h"\n',
        '[redus]\nurl = "redis://u:hunter2@h"\n',
        '[redus.deep]\nurl = "redis://u:hunter2@h"\n',
        'redis = "u:hunter2@h"\n',
        '[redus]\nhosts = ["u:hunter2@h", {api_key = "hunter2"}]\n',
        '[service]\nname = ["redis://u:hunter2@h"]\n',
        '[pool]\nconcurrency = "redis://u:hunter2@h"\n',
    ],
)
def test_no_error_shows_a_password(text: str, tmp_path: Path) -> None:
    error = refusal(text, tmp_path)
    assert "hunter2" not in f"{error} {error!r} {error.args} {error.__cause__}"


def test_no_printed_form_of_the_settings_shows_a_password() -> None:
    settings = load(
        environ={
            "REDIS_URL": "redis://:hunter2@h",
            "MONGO_URL": "mongodb://u:hunter2@h1,h2/db?proxyPassword=hunter2",
            "ENRICHER_DEAD_LETTERS__URL": "unix://u:hunter2@/run/redis.sock",
        },
        sections=MARKET,
    )
    for printed in (repr(settings), str(settings.mongo), str(settings.printable())):
        assert "hunter2" not in printed
        assert "***" in printed


def test_an_address_names_sentinels_a_service_and_what_is_for_redis() -> None:
    url = "redis+sentinel://me:p%40ss@one:26380,two,[::1]/my%20service/3?sentinel_password=x%26y&socket_timeout=7"
    assert is_sentinel_url(url)
    assert redis_url_problem(url) is None
    assert sentinel_address(url) == SentinelAddress(
        sentinels=(("one", 26380), ("two", 26379), ("::1", 26379)),
        service="my service",
        credentials={"password": "x&y"},
        redis_url="redis://me:p%40ss@one/3?socket_timeout=7",
    )


def test_without_a_database_it_is_the_first_and_tls_is_a_scheme() -> None:
    assert sentinel_address("rediss+sentinel://one/main").redis_url == "rediss://one/0?"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis+sentinel://one", "with the name of the service"),
        ("redis+sentinel://one/", "with the name of the service"),
        ("redis+sentinel:///main", "such as redis+sentinel://host1"),
        ("redis+sentinel://one,,two/main", "such as redis+sentinel://host1"),
        ("redis+sentinel://one:0/main", "such as redis+sentinel://host1"),
        ("redis+sentinel://one:99999/main", "with ports from 1 to 65535"),
        ("redis+sentinel://one/main/first", "where the number of the database comes last"),
        ("redis+sentinel://one/main/1/2", "where the number of the database comes last"),
    ],
)
def test_what_is_missing_is_said(url: str, what: str) -> None:
    assert what in (redis_url_problem(url) or "")


def test_neither_password_is_shown() -> None:
    shown = redact("redis+sentinel://me:secret@one,two/main?sentinel_password=hidden")
    assert "secret" not in shown
    assert "hidden" not in shown
    assert "me:" in shown
