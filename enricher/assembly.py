"""Settings and systems become the running parts of an engine. Only this file and the intake know adapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from enricher.adapters.mongo import MongoDocuments
from enricher.adapters.mongo_retention import Retention
from enricher.adapters.redis.dead_letters.configured import letter_store
from enricher.adapters.redis.dead_letters.retry_requests import RetryListener
from enricher.adapters.redis.pubsub import Gap
from enricher.adapters.redis.run_store import RedisRunStore
from enricher.adapters.redis.sink import RedisLive
from enricher.adapters.redis.stream.shard_lock import FencedDocuments, ShardLock
from enricher.config import Settings, redact
from enricher.connections import NOTHING, OF_PROGRAM, Connections
from enricher.dead_letters.runs import LetterRun
from enricher.dead_letters.sink import DeadLetterSink
from enricher.dead_letters.store import LetterStore
from enricher.engine.effects import DEAD_LETTERS, DOCUMENTS, SEARCH
from enricher.engine.ports import Sink, Source
from enricher.engine.router import Route
from enricher.engine.service import Engine
from enricher.errors import ConfigError, WrongSetting
from enricher.feed_gaps import GAPS, record_gap
from enricher.intake import Intake, over_streams, shard_lock_of
from enricher.options import Options
from enricher.stream_groups import StreamReading
from enricher.system import Pages, Plan, System, plans
from enricher.systems import SYSTEMS
from enricher.web import listening
from enricher.worker_figures import Summary

if TYPE_CHECKING:
    from enricher.tracing import Tracing


@dataclass(frozen=True)
class Parts:
    """An engine, what goes on beside it, lines of its systems for the log, and what is closed after it.

    ``stores`` says that it needs MongoDB; else that is connected to once an effect for it is emitted.
    ``listeners`` are bound before the engine begins. ``app`` makes the ASGI app of all pages.
    """

    engine: Engine
    stores: bool
    retention: Retention
    summaries: Sequence[Summary]
    listeners: Sequence[listening.Listener]
    closers: Sequence[Callable[[], Awaitable[None]]]
    app: Callable[[], Any]

    async def close(self) -> None:
        """Close every client that is not the program's own, the last first, whatever another raises."""
        with anyio.CancelScope(shield=True):
            async with AsyncExitStack() as closing:
                for close in self.closers:
                    closing.push_async_callback(close)


def systems_of(options: Options = NOTHING) -> list[System]:
    """The shipped systems and the program's own; one of the same name takes a shipped one's place."""
    return list({system.name: system for system in (*SYSTEMS, *options.get("systems", ()))}.values())


def with_sections(settings: Settings, systems: Iterable[System]) -> Settings:
    """The settings with the sections of a program's own systems, at their defaults where they are not set."""
    missing = {system.name: system.section() for system in systems if system.name not in settings.routes}
    return msgspec.structs.replace(settings, routes={**settings.routes, **missing}) if missing else settings


def planned(settings: Settings, options: Options = NOTHING) -> list[Plan]:
    """What the systems that are switched on add; connects to nothing. Call it inside an event loop."""
    return plans(systems_of(options), Connections(settings, options))


def stores_documents(routes: Iterable[Route], made: Iterable[Plan]) -> bool:
    """Whether MongoDB is needed.

    It is for what routes write and restore, for the collections of systems, and for what a subscription has
    missed.
    """
    return any(
        DOCUMENTS in route.sinks or route.state_store is not None or route.intake != "none"
        for route in routes
    ) or any(plan.collections or plan.indexes or plan.patterns for plan in made)


def build(settings: Settings, options: Options = NOTHING, *, listens: bool = True) -> Parts:
    """The parts that settings, systems and options describe.

    With ``listens`` off only what is handed in goes through the routes. Call it inside the event loop they
    will be used in. It connects to nothing. Raises `ConfigError`.
    """

    def on_gap(gap: Gap) -> None:
        record_gap(engine, gap, host.instance)

    settings = with_sections(settings, options.get("systems", ()))
    host = Connections(settings, options)
    made = plans(systems_of(options), host)
    lock = shard_lock_of(host)
    own = [route for plan in made for route in plan.routes]
    routes = over_streams(settings, [*own, *options.get("routes", ())])
    stores = stores_documents(routes, made)
    documents = _documents(host, made, [GAPS] if stores else [])
    reader = documents if lock is None else FencedDocuments(documents, documents, lock)
    core = [reader, _live_sink(host, lock), _dead_letter_sink(host, made, routes), *_search_sink(host, made)]
    sinks = _distinct(core, made)
    known: dict[str, Sink] = {sink.name: sink for sink in (*sinks, *options.get("sinks", ()))}
    _check_search(settings, routes, known)
    sources = _sources(host, made, routes, known[DEAD_LETTERS], lock, on_gap) if listens else []
    service = settings.service

    async def read(key: str) -> bytes | None:
        return (await host.cached(key))[0]

    runs = RedisRunStore(host.redis, f"{settings.dead_letters.key}:retries", LetterRun, DEAD_LETTERS)
    streams = StreamReading(host.redis, settings, routes, made)
    # A request is compared with one page after the other: those that programs ask for come first.
    pages: list[Pages] = [
        *(plan.pages for plan in made),
        lambda: listening.operations(settings, engine, made)(),
        cache(
            lambda: listening.dashboard(
                settings, engine, made, read, _letter_stores(known), runs, streams
            )()
        ),
    ]
    listeners = (
        listening.listeners(settings.web, pages, made, lambda: engine.stopping) if listens else []
    )
    engine = Engine(
        routes,
        sources,
        list(known.values()),
        clock=host.clock,
        reader=reader,
        clients=options.get("clients"),
        pool=settings.pool,
        writer=settings.writer,
        backoff=host.backoff,
        drain_deadline=service.drain_deadline,
        stall_after=service.stall_after,
        slow_handler=settings.log.slow_handler,
        owns=None if lock is None else lock.shard.owns,
        tracing=_tracing(settings),
        troubles=lambda: {topic: why for plan in made for topic, why in plan.troubles.items()},
        services=[
            *(service for plan in made for service in plan.services.items()),
            *((each.name, each.serve) for each in listeners),
        ],
    )
    host.engine, host.reader = engine, reader
    host.letters = _letter_stores(known)[:1]
    # A program's own store of documents keeps them as long as it likes.
    kept = settings.kept() if stores and known[DOCUMENTS] is reader else {}
    summaries = [plan.summary for plan in made if plan.summary is not None]
    app = partial(listening.app_of, pages, lambda: engine.stopping)
    return Parts(engine, stores, Retention(documents, kept), summaries, listeners, host.closers, app)


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.trace.enabled:
        return None
    try:
        from enricher.tracing import Tracing
    except ModuleNotFoundError as error:
        expected = "false, or OpenTelemetry to be installed for it: pip install 'enricher[otel]'"
        raise WrongSetting("trace.enabled", value=True, expected=expected) from error
    return Tracing()


def _documents(host: Connections, made: Sequence[Plan], more: Sequence[str]) -> MongoDocuments:
    """The documents, whose server is asked for nothing before the first write if there is nothing to make."""
    settings = host.settings.mongo
    return MongoDocuments(
        host.mongo(),
        settings.database_name,
        [index for plan in made for index in plan.indexes],
        collections=[*(name for plan in made for name in plan.collections), *more],
        server=redact(settings.url) if host.options.get("mongo") is None else OF_PROGRAM,
        slow=host.slow_commands if host.options.get("mongo") is None else None,
    )


def _live_sink(host: Connections, lock: ShardLock | None) -> Sink:
    writer, streams = host.settings.writer, host.settings.streams
    return RedisLive(
        host.redis,
        script_messages=writer.script_messages,
        script_bytes=writer.script_bytes,
        server=host.redis_server,
        record=streams.record_effects,
        record_length=streams.record_length,
        fence=None if lock is None else lambda: lock.fencing,
    )


def _search_sink(host: Connections, made: Sequence[Plan]) -> list[Sink]:
    indices = {name: body for plan in made for name, body in plan.search_indices.items()}
    return [host.search(indices)] if host.settings.search.is_on() else []


def _check_search(settings: Settings, routes: Sequence[Route], sinks: Container[str]) -> None:
    searched = [route.topic for route in routes if SEARCH in route.sinks]
    if searched and SEARCH not in sinks:
        expected = f"the address of a search server, for {', '.join(searched)} is indexed there"
        raise WrongSetting("search.url", settings.search.url, expected)


def _dead_letter_sink(host: Connections, made: Sequence[Plan], routes: Sequence[Route]) -> Sink:
    """The common store of dead letters, beside those that systems have for topics of theirs."""
    own = {topic: sink for plan in made for topic, sink in plan.dead_letters.items()}
    section, store = host.settings.dead_letters, host.options.get("dead_letters")
    if store is not None:
        return host.dead_letter_sink(store, store.name, acknowledges=False, others=own)
    topics = {route.name: route.topic for route in routes if route.topic not in own}
    client = host.dead_letter_redis
    return host.dead_letter_sink(
        letter_store(section, client, topics),
        redact(section.url) or host.redis_server,
        acknowledges=client is host.redis,
        others=own,
    )


def _letter_stores(sinks: Mapping[str, Sink]) -> Sequence[LetterStore]:
    sink = sinks[DEAD_LETTERS]
    return sink.stores if isinstance(sink, DeadLetterSink) else ()


def _distinct(sinks: Sequence[Sink], made: Sequence[Plan]) -> list[Sink]:
    """The sinks and those of the plans; a program may replace one by its name, a system may not."""
    all_of_them = [*sinks, *(sink for plan in made for sink in plan.sinks)]
    names = Counter(sink.name for sink in all_of_them)
    for sink in all_of_them:
        if names[sink.name] > 1:
            raise ConfigError("plan", "sinks", sink.name, "a name that no other sink has")
    return all_of_them


def _sources(
    host: Connections,
    made: Sequence[Plan],
    routes: Sequence[Route],
    dead_letters: Sink,
    lock: ShardLock | None,
    on_gap: Callable[[Gap], None],
) -> list[Source]:
    patterns = [pattern for plan in made for pattern in plan.patterns]
    intake = Intake(host, routes, patterns, lambda: _acknowledging(dead_letters), lock, on_gap)
    sources = [*host.options.get("sources", ()), *intake.sources()]
    stores = dead_letters.stores if isinstance(dead_letters, DeadLetterSink) else ()
    if stores and (routes or patterns):
        service = host.settings.service.name
        sources.append(RetryListener(host.redis, *stores, service=service, clock=host.clock))
    return [*sources, *(source for plan in made for source in plan.sources)]


def _acknowledging(sink: Sink) -> DeadLetterSink:
    if not isinstance(sink, DeadLetterSink):
        expected = "a DeadLetterSink where topics come over a stream, for it acknowledges what it stores"
        raise ConfigError("sinks", DEAD_LETTERS, type(sink).__name__, expected)
    return sink
