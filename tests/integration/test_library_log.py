"""The log of an enricher inside a host: no line ends it, and a storm is a few lines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from enricher import Enricher
from tests.integration.host import GREETINGS, numbered, settings_for
from tests.rig import PATIENCE, until
from tests.unit.test_log import pipe_without_a_reader


def raising_processor() -> None:
    def processor(*_: Any) -> Any:
        raise asyncio.CancelledError

    structlog.configure(processors=[processor])


@pytest.mark.parametrize("set_up", [raising_processor, pipe_without_a_reader])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_host_whose_log_cannot_be_written_has_all_its_messages_handled(
    set_up: Any, redis_url: str, mongo_database_url: str
) -> None:
    set_up()
    async with Enricher(settings_for(redis_url, mongo_database_url), routes=[GREETINGS]) as enricher:
        await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
        for number in range(20):
            # Every second one makes a line: its dead letter.
            await enricher.submit("greetings", numbered(number) if number % 2 else b"no JSON")
        await until(lambda: enricher.stats.total("processed") == enricher.stats.total("dead") == 10, "all")
        assert enricher.ready


async def test_a_storm_of_malformed_messages_is_a_few_lines_that_add_up(
    redis_url: str, mongo_database_url: str
) -> None:
    with capture_logs() as lines:
        async with Enricher(settings_for(redis_url, mongo_database_url), routes=[GREETINGS]) as enricher:
            await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
            for number in range(1500):
                await enricher.submit("greetings" if number % 3 else "nobody's", b"no JSON")
            await until(lambda: enricher.stats.total("dead") == 1500, "the dead letters")
    lines = [line for line in lines if line["log_level"] != "debug"]
    dead = [line for line in lines if line["event"] == "dead_letter"]
    assert len(lines) < 40
    assert len(dead) + sum(line.get("suppressed", 0) for line in dead) == 1500
    assert {line["topic"] for line in dead} == {"greetings", "nobody's"}
