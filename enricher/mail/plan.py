"""What the mail adds to an enricher: one route, fed by a stream of its own, with dead letters of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from enricher.config import Settings, StreamSettings
from enricher.engine.stats import Stats
from enricher.errors import ConfigError, WrongSetting
from enricher.mail import routes
from enricher.mail.dead_letters import letter_fields
from enricher.mail.processor import MailHandler, load_handler, takes_mail
from enricher.mail.settings import TASK, MailSettings
from enricher.system import Host, Plan, StreamUse


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
    route = routes.mail_route(mail, seen=claims, clock=host.clock, handler=handler_of(mail, host))
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
        figures = routes.statistics(stats.topic(route.topic).counts)
        return routes.statistics_line(figures), figures

    note = (
        f"A repeated mail is recognised for {mail.claim_ttl} s (mail.claim_ttl); its dead letters are on "
        f"stream {mail.dead_letters}."
    )
    return Plan(
        routes=[route],
        sources=[source],
        indexes=routes.indexes(mail),
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
