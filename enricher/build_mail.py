"""The mail's part of the composition root: its stream, its dead letters and its route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis

from enricher.adapters.mongo import Index
from enricher.adapters.redis.claims import Idempotency
from enricher.adapters.redis.dead_letters.stream_store import StreamLetterStore
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.stream.entry import whole
from enricher.adapters.redis.stream.leases import StreamLimits
from enricher.adapters.redis.stream.source import StreamSource
from enricher.build_letters import length_watch
from enricher.build_settings import letter_topics, mail_settings
from enricher.config import Settings, redact
from enricher.config.provenance import SOMEWHERE
from enricher.dead_letters.alert import AlertHook
from enricher.dead_letters.sink import DeadLetterSink
from enricher.engine.ports import Clock
from enricher.engine.retry import Backoff
from enricher.engine.router import Route
from enricher.engine.stats import Stats
from enricher.errors import ConfigError
from enricher.mail import routes
from enricher.mail.dead_letters import letter_fields
from enricher.mail.processor import MailHandler, load_handler, takes_mail
from enricher.mail.settings import TASK, MailSettings


@dataclass(frozen=True)
class MailParts:
    """What the mail route adds to an engine."""

    route: Route
    source: StreamSource
    letters: DeadLetterSink
    indexes: tuple[Index, ...]
    max_message_bytes: int
    seen: Idempotency

    def summary(self, stats: Stats) -> tuple[str, Mapping[str, int]]:
        """The line of statistics since the start, and its counts."""
        figures = routes.statistics(stats.topic(self.route.topic).counts)
        return routes.statistics_line(figures), figures


def refuse_shared_keys(settings: Settings, mail: MailSettings) -> None:
    """Raise `ConfigError` if the dead letters of other routes would go where mails or theirs are."""
    letters = settings.dead_letters
    if letters.key == mail.stream and letters.url in ("", settings.redis.url):
        raise ConfigError(SOMEWHERE, "dead_letters.key", letters.key, "a key of its own, not mail.stream")
    if letters.key == mail.dead_letters and letters.store == "list":
        right = "a stream of its own, not dead_letters.key, which is a list"
        raise ConfigError(SOMEWHERE, "mail.dead_letters", mail.dead_letters, right)


def mail_parts(
    settings: Settings,
    *,
    live: Redis,
    letters: Redis,
    clock: Clock,
    instance: str,
    handler: MailHandler | None = None,
    on_dead_letters: AlertHook | None = None,
) -> MailParts | None:
    """The parts of the mail route; None when it is switched off.

    ``live`` is the Redis of stream and claims, ``letters`` that of the dead letters. ``handler`` wins over
    the one that the settings name. Connects to nothing. Raises `ConfigError` if that cannot be loaded.
    """
    mail = mail_settings(settings)
    if mail is None:
        return None
    refuse_shared_keys(settings, mail)
    if handler is None and mail.handler:
        handler = load_handler(mail.handler)
    if handler is not None and not takes_mail(handler):
        right = "a function of a mail, or of a mail and a context"
        raise ConfigError("arguments", "mail_handler", handler, right)
    timeout = settings.redis.socket_timeout
    seen = Idempotency(
        live,
        ttl=mail.claim_ttl,
        clock=lambda: clock() / 1e6,
        connection=RawConnection(live, timeout=timeout),
    )
    route = routes.mail_route(mail, seen=seen, clock=clock, handler=handler)
    set_aside = DeadLetterSink(
        StreamLetterStore(
            letters,
            mail.dead_letters,
            letter_topics(settings, mail.dead_letters),
            more=letter_fields,
            max_length=settings.dead_letters.max_length,
            guard_ttl=settings.dead_letters.guard_ttl,
        ),
        watch=length_watch(settings, on_dead_letters),
        server=redact(settings.dead_letters.url or settings.redis.url),
        streams=None if letters is live else live,
    )
    source = StreamSource(
        live,
        mail.stream,
        group=mail.group,
        consumer=mail.consumer or instance,
        letters=set_aside,
        clock=clock,
        task_name=TASK,
        # All fields as one JSON object: what a dead letter shows, and what `submit` takes too.
        read_entry=whole,
        limits=StreamLimits(
            batch=mail.batch,
            block=mail.block,
            prefetch=max(mail.prefetch, mail.batch),
            lease=mail.lease,
            max_deliveries=mail.max_deliveries,
            timeout=timeout,
            trim=mail.keep > 0,
            keep=mail.keep,
        ),
        backoff=Backoff(base=settings.retry.base, max_delay=settings.retry.cap),
    )
    return MailParts(route, source, set_aside, routes.indexes(mail), mail.max_message_bytes, seen)
