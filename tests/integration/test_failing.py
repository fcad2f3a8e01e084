"""Effects of a failure land with the retry or the dead letter; effects are committed and waited for."""

from __future__ import annotations

from typing import Any

import pytest

from enricher import Enricher, Insert, RetryPolicy, Route, SetKey, load
from enricher.engine.ports import Failing
from enricher.errors import Overloaded
from tests.integration.worker import database
from tests.rig import until
from tests.servers import Urls


async def test_effects_of_a_failure_are_written_with_the_retry_and_with_the_dead_letter(urls: Urls) -> None:
    async def fails(event: Any, context: Any) -> None:
        state = [Insert("states", {"_id": f"{event['id']}-{context.attempt}"})]
        over = [*state, SetKey(f"over:{event['id']}", b"1", 60_000)]
        raise Failing(OSError("not now"), retrying=state, failed=over)

    retry = RetryPolicy(max_retries=1, base=0.01, jitter="none")
    route = Route(topic="orders", handler=fails, intake="none", retry=retry)
    settings = load(overrides={"redis.url": urls.redis, "mongo.url": urls.mongo, "market.enabled": False})
    async with Enricher(settings, routes=[route]) as enricher:
        await enricher.wait_ready()
        with pytest.raises(Exception, match="not now"):
            await enricher.submit("orders", b'{"id": 7}', committed=True)
        states = database(urls.mongo)["states"]
        await until(lambda: states.count_documents({}) == 2, "both states")
        assert {each["_id"] for each in states.find()} == {"7-1", "7-2"}


async def test_effects_are_committed_beside_the_pool_and_waited_for(urls: Urls) -> None:
    settings = load(overrides={"redis.url": urls.redis, "mongo.url": urls.mongo, "market.enabled": False})
    async with Enricher(settings) as enricher:
        await enricher.wait_ready()
        await enricher.engine.commit("orders", b"{}", Insert("orders", {"_id": 1}))
        assert database(urls.mongo)["orders"].count_documents({}) == 1
        await enricher.stop()
        with pytest.raises(Overloaded):
            await enricher.engine.commit("orders", b"{}", Insert("orders", {"_id": 2}))
