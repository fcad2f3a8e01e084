"""The ``events`` section: who may send events, what is checked, and how they are processed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

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
    Tokens,
    WholeSeconds,
)
from enricher.config.listen import listen_problems

TASK = "process_incoming_event"
"""What the route that processes events is called."""

ACCEPT = "accept_event"
"""What the routes that accept events are called."""

TOPIC = "events"
"""The topic of `submit`: an event as JSON."""


class EventSettings(Section, frozen=True, kw_only=True):
    """The settings of events.

    The events are on with ``enabled``, or where that is not said, with any ``packages``, which are searched
    for pipelines. ``tokens`` {name of a client: its token} are asked for where there are any; ``secrets``
    {name: secret} sign bodies. ``identity`` is a JSON pointer to what makes two events the same.
    ``type_field`` is the field that names an event's type. With ``index`` every pipeline ends by indexing its
    event. Times are seconds: a client waits for ``accept_timeout`` at most, ``sweep_after`` is the age of an
    accepted event that was not appended to the stream. The Redis of ``project`` is called PROJECT_redis,
    which counts where no address of Redis is given.
    """

    provides: ClassVar[Mapping[str, str]] = {"redis.url": "project"}
    old_names: ClassVar[Mapping[str, tuple[str, str]]] = {"PROJECT_NAME": ("project", "")}

    enabled: bool | None = None
    packages: tuple[Text, ...] = ()
    collection: CollectionName = "events"
    stream: Text = "enricher:events"
    group: Text = "event_workers"
    source: str = ""
    listen: str = ""
    tokens: Tokens = {}  # noqa: RUF012  frozen, and never changed
    secrets: Tokens = {}  # noqa: RUF012
    identity: str = ""
    type_field: Text = "type"
    strict: bool = False
    max_body: ByteSize = 1_048_576
    max_waiting: Count = 100_000
    accept_timeout: PositiveSeconds = 5.0
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 16
    timeout: Seconds = 300.0
    max_retries: Annotated[int, Meta(ge=0)] = 3
    initial_backoff: PositiveSeconds = 5.0
    max_backoff: PositiveSeconds = 600.0
    jitter: Literal["none", "full"] = "full"
    lease: PositiveSeconds = 60.0
    max_deliveries: Count = 3
    resume: bool = True
    index: bool = True
    search: bool = True
    result_ttl: WholeSeconds = 3600
    sweep_after: PositiveSeconds = 30.0
    project: str = ""

    @classmethod
    def provided(cls, key: str, value: Any) -> Any:
        return f"redis://{value}_redis:6379/0"

    def is_on(self) -> bool:
        return bool(self.packages) if self.enabled is None else self.enabled

    def validate(self) -> Iterable[tuple[str, str]]:
        if self.max_backoff < self.initial_backoff:
            yield "max_backoff", f"at least events.initial_backoff, which is {self.initial_backoff:g} s"
        if self.collection in {"enricher_state", *RetentionSettings.__struct_fields__}:
            yield "collection", "a collection that nothing else uses"
        if self.lease < 1:
            yield "lease", "at least 1 s, or a busy worker loses the events it works on"
        if self.identity and not self.identity.startswith("/"):
            yield "identity", "a JSON pointer such as /order/id, or nothing"
        yield from listen_problems("listen", self.listen, self.tokens, "events.tokens")
        if self.source and self.source == self.stream:
            yield "source", "a stream of its own, not events.stream"
