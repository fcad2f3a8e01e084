"""Streams and shards in the dashboard: what waits, who reads, who has which shard."""

from __future__ import annotations

from typing import Any

import httpx
from redis.asyncio import Redis

from enricher.app import Enricher, wall_clock
from enricher.systems import load
from tests.integration.test_market_contract import tick
from tests.integration.worker import encoded
from tests.rig import until
from tests.servers import Urls

STREAM = "enricher:intake:worker-enricher"
GROUP = "worker-enricher"


async def test_streams_show_groups_consumers_and_who_has_a_shard(urls: Urls) -> None:
    given = {
        "redis.url": urls.redis,
        "mongo.url": urls.mongo,
        "service.instance": "first",
        "streams.intake": {"market:underlying": "stream"},
        "streams.shard": "0/2",
    }
    async with Redis.from_url(urls.redis) as redis, Enricher(load(overrides=given)) as enricher:
        await enricher.wait_ready()
        transport = httpx.ASGITransport(app=enricher.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for number in range(20):
                body = encoded(tick(100.0, wall_clock() - 1_000_000 + number, number))
                await redis.publish("market:underlying", body)
            found: dict[str, Any] = {}

            async def read() -> bool:
                nonlocal found
                answer = await client.get("/api/v1/streams")
                assert answer.status_code == 200, answer.text
                found = answer.json()
                (stream,) = found["streams"]
                return bool(stream["length"] == 20 and stream["groups"][0]["pending"] == 0)

            await until(read, "the shard that is held to be read")
            (stream,) = found["streams"]
            assert (stream["name"], stream["topics"], stream["others"]) == (STREAM, ["market:underlying"], [])
            ours, other = stream["groups"]
            assert (ours["name"], ours["shard"], ours["held"]) == (f"{GROUP}:0/2", "0/2", "first")
            assert (ours["lag"], ours["oldest"]) == (0, None)
            assert 0 < ours["lease"] <= 30
            assert [each["name"] for each in ours["consumers"]] == ["first"]
            # Nobody has the other one: all of it waits, the oldest since it came.
            assert (other["name"], other["held"], other["consumers"]) == (f"{GROUP}:1/2", "", [])
            assert (other["lag"], other["pending"]) == (20, 0)
            assert other["oldest"] == stream["since"]

            await redis.xgroup_create(STREAM, "<b>left", "0")
            await redis.set(f"{STREAM}:{GROUP}:1/2:cursor", "5-5")
            await redis.delete(f"{STREAM}:{GROUP}:1/2:later")
            await redis.set(f"{STREAM}:{GROUP}:1/2:later", "of somebody else")
            page = (await client.get("/ui/streams")).text
            assert "nobody has it" in page
            assert "&lt;b&gt;left" in page
            assert "is a string, not a zset" in page
            assert (found["shard"], found["retention"], found["max_length"]) == ("0/2", 60, 0)
