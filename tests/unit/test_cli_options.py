"""What the command line makes of addresses before anything connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from enricher.adapters.redis.client import redis_client
from enricher.cli.options import SettingsOptions
from enricher.errors import ConfigError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("redis.url", "rediss://:geheim@h?ssl_cert_reqs=perhaps"),
        ("redis.url", "redis://:geheim@h?protocol=9"),
        ("redis.url", "redis://:geheim@h?bogus=1"),
        ("dead_letters.url", "redis://:geheim@h?db=x"),
        ("mongo.url", "mongodb://u:geheim@h/db?bogus=1"),
        ("mongo.url", "mongodb+srv://u:geheim@h/db?journal=maybe"),
    ],
)
def test_an_option_that_the_client_refuses_is_a_wrong_setting(key: str, url: str) -> None:
    with pytest.raises(ConfigError, match="an address the client takes") as caught:
        SettingsOptions(None, {key: url}).load()
    assert (caught.value.source, caught.value.key) == ("command line", key)
    assert "geheim" not in str(caught.value)


def test_replies_are_bytes_whatever_the_address_asks_for() -> None:
    client = redis_client("redis://h?decode_responses=true&encoding=utf-16", socket_timeout=1)
    encoder = client.connection_pool.get_encoder()
    assert (encoder.encode("x"), encoder.decode(b"x")) == (b"x", b"x")
