"""The intake's part of the composition root: who listens to which topic, in memory or over a stream."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from redis.asyncio import Redis

from enricher.adapters.redis.client import sibling_client
from enricher.adapters.redis.pubsub import Gap, PubSubSource
from enricher.adapters.redis.stream.appender import BridgeLimits
from enricher.adapters.redis.stream.bridge import StreamBridge
from enricher.adapters.redis.stream.leases import CountedStore
from enricher.adapters.redis.stream.shard_lock import ShardLock, WhileLeader
from enricher.adapters.redis.stream.shards import Shard
from enricher.adapters.redis.stream.source import StreamSource
from enricher.adapters.redis.stream.spill import SpillSource
from enricher.config import Settings
from enricher.engine.effects import LIVE
from enricher.engine.overload import Overload
from enricher.engine.ports import Clock, Source
from enricher.engine.retry import Backoff
from enricher.engine.router import Route, Router
from enricher.errors import ConfigError


def is_pattern(topic: str) -> bool:
    """Whether a topic is a glob pattern (PSUBSCRIBE) rather than the name of a channel."""
    return any(c in topic for c in "*?[")


def intake_stream(settings: Settings) -> str:
    """The stream of the topics that take the way over one."""
    return settings.streams.bridge or f"enricher:intake:{settings.service.name}"


def spill_stream(settings: Settings) -> str:
    """The stream that this process spills to: its next life has to find it under the same name."""
    who = settings.service.instance or socket.gethostname()
    return settings.streams.spill or f"enricher:spill:{settings.service.name}:{who}"


def intake_group(settings: Settings, shard: Shard | None = None) -> str:
    """The group that reads the intake stream: one for all, or that of a shard."""
    group = settings.streams.group or settings.service.name
    return group if shard is None else f"{group}:{shard}"


def over_streams(settings: Settings, routes: Iterable[Route]) -> list[Route]:
    """The routes as their intake feeds them. Raises ConfigError for a topic that no route has.

    A stream waits while the pool is full. What comes over one is acknowledged by its commit, so that its
    routes need ``live``, and those that share lanes with them.
    """
    routes = list(routes)
    by_stream = topics_by_stream(settings, routes)
    topics = [route.topic for route in routes if route.intake != "none"]
    for topic in by_stream:
        if topic not in topics:
            expected = f"one of the topics {', '.join(topics)}"
            raise ConfigError("settings", "streams.intake", topic, expected)
    acked = {r.family for r in routes if r.topic in by_stream or r.overload is Overload.SPILL}
    made = []
    for route in routes:
        if route.family in acked and LIVE not in route.sinks:
            route = replace(route, sinks=(*route.sinks, LIVE))
        made.append(replace(route, overload=Overload.BLOCK) if route.topic in by_stream else route)
    return made


def topics_by_stream(settings: Settings, routes: Iterable[Route]) -> set[str]:
    """The topics that take the way over the intake stream: as the settings say, else as their route does."""
    ways = {route.topic: route.intake for route in routes} | dict(settings.streams.intake)
    return {topic for topic, way in ways.items() if way == "stream"}


def shard_lock_of(settings: Settings, client: Redis, instance: str) -> ShardLock | None:
    """The lock of the shard of this process; None without shards."""
    if not settings.streams.shard:
        return None
    shard = Shard.parse(settings.streams.shard)
    return ShardLock(
        client,
        shard,
        scope=f"{intake_stream(settings)}:{intake_group(settings, shard)}",
        instance=instance,
        lease=settings.streams.lease,
        timeout=settings.redis.socket_timeout,
        backoff=Backoff(base=settings.retry.base, max_delay=settings.retry.max_delay),
    )


class IntakeParts:
    """Makes the sources of some routes, on the Redis of ``client``."""

    def __init__(
        self,
        settings: Settings,
        client: Redis,
        *,
        instance: str,
        clock: Clock,
        letters: Callable[[], CountedStore],
        lock: ShardLock | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._instance = instance
        self._clock = clock
        self._letters = letters
        self._lock = lock
        self._on_gap = on_gap
        self._by_name: set[str] = set()
        self._backoff = Backoff(base=settings.retry.base, max_delay=settings.retry.max_delay)

    def sources(self, routes: Sequence[Route], patterns: Sequence[str] = ()) -> list[Source]:
        """What feeds ``routes``; ``patterns`` are subscribed to as well, without a route of their own."""
        by_stream = topics_by_stream(self._settings, routes)
        routes = [route for route in routes if route.intake != "none"]
        spilling = {r.topic for r in routes if r.overload is Overload.SPILL}
        plain = [r.topic for r in routes if r.topic not in by_stream | spilling] + list(patterns)
        router = Router(routes)
        self._by_name = {route.topic for route in routes if not is_pattern(route.topic)}
        made: list[Source] = []
        if by_stream:
            made.append(self._bridge(by_stream))
            made += self._readers(router, [r for r in routes if r.topic in by_stream])
        if spilling:
            made.append(self._spill(router, spilling))
        if plain:
            made.append(self._when_ours(self._subscription(plain, "pubsub", router)))
        return made if self._lock is None else [*made, self._lock]

    def _subscription(
        self, topics: Iterable[str], name: str, router: Router | None = None
    ) -> PubSubSource:
        """Hears the topics; with ``router`` it leaves to other shards what is theirs."""
        options, known = self._settings.redis, list(dict.fromkeys(topics))
        return PubSubSource(
            lambda: sibling_client(self._client, protocol=options.protocol),
            self._client,
            channels=[topic for topic in known if not is_pattern(topic)],
            patterns=[topic for topic in known if is_pattern(topic)],
            # A pattern would bring them once more, and past the stream that they take the way over.
            elsewhere=self._by_name,
            instance=self._instance if name == "pubsub" else f"{self._instance}:{name}",
            clock=self._clock,
            canary_interval=options.canary_interval,
            canary_timeout=options.canary_timeout,
            backoff=self._backoff,
            on_gap=self._on_gap,
            # What a bridge takes over may have been taken over by others before.
            alone=name != "bridge",
            keeps=partial(self._lock.shard.keeps, router) if router and self._lock else None,
            name=name,
        )

    def _when_ours(self, source: Source) -> Source:
        """The source as a shard has it."""
        return source if self._lock is None else WhileLeader(source, self._lock)

    def _limits(self) -> BridgeLimits:
        settings = self._settings
        return BridgeLimits(timeout=settings.redis.socket_timeout, max_length=settings.streams.max_length)

    def _bridge(self, topics: Iterable[str]) -> StreamBridge:
        return StreamBridge(
            self._subscription(sorted(topics), "bridge"),
            self._client,
            intake_stream(self._settings),
            instance=self._instance,
            clock=self._clock,
            limits=self._limits(),
            backoff=self._backoff,
        )

    def _reader(
        self,
        stream: str,
        group: str,
        consumer: str,
        *,
        name: str = "",
        keeps: Callable[[str, bytes], bool] | None = None,
        siblings: Sequence[str] = (),
    ) -> StreamSource:
        return StreamSource(
            self._client,
            stream,
            group=group,
            consumer=consumer,
            letters=self._letters(),
            clock=self._clock,
            settings=self._settings.streams,
            timeout=self._settings.redis.socket_timeout,
            backoff=self._backoff,
            name=name,
            keeps=keeps,
            sole=bool(siblings),
            siblings=siblings,
        )

    def _readers(self, router: Router, routes: Sequence[Route]) -> list[Source]:
        """One group for all; with shards one per shard for routes with state, one for all the others."""
        settings, lock, stream = self._settings, self._lock, intake_stream(self._settings)
        if lock is None:
            return [self._reader(stream, intake_group(settings), self._instance)]
        shard, made = lock.shard, list[Source]()
        stateless = any(route.state_store is None for route in routes)
        groups = [intake_group(settings, each) for each in shard.siblings]
        if stateless:
            groups.append(intake_group(settings))

        def shared(topic: str) -> bool:
            route = router.match(topic)
            return stateless and (route is None or route.state_store is None)

        if stateless:
            made.append(
                self._reader(
                    stream, intake_group(settings), self._instance, keeps=lambda topic, body: shared(topic)
                )
            )
        made.append(
            WhileLeader(
                self._reader(
                    stream,
                    intake_group(settings, shard),
                    self._instance,
                    name=f"stream {stream} {shard}",
                    keeps=lambda topic, body: not shared(topic) and shard.keeps(router, topic, body),
                    siblings=groups,
                ),
                lock,
            )
        )
        return made

    def _spill(self, router: Router, topics: Iterable[str]) -> Source:
        settings, stream = self._settings, spill_stream(self._settings)
        # One name for all lives of this process, so that the next one has at once what this one leaves.
        spill = SpillSource(
            self._subscription(sorted(topics), "spill", router),
            self._reader(stream, settings.service.name, settings.service.name),
            self._client,
            instance=self._instance,
            clock=self._clock,
            limits=self._limits(),
            backoff=self._backoff,
        )
        return self._when_ours(spill)
