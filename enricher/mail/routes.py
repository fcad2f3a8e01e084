"""Where a mail goes: the one route of this package, its indexes, and its line of statistics."""

from __future__ import annotations

from collections.abc import Mapping

from enricher.engine.claims import Claims
from enricher.engine.ports import Clock
from enricher.engine.retry import RetryPolicy
from enricher.engine.router import Route
from enricher.mail.entries import identity_of, read_entry
from enricher.mail.processor import MailHandler, Processor
from enricher.mail.settings import TASK, MailSettings


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


def retry_policy(settings: MailSettings) -> RetryPolicy:
    """Initial delay, doubled at each failure, up to the longest."""
    return RetryPolicy(
        max_retries=settings.max_retries,
        base=settings.initial_backoff,
        factor=2.0,
        max_delay=settings.max_backoff,
        jitter=settings.jitter,
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
        retry=retry_policy(settings),
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
