"""What the mail adds to an enricher: one route, fed by a stream of its own, with dead letters of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from enricher.config import Settings, StreamSettings
from enricher.dead_letters.record import iso
from enricher.engine.claims import Claims
from enricher.engine.effects import DeadLetter
from enricher.engine.ports import Clock
from enricher.engine.router import Route
from enricher.engine.stats import Stats
from enricher.errors import BadMessage, ConfigError, WrongSetting
from enricher.mail.attempts import mail_policy
from enricher.mail.entries import identity_of, read_entry
from enricher.mail.processor import MailHandler, Processor, load_handler, takes_mail
from enricher.mail.settings import TASK, MailSettings
from enricher.system import Host, Plan, StreamUse, code_of


def plan(mail: MailSettings, host: Host) -> Plan:
    """The mail route with its source and its dead letters.

    Raises `ConfigError` if the handler cannot be used, or if other dead letters would go to the same key.
    """
    settings = host.settings
    refuse_shared_keys(settings, mail)
    claims = host.claims(mail.claim_ttl)
    dead_letters = host.dead_letter_stream(
        mail.dead_letters, topics=mail.dead_letter_topics(mail.dead_letters), fields=letter_fields
    )
    route = mail_route(mail, seen=claims, clock=host.clock, handler=handler_of(mail, host))
    source = host.stream(
        mail.stream,
        group=mail.group,
        consumer=mail.consumer or host.instance,
        task=TASK,
        dead_letters=dead_letters,
        settings=StreamSettings(
            batch=mail.batch,
            block=mail.block,
            prefetch=max(mail.prefetch, mail.batch),
            lease=mail.lease,
            max_deliveries=mail.max_deliveries,
            retention=mail.retention,
        ),
        trim=mail.retention > 0,
    )

    def summary(stats: Stats) -> tuple[str, Mapping[str, int]]:
        figures = statistics(stats.topic(route.topic).counts)
        return statistics_line(figures), figures

    note = (
        f"A repeated mail is recognised for {mail.claim_ttl} s (mail.claim_ttl); its dead letters are on "
        f"stream {mail.dead_letters}."
    )
    return Plan(
        routes=[route],
        views=lambda: code_of("enricher.mail.web.views:MailScreens")(mail, host).views(),
        sources=[source],
        indexes=indexes(mail),
        dead_letters={route.topic: dead_letters},
        streams=[StreamUse(mail.stream, mail.group, mail.dead_letters)],
        warnings=lambda: warnings(mail, settings),
        notes=[note],
        summary=summary,
    )


def handler_of(mail: MailSettings, host: Host) -> MailHandler | None:
    """The program's own handler, else the one that the settings name, if any. Raises `ConfigError`."""
    handler = host.options.get("mail_handler")
    if handler is None:
        return load_handler(mail.handler) if mail.handler else None
    if not takes_mail(handler):
        right = "a function of a mail, or of a mail and a context"
        raise ConfigError("arguments", "mail_handler", handler, right)
    return handler


def refuse_shared_keys(settings: Settings, mail: MailSettings) -> None:
    """Raise `ConfigError` if the dead letters of other routes would go where mails or theirs are."""
    common = settings.dead_letters
    if common.key == mail.stream and common.url in ("", settings.redis.url):
        raise WrongSetting("dead_letters.key", common.key, "a key of its own, not mail.stream")
    if common.key == mail.dead_letters and common.store == "list":
        right = "a stream of its own, not dead_letters.key, which is a list"
        raise WrongSetting("mail.dead_letters", mail.dead_letters, right)


def warnings(mail: MailSettings, settings: Settings) -> Iterator[str]:
    """What is allowed but will probably be regretted, one sentence each."""
    if mail.claim_ttl < mail.retention:
        yield (
            f"mail.claim_ttl {mail.claim_ttl} s is shorter than mail.retention {mail.retention:g} s: a mail "
            "read again from the stream's beginning would be processed again"
        )
    why = "a repeated mail is recognised so long (mail.claim_ttl)"
    yield from settings.retention.short("emails", float(mail.claim_ttl), why)


def indexes(settings: MailSettings) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    """The indexes of the collection: by date, conversation, sender and recipient."""
    return tuple(
        (settings.collection, keys)
        for keys in (
            (("date", -1),),
            (("thread", 1), ("date", 1)),
            (("from.address", 1), ("date", -1)),
            (("to.address", 1), ("date", -1)),
            (("processed_at", -1),),
        )
    )


def mail_route(
    settings: MailSettings, *, seen: Claims, clock: Clock, handler: MailHandler | None
) -> Route:
    """The route of the stream's mails: one lane per mail, so that none is begun twice at a time."""
    return Route(
        topic=settings.stream,
        handler=Processor(
            seen,
            collection=settings.collection,
            clock=clock,
            handler=handler,
            timeout=settings.timeout or None,
            threads=settings.concurrency,
            lease=settings.lease,
        ),
        decode=read_entry,
        key=identity_of,
        retry=mail_policy(
            settings.initial_backoff, settings.max_backoff, settings.max_retries, settings.jitter
        ),
        max_concurrency=settings.concurrency,
        name=TASK,
        events=("processed_email", "email_already_processed"),
        intake="none",
        max_bytes=settings.max_message_bytes,
    )


def statistics(counts: Mapping[str, int]) -> dict[str, int]:
    """What became of the mails, from the route's counters.

    ``total`` are the mails that are finished with: processed, skipped (processed before) or failed for good,
    which are in the dead letters unless that store refused them. ``retried`` counts attempts.
    """
    dlq = counts.get("dead", 0)
    failed = dlq + counts.get("lost", 0)
    processed, skipped = counts.get("processed", 0), counts.get("duplicate", 0)
    return {
        "total": processed + skipped + failed,
        "processed": processed,
        "skipped": skipped,
        "failed": failed,
        "dlq": dlq,
        "retried": counts.get("retried", 0),
    }


def statistics_line(figures: Mapping[str, int]) -> str:
    """The line that the log's readers look for.

    >>> statistics_line({"total": 1000, "processed": 950, "skipped": 45, "failed": 5, "dlq": 5})
    'Worker Stats - Total: 1000, Processed: 950, Skipped: 45, Failed: 5, DLQ: 5'
    """
    return (
        f"Worker Stats - Total: {figures['total']}, Processed: {figures['processed']}, "
        f"Skipped: {figures['skipped']}, Failed: {figures['failed']}, DLQ: {figures['dlq']}"
    )


def letter_fields(letter: DeadLetter) -> dict[bytes, bytes]:
    """The fields of its entry beside ``letter``: see `enricher.mail.MailLetters`."""
    try:
        message_id = identity_of(letter.body) or ""
    except (msgspec.DecodeError, UnicodeDecodeError, BadMessage, RecursionError):
        message_id = ""
    return {
        b"original_data": letter.body,
        b"error": f"{letter.error_type}: {letter.error}".encode("utf-8", "backslashreplace"),
        b"retry_count": b"%d" % max(letter.attempts - 1, 0),
        b"message_id": message_id.encode("utf-8", "backslashreplace"),
        b"failed_at": iso(letter.last_us).encode(),
    }
