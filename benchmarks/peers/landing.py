"""How a peer lands a message: three round trips for a tick, two for the rest, over clients made once.

A crash between store and claim repeats a tick's publication, and two copies of a tick that are under way at
once are both published; the document's ``_id`` keeps the collection right all the same.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import pymongo
import redis
import redis.asyncio
from pymongo.errors import DuplicateKeyError

from benchmarks.peers.domain import TOPICS, Windows, read, show

REDIS_URL = os.environ.get("PEER_REDIS_URL", "redis://127.0.0.1:6379/0")
MONGO_URL = os.environ.get("PEER_MONGO_URL", "mongodb://127.0.0.1:27017")
DATABASE = "deltastream"
CONNECTIONS = 256  # more than any peer does at once

# RESP2 costs redis-py a third of what its default, RESP3, does for a message.
RESP = 2


class Landing:
    """For coroutines; call it inside the loop that will use it."""

    def __init__(self) -> None:
        self._redis = redis.asyncio.Redis.from_url(REDIS_URL, protocol=RESP, max_connections=CONNECTIONS)
        mongo: Any = pymongo.AsyncMongoClient(MONGO_URL, tz_aware=True, maxPoolSize=CONNECTIONS)
        self._database = mongo[DATABASE]
        self._windows = Windows()

    async def land(self, topic: str, body: bytes) -> None:
        """Validate, drop a duplicate, store, cache and publish."""
        work = read(topic, body, time.time_ns() // 1000)
        if work.claim is not None and await self._redis.exists(work.claim):
            return
        with suppress(DuplicateKeyError):
            await self._database[work.collection].insert_one(work.document)
        pipe = self._redis.pipeline(transaction=False)
        for command in show(work, self._windows):
            pipe.execute_command(*command)
        await pipe.execute()


class BlockingLanding:
    """The same for a process without a loop."""

    def __init__(self) -> None:
        self._redis = redis.Redis.from_url(REDIS_URL, protocol=RESP)
        mongo: Any = pymongo.MongoClient(MONGO_URL, tz_aware=True)
        self._database = mongo[DATABASE]
        self._windows = Windows()

    def land(self, topic: str, body: bytes) -> None:
        """Validate, drop a duplicate, store, cache and publish."""
        work = read(topic, body, time.time_ns() // 1000)
        if work.claim is not None and self._redis.exists(work.claim):
            return
        with suppress(DuplicateKeyError):
            self._database[work.collection].insert_one(work.document)
        pipe = self._redis.pipeline(transaction=False)
        for command in show(work, self._windows):
            pipe.execute_command(*command)
        pipe.execute()


__all__ = ["MONGO_URL", "REDIS_URL", "RESP", "TOPICS", "BlockingLanding", "Landing"]
