"""Dead letters in a stream: stored once, acknowledged with the entry, found and reprocessed as in a list."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.dead_letters.list_store import PAGE, ListLetterStore
from enricher.adapters.redis.dead_letters.stream_store import StreamLetterStore
from enricher.dead_letters.record import encode
from enricher.dead_letters.replay import fresh_task_id, retry_letter
from enricher.dead_letters.sink import DeadLetterSink
from enricher.dead_letters.store import LetterStore
from enricher.engine.effects import Ack, DeadLetter
from enricher.engine.ports import Write
from tests.rig import dead_letter

KEY = "letters"


def letter(task_id: str, topic: str = "mails", error: str = "no") -> DeadLetter:
    """A dead letter of one second ago."""
    return dead_letter(task_id=task_id, topic=topic, body=b'{"n": 1}', error=error)


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(any_redis_url, socket_timeout=5) as found:
        yield found


@pytest.fixture(params=["list", "stream"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sink(kind: str, client: Redis) -> DeadLetterSink:
    kept = ListLetterStore if kind == "list" else StreamLetterStore
    return DeadLetterSink(kept(client, KEY, max_length=2 * PAGE + 5))


@pytest.fixture
def store(kind: str, client: Redis) -> LetterStore:
    return (ListLetterStore if kind == "list" else StreamLetterStore)(client, KEY, {})


async def stored(store: LetterStore) -> list[tuple[int, str]]:
    return [(found.position, found.task_id) async for found in store.letters()]


async def test_letters_are_stored_once_acknowledged_and_the_oldest_fall_off(
    client: Redis, sink: DeadLetterSink, store: LetterStore
) -> None:
    await client.xgroup_create("in", "g", "0", mkstream=True)
    id_ = (await client.xadd("in", {"body": b"1"})).decode()
    await client.xreadgroup("g", "c", {"in": ">"})
    write = Write((letter("first"), Ack("in", "g", id_)), label="dead")
    for _ in range(2):
        assert await sink.commit([write]) == {}
    assert await stored(store) == [(0, "first")]
    assert (await client.xpending("in", "g"))["pending"] == 0
    assert await client.get("in:g:cursor") == id_.encode()
    await sink.commit([Write([letter(f"more-{n}")]) for n in range(2 * PAGE + 6)])
    assert (await sink.count(), await store.count(), sink.evicted) == (2 * PAGE + 5, 2 * PAGE + 5, 2)
    found = await stored(store)
    assert found == [(n, f"more-{2 * PAGE + 5 - n}") for n in range(2 * PAGE + 5)]


def ends(label: str, sink: DeadLetterSink) -> Callable[[str, bytes, str], Awaitable[str]]:
    """A way to reprocess that ends so; a message that fails becomes a dead letter again."""

    async def reprocess(topic: str, body: bytes, identity: str) -> str:
        if label == "dead":
            await sink.commit([Write([letter(fresh_task_id(topic, identity), error="again")])])
        return label

    return reprocess


async def test_reprocessing_removes_a_letter_or_keeps_it_once(
    sink: DeadLetterSink, store: LetterStore
) -> None:
    await sink.commit([Write([letter("one-letter")]), Write([letter("another")])])
    outcome = await retry_letter(store, await store.get("one-letter"), ends("dead", sink))
    assert (outcome.label, outcome.error) == ("failed", "again")
    assert sorted(task_id for _, task_id in await stored(store)) == ["another", "one-letter"]
    found = await store.get("one-letter")
    assert (found.attempts, found.error) == (2, "again")
    assert (await retry_letter(store, found, ends("processed", sink))).done
    assert [task_id for _, task_id in await stored(store)] == ["another"]


async def test_an_entry_of_a_stream_may_carry_fields_for_other_readers(client: Redis) -> None:
    sink = DeadLetterSink(
        StreamLetterStore(client, KEY, more=lambda found: {b"error": found.error.encode(), b"n": b"\xff"})
    )
    store = StreamLetterStore(client, KEY, {})
    await sink.commit([Write([letter("a-letter")])])
    ((_, fields),) = await client.xrange(KEY)
    assert (fields[b"error"], fields[b"n"]) == (b"no", b"\xff")
    found = await store.get("a-letter")
    assert await store.replace(found, encode(letter("a-letter", error="new")))
    assert not await store.replace(found, b"{}")
    ((_, fields),) = await client.xrange(KEY)
    assert (fields[b"n"], json.loads(fields[b"letter"])["error"]) == (b"\xff", "new")


async def test_entries_of_others_are_shown_as_they_are(client: Redis) -> None:
    await client.xadd(KEY, {"original_data": b"\xff", "error": "boom"})
    found = await StreamLetterStore(client, KEY, {}).get("0")
    assert (found.error, found.record["original_data"], found.topic) == ("boom", "�", None)
    assert found.body == b"\xff"


async def test_letters_go_to_the_store_of_their_topic(client: Redis) -> None:
    mails = DeadLetterSink(StreamLetterStore(client, KEY))
    sink = DeadLetterSink(ListLetterStore(client, "others"), others={"mails": mails})
    await sink.open()
    await sink.commit([Write([letter("a")]), Write([letter("b", "ticks")]), Write([letter("c")])])
    assert (await client.xlen(KEY), await client.llen("others"), await sink.count()) == (2, 1, 3)
    await sink.close()
