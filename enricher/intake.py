"""Where the messages of a topic come from: pub/sub, a stream, or both, and those of this shard alone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from enricher.adapters.redis.client import sibling_client
from enricher.adapters.redis.pubsub import Gap, PubSubSource
from enricher.adapters.redis.stream.appender import BridgeLimits
from enricher.adapters.redis.stream.bridge import StreamBridge
from enricher.adapters.redis.stream.shard_lock import ShardLock, WhileLeader
from enricher.adapters.redis.stream.shards import Shard
from enricher.adapters.redis.stream.source import StreamSource
from enricher.adapters.redis.stream.spill import SpillSource
from enricher.config import Settings
from enricher.connections import Connections
from enricher.dead_letters.sink import DeadLetterSink
from enricher.engine.effects import LIVE
from enricher.engine.ports import Source
from enricher.engine.router import Overload, Route, Router, is_pattern
from enricher.errors import WrongSetting


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
            raise WrongSetting("streams.intake", topic, expected)
    acked = {r.lane_group for r in routes if r.topic in by_stream or r.overload is Overload.SPILL}
    made = []
    for route in routes:
        if route.lane_group in acked and LIVE not in route.sinks:
            route = replace(route, sinks=(*route.sinks, LIVE))
        made.append(replace(route, overload=Overload.BLOCK) if route.topic in by_stream else route)
    return made


def topics_by_stream(settings: Settings, routes: Iterable[Route]) -> set[str]:
    """The topics that take the way over the intake stream: as the settings say, else as their route does."""
    ways = {route.topic: route.intake for route in routes} | dict(settings.streams.intake)
    return {topic for topic, way in ways.items() if way == "stream"}


def shard_lock_of(host: Connections) -> ShardLock | None:
    """The lock of the shard of this process; None without shards."""
    settings = host.settings
    if not settings.streams.shard:
        return None
    shard = Shard.parse(settings.streams.shard)
    return ShardLock(
        host.redis,
        shard,
        scope=f"{intake_stream(settings)}:{intake_group(settings, shard)}",
        instance=host.instance,
        lease=settings.streams.lease,
        timeout=settings.redis.socket_timeout,
        backoff=host.backoff,
    )


class Intake:
    """What feeds ``routes``; ``patterns`` are subscribed to as well, without a route of their own.

    ``dead_letters`` gives the store of what comes over a stream, ``on_gap`` hears what was missed.
    """

    def __init__(
        self,
        host: Connections,
        routes: Iterable[Route],
        patterns: Iterable[str],
        dead_letters: Callable[[], DeadLetterSink],
        lock: ShardLock | None,
        on_gap: Callable[[Gap], None],
    ) -> None:
        self._host = host
        self._settings = host.settings
        self._routes = [route for route in routes if route.intake != "none"]
        self._router = Router(self._routes)
        self._patterns = list(patterns)
        self._dead_letters = dead_letters
        self._lock = lock
        self._on_gap = on_gap

    def sources(self) -> list[Source]:
        """The sources, and the lock of the shard, which must be held."""
        by_stream = topics_by_stream(self._settings, self._routes)
        spilling = {route.topic for route in self._routes if route.overload is Overload.SPILL}
        plain = [route.topic for route in self._routes if route.topic not in by_stream | spilling]
        made: list[Source] = []
        if by_stream:
            made.append(self._bridge(by_stream))
            made += self._readers([route for route in self._routes if route.topic in by_stream])
        if spilling:
            made.append(self._spill(spilling))
        if plain or self._patterns:
            made.append(self._when_ours(self._subscription([*plain, *self._patterns], "pubsub")))
        return made if self._lock is None else [*made, self._lock]

    def _subscription(self, topics: Iterable[str], name: str) -> PubSubSource:
        """Hears the topics. What is not bridged is left to other shards where it is theirs."""
        host, options, known = self._host, self._settings.redis, list(dict.fromkeys(topics))
        bridge = name == "bridge"
        return PubSubSource(
            lambda: sibling_client(host.redis, protocol=options.protocol),
            host.redis,
            channels=[topic for topic in known if not is_pattern(topic)],
            patterns=[topic for topic in known if is_pattern(topic)],
            # A pattern would bring them once more, and past the stream that they take the way over.
            elsewhere={route.topic for route in self._routes if not is_pattern(route.topic)},
            instance=host.instance if name == "pubsub" else f"{host.instance}:{name}",
            clock=host.clock,
            canary_interval=options.canary_interval,
            canary_timeout=options.canary_timeout,
            backoff=host.backoff,
            on_gap=self._on_gap,
            # What a bridge takes over may have been taken over by others before.
            alone=not bridge,
            keeps=partial(self._lock.shard.keeps, self._router) if self._lock and not bridge else None,
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
            self._host.redis,
            intake_stream(self._settings),
            instance=self._host.instance,
            clock=self._host.clock,
            limits=self._limits(),
            backoff=self._host.backoff,
        )

    def _reader(
        self,
        stream: str,
        group: str,
        *,
        consumer: str = "",
        name: str = "",
        keeps: Callable[[str, bytes], bool] | None = None,
        siblings: Sequence[str] = (),
    ) -> StreamSource:
        return StreamSource(
            self._host.redis,
            stream,
            group=group,
            consumer=consumer or self._host.instance,
            dead_letters=self._dead_letters(),
            clock=self._host.clock,
            settings=self._settings.streams,
            timeout=self._settings.redis.socket_timeout,
            backoff=self._host.backoff,
            name=name,
            keeps=keeps,
            sole=bool(siblings),
            siblings=siblings,
        )

    def _readers(self, routes: Sequence[Route]) -> list[Source]:
        """One group for all; with shards one per shard for routes with state, one for all the others."""
        settings, lock, stream = self._settings, self._lock, intake_stream(self._settings)
        if lock is None:
            return [self._reader(stream, intake_group(settings))]
        shard = lock.shard
        stateless = any(route.state_store is None for route in routes)

        def shared(topic: str, body: bytes) -> bool:
            route = self._router.match(topic)
            return stateless and (route is None or route.state_store is None)

        def ours(topic: str, body: bytes) -> bool:
            return not shared(topic, body) and shard.keeps(self._router, topic, body)

        of_all = [intake_group(settings)] if stateless else []
        own = self._reader(
            stream,
            intake_group(settings, shard),
            name=f"stream {stream} {shard}",
            keeps=ours,
            siblings=[*(intake_group(settings, each) for each in shard.siblings), *of_all],
        )
        return [*(self._reader(stream, group, keeps=shared) for group in of_all), self._when_ours(own)]

    def _spill(self, topics: Iterable[str]) -> Source:
        settings, stream = self._settings, spill_stream(self._settings)
        # One name for all lives of this process, so that the next one has at once what this one leaves.
        spill = SpillSource(
            self._subscription(sorted(topics), "spill"),
            self._reader(stream, settings.service.name, consumer=settings.service.name),
            self._host.redis,
            instance=self._host.instance,
            clock=self._host.clock,
            limits=self._limits(),
            backoff=self._host.backoff,
        )
        return self._when_ours(spill)
