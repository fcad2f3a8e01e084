"""A market that floods the pool: events are accepted and processed all the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import redis

from enricher.clock import wall_clock
from tests.integration.test_events_http import id_in, intake
from tests.integration.test_market_contract import tick
from tests.integration.worker import TICKS, database, encoded
from tests.rig import until
from tests.servers import Urls


@contextmanager
def flood(url: str) -> Iterator[None]:
    """Ticks are published, five times as many at once as the pool has room for, until the block is left."""
    ended = threading.Event()
    now = wall_clock()
    ticks = [encoded(tick(100, now + n, n, product=f"P{n % 8}")) for n in range(500)]

    def publish() -> None:
        with redis.Redis.from_url(url) as client:
            while not ended.is_set():
                with client.pipeline(transaction=False) as pipeline:
                    for each in ticks:
                        pipeline.publish(TICKS, each)
                    pipeline.execute()
                # The thread shares an interpreter with the worker, which shall have most of it.
                ended.wait(0.05)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


async def test_while_a_market_floods_the_pool_no_event_is_refused_and_all_end(urls: Urls) -> None:
    more = {"market__enabled": True, "pool__max_messages": 100, "events__source": "shop:events"}
    async with intake(urls, **more) as (client, enricher):
        with flood(urls.redis), redis.Redis.from_url(urls.redis) as own:
            dropped = enricher.stats.topic(TICKS).counts
            await until(lambda: dropped["dropped"] > 1000, "the pool to overflow")

            async def post(number: int) -> httpx.Response:
                return await client.post("/events", json={"text": f"n{number}"})

            answers = await asyncio.gather(*(post(number) for number in range(100)))
            ids = {id_in(answer) for answer in answers}
            for number in range(20):
                own.xadd("shop:events", {"body": f'{{"text": "s{number}"}}'})
            events = database(urls.mongo)["events"]
            before = dropped["dropped"]
            await until(lambda: events.count_documents({"status": "SUCCESS"}) == 120, "all to end", 180)
            await until(lambda: dropped["dropped"] > before, "the flood to go on")
    assert {event["_id"] for event in events.find({"data.text": {"$regex": "^n"}})} == ids
