"""Who watches what a worker does, from outside: the intake, the documents, the channels and their record."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pymongo
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.faults_ledger import COLLECTIONS, ENRICHED, Found, Heard, Sent, body_us
from enricher.adapters.redis.client import redis_client

SERVICE = "faults"
DATABASE = "faults"
INTAKE = f"enricher:intake:{SERVICE}"
EFFECTS = f"enricher:effects:{SERVICE}"
HANGS = 90.0  # seconds without any change after which what still waits is given up


class Witness:
    """Takes down what comes of the messages, over any number of connections; ``client`` is for questions."""

    def __init__(self, redis_url: str, mongo_url: str, client: Redis) -> None:
        self.found = Found()
        self._redis_url = redis_url
        self._mongo_url = mongo_url
        self._client = client
        self._recorded: dict[int, list[Heard]] = {}
        self._last_entry = {INTAKE: "-", EFFECTS: "-"}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to hear and read."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tail())]

    async def stop(self) -> None:
        """Hear and read no more."""
        # Once is not enough: `asyncio.wait_for`, which the client sends with, may swallow a cancellation that
        # comes together with its result (up to Python 3.11), and the task would read on for ever.
        while waiting := [task for task in self._tasks if not task.done()]:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting, timeout=0.5)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        """Hear all that is published, over any number of connections."""
        while True:
            client = redis_client(self._redis_url, socket_timeout=None)
            with suppress(RedisError, OSError):
                async with client.pubsub() as listener:
                    await listener.subscribe(*ENRICHED.values())
                    async for reply in listener.listen():
                        if reply["type"] == "message":
                            message = json.loads(reply["data"])
                            heard = Heard(now_us(), message)
                            self.found.published.setdefault(body_us(reply["data"]), []).append(heard)
            await client.aclose()
            await asyncio.sleep(0.02)

    async def _tail(self) -> None:
        """Read all that is appended to the intake and recorded, for a flush may take it away."""
        client = redis_client(self._redis_url, socket_timeout=30)
        try:
            while True:
                with suppress(RedisError, OSError):
                    await self._read_streams(client)
                await asyncio.sleep(0.1)
        finally:
            await client.aclose()

    async def _read_streams(self, client: Redis) -> None:
        for stream in (INTAKE, EFFECTS):
            while entries := await client.xrange(stream, self._last_entry[stream], count=1000):
                self._note(stream, entries)

    async def flush(self) -> None:
        """FLUSHALL, with a last look at both streams in the same transaction."""
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.xrange(INTAKE)
            pipeline.xrange(EFFECTS)
            pipeline.flushall()
            intake, effects, _ = await pipeline.execute()
        self._note(INTAKE, intake)
        self._note(EFFECTS, effects)

    def _note(self, stream: str, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Take entries, in order, into the accounts; those known already are left out."""
        for id_, fields in entries:
            if self._last_entry[stream] != "-" and _id(id_) <= _id(self._last_entry[stream][1:].encode()):
                continue
            self._last_entry[stream] = f"({id_.decode()}"
            if stream == INTAKE:
                self.found.appended.add(body_us(fields[b"body"]))
            elif fields[b"channel"].decode() in ENRICHED.values():
                heard = Heard(_id(id_)[0] * 1000, json.loads(fields[b"message"]))
                self._recorded.setdefault(body_us(fields[b"message"]), []).append(heard)

    async def settled(self, sent: Sequence[Sent], still: float) -> Found:
        """All that was found, once everything appended is, or nothing has changed for ``still`` seconds and
        no entry waits (or it does so for ever).

        A second more goes by at the end, for what should not come.
        """
        seen, since = (-1, -1, -1), time.monotonic()
        documents: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self._mongo_url)
        try:
            while True:
                await self._read_streams(self._client)
                stored = await asyncio.to_thread(_stored, documents)
                told = sum(one.channel in ENRICHED for one in sent if one.us in self.found.appended)
                now = (len(self.found.appended), stored, len(self._recorded))
                if stored >= now[0] and now[2] >= told and seen == now:
                    break
                if seen != now:
                    seen, since = now, time.monotonic()
                quiet = time.monotonic() - since
                if quiet > HANGS or (quiet > still and not await self._waiting()):
                    break
                await asyncio.sleep(0.25)
            await asyncio.sleep(1.0)
            await self._read_streams(self._client)
            self.found.documents = await asyncio.to_thread(_documents, documents)
        finally:
            documents.close()
        # A subscriber may have been away, a record may have been flushed: each alone may know too little.
        for us, recorded in self._recorded.items():
            if len(recorded) > len(self.found.published.get(us, ())):
                self.found.published[us] = recorded
        self.found.dead = await self._client.llen("dlq:enrichment")
        for product in {one.message["product"] for one in sent}:
            cached = await self._client.mget(f"ohlc:{product}:15m", f"latest:underlying:{product}")
            window, latest = (None if text is None else json.loads(text) for text in cached)
            self.found.windows[product] = (window, latest)
        return self.found

    async def _waiting(self) -> bool:
        """Whether entries of the intake are not yet acknowledged."""
        try:
            (group,) = await self._client.xinfo_groups(INTAKE)
        except (RedisError, ValueError):
            return False
        return bool(group["pending"] or group["lag"])

    async def left(self) -> str:
        """What the intake's groups still have to do, for a reader who wonders what went wrong."""
        groups = []
        for stream in (INTAKE, f"{INTAKE}:{SERVICE}:again"):
            with suppress(RedisError):
                groups += [{"stream": stream, **found} for found in await self._client.xinfo_groups(stream)]
                groups += await self._client.xinfo_consumers(stream, SERVICE)
        return f"{groups}"


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def _id(text: bytes) -> tuple[int, int]:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def _stored(client: pymongo.MongoClient[dict[str, Any]]) -> int:
    database = client[DATABASE]
    return sum(database[name].count_documents({}) for name in COLLECTIONS.values())


def _documents(client: pymongo.MongoClient[dict[str, Any]]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for name in COLLECTIONS.values():
        for document in client[DATABASE][name].find():
            found.setdefault(document["event_us"], []).append(document)
    return found
