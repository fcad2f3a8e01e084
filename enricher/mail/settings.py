"""The ``mail`` section: where mails come from, how often they are tried, what is done with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from enricher.config import (
    ByteSize,
    CollectionName,
    Count,
    PositiveSeconds,
    RetentionSettings,
    Seconds,
    Section,
    Text,
    WholeSeconds,
)

TASK = "process_email"
"""What the route is called."""


class MailSettings(Section, frozen=True, kw_only=True):
    """The settings of the mail route.

    An empty ``consumer`` is the process's instance, an empty ``handler`` none. ``block``, the backoffs,
    ``timeout``, ``lease``, ``retention`` and ``claim_ttl`` are seconds; ``timeout`` 0 is unlimited,
    ``retention`` 0 trims nothing. The names by which the old worker's environment calls keys count while the
    route is on.
    """

    renamed: ClassVar[Mapping[str, str]] = {"keep": "retention"}
    old_names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "REDIS_STREAM_NAME": ("stream", ""),
        "CONSUMER_GROUP_NAME": ("group", ""),
        "CONSUMER_NAME": ("consumer", ""),
        "BATCH_SIZE": ("batch", ""),
        "BLOCK_TIMEOUT_MS": ("block", "ms"),
        "DLQ_STREAM_NAME": ("dead_letters", ""),
        "MAX_RETRY_ATTEMPTS": ("max_retries", ""),
        "INITIAL_BACKOFF_SECONDS": ("initial_backoff", ""),
        "MAX_BACKOFF_SECONDS": ("max_backoff", ""),
        "IDEMPOTENCY_TTL_SECONDS": ("claim_ttl", ""),
    }

    enabled: bool = False
    stream: Text = "email_ingestion_stream"
    group: Text = "email_processor_group"
    consumer: str = ""
    batch: Annotated[int, Meta(ge=1, le=10_000)] = 10
    block: PositiveSeconds = 5.0
    prefetch: Count = 100
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 16
    lease: PositiveSeconds = 30.0
    max_deliveries: Count = 3
    retention: Seconds = 0.0
    collection: CollectionName = "emails"
    handler: str = ""
    timeout: Seconds = 60.0
    max_retries: Annotated[int, Meta(ge=0)] = 3
    initial_backoff: PositiveSeconds = 2.0
    max_backoff: PositiveSeconds = 3600.0
    jitter: Literal["none", "full"] = "none"
    claim_ttl: WholeSeconds = 604_800
    dead_letters: Text = "email_ingestion_dlq"
    max_message_bytes: ByteSize = 33_554_432

    def validate(self) -> Iterable[tuple[str, str]]:
        if self.max_backoff < self.initial_backoff:
            yield "max_backoff", f"at least mail.initial_backoff, which is {self.initial_backoff:g} s"
        if self.dead_letters == self.stream:
            yield "dead_letters", "a stream of its own, not mail.stream"
        if self.collection in {"enricher_state", *RetentionSettings.__struct_fields__} - {"emails"}:
            yield "collection", "a collection that the market does not use"
        if self.lease < 1:
            yield "lease", "at least 1 s, or a busy worker loses the mails it works on"

    def dead_letter_topics(self, key: str) -> Mapping[str, str]:
        """Under its own key even an entry that names no task is a mail."""
        return {TASK: self.stream, "": self.stream} if key == self.dead_letters else {TASK: self.stream}

    def collections(self) -> Mapping[str, str]:
        return {"emails": self.collection}
