"""What a system is given on real servers, and the clients that the rest of the assembly works with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.adapters.mongo import close_client, mongo_client
from enricher.adapters.mongo_slow import SlowCommands
from enricher.adapters.redis.claims import Idempotency
from enricher.adapters.redis.client import redis_client, unavailable
from enricher.adapters.redis.dead_letters.stream_store import StreamLetterStore
from enricher.adapters.redis.jobs.queues import RedisJobQueues
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.stream.entry import whole
from enricher.adapters.redis.stream.source import StreamSource
from enricher.adapters.search import SearchIndices, read_indices, search_client
from enricher.clock import wall_clock
from enricher.config import Settings, StreamSettings, redact
from enricher.dead_letters.alert import DepthAlarm, log_alert
from enricher.dead_letters.filters import FieldFilter, LetterFilter
from enricher.dead_letters.sink import NO_OTHERS, DeadLetterSink
from enricher.dead_letters.store import LetterStore, matching
from enricher.engine.effects import LIVE, DeadLetter, Effect
from enricher.engine.ports import Reader, Source
from enricher.engine.retry import Backoff
from enricher.engine.service import Engine
from enricher.engine.stats import Stats
from enricher.job_store import JobQueues, JobQueueSettings
from enricher.log import log
from enricher.options import Options

NOTHING: Options = {}
OF_PROGRAM = "the host's client"


class Connections:
    """The clients, and what systems are given (`enricher.system.Host`). Nothing is connected to yet.

    ``redis`` is the client of streams, caches, channels and claims, ``redis_server`` names its server for
    people to read; ``closers`` close the clients that are not the program's own. ``engine``,
    ``reader`` and ``letters`` are set by whoever builds the engine.
    """

    def __init__(self, settings: Settings, options: Options = NOTHING) -> None:
        self.settings = settings
        self.options = options
        self.instance = settings.instance
        self.clock = options.get("clock", wall_clock)
        self.engine: Engine
        self.reader: Reader
        self.letters: Sequence[LetterStore] = ()
        self.closers: list[Callable[[], Awaitable[None]]] = []
        self.slow_commands = SlowCommands()
        given = options.get("redis")
        self.redis = self._redis(settings.redis.url) if given is None else given
        self.redis_server = redact(settings.redis.url) if given is None else OF_PROGRAM
        apart = settings.dead_letters.url not in ("", settings.redis.url)
        self.dead_letter_redis = self._redis(settings.dead_letters.url) if apart else self.redis
        self.backoff = Backoff(base=settings.retry.base, max_delay=settings.retry.max_delay)

    def _redis(self, url: str) -> Redis:
        options = self.settings.redis
        client = redis_client(
            url,
            socket_timeout=options.socket_timeout,
            protocol=options.protocol,
            max_connections=options.max_connections,
            client_name=self.settings.service.name,
        )
        self.closers.append(client.aclose)
        return client

    def mongo(self) -> Any:
        """The program's own client of MongoDB, else a new one."""
        client = self.options.get("mongo")
        if client is None:
            settings = self.settings.mongo
            client = mongo_client(
                settings.url,
                driver=settings.driver,
                timeout=settings.timeout,
                slow=self.slow_commands,
            )
            self.closers.append(partial(close_client, client))
        return client

    def search(self, indices: Mapping[str, Mapping[str, Any]]) -> SearchIndices:
        """The sink of the search server, which makes these ``indices`` and those of the settings."""
        settings = self.settings.search
        client = search_client(settings)
        self.closers.append(client.close)
        return SearchIndices(
            client,
            {**indices, **read_indices(settings.indices)},
            timeout=settings.timeout,
            max_bulk=settings.max_bulk,
            server=redact(settings.url),
        )

    def dead_letter_sink(
        self,
        store: LetterStore,
        server: str,
        *,
        acknowledges: bool,
        others: Mapping[str, DeadLetterSink] = NO_OTHERS,
    ) -> DeadLetterSink:
        """The sink of ``store``; ``acknowledges`` says that the store does so itself, in one script."""
        hook = self.options.get("on_dead_letters") or log_alert
        watch = DepthAlarm(self.settings.dead_letters.alert_above, hook)
        streams = None if acknowledges else self.redis
        return DeadLetterSink(store, watch=watch, server=server, streams=streams, others=others)

    # -- what a system may ask for -----------------------------------------------------------------

    @property
    def stats(self) -> Stats:
        return self.engine.stats

    @property
    def outages(self) -> Mapping[str, str]:
        return self.engine.writer.outages

    def health(self) -> Mapping[str, Any]:
        return self.engine.health()

    def emit(self, *effects: Effect) -> None:
        self.engine.emit(*effects)

    def stop(self) -> None:
        if not self.engine.stopping:
            log.info("asked_to_stop")
            self.engine.stopping = True
            self._stop = asyncio.create_task(self.engine.stop(), name="stop")

    async def cached(self, *keys: str) -> list[bytes | None]:
        try:
            async with asyncio.timeout(self.settings.redis.socket_timeout):
                values: list[bytes | None] = list(await self.redis.mget(keys))  # type: ignore[arg-type]
                return values
        except (RedisError, OSError) as error:
            away = unavailable(LIVE, error)
            if away is None:
                raise
            raise away from error

    async def drop_dead_letters(self, topic: str, field: str, value: str) -> int:
        wanted = LetterFilter(topic=topic, fields=(FieldFilter(field, value),))
        dropped = 0
        for store in self.letters:
            for letter in [each async for each in matching(store.letters(), wanted, None)]:
                dropped += await store.remove(letter)
        return dropped

    async def commit(self, topic: str, body: bytes, *effects: Effect) -> None:
        await self.engine.commit(topic, body, *effects)

    def stream(
        self,
        name: str,
        *,
        group: str,
        consumer: str,
        task: str,
        settings: StreamSettings,
        dead_letters: DeadLetterSink | None = None,
        trim: bool = True,
    ) -> Source:
        return StreamSource(
            self.redis,
            name,
            group=group,
            consumer=consumer,
            dead_letters=dead_letters,
            clock=self.clock,
            task_name=task,
            # All fields as one JSON object: what a dead letter shows, and what `submit` takes too.
            read_entry=whole,
            settings=settings,
            timeout=self.settings.redis.socket_timeout,
            trim=trim,
            backoff=self.backoff,
        )

    def claims(self, ttl: int) -> Idempotency:
        connection = RawConnection(self.redis, timeout=self.settings.redis.socket_timeout)
        claims = Idempotency(
            self.redis, ttl=ttl, clock=lambda: self.clock() / 1e6, connection=connection
        )
        self.closers.append(claims.close)
        return claims

    def dead_letter_stream(
        self,
        key: str,
        *,
        topics: Mapping[str, str],
        fields: Callable[[DeadLetter], dict[bytes, bytes]],
    ) -> DeadLetterSink:
        section, client = self.settings.dead_letters, self.dead_letter_redis
        store = StreamLetterStore(
            client, key, topics, more=fields, max_length=section.max_length, guard_ttl=section.guard_ttl
        )
        server = redact(section.url or self.settings.redis.url)
        return self.dead_letter_sink(store, server, acknowledges=client is self.redis)

    def job_queues(self, settings: JobQueueSettings) -> JobQueues:
        client = self._own(settings.url)
        shared = settings.results_url in ("", settings.url)
        results = client if shared else self._own(settings.results_url)
        return RedisJobQueues(
            settings, client, results, worker=self.instance, clock=self.clock, backoff=self.backoff
        )

    def _own(self, url: str) -> Redis:
        """The client of a server that may be that of streams and caches."""
        return self.redis if url in ("", self.settings.redis.url) else self._redis(url)
