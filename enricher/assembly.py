"""The composition root: settings become sources, sinks and routes. Only this file knows the adapters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from redis.asyncio import Redis

from enricher.adapters.mongo import MongoDocuments, close_client, mongo_client
from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.dead_letters.retry_requests import RetryListener
from enricher.adapters.redis.pubsub import Gap
from enricher.adapters.redis.sink import RedisLive
from enricher.adapters.redis.stream.shard_lock import HeldDocuments
from enricher.adapters.retention import Retention
from enricher.build_letters import length_watch, letter_store, stores_of
from enricher.build_mail import MailParts, mail_parts
from enricher.build_settings import instance_name, kept_for, market_settings
from enricher.config import PoolSettings, Settings, WriterSettings, redact
from enricher.dead_letters.alert import AlertHook
from enricher.dead_letters.sink import DeadLetterRouter, DeadLetterSink
from enricher.dead_letters.store import LetterStore
from enricher.engine.effects import DEAD_LETTERS, DOCUMENTS
from enricher.engine.ports import Clock, Reader, Sink, Source
from enricher.engine.retry import Backoff
from enricher.engine.router import Context, Route
from enricher.engine.stats import Stats
from enricher.errors import BadMessage, ConfigError
from enricher.intake import IntakeParts, hold_of, over_streams
from enricher.mail.processor import MailHandler
from enricher.market import routes as market
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import STATE

GAPS = "feed_gaps"


@dataclass
class Parts:
    """What an engine is made of, what has to be closed after it, and lines of its own for the log."""

    routes: list[Route]
    sources: list[Source]
    sinks: list[Sink]
    reader: Reader
    pool: PoolSettings
    writer: WriterSettings
    backoff: Backoff
    drain_deadline: float
    retention: Retention
    stall_after: float
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    owns: Callable[[str], bool] | None = None
    troubles: Callable[[], Mapping[str, str]] = dict
    summaries: list[Callable[[Stats], tuple[str, Mapping[str, int]]]] = field(default_factory=list)


def market_routes(settings: Settings, troubles: dict[str, str] | None = None) -> list[Route]:
    """The routes of the market section; none when it is switched off or absent.

    ``troubles`` is where it is kept what is wrong with their topics.
    """
    section = market_settings(settings)
    return [] if section is None else market.build(section, settings.feed, troubles)


def _acknowledging(sink: Sink) -> DeadLetterSink | DeadLetterRouter:
    if not isinstance(sink, (DeadLetterSink, DeadLetterRouter)):
        expected = "a DeadLetterSink where topics come over a stream, for it acknowledges what it stores"
        raise ConfigError("sinks", DEAD_LETTERS, type(sink).__name__, expected)
    return sink


def build(
    settings: Settings,
    *,
    clock: Clock,
    routes: Sequence[Route] = (),
    sources: Sequence[Source] = (),
    sinks: Sequence[Sink] = (),
    redis: Redis | None = None,
    mongo: Any = None,
    on_gap: Callable[[Gap], None] | None = None,
    mail_handler: MailHandler | None = None,
    dead_letters: LetterStore | None = None,
    on_dead_letters: AlertHook | None = None,
) -> Parts:
    """The parts that ``settings`` describe, on the host's own clients if it hands them in.

    Call it inside the event loop they will be used in. Topics of all routes are subscribed to. ``sources``
    and ``sinks`` are added; a sink with a known name takes that one's place. ``dead_letters`` is a store of
    the program's own, ``on_dead_letters`` is called when there are too many.
    """
    closers: list[Callable[[], Awaitable[None]]] = []
    options, market_section = settings.redis, settings.routes.get("market")
    live = redis
    if live is None:
        live = redis_client(
            options.url,
            socket_timeout=options.socket_timeout,
            protocol=options.protocol,
            max_connections=options.max_connections,
            client_name=settings.service.name,
        )
        closers.append(live.aclose)
    letters = live
    if settings.dead_letters.url and settings.dead_letters.url != options.url:
        letters = redis_client(
            settings.dead_letters.url,
            socket_timeout=options.socket_timeout,
            protocol=options.protocol,
        )
        closers.append(letters.aclose)
    database = mongo
    if database is None:
        database = mongo_client(
            settings.mongo.url, driver=settings.mongo.driver, timeout=settings.mongo.timeout
        )
        owned = database

        async def close_mongo() -> None:
            await close_client(owned)

        closers.append(close_mongo)
    mail = mail_parts(
        settings,
        live=live,
        letters=letters,
        clock=clock,
        instance=instance_name(settings),
        handler=mail_handler,
        on_dead_letters=on_dead_letters,
    )
    if mail is not None:
        closers.append(mail.seen.close)
    documents = MongoDocuments(
        database,
        settings.mongo.database_name,
        (*market.indexes(settings.feed), *(mail.indexes if mail is not None else ())),
        collections=(STATE, GAPS),
        server=redact(settings.mongo.url) if mongo is None else "the host's client",
    )
    instance = instance_name(settings)
    hold = hold_of(settings, live, instance)
    known_documents = documents if hold is None else HeldDocuments(documents, documents, hold)
    redis_server = redact(options.url) if redis is None else "the host's client"
    troubles: dict[str, str] = {}
    own_routes = (*market_routes(settings, troubles), *routes)
    if dead_letters is None:
        topics_by_name = {route.name: route.topic for route in own_routes}
        store: LetterStore = letter_store(settings, letters, topics_by_name)
        letters_server = redact(settings.dead_letters.url) or redis_server
    else:
        store, letters_server = dead_letters, dead_letters.name
    set_aside = DeadLetterSink(
        store,
        watch=length_watch(settings, on_dead_letters),
        server=letters_server,
        streams=None if dead_letters is None and letters is live else live,
    )
    every: list[Sink] = [
        known_documents,
        RedisLive(
            live,
            script_messages=settings.writer.script_messages,
            script_bytes=settings.writer.script_bytes,
            server=redis_server,
            record=settings.streams.record_effects,
            record_length=settings.streams.record_length,
            fence=None if hold is None else lambda: hold.fencing,
        ),
        set_aside if mail is None else DeadLetterRouter(set_aside, {mail.route.topic: mail.letters}),
        *sinks,
    ]
    known = {sink.name: sink for sink in every}
    all_routes = over_streams(settings, own_routes)
    patterns: tuple[str, ...] = ()
    if isinstance(market_section, MarketSettings) and market_section.enabled:
        patterns = market_section.channels.patterns
    intake = IntakeParts(
        settings,
        live,
        instance=instance,
        clock=clock,
        letters=lambda: _acknowledging(known[DEAD_LETTERS]),
        hold=hold,
        on_gap=on_gap,
    )
    listening: list[Source] = [*sources, *intake.sources(all_routes, patterns)]
    kept = stores_of(known[DEAD_LETTERS])
    if kept and (all_routes or patterns or mail is not None):
        listening.append(RetryListener(live, *kept, service=settings.service.name, clock=clock))
    if mail is not None:
        # The pool's own bound then is that of mails, which are longer.
        all_routes = [_no_longer(route, settings.pool.max_message_bytes) for route in all_routes]
        all_routes.append(mail.route)
        listening.append(mail.source)
    return Parts(
        routes=all_routes,
        sources=listening,
        sinks=list(known.values()),
        reader=known_documents,
        pool=_pool_limits(settings, mail),
        writer=settings.writer,
        backoff=Backoff(base=settings.retry.base, max_delay=settings.retry.cap),
        drain_deadline=settings.service.drain_deadline,
        # A host's own store of documents keeps them as long as it likes.
        retention=Retention(documents, kept_for(settings) if known[DOCUMENTS] is known_documents else {}),
        stall_after=settings.service.stall_after,
        closers=closers,
        owns=None if hold is None else hold.shard.owns,
        troubles=lambda: troubles,
        summaries=[] if mail is None else [mail.summary],
    )


def _no_longer(route: Route, limit: int) -> Route:
    """The route with messages of more than ``limit`` bytes refused before they are decoded."""
    decode = route.decode

    def within(body: bytes, context: Context) -> Any:
        if len(body) > limit:
            raise BadMessage("$", f"at most {limit} bytes", f"{len(body)} bytes")
        return decode(body, context)

    return replace(route, decode=within)


def _pool_limits(settings: Settings, mail: MailParts | None) -> PoolSettings:
    pool = settings.pool
    if mail is None:
        return pool
    # Mails are longer than messages of a feed, and one bound serves all.
    longest = min(max(pool.max_message_bytes, mail.max_message_bytes), pool.max_bytes)
    return msgspec.structs.replace(pool, max_message_bytes=longest)


