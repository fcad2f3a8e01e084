"""Questions about many mails in one call, on real servers: the answers are those of asking one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from enricher.adapters.redis.claims import MOST, OLD_SET, Idempotency, member
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.engine.claims import Found, State
from enricher.errors import SinkUnavailable
from tests.rig import PATIENCE
from tests.servers import RedisProcess


@asynccontextmanager
async def reservations(url: str) -> AsyncIterator[tuple[Idempotency, Redis]]:
    client = Redis.from_url(url)
    seen = Idempotency(client, connection=RawConnection(client, timeout=PATIENCE))
    try:
        yield seen, client
    finally:
        await seen.close()
        await client.aclose()


async def calls(client: Redis) -> int:
    """Script calls that the server has had since it started."""
    stats = await client.info("commandstats")
    return sum(int(stats.get(name, {"calls": 0})["calls"]) for name in ("cmdstat_evalsha", "cmdstat_eval"))


async def test_many_at_once_get_the_answers_they_would_get_one_by_one(any_redis_url: str) -> None:
    async with reservations(any_redis_url) as (seen, client):
        alone = Idempotency(client)
        await alone.mark_processed("claimed")
        await client.sadd(OLD_SET, "old", "<bracketed>", "named")
        await alone.begin("held", "somebody", 60_000)
        names = ("new", "claimed", "old", "bracketed", "x", "held")
        questions = [(name, ("named",) if name == "x" else ()) for name in names]
        each = [await alone.begin(name, "", 0, others) for name, others in questions]
        together = await asyncio.gather(
            *(seen.begin(name, f"t-{name}", 60_000, others) for name, others in questions)
        )
        # Asked without a token, a mail that somebody holds is just not processed.
        assert together[:-1] == each[:-1]
        assert [found.state for found in each] == [State.OURS, *[State.PROCESSED] * 4, State.OURS]
        assert together[-1].state is State.BUSY
        assert await client.get(seen._reservation("new")) == b"t-new"
        assert (await seen.begin("new", "t-new", 60_000)).state is State.OURS
        assert (await seen.begin("new", "other", 60_000)).state is State.BUSY


async def test_what_is_asked_together_travels_together(redis_url: str) -> None:
    async with reservations(redis_url) as (seen, client):
        await seen.begin("first")  # the server learns the script
        before = await calls(client)
        found = await asyncio.gather(*(seen.begin(f"m{n}", "t", 60_000) for n in range(2 * MOST + 1)))
        assert {one.state for one in found} == {State.OURS}
        assert await calls(client) - before == 3


async def test_a_server_that_forgot_the_script_is_told_it_again(redis_url: str) -> None:
    async with reservations(redis_url) as (seen, client):
        await seen.mark_processed("a")
        await client.script_flush()
        found = await asyncio.gather(seen.begin("a"), seen.begin("b"))
        assert [one.state for one in found] == [State.PROCESSED, State.OURS]
        assert found[0] == Found(State.PROCESSED, *seen.claim("a"))


async def test_whoever_gives_up_leaves_the_others_their_answers(own_redis: RedisProcess) -> None:
    async with reservations(own_redis.url) as (seen, _):
        await seen.begin("warm")
        own_redis.pause()
        asking = [asyncio.create_task(seen.begin(f"m{n}", "t", 60_000)) for n in range(6)]
        await asyncio.sleep(0.05)
        late = [asyncio.create_task(seen.begin(f"late{n}", "t", 60_000)) for n in range(3)]
        await asyncio.sleep(0.05)
        for task in (asking[0], asking[3], late[0]):  # the one that has the lead among them
            task.cancel()
        await asyncio.sleep(0.05)
        own_redis.resume()
        found = await asyncio.wait_for(asyncio.gather(*asking, *late, return_exceptions=True), PATIENCE)
        gave_up = [isinstance(one, asyncio.CancelledError) for one in found]
        assert gave_up == [True, False, False, True, False, False, True, False, False]
        assert {one.state for one in found if isinstance(one, Found)} == {State.OURS}
        assert (await seen.begin("after", "t", 60_000)).state is State.OURS


async def test_an_outage_is_everybodys_and_over_when_it_is_over(own_redis: RedisProcess) -> None:
    async with reservations(own_redis.url) as (seen, _):
        await seen.begin("warm")
        own_redis.kill()
        found = await asyncio.gather(*(seen.begin(f"m{n}") for n in range(5)), return_exceptions=True)
        assert all(isinstance(one, SinkUnavailable) for one in found)
        own_redis.start()
        assert (await seen.begin("m0")).state is State.OURS


async def test_a_reservation_that_is_none_is_the_trouble_of_its_own_mail(redis_url: str) -> None:
    async with reservations(redis_url) as (seen, client):
        await client.sadd(f"{seen.prefix}:doing:{member('odd')}", "x")
        found = await asyncio.gather(
            seen.begin("odd", "t", 1000), seen.begin("fine", "t", 1000), return_exceptions=True
        )
        assert isinstance(found[0], ResponseError)
        assert found[1] == Found(State.OURS)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await seen.begin("odd", "t", 1000)


async def test_whoever_gives_up_as_the_outage_is_told_has_given_up(own_redis: RedisProcess) -> None:
    async with reservations(own_redis.url) as (seen, _):
        await seen.begin("warm")
        own_redis.kill()

        async def leads() -> None:
            try:
                await seen.begin("first")
            except SinkUnavailable:
                second.cancel()  # its answer is there, and it has not seen it yet
                raise

        first = asyncio.create_task(leads())
        second = asyncio.create_task(seen.begin("second"))
        found = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), PATIENCE)
        assert [type(one) for one in found] == [SinkUnavailable, asyncio.CancelledError]


@pytest.mark.parametrize("how", [{"protocol": 3}, {"protocol": 2, "decode_responses": True}])
async def test_the_client_of_a_host_may_speak_and_decode_as_it_likes(
    any_redis_url: str, how: dict[str, Any]
) -> None:
    async with Redis.from_url(any_redis_url, **how) as client:
        seen = Idempotency(client, connection=RawConnection(client, timeout=PATIENCE))
        await seen.mark_processed("claimed")
        await client.sadd(OLD_SET, "old")
        found = await asyncio.gather(*(seen.begin(name, "t", 60_000) for name in ("new", "claimed", "old")))
        assert found[0] == Found(State.OURS)
        assert found[1] == Found(State.PROCESSED, *seen.claim("claimed"))
        assert found[2] == Found(State.PROCESSED, OLD_SET, "old")
        assert (await seen.begin("new", "other", 60_000)).state is State.BUSY
        assert await seen.renew("new", "t", 60_000)
        await seen.release("new", "t")
        assert (await seen.begin("new", "other", 60_000)).state is State.OURS
        await seen.close()
