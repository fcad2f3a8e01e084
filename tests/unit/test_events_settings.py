"""The settings of events: old names, and what no error shows."""

from __future__ import annotations

import pytest

from enricher.config import Section, load
from enricher.errors import ConfigError
from enricher.events.settings import EventSettings

KINDS: dict[str, type[Section]] = {"events": EventSettings}
ON = {"ENRICHER_EVENTS__ENABLED": "true"}


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({**ON, "PROJECT_NAME": "shop"}, "redis://shop_redis:6379/0"),
        ({**ON, "PROJECT_NAME": "shop", "REDIS_URL": "redis://own/1"}, "redis://own/1"),
        ({"PROJECT_NAME": "shop"}, "redis://localhost:6379/0"),
    ],
)
def test_the_redis_of_a_project_counts_where_events_are_on_and_nobody_names_another(
    environ: dict[str, str], url: str
) -> None:
    assert load(None, environ, sections=KINDS).redis.url == url


def test_a_project_that_makes_no_address_is_refused_by_the_name_that_said_it() -> None:
    with pytest.raises(ConfigError, match=r"PROJECT_NAME: redis\.url"):
        load(None, {**ON, "PROJECT_NAME": "my shop"}, sections=KINDS)


def test_a_token_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="a table of names") as error:
        load(None, {**ON, "ENRICHER_EVENTS__TOKENS": "s3cret"}, sections=KINDS)
    assert "s3cret" not in str(error.value)
