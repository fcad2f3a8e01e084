"""What a stream loses before anybody has read it is counted once; a stream made anew is another stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.scripts import load
from enricher.engine.effects import Effect
from tests.integration.streams import GROUP, LETTERS, STREAM, Line, copied, line, results, send
from tests.rig import until


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(any_redis_url, socket_timeout=60) as found:
        yield found


async def letters(client: Redis) -> list[Any]:
    return [json.loads(json.loads(entry)["body"]) for entry in reversed(await client.lrange(LETTERS, 0, -1))]


async def lost(found: Line, number: int, *, in_hand: int = 0) -> None:
    """Wait until so many are lost, and until a further look has found no more.

    Those ``in_hand`` that were deleted too may be counted until they are finished.
    """
    right = range(number, number + in_hand + 1)
    await until(lambda: found.source.health()["entries_lost"] in right, f"{number} lost entries")
    ledgers = found.source._losses.ledgers
    before = dict(ledgers)
    await until(lambda: all(ledgers[keys] is not look for keys, look in before.items()))
    assert found.source.health()["entries_lost"] in right


class Busy:
    """A handler that waits for its ``turn``, but for the first messages."""

    def __init__(self) -> None:
        self.turn = asyncio.Event()

    async def __call__(self, event: Any, context: Any) -> list[Effect]:
        if event != "first":
            await self.turn.wait()
        return copied(event, context)


async def trimmed(client: Redis, ids: list[str]) -> list[int]:
    await client.xtrim(STREAM, minid=ids[60], approximate=False)
    return list(range(60, 100))


async def thinned(client: Redis, ids: list[str]) -> list[int]:
    await client.xdel(STREAM, *ids[10:70:2], ids[99])
    return [n for n in range(100) if n not in (*range(10, 70, 2), 99)]


async def cleared(client: Redis, ids: list[str]) -> list[int]:
    await client.xtrim(STREAM, maxlen=0, approximate=False)
    return []


async def deleted(client: Redis, ids: list[str]) -> list[int]:
    await client.delete(STREAM)
    return []


async def flushed(client: Redis, ids: list[str]) -> list[int]:
    await client.flushdb()
    return []


HARM = [trimmed, thinned, cleared, deleted, flushed]


@pytest.mark.parametrize("harm", HARM)
async def test_what_goes_before_a_busy_worker_has_read_it_is_counted(
    client: Redis, any_redis_url: str, harm: Any
) -> None:
    busy = Busy()
    with capture_logs() as said:
        # A lease that a busy machine lets run out would count what is in hand as lost, until it is finished.
        async with line(any_redis_url, handler=busy, prefetch=1, lease=30.0) as found:
            await send(client, *["first"] * 20, "last")
            await until(lambda: found.source.health()["under_way"] == 1)
            ids = await send(client, *range(100))

            async def seen() -> bool:
                return int(await client.hget(f"{STREAM}:{GROUP}:ledger", "unread")) == 100

            await until(seen)
            left = await harm(client, ids)
            gone = 100 - len(left)
            await lost(found, gone, in_hand=1)
            more = await send(client, "more")
            busy.turn.set()
            await until(lambda: found.counts.get("processed") == 22 + len(left))
            await lost(found, gone)
        (line_,) = [each for each in said if each["event"] == "entries_lost"]
    assert (line_["entries"], line_["stream"], line_["group"]) == (gone, STREAM, GROUP)
    assert line_["from_id"] <= ids[0] if harm is not thinned else line_["from_id"] <= ids[10]
    assert ids[-2] < line_["to_id"] <= ids[-1] if harm is not trimmed else line_["to_id"] == ids[60]
    assert more


@pytest.mark.parametrize("harm", HARM[:-1])
async def test_what_goes_while_no_worker_is_there_is_counted_when_one_comes(
    client: Redis, any_redis_url: str, harm: Any
) -> None:
    async with line(any_redis_url, handler=Busy()) as found:
        await send(client, *["first"] * 20)
        await until(lambda: found.counts.get("processed") == 20)
    async with line(any_redis_url, handler=Busy(), prefetch=1, drain=0.01) as found:
        ids = await send(client, *range(101))
        await until(lambda: found.source.health()["under_way"] == 1)

        async def seen() -> bool:
            return int(await client.hget(f"{STREAM}:{GROUP}:ledger", "unread")) == 100

        await until(seen)
    left = await harm(client, ids[1:])
    gone = 100 - len(left)
    # The worker had one in hand, which is pending, and may have gone as well.
    pending = harm in (trimmed, cleared)
    with capture_logs() as said:
        for _ in range(2):
            async with line(any_redis_url) as found:
                await until(lambda: not found.source.health()["under_way"])
                await lost(found, gone + pending)
    lines = [each for each in said if each["event"] == "entries_lost" and "from_id" in each]
    assert [each["entries"] for each in lines] == [gone]
    kept = [] if pending or harm is deleted else [0]
    assert sorted((await results(client))[20:]) == kept + [n + 1 for n in left]


async def test_a_stream_whose_entries_are_read_and_trimmed_loses_none(
    client: Redis, any_redis_url: str
) -> None:
    options: dict[str, Any] = {"trim": True, "retention": 0.0, "lease": 0.3}
    async with line(any_redis_url, **options) as one, line(any_redis_url, consumer="two", **options) as two:
        for n in range(20):
            await send(client, *range(n * 100, n * 100 + 100))
            # Others acknowledge too.
            read = await client.xreadgroup(GROUP, "other", {STREAM: ">"}, count=5)
            if read:
                await client.xack(STREAM, GROUP, *[id_ for id_, _ in read[0][1]])
            if n == 10:
                await client.xgroup_destroy(STREAM, GROUP)
                await until(lambda: any(each.source.health()["created_again"] for each in (one, two)))
        await until(lambda: one.counts.get("processed", 0) + two.counts.get("processed", 0) >= 1_800)

        async def empty() -> bool:
            return await client.xlen(STREAM) < 200

        await until(empty)
        await lost(one, 0)
        await lost(two, 0)


async def test_what_another_worker_finishes_though_it_was_deleted_was_not_lost(
    client: Redis, any_redis_url: str
) -> None:
    busy = Busy()
    async with line(any_redis_url, handler=busy, lease=30.0) as one:
        ids = await send(client, "held")
        await until(lambda: one.source.health()["under_way"] == 1)
        async with line(any_redis_url, consumer="two", lease=0.4) as two:
            await client.xdel(STREAM, *ids)
            await lost(two, 1)
            busy.turn.set()
            await until(lambda: one.counts.get("processed"))
            await lost(two, 0)


async def test_what_was_taken_over_and_deleted_is_not_lost_if_who_had_it_finishes_it(
    client: Redis, any_redis_url: str
) -> None:
    busy = Busy()
    async with line(any_redis_url, handler=busy, lease=30.0) as one:
        (id_,) = await send(client, "held")
        await until(lambda: one.source.health()["under_way"] == 1)
        await client.xclaim(STREAM, GROUP, "two", 0, [id_])
        await client.xdel(STREAM, id_)
        await load("stream_take")(client, (STREAM, "exposed"), GROUP, "two", 0, 60, id_, 1)
        await lost(one, 1)
        busy.turn.set()
        await until(lambda: one.counts.get("processed"))
        await lost(one, 0)


def refusing(event: Any, context: Any) -> list[Effect]:
    if str(event).startswith("bad"):
        raise ValueError("no")
    return copied(event, context)


@pytest.mark.parametrize("new", ["bad", "bad too"])
async def test_a_dead_letter_of_a_stream_made_anew_is_another_one(
    client: Redis, any_redis_url: str, new: str
) -> None:
    async def letter(*wanted: str) -> None:
        async def there() -> bool:
            return await letters(client) == list(wanted)

        await until(there, f"the letters {wanted}")

    async with line(any_redis_url, handler=refusing) as found:
        await client.xadd(STREAM, {"body": b'"good"'}, "5-0")
        await client.xadd(STREAM, {"body": b'"bad"'}, "5-1")
        await letter("bad")
        # The same entry, delivered again.
        await client.delete(f"{STREAM}:{GROUP}:cursor")
        await client.xgroup_destroy(STREAM, GROUP)
        await until(lambda: found.counts.get("dead") == 2)
        assert await letters(client) == ["bad"]
        await client.delete(STREAM)
        await client.xadd(STREAM, {"body": json.dumps(new).encode()}, "5-1")
        await letter("bad", new)
    # While nobody looks; ids below and above those that were read.
    await client.delete(STREAM)
    for n in (1, 2):
        await client.xadd(STREAM, {"body": json.dumps(f"{new}!").encode()}, f"5-{n}")
    async with line(any_redis_url, handler=refusing) as found:
        await letter("bad", new, f"{new}!", f"{new}!")
        assert found.source.health()["entries_lost"] == 0


async def test_an_entry_with_the_id_of_one_that_was_under_way_is_handled(
    client: Redis, any_redis_url: str
) -> None:
    busy = Busy()
    async with line(any_redis_url, handler=busy) as found:
        await client.xadd(STREAM, {"body": b'"old"'}, "5-1")
        await until(lambda: found.source.health()["under_way"] == 1)
        await client.delete(STREAM)
        await until(lambda: found.source.health()["created_again"])
        busy.turn.set()
        await until(lambda: found.counts.get("processed"))
        await client.xadd(STREAM, {"body": b'"new"'}, "5-1")
        await until(lambda: found.counts.get("processed", 0) + found.counts.get("duplicate", 0) == 2)
        assert await results(client) == ["old", "new"]
