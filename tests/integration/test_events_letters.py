"""Whoever retries or deletes an event leaves none of its dead letters, and no entry that does harm."""

from __future__ import annotations

import json
from typing import Any

import redis

from enricher.cli.dlq_retry import How, Place, attempts, opened
from enricher.events.cli.acting import delete, retry
from enricher.events.cli.opening import Events
from tests.integration.test_events_processing import ended, worker
from tests.integration.test_events_search import letters
from tests.rig import until
from tests.servers import Urls


async def test_the_dead_letter_of_an_event_goes_with_its_failure(urls: Urls) -> None:
    async with worker(urls, events__max_retries=0) as (enricher, events):
        key = enricher.settings.dead_letters.key
        # Each fails so often: once, twice ...
        for text in ("fail 1", "fail 01", "fail 2"):
            await enricher.submit("events", json.dumps({"text": text}), committed=True)
        once, gone, twice = sorted(await ended(events, 3), key=_number)
        await until(lambda: len(letters(urls.redis, key)) == 3, "the dead letters")

        commands = Events(enricher.settings)
        await commands.letters.find({once["_id"], gone["_id"]})
        assert (await retry(commands, once)).done
        assert (await delete(commands, gone)).done
        await commands.close()
        (letter,) = letters(urls.redis, key)
        assert letter["args"] == [{"id": twice["_id"]}]
        await until(lambda: events.count_documents({"status": "SUCCESS"}), "its success")

        async with opened(enricher.settings, Place()) as found, attempts(found, How()) as attempt:
            assert (await attempt(await found.store.get("0"))).label == "failed"
            (again,) = letters(urls.redis, key)
            assert (again["task_id"], again["attempts"]) == (letter["task_id"], 2)
            assert (await attempt(await found.store.get("0"))).label == "processed"
        assert letters(urls.redis, key) == []
        assert events.count_documents({"status": "SUCCESS"}) == events.count_documents({}) == 2


def _number(event: dict[str, Any]) -> tuple[int, str]:
    text = event["data"]["text"].removeprefix("fail ")
    return int(text), text[::-1]


async def test_an_event_that_waits_for_another_try_can_be_deleted(urls: Urls) -> None:
    async with worker(urls, events__initial_backoff=600) as (enricher, events):
        await enricher.submit("events", b'{"text": "fail"}', committed=True)
        await until(lambda: events.find_one({"status": "RETRY"}), "its failure")
        commands = Events(enricher.settings)
        assert (await delete(commands, events.find_one({}))).done
        await commands.close()
        with redis.Redis.from_url(urls.redis) as client:
            later = "enricher:events:event_workers:later"
            (entry,) = client.zrange(later, 0, -1)  # type: ignore[misc]
            client.zadd(later, {entry: 0})  # it is due
            counts = enricher.stats.topic("enricher:events").counts
            await until(lambda: counts["processed"], "the end of its entry")
        assert letters(urls.redis, enricher.settings.dead_letters.key) == []
        assert events.count_documents({}) == 0
