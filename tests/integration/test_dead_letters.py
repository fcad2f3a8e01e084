"""Dead letters in a real list: found, removed one by one, reprocessed by a running worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pymongo
import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.dead_letters.list_store import PAGE, ListLetterStore
from enricher.adapters.redis.dead_letters.retry_requests import RetryListener, ask_worker, listening
from enricher.app import Enricher, wall_clock
from enricher.dead_letters.record import encode
from enricher.dead_letters.replay import FAILED, UNANSWERED, fresh_task_id, merged
from enricher.systems import load
from tests.integration.test_market_contract import tick as market_tick
from tests.integration.worker import encoded
from tests.rig import PATIENCE, dead_letter

KEY, SERVICE = "dlq:enrichment", "worker-enricher"
TOPICS = {"process_underlying_tick": "market:underlying"}


def tick(price: float = 100.0, number: int = 1) -> bytes:
    """A tick of this moment."""
    return encoded(market_tick(price, wall_clock(), number))


def entry(
    task_id: str, body: bytes, topic: str = "market:underlying", error: str = "it was the disk"
) -> bytes:
    """An entry of a worker: failed once, a second ago."""
    at = wall_clock() - 1_000_000
    known = {"task_id": task_id, "task_name": "process_underlying_tick", "topic": topic, "key": "NIFTY"}
    why = {"stage": "commit", "error": error, "error_type": "Rejected"}
    return encode(dead_letter(**known, **why, body=body, first_us=at, last_us=at))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url, socket_timeout=PATIENCE) as found:
        yield found


@pytest.fixture
def store(client: Redis) -> ListLetterStore:
    return ListLetterStore(client, KEY, TOPICS)


@pytest.fixture
async def worker(
    redis_url: str, mongo_database_url: str, client: Redis, store: ListLetterStore
) -> AsyncIterator[Enricher]:
    """A running worker that takes requests to reprocess."""
    settings = load(overrides={"redis.url": redis_url, "mongo.url": mongo_database_url})
    listener = RetryListener(client, store, service=SERVICE, clock=wall_clock)
    enricher, stop = Enricher(settings, sources=[listener]), asyncio.Event()

    async def serve() -> None:
        async with enricher:
            await stop.wait()

    # In a task of its own, for a fixture is left in another task than it was entered in.
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve())
        async with asyncio.timeout(PATIENCE):
            while not await listening(client, SERVICE):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await enricher.wait_ready()
        yield enricher
        stop.set()


async def entries(store: ListLetterStore) -> list[str]:
    return [letter.task_id async for letter in store.letters()]


async def test_letters_are_listed_newest_first_over_pages_while_others_arrive(
    client: Redis, store: ListLetterStore
) -> None:
    for number in range(2 * PAGE + 5):
        await client.lpush(KEY, entry(f"id-{number:04}", b"{}"))
    seen = []
    async for letter in store.letters():
        if letter.position % 50 == 0:
            await client.lpush(KEY, entry(f"late-{letter.position}", b"{}"))
        seen.append((letter.position, letter.task_id))
    assert seen == [(i, f"id-{2 * PAGE + 4 - i:04}") for i in range(2 * PAGE + 5)]


async def test_removing_takes_exactly_one_of_two_equal_entries(client: Redis, store: ListLetterStore) -> None:
    await client.lpush(KEY, *[entry_ := entry("same", b"{}"), entry_, entry("other", b"{}")])
    letter = await store.get("same")
    assert await store.remove(letter)
    assert await entries(store) == ["other", "same"]
    assert await store.remove(letter)
    assert not await store.remove(letter)


async def test_a_reprocessed_letter_goes_and_the_workers_windows_see_it(
    client: Redis, store: ListLetterStore, worker: Enricher, mongo_database_url: str
) -> None:
    await worker.submit("market:underlying", tick(100.0, 1), committed=True)
    await client.lpush(KEY, entry("lost-tick", tick(140.0, 2)), entry("another", b"{}"))
    outcome = await ask_worker(client, SERVICE, await store.get("lost-tick"), PATIENCE)
    assert outcome.label == "processed"
    assert await entries(store) == ["another"]
    window = json.loads(await client.get("ohlc:NIFTY:1m") or b"{}")
    assert (window["high"], window["num_ticks"]) == (140.0, 2)
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as mongo:
        prices = {d["price"] for d in mongo.get_default_database()["underlying_ticks"].find()}
    assert prices == {100.0, 140.0}


async def test_a_letter_whose_message_had_gone_through_after_all_goes_as_a_duplicate(
    client: Redis, store: ListLetterStore, worker: Enricher
) -> None:
    body = tick()
    await worker.submit("market:underlying", body, committed=True)
    await client.lpush(KEY, entry("twice", body))
    assert (await ask_worker(client, SERVICE, await store.get("twice"), PATIENCE)).label == "duplicate"
    assert await entries(store) == []


async def test_a_letter_that_fails_again_stays_once_in_its_place_with_the_new_error(
    client: Redis, store: ListLetterStore, worker: Enricher
) -> None:
    await client.lpush(
        KEY, entry("older", b"{}"), entry("bad-one", b'{"product": "NIFTY"}'), entry("newer", b"{}")
    )
    before = await store.get("bad-one")
    for attempts in (2, 3):
        outcome = await ask_worker(client, SERVICE, await store.get("bad-one"), PATIENCE)
        assert outcome.label == FAILED
        assert await entries(store) == ["newer", "bad-one", "older"]
        after = await store.get("bad-one")
        assert (after.error, after.stage, after.attempts) == (outcome.error, "decode", attempts)
        assert after.error != before.error
        assert after.record["first_at"] == before.record["first_at"]
        assert (after.at_us or 0) > (before.at_us or 0)


async def test_a_double_left_by_a_crash_before_the_merge_is_merged_by_the_next_retry(
    client: Redis, store: ListLetterStore, worker: Enricher
) -> None:
    body = b'{"product": "NIFTY"}'
    twin = fresh_task_id("market:underlying", "retry:crashed:1")
    await client.lpush(KEY, entry("crashed", body), entry(twin, body, error="it failed again"))
    await client.set(f"{KEY}:seen:{twin}", 1)
    outcome = await ask_worker(client, SERVICE, await store.get("crashed"), PATIENCE)
    assert outcome.error == "it failed again"
    assert await entries(store) == ["crashed"]
    assert (await store.get("crashed")).attempts == 2


async def test_an_old_workers_entry_is_reprocessed_by_the_name_of_its_task(
    client: Redis, store: ListLetterStore, worker: Enricher
) -> None:
    old = {
        "task_id": "old-entry",
        "task_name": "process_underlying_tick",
        "error": "ServerSelectionTimeoutError",
        "args": [json.loads(tick(77.0))],
        "timestamp": "2025-10-14T09:15:00",
    }
    await client.lpush(KEY, json.dumps(old))
    assert (await ask_worker(client, SERVICE, await store.get("old-entry"), PATIENCE)).label == "processed"
    assert await entries(store) == []
    assert json.loads(await client.get("latest:underlying:NIFTY") or b"{}")["price"] == 77.0


async def test_what_names_no_topic_or_is_no_letter_stays_and_says_why(
    client: Redis, store: ListLetterStore, worker: Enricher
) -> None:
    await client.lpush(KEY, b'{"task_id": "lost-name", "task_name": "send_mail"}', b"nonsense")
    outcome = await ask_worker(client, SERVICE, await store.get("lost-name"), PATIENCE)
    assert (outcome.label, "'send_mail'" in outcome.error) == (FAILED, True)
    assert (await ask_worker(client, SERVICE, await store.get("0"), PATIENCE)).label == FAILED
    assert await store.count() == 2


async def test_without_a_worker_the_request_is_withdrawn_and_the_entry_stays(
    client: Redis, store: ListLetterStore
) -> None:
    await client.lpush(KEY, entry("alone", tick()))
    assert not await listening(client, SERVICE)
    outcome = await ask_worker(client, SERVICE, await store.get("alone"), 0.2)
    assert outcome.label == UNANSWERED
    assert await client.keys("enricher:retry:*") == []
    assert await entries(store) == ["alone"]


async def test_a_worker_that_ends_says_that_it_listens_no_more(
    client: Redis, store: ListLetterStore, worker: Enricher
) -> None:
    await worker.stop()
    assert not await listening(client, SERVICE)


async def test_a_merge_whose_letter_was_discarded_meanwhile_keeps_the_fresh_one(
    client: Redis, store: ListLetterStore
) -> None:
    await client.lpush(KEY, entry("gone-soon", b"{}"), entry("fresh-one", b"{}"))
    letter, fresh = await store.get("gone-soon"), await store.get("fresh-one")
    await store.remove(letter)
    assert not await store.replace(letter, merged(letter, fresh), fresh)
    assert await entries(store) == ["fresh-one"]
