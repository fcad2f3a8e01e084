"""What goes on after a stop keeps its entry until the lease runs out: never do two have one at a time."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.engine.effects import Effect
from tests.integration.streams import GROUP, STREAM, copied, line, send
from tests.rig import PATIENCE, turns, until


class Handlers:
    """Handlers that note what they begin; those of the first worker go on until they may end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun: list[tuple[str, str]] = []

    def __enter__(self) -> Handlers:
        return self

    def __exit__(self, *_: object) -> None:
        self.may_end.set()

    def in_thread(self, event: str, context: Any) -> list[Effect]:
        self.begun.append(("one", event))
        assert self.may_end.wait(PATIENCE)
        return []

    async def ignores_its_cancellation(self, event: str, context: Any) -> list[Effect]:
        self.begun.append(("one", event))
        while not self.may_end.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return []

    async def another(self, event: str, context: Any) -> list[Effect]:
        self.begun.append(("another", event))
        return copied(event, context)


async def left_by_a_dead_worker(client: Redis, body: str) -> None:
    ids = await send(client, body)
    await client.xreadgroup(GROUP, "dead", {STREAM: ">"})
    await client.xclaim(STREAM, GROUP, "dead", 0, ids, idle=600_000, justid=True)


@pytest.mark.parametrize("goes_on", ["in_thread", "ignores_its_cancellation"])
async def test_what_outlives_the_drain_is_begun_by_nobody_else_before_its_lease_has_run_out(
    redis_url: str, goes_on: str
) -> None:
    with Handlers() as handlers:
        first: dict[str, Any] = {"handler": getattr(handlers, goes_on), "blocking": goes_on == "in_thread"}
        second: dict[str, Any] = {"handler": handlers.another}
        async with redis_client(redis_url, socket_timeout=PATIENCE) as client:
            async with line(redis_url, **first, drain=0.05, lease=60):
                (held,) = await send(client, "held")
                await until(lambda: handlers.begun)
            (entry,) = await client.xpending_range(STREAM, GROUP, held, held, 1)
            assert entry["consumer"] == b"one"
            assert entry["time_since_delivered"] < 60_000
            await left_by_a_dead_worker(client, "left")
            async with line(redis_url, **second, consumer="two", lease=60):
                # By then it has looked at everything that nobody renews.
                await until(lambda: ("another", "left") in handlers.begun)
                assert ("another", "held") not in handlers.begun
            handlers.may_end.set()
            async with line(redis_url, **second, consumer="three", lease=0.6):
                await until(lambda: ("another", "held") in handlers.begun)
        assert handlers.begun == [("one", "held"), ("another", "left"), ("another", "held")]


async def test_what_has_ended_by_the_end_of_the_stop_is_handed_over_at_once(redis_url: str) -> None:
    handlers, cleaned = Handlers(), list[str]()

    async def cleans_up(event: str, context: Any) -> list[Effect]:
        handlers.begun.append(("one", event))
        try:
            await asyncio.Event().wait()
        finally:
            await turns(5)
            cleaned.append(event)
        return []

    async with redis_client(redis_url, socket_timeout=PATIENCE) as client:
        async with line(redis_url, handler=cleans_up, drain=0.05, lease=60):
            await send(client, "held")
            await until(lambda: handlers.begun)
        assert cleaned == ["held"]
        async with line(redis_url, handler=handlers.another, consumer="two", lease=60):
            await until(lambda: ("another", "held") in handlers.begun)
