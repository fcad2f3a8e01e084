"""Addresses that name Sentinels."""

from __future__ import annotations

import pytest

from enricher.config.sentinels import SentinelAddress, is_sentinel_url, sentinel_address
from enricher.config.types import redis_url_problem
from enricher.redaction import redact


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
