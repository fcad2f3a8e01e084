"""Engines on a stream for tests: in this process, or as processes of their own that can be killed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.dead_letters.list_store import ListLetterStore
from enricher.adapters.redis.sink import RedisLive
from enricher.adapters.redis.stream.entry import ReadEntry
from enricher.adapters.redis.stream.source import StreamSource
from enricher.config import PoolSettings, StreamSettings
from enricher.dead_letters.sink import DeadLetterSink
from enricher.engine.effects import Append, Effect
from enricher.engine.ports import Clock
from enricher.engine.retry import Backoff, RetryPolicy
from enricher.engine.router import Overload, Route
from enricher.engine.service import Engine
from tests.integration.forks import Forked
from tests.rig import PATIENCE, POOL, until

STREAM, GROUP, OUT, LETTERS = "in", "workers", "out", "dlq"
QUICK = Backoff(base=0.02, max_delay=0.1, jitter="none")
LIMITS: dict[str, Any] = {"block": 0.1, "lease": 0.6, "tick": 0.02, "timeout": 2.0, "trim": False}


def reading(**options: Any) -> dict[str, Any]:
    """How a `StreamSource` of a test reads: what the settings of streams have goes into them."""
    given = {**LIMITS, **options}
    settings = {name: given.pop(name) for name in StreamSettings.__struct_fields__ if name in given}
    return {"settings": StreamSettings(**settings), **given}


def wall_clock() -> int:
    return time.time_ns() // 1000


def copied(event: Any, context: Any) -> list[Effect]:
    """A handler that appends the message to the stream of results."""
    return [Append(OUT, {b"body": context.body, b"attempt": b"%d" % context.attempt})]


class Line:
    """A running engine over the stream, with a client to look at what it did."""

    def __init__(self, engine: Engine, source: StreamSource, client: Redis) -> None:
        self.engine = engine
        self.source = source
        self.client = client

    @property
    def counts(self) -> dict[str, int]:
        return {name: n for name, n in self.engine.stats.topic(STREAM).counts.items() if n}


@asynccontextmanager
async def line(
    url: str,
    *,
    handler: Callable[..., Any] = copied,
    consumer: str = "one",
    retry: RetryPolicy | None = None,
    read_entry: ReadEntry | None = None,
    letters_url: str = "",
    drain: float = 5.0,
    ready: bool = True,
    through: str = "",
    overload: Overload = Overload.BLOCK,
    conflation: Callable[[bytes], str] | None = None,
    blocking: bool = False,
    pool: PoolSettings = POOL,
    clock: Clock = wall_clock,
    **limits: Any,
) -> AsyncIterator[Line]:
    """An engine with one route fed from the stream; ``through`` is the URL that it alone uses."""
    client = redis_client(through or url, socket_timeout=1)
    looking = redis_client(url, socket_timeout=PATIENCE)
    apart = redis_client(letters_url, socket_timeout=1) if letters_url else None
    letters = DeadLetterSink(ListLetterStore(apart or client, LETTERS), streams=client if apart else None)
    source = StreamSource(
        client,
        STREAM,
        group=GROUP,
        consumer=consumer,
        dead_letters=letters,
        clock=clock,
        read_entry=read_entry,
        backoff=QUICK,
        **reading(**limits),
    )
    route = Route(
        topic=STREAM,
        handler=handler,
        sinks=("live",),
        retry=retry,
        overload=overload,
        conflation=conflation,
        blocking=blocking,
    )
    engine = Engine(
        [route],
        [source],
        [RedisLive(client), letters],
        clock=clock,
        backoff=QUICK,
        pool=pool,
        drain_deadline=drain,
    )
    try:
        async with engine:
            if ready:
                await asyncio.wait_for(engine.wait_ready(), PATIENCE)
            yield Line(engine, source, looking)
    finally:
        for each in (client, looking, *([apart] if apart else [])):
            await each.aclose()


async def send(client: Redis, *bodies: object) -> list[str]:
    """Append messages to the stream, in order; their ids."""
    async with client.pipeline(transaction=False) as pipeline:
        for body in bodies:
            pipeline.xadd(STREAM, {"body": body if isinstance(body, bytes) else json.dumps(body).encode()})
        return [id_.decode() for id_ in await pipeline.execute()]


async def results(client: Redis) -> list[Any]:
    """The bodies in the stream of results, in order."""
    return [json.loads(fields[b"body"]) for _, fields in await client.xrange(OUT)]


async def letters(client: Redis) -> list[dict[str, Any]]:
    """The dead letters, newest first."""
    return [json.loads(entry) for entry in await client.lrange(LETTERS, 0, -1)]


async def pending(client: Redis, stream: str = STREAM) -> int:
    """How many entries wait for an acknowledgement."""
    found = await client.xpending(stream, GROUP)
    return int(found["pending"])


async def finished(client: Redis, number: int) -> list[Any]:
    """The results once there are ``number`` and nothing is pending."""

    async def done() -> bool:
        return await client.xlen(OUT) >= number and await pending(client) == 0

    await until(done, f"{number} results")
    return await results(client)


class Crew:
    """Workers as processes of their own, which do as `told`."""

    def __init__(self, url: str, **limits: Any) -> None:
        self._url = url
        self._limits = limits
        self._running: list[Forked] = []

    def start(self, consumer: str) -> Forked:
        """Start a worker."""
        process = Forked(worker, self._url, consumer, self._limits)
        self._running.append(process)
        return process

    def kill(self) -> None:
        """End whoever still runs."""
        for process in self._running:
            process.kill()
            process.wait()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


async def told(event: Any, context: Any) -> Sequence[Effect]:
    """A handler that does as the message says: end the process, hold up its loop, or take its time."""
    if event.get("do") == "die":
        import os

        os._exit(9)
    time.sleep(event.get("blocks", 0))  # noqa: ASYNC251
    await asyncio.sleep(event.get("seconds", 0))
    return copied(event, context)


def worker(url: str, consumer: str, limits: dict[str, Any]) -> None:
    """A worker until it is killed."""

    async def work() -> None:
        async with line(url, handler=told, consumer=consumer, **limits):
            await asyncio.Event().wait()

    asyncio.run(work())
