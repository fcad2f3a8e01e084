"""The section [search]: addresses, secrets, and names of indices that servers take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enricher.adapters.search import read_indices, search_client
from enricher.config import SearchSettings, load
from enricher.config.search import index_problem
from enricher.errors import ConfigError, WrongSetting


@pytest.mark.parametrize("name", ["events", "a.b-c_1", "2026.11", ".hidden", "名前", "a" * 255])
def test_a_server_takes_these_names(name: str) -> None:
    assert index_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "Events", "_a", "-a", "+a", ".", "..", "a b", "a,b", "a#b", "a:b", 'a"', "a/b", "a*", "é" * 128, 7],
)
def test_a_server_refuses_these_names(name: object) -> None:
    assert str(index_problem(name)).startswith("the name of an index: lower case")


@pytest.mark.parametrize(
    "url",
    ["redis://host", "host:9200", "http://", "http://host:0", "http://host:99999", "http://a,:9200", "http://h?x=1"],
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.url.*expected a URL such as https://host:9200"):
        load(overrides={"search.url": url})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"api_key": "hush", "user": "u", "password": "hush"}, "not both"),
        ({"user": "u"}, "search.user and search.password, or neither"),
        ({"indices": {"Trades": ""}}, "such as 'trades'"),
    ],
)
def test_what_contradicts_itself_is_named_without_a_secret(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(overrides={f"search.{key}": value for key, value in given.items()})
    assert said in str(raised.value)
    assert "hush" not in str(raised.value)


async def test_a_client_has_every_host_of_the_address() -> None:
    client = search_client(SearchSettings(url="https://a:9201,b/prefix/"))
    nodes = {node.base_url for node in client.transport.node_pool.all()}
    await client.close()
    assert nodes == {"https://a:9201/prefix", "https://b:443/prefix"}


@pytest.mark.parametrize("text", ["[]", "{", '{"mapping": {}}', None])
def test_a_file_without_mappings_is_a_wrong_setting(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "trades.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(WrongSetting, match=r"search\.indices.*a JSON file with an object of settings"):
        read_indices({"trades": str(file)})
