"""The store of dead letters that the settings describe."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from enricher.adapters.redis.dead_letters.base import RedisLetterStore
from enricher.adapters.redis.dead_letters.list_store import ListLetterStore
from enricher.adapters.redis.dead_letters.stream_store import StreamLetterStore
from enricher.config import DeadLetterSettings

STORES: Mapping[str, type[RedisLetterStore]] = {"list": ListLetterStore, "stream": StreamLetterStore}


def letter_store(section: DeadLetterSettings, client: Redis, topics: Mapping[str, str]) -> RedisLetterStore:
    """The store in the Redis of ``client``; ``topics`` by the names of their tasks."""
    kind = STORES[section.store]
    return kind(client, section.key, topics, max_length=section.max_length, guard_ttl=section.guard_ttl)
