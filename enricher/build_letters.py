"""The dead letters' part of the composition root: which store, and who hears when there are too many."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from enricher.adapters.redis.dead_letters.base import RedisLetterStore
from enricher.adapters.redis.dead_letters.list_store import ListLetterStore
from enricher.adapters.redis.dead_letters.stream_store import StreamLetterStore
from enricher.config import Settings
from enricher.dead_letters.alert import AlertHook, DepthAlarm, log_alert
from enricher.dead_letters.sink import DeadLetterRouter, DeadLetterSink
from enricher.dead_letters.store import LetterStore
from enricher.engine.ports import Sink

STORES: Mapping[str, type[RedisLetterStore]] = {"list": ListLetterStore, "stream": StreamLetterStore}


def letter_store(settings: Settings, client: Redis, topics: Mapping[str, str]) -> RedisLetterStore:
    """The store that the settings describe, in the Redis of ``client``; ``topics`` are by task name."""
    section = settings.dead_letters
    kind = STORES[section.store]
    return kind(client, section.key, topics, max_length=section.max_length, guard_ttl=section.guard_ttl)


def length_watch(settings: Settings, hook: AlertHook | None) -> DepthAlarm:
    """Who watches one store: each needs its own."""
    return DepthAlarm(settings.dead_letters.alert_above, hook or log_alert)


def stores_of(sink: Sink) -> tuple[LetterStore, ...]:
    """The stores in which a sink lands dead letters, as far as it says so."""
    if isinstance(sink, DeadLetterRouter):
        return tuple(each.store for each in sink.sinks)
    return (sink.store,) if isinstance(sink, DeadLetterSink) else ()
