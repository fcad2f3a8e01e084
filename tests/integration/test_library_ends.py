"""enricher inside somebody else's asyncio program: outages, and how it ends."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import anyio
import pytest

from enricher import Context, Effect, Enricher, EnricherError, Route, Settings
from enricher.engine.ports import Intake
from tests.integration.host import GREETINGS, numbered, settings_for, stored
from tests.rig import PATIENCE, until
from tests.servers import MongoProcess, RedisProcess


@pytest.fixture
def settings(redis_url: str, mongo_database_url: str) -> Settings:
    return settings_for(redis_url, mongo_database_url)


async def test_health_goes_from_ready_to_degraded_and_back(
    own_redis: RedisProcess, own_mongo: MongoProcess
) -> None:
    url = own_mongo.url("shop")
    async with Enricher(settings_for(own_redis.url, url), routes=[GREETINGS]) as enricher:
        assert enricher.health()["status"] == "starting"
        await enricher.wait_ready()
        assert enricher.health()["status"] == "ready"
        for number, (server, sink) in enumerate([(own_mongo, "documents"), (own_redis, "live")]):
            server.kill()
            await enricher.submit("greetings", numbered(number))
            await until(lambda sink=sink: sink in enricher.health()["outages"], f"an outage of {sink}")
            assert enricher.health()["status"] == "degraded"
            server.start()
            await until(lambda: enricher.health()["status"] == "ready", "the end of the outage")
            await until(lambda: not enricher.engine.pool.count, "what had waited")
        assert not enricher.health()["outages"]
    assert stored(url) == [0, 1]


async def test_it_becomes_ready_when_servers_that_were_away_come(
    own_redis: RedisProcess, own_mongo: MongoProcess
) -> None:
    own_redis.kill()
    own_mongo.kill()
    url = own_mongo.url("shop")
    async with Enricher(settings_for(own_redis.url, url), routes=[GREETINGS]) as enricher:
        await until(lambda: set(enricher.health()["outages"]) >= {"documents", "live"}, "both outages")
        waiting = asyncio.create_task(enricher.submit("greetings", numbered(1), committed=True))
        own_redis.start()
        await until(lambda: enricher.engine.sources[0].health()["ready"], "the subscription")
        assert not enricher.ready
        own_mongo.start()
        await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
        await asyncio.wait_for(waiting, PATIENCE)
        assert enricher.health()["status"] == "ready"
    assert stored(url) == [1]


async def test_leaving_the_block_drains(settings: Settings, mongo_database_url: str) -> None:
    async with Enricher(settings, routes=[GREETINGS]) as enricher:
        for number in range(2000):
            await enricher.submit("greetings", numbered(number))
    assert stored(mongo_database_url) == list(range(2000))
    assert not enricher.lost


async def test_an_error_in_the_block_comes_out_as_it_is_after_draining(
    settings: Settings, mongo_database_url: str
) -> None:
    async def program(error: BaseException, first: int) -> None:
        async with Enricher(settings, routes=[GREETINGS]) as enricher:
            for number in range(first, first + 500):
                await enricher.submit("greetings", numbered(number))
            raise error

    errors = ZeroDivisionError(), ExceptionGroup("of the host", [KeyError(1)]), KeyboardInterrupt()
    for round_, error in enumerate(errors):
        with pytest.raises(type(error)) as caught:
            await program(error, round_ * 500)
        assert caught.value is error
        assert stored(mongo_database_url) == list(range((round_ + 1) * 500))


async def test_a_cancelled_program_drains_before_it_ends(settings: Settings, mongo_database_url: str) -> None:
    handed_in = asyncio.Event()

    async def program() -> None:
        async with Enricher(settings, routes=[GREETINGS]) as enricher:
            for number in range(500):
                await enricher.submit("greetings", numbered(number))
            handed_in.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(program())
    await handed_in.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stored(mongo_database_url) == list(range(500))


async def test_a_cancelled_scope_drains_before_it_ends(settings: Settings, mongo_database_url: str) -> None:
    with anyio.CancelScope() as scope:
        async with Enricher(settings, routes=[GREETINGS]) as enricher:
            for number in range(500):
                await enricher.submit("greetings", numbered(number))
            scope.cancel()
            await anyio.sleep(60)
    assert scope.cancelled_caught
    assert stored(mongo_database_url) == list(range(500))


async def test_draining_ends_at_its_deadline_and_everybody_who_waits_is_told(
    redis_url: str, own_mongo: MongoProcess
) -> None:
    async def never(event: Any, context: Context) -> list[Effect]:
        await asyncio.sleep(3600)
        return []

    settings = settings_for(redis_url, own_mongo.url("shop"), service__drain_deadline=0.3)
    routes = [GREETINGS, Route(topic="never", handler=never)]
    waiting: list[asyncio.Task[str]] = []
    ready = asyncio.Event()
    enrichers: list[Enricher] = []

    async def program() -> None:
        async with Enricher(settings, routes=routes) as enricher:
            enrichers.append(enricher)
            await enricher.wait_ready()
            own_mongo.pause()
            for topic, number in (("greetings", 1), ("greetings", 2), ("never", 3)):
                waiting.append(
                    asyncio.create_task(enricher.submit(topic, numbered(number), committed=True))
                )
            await until(lambda: len(enricher.stats.in_flight) == 2, "a commit and a handler")
            ready.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(program())
    await asyncio.wait_for(ready.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE)
    assert [str(end).rpartition(" ")[2] for end in ends] == ["lost"] * 3
    assert enrichers[0].lost == {"greetings": 2, "never": 1}
    assert enrichers[0].stats.total("lost") == 3


async def test_run_serves_until_it_is_cancelled(settings: Settings, redis_url: str) -> None:
    enricher = Enricher(settings, routes=[GREETINGS])
    task = asyncio.create_task(enricher.run())
    await until(lambda: enricher.ready, "a running enricher")
    await enricher.submit("greetings", numbered(1), committed=True)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not enricher.ready


async def test_hooks_for_start_and_stop_will_do_in_place_of_a_block(
    settings: Settings, mongo_database_url: str
) -> None:
    enricher = Enricher.from_settings(settings, routes=[GREETINGS])
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.create_task(enricher.run()))
        await enricher.wait_ready()

    async def stop() -> None:
        await enricher.stop()
        await tasks[0]

    await asyncio.create_task(start())
    await enricher.submit("greetings", numbered(1))
    await asyncio.wait_for(asyncio.create_task(stop()), 20)
    assert stored(mongo_database_url) == [1]


def test_one_that_was_made_before_a_fork_goes_by_the_name_of_the_process_it_runs_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    enricher = Enricher(settings)
    monkeypatch.setattr(os, "getpid", lambda: 12345)

    async def names() -> list[Any]:
        async with enricher:
            return [enricher.instance, enricher.figures()["instance"]]

    assert {name.rpartition("-")[2] for name in asyncio.run(names())} == {"12345"}


async def test_an_enricher_is_entered_once(settings: Settings) -> None:
    enricher = Enricher(settings, routes=[GREETINGS])
    with pytest.raises(EnricherError, match="not running"):
        await enricher.submit("greetings", numbered(1))
    with pytest.raises(EnricherError, match="not running"):
        await enricher.wait_ready()
    async with enricher:
        with pytest.raises(EnricherError, match="entered once"):
            await enricher.__aenter__()
        await enricher.submit("greetings", numbered(1), committed=True)
    with pytest.raises(EnricherError, match="entered once"):
        await enricher.__aenter__()


# -- entered by one task, left by another ------------------------------------------------------------


class Failing:
    """A source that fails when it is told to."""

    name = "failing"

    def __init__(self) -> None:
        self.fails = asyncio.Event()

    async def run(self, intake: Intake) -> None:
        await self.fails.wait()
        raise RuntimeError("the source is broken")

    async def stop_intake(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def health(self) -> dict[str, Any]:
        return {"ready": True}


async def test_it_may_be_left_by_another_task_than_it_was_entered_by(
    settings: Settings, mongo_database_url: str
) -> None:
    before = asyncio.all_tasks()
    enricher = Enricher(settings, routes=[GREETINGS])
    assert await asyncio.create_task(enricher.__aenter__()) is enricher
    await asyncio.create_task(enricher.wait_ready())
    for number in range(100):
        await enricher.submit("greetings", numbered(number))
    await asyncio.create_task(enricher.__aexit__(None, None, None))
    assert stored(mongo_database_url) == list(range(100))
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("at_once", [False, True])
async def test_when_a_part_fails_the_block_is_cancelled_and_raises_the_cause(
    settings: Settings, at_once: bool
) -> None:
    source = Failing()
    if at_once:
        source.fails.set()

    async def program() -> None:
        async with Enricher(settings, routes=[GREETINGS], sources=[source]):
            source.fails.set()
            await asyncio.sleep(3600)

    with pytest.raises(EnricherError, match="its failing ended: RuntimeError: the source is") as caught:
        await program()
    assert isinstance(caught.value.__cause__, RuntimeError)
    # The host's task is as it was: neither cancelled nor about to be.
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_when_a_part_fails_and_its_host_is_no_more_leaving_raises_the_cause(settings: Settings) -> None:
    source = Failing()
    enricher = Enricher(settings, routes=[GREETINGS], sources=[source])
    await asyncio.create_task(enricher.__aenter__())
    source.fails.set()
    await until(lambda: enricher.engine.stopping, "the end")
    with pytest.raises(EnricherError, match="the source is broken") as caught:
        await enricher.__aexit__(None, None, None)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("host_is_there", [True, False])
async def test_when_the_task_that_holds_it_is_cancelled_leaving_says_so(
    settings: Settings, mongo_database_url: str, host_is_there: bool
) -> None:
    enricher = Enricher(settings, routes=[GREETINGS])

    async def program() -> None:
        if host_is_there:
            await enricher.__aenter__()
        else:
            await asyncio.create_task(enricher.__aenter__())
        try:
            await enricher.submit("greetings", numbered(1))
            next(task for task in asyncio.all_tasks() if task.get_name() == "enricher").cancel()
            await until(lambda: enricher.engine.stopping, "the end")
        finally:
            await enricher.__aexit__(None, None, None)

    with pytest.raises(EnricherError, match="cancelled by somebody"):
        await asyncio.create_task(program())
    assert stored(mongo_database_url) == [1]


async def test_who_is_cancelled_while_entering_leaves_nothing_behind(settings: Settings) -> None:
    before = asyncio.all_tasks()
    enricher = Enricher(settings, routes=[GREETINGS])
    task = asyncio.create_task(enricher.__aenter__())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: asyncio.all_tasks() == before, "the end of every task")


async def test_a_wrong_setting_is_told_to_who_enters(settings: Settings) -> None:
    enricher = Enricher(settings, routes=[GREETINGS, GREETINGS])
    for _ in range(2):
        with pytest.raises(EnricherError, match="greetings"):
            await enricher.__aenter__()
