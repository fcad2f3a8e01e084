"""The market worker for tests: in this process on given servers, or as a process of its own.

Nothing here sleeps for a fixed time. `Worker.settled` and `WorkerProcess.settled` poll the worker's own
figures until everything published was received and nothing is under way any more, up to a deadline.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymongo
from bson.codec_options import CodecOptions
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.app import Enricher, wall_clock
from enricher.config import Settings
from enricher.embedded import binaries
from enricher.embedded.endpoints import read_endpoints
from enricher.systems import load
from tests.integration.forks import Forked, command
from tests.rig import PATIENCE, until

ROOT = Path(__file__).parents[2]
TICKS, QUOTES, CHAINS = "market:underlying", "market:option_quote", "market:option_chain"
DEADLINE = PATIENCE

Document = dict[str, Any]


def worker_settings(redis_url: str, mongo_url: str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings for these servers; ``overrides`` are dotted keys, as on the command line."""
    given = {"redis.url": redis_url, "mongo.url": mongo_url, "stats.interval": 0.1, **(overrides or {})}
    return load(overrides=given)


def database(mongo_url: str) -> Any:
    """The database that the URL names, dates in UTC; close its ``client``."""
    client: pymongo.MongoClient[Document] = pymongo.MongoClient(mongo_url)
    return client.get_default_database(codec_options=CodecOptions(tz_aware=True))


def iso(us: int, *, naive: bool = False) -> str:
    """Microseconds since 1970 as ISO 8601 with microseconds, with offset or without."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return moment.replace(tzinfo=None).isoformat() if naive else moment.isoformat()


def encoded(message: object) -> bytes:
    """A message as it is published; bytes stay as they are."""
    return message if isinstance(message, bytes) else json.dumps(message).encode()


class Listener:
    """Hears the channels ``enriched:*`` of a Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.heard: list[tuple[str, Document]] = []
        self._ends = 0
        self._listener: Any = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to hear."""
        self._listener = self._client.pubsub()
        await self._listener.psubscribe("enriched:*")
        assert await self._listener.get_message(timeout=DEADLINE), "not subscribed"
        self._task = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for reply in self._listener.listen():
            if reply["channel"] == b"enriched:end":
                self._ends += 1
            elif reply["type"] == "pmessage":
                self.heard.append((reply["channel"].decode(), json.loads(reply["data"])))

    async def end(self) -> None:
        """Return when everything published before was heard."""
        before = self._ends
        await self._client.publish("enriched:end", b"")
        await until(lambda: self._ends > before, "the end on the channel")

    def published(self, channel: str) -> list[Document]:
        """What was heard on ``enriched:{channel}``, in order."""
        return [message for name, message in self.heard if name == f"enriched:{channel}"]

    async def stop(self) -> None:
        """Stop hearing."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, RedisError):
                await self._task
            self._task = None
            with suppress(RedisError):
                await self._listener.aclose()


class Worker:
    """A running `Enricher`, with clients to publish to it and to look at what it did."""

    def __init__(self, enricher: Enricher, client: Redis, documents: Any) -> None:
        self.enricher = enricher
        self.redis = client
        self.documents = documents
        self.sent = 0
        self.listener = Listener(client)

    @property
    def heard(self) -> list[tuple[str, Document]]:
        """(channel, message) heard so far."""
        return self.listener.heard

    def published(self, channel: str) -> list[Document]:
        """What was heard on ``enriched:{channel}``, in order."""
        return self.listener.published(channel)

    async def send(self, channel: str, *messages: object) -> None:
        """Publish messages (objects or bytes) in order."""
        await self.send_all([(channel, encoded(message)) for message in messages])

    async def send_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish (channel, body) in order, in round trips of at most 500."""
        for at in range(0, len(messages), 500):
            async with self.redis.pipeline(transaction=False) as pipeline:
                for channel, body in messages[at : at + 500]:
                    pipeline.publish(channel, body)
                heard_by = await pipeline.execute()
            self.sent += sum(heard_by)

    async def settled(self, deadline: float = DEADLINE) -> None:
        """Return when everything sent is committed and heard on the channels."""
        engine = self.enricher.engine
        await until(
            lambda: (
                self.enricher.stats.total("received") >= self.sent
                and not engine.pool.count
                and not engine.writer.unfinished
            ),
            f"{self.sent} messages; counted {self.enricher.stats.snapshot()['topics']}",
            deadline,
        )
        await self.listener.end()

    async def take(self, channel: str, *messages: object) -> None:
        """Publish messages and wait until all is settled."""
        await self.send(channel, *messages)
        await self.settled()

    def stored(self, collection: str, **query: Any) -> list[Document]:
        """The documents of a collection by event time."""
        return list(self.documents[collection].find(query).sort([("event_us", 1), ("_id", 1)]))

    async def cached(self, key: str) -> Any:
        """The JSON value of a key, None if there is none."""
        text = await self.redis.get(key)
        return None if text is None else json.loads(text)

    async def letters(self) -> list[Document]:
        """The dead letters, newest first."""
        return [json.loads(text) for text in await self.redis.lrange("dlq:enrichment", 0, -1)]

    def count(self, channel: str, name: str) -> int:
        """A counter of a route."""
        return self.enricher.stats.topic(channel).counts[name]

    async def close(self) -> None:
        """Let go of the clients (the enricher is somebody else's)."""
        await self.listener.stop()
        await self.redis.aclose()
        self.documents.client.close()


@asynccontextmanager
async def running(
    redis_url: str,
    mongo_url: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    clock: Callable[[], int] = wall_clock,
    through: Mapping[str, str] | None = None,
    ready: bool = True,
) -> AsyncIterator[Worker]:
    """A worker that is ready. ``through`` replaces the URLs ("redis.url", "mongo.url") that it alone uses."""
    settings = worker_settings(redis_url, mongo_url, {**(overrides or {}), **(through or {})})
    enricher = Enricher(settings, clock=clock)
    client = Redis.from_url(redis_url)
    worker = Worker(enricher, client, database(mongo_url))
    try:
        if ready:
            await worker.listener.start()
        async with enricher:
            if ready:
                await asyncio.wait_for(enricher.wait_ready(), DEADLINE)
            yield worker
    finally:
        await worker.close()


class WorkerProcess:
    """``enricher run`` on given servers, to be stopped, killed and started again.

    With ``forked`` it has nothing to import, and is there at once.
    """

    def __init__(
        self,
        redis_url: str,
        mongo_url: str,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        *,
        forked: bool = False,
    ) -> None:
        self.redis_url, self.mongo_url = redis_url, mongo_url
        self._forked = forked
        self._arguments = tuple(arguments)
        self._environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "MONGO_URL": mongo_url,
            "ENRICHER_STATS__INTERVAL": "0.05",
            "ENRICHER_STATS__KEY_PREFIX": "figures",
            **(environment or {}),
        }
        self._client: Redis | None = None
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._starts = 0
        self.sent = 0

    async def start(self) -> None:
        """Start the process and wait until it is ready."""
        self._starts += 1
        self.sent = 0
        arguments = ["run", "--log-level", "warning", *self._arguments]
        environment = {**self._environment, "ENRICHER_SERVICE__INSTANCE": f"test-{self._starts}"}
        if self._forked:
            self._process = command(arguments, environment, ROOT)
        else:
            whole = [sys.executable, "-m", "enricher", *arguments]
            self._process = subprocess.Popen(  # noqa: ASYNC220  the start itself takes a millisecond
                binaries.bound_to_this_process(whole), cwd=ROOT, env=environment
            )
        await self._connect()
        await self._figures_say(lambda figures: figures["status"] == "ready", "a worker that is ready")

    async def _connect(self) -> None:
        if self._client is None:
            self._client = Redis.from_url(self.redis_url)

    @property
    def client(self) -> Redis:
        """A client of the worker's Redis."""
        assert self._client is not None, "the worker was not started"
        return self._client

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish (channel, body) in order; never more than 2,000 ahead of what the worker has done."""
        for at in range(0, len(messages), 500):
            async with self.client.pipeline(transaction=False) as pipeline:
                for channel, body in messages[at : at + 500]:
                    pipeline.publish(channel, body)
                heard_by = await pipeline.execute()
            assert heard_by == [1] * len(heard_by)
            self.sent += len(heard_by)
            least = self.sent - 2000
            if least > 0:
                await self._figures_say(lambda f, least=least: received(f) >= least, f"{least} messages")  # type: ignore[misc]

    async def taken_in(self) -> None:
        """Return when everything sent to this start of the process was received."""
        await self._figures_say(lambda f: received(f) >= self.sent, f"{self.sent} messages")

    async def settled(self) -> None:
        """Return when everything sent to this start of the process is committed."""
        await self._figures_say(
            lambda f: received(f) >= self.sent and not f["pool"]["messages"], f"{self.sent} messages"
        )

    async def figures(self) -> Document | None:
        """What the process last said about itself."""
        name = self._environment.get("SERVICE_NAME", "worker-enricher")
        text = await self.client.get(f"figures:{name}:test-{self._starts}")
        return None if text is None else json.loads(text)

    async def _figures_say(self, holds: Callable[[Document], bool], what: str) -> None:
        limit = time.monotonic() + DEADLINE
        while True:
            found = await self.figures()
            if found is not None and holds(found):
                return
            assert self._process is not None
            assert self._process.poll() is None, f"the worker ended with {self._process.returncode}"
            assert time.monotonic() < limit, f"waited in vain for {what}; the worker said {found}"
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """The crash."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        return await self._end(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait until it has ended, of its own accord; returns the exit code."""
        process, self._process = self._process, None
        assert process is not None
        return await asyncio.to_thread(process.wait, DEADLINE)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await self.ended()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await self.kill()
        if self._client is not None:
            await self._client.aclose()


class EmbeddedProcess(WorkerProcess):
    """``enricher run --embedded`` with its servers' data in ``folder``."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__("", "", environment, ("--embedded", "--data-dir", str(folder)))
        self._folder = folder

    async def _connect(self) -> None:
        if self._client is not None:
            await self._client.aclose()
        await until(lambda: read_endpoints(self._folder), "the embedded servers")
        endpoints = read_endpoints(self._folder)
        assert endpoints is not None
        self.redis_url, self.mongo_url = endpoints.redis_url, endpoints.mongo_url
        self._client = Redis.from_url(self.redis_url)


def received(figures: Document) -> int:
    """Messages taken in, over all topics."""
    return sum(topic.get("received", 0) for topic in figures["topics"].values())
