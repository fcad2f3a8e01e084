"""The settings of everything that is not a route, one frozen section each, and the whole of them.

Times are seconds and sizes bytes throughout. A route package brings a section of its own, which
`Settings.section` hands out by its type.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from enricher.config.building import is_section
from enricher.config.listen import listen_problems
from enricher.config.retention import RetentionSettings
from enricher.config.search import SearchSettings
from enricher.config.types import (
    ByteSize,
    Count,
    DatabaseName,
    MongoUrl,
    OptionalRedisUrl,
    PositiveSeconds,
    RedisUrl,
    Seconds,
    Section,
    Text,
    Tokens,
    WholeSeconds,
    Zone,
    database_problem,
    is_own_database,
)

SectionT = TypeVar("SectionT", bound=Section)


class ServiceSettings(Section, frozen=True, kw_only=True):
    """Who this process is and how it ends.

    An empty ``instance`` stands for host name and process id, which only the running process
    knows.
    """

    name: Text = "worker-enricher"
    instance: str = ""
    drain_deadline: Seconds = 10.0
    stall_after: PositiveSeconds = 10.0
    health_interval: PositiveSeconds = 1.0


class RedisSettings(Section, frozen=True, kw_only=True):
    """The Redis of feeds, caches, channels and claims."""

    url: RedisUrl = "redis://localhost:6379/0"
    socket_timeout: PositiveSeconds = 5.0
    # redis-py's RESP3 reader builds a debug string of every pushed message: 3 us a tick and 50 us
    # a chain that protocol 2 does not cost.
    protocol: Literal[2, 3] = 2
    canary_interval: PositiveSeconds = 1.0
    canary_timeout: PositiveSeconds = 5.0
    max_connections: Count = 32


class MongoSettings(Section, frozen=True, kw_only=True):
    """The MongoDB that documents land in."""

    url: MongoUrl = "mongodb://localhost:27017"
    database: DatabaseName = ""
    driver: Literal["motor", "pymongo"] = "motor"
    timeout: PositiveSeconds = 10.0

    @property
    def database_name(self) -> str:
        """The database to use: ``database``, else the path of the URL, else ``deltastream``.

        A path that is a database of MongoDB's own (admin, config, local) counts as none.
        """
        return self.database or ("" if is_own_database(self._path) else self._path) or "deltastream"

    @property
    def _path(self) -> str:
        return unquote(urlsplit(self.url).path.strip("/"))

    def warnings(self) -> Iterable[str]:
        """What is done otherwise than the URL says, one sentence each, without a password."""
        path = self._path
        if is_own_database(path) and not self.database:
            # The driver goes on asking there for the user, unless authSource names another place.
            yield (
                f"mongo.url names the database {path!r}, which is MongoDB's own, for its users and settings: "
                f"documents are written to {self.database_name!r} instead; expected the database to write to "
                "and the one of the users as an option: mongodb://.../deltastream?authSource=admin"
            )

    def validate(self) -> Iterable[tuple[str, str]]:
        """The path of the URL must do as the name of a database."""
        problem = database_problem(self.database_name)
        if problem:
            yield "url", f"as its path, the name of a database: {problem}"


class DeadLetterSettings(Section, frozen=True, kw_only=True):
    """Where messages are set aside, and how many are too many.

    An empty ``url`` is the Redis of `RedisSettings`. ``alert_at`` is the number above which the alert hook is
    called; 0 for never.
    """

    url: OptionalRedisUrl = ""
    key: Text = "dlq:enrichment"
    store: Literal["list", "stream"] = "list"
    max_length: Count = 100_000
    guard_ttl: WholeSeconds = 86_400
    alert_at: Annotated[int, Meta(ge=0)] = 1000

    @property
    def alert_above(self) -> int:
        """The number above which to alert: ``alert_at``, but a full store is reason enough."""
        return min(self.alert_at, self.max_length - 1)


class StreamSettings(Section, frozen=True, kw_only=True):
    """The stream intake: which topics take the way over a stream, and how its entries are read.

    ``intake`` {topic: "memory" or "stream"}; a topic that is not named stays in memory. An empty ``group``
    is the service's name, an empty ``bridge`` the stream ``enricher:intake:{service}``, an empty ``spill``
    ``enricher:spill:{service}:{instance or host}``. ``shard`` ("i/n", or "" for none) is the part of the keys
    that this process has. Everything published is appended to the stream ``record_effects``, if one is named.
    """

    renamed: ClassVar[Mapping[str, str]] = {"keep": "retention"}

    bridge: str = ""
    group: str = ""
    batch: Annotated[int, Meta(ge=1, le=10_000)] = 500
    block: PositiveSeconds = 2.0
    prefetch: Count = 1000
    lease: PositiveSeconds = 30.0
    max_deliveries: Count = 3
    retention: Seconds = 60.0
    max_length: Annotated[int, Meta(ge=0)] = 0
    shard: str = ""
    spill: str = ""
    record_effects: str = ""
    record_length: Count = 1_000_000
    intake: Mapping[str, Literal["memory", "stream"]] = msgspec.field(default_factory=dict)

    def validate(self) -> Iterable[tuple[str, str]]:
        index, _, count = self.shard.partition("/")
        numbers = index.isdecimal() and count.isdecimal()
        if self.shard and not (numbers and int(index) < int(count)):
            yield "shard", "i/n with i from 0 to n-1, such as 0/4, or nothing"
        if self.lease < 1:
            yield "lease", "at least 1 s, or a busy worker loses the mails it works on"


class PoolSettings(Section, frozen=True, kw_only=True):
    """How much may be under way at once: slots, messages and bytes.

    ``time_slice`` is the seconds of computing after which the event loop gets a turn.
    """

    renamed: ClassVar[Mapping[str, str]] = {"turn_budget": "time_slice"}

    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 64
    max_messages: Count = 200_000
    max_bytes: ByteSize = 268_435_456
    max_batch: Annotated[int, Meta(ge=1, le=10_000)] = 500
    max_message_bytes: ByteSize = 1_048_576
    time_slice: PositiveSeconds = 0.005

    def validate(self) -> Iterable[tuple[str, str]]:
        if self.max_message_bytes > self.max_bytes:
            yield "max_message_bytes", f"at most pool.max_bytes, which is {self.max_bytes}"


class WriterSettings(Section, frozen=True, kw_only=True):
    """What one commit and one script carry, how many batches are gathered ahead, and what a commit waits."""

    max_batch: Annotated[int, Meta(ge=1, le=10_000)] = 500
    max_batch_bytes: ByteSize = 4_194_304
    backlog: Annotated[int, Meta(ge=1, le=100)] = 2
    gather: Annotated[float, Meta(ge=0, le=1)] = 0.0
    script_messages: Annotated[int, Meta(ge=1, le=1_000)] = 100
    script_bytes: ByteSize = 262_144


class RetrySettings(Section, frozen=True, kw_only=True):
    """The wait between two tries of a commit while a sink is away: full jitter, up to the longest."""

    renamed: ClassVar[Mapping[str, str]] = {"cap": "max_delay"}

    base: PositiveSeconds = 0.05
    max_delay: PositiveSeconds = 5.0

    def validate(self) -> Iterable[tuple[str, str]]:
        if self.max_delay < self.base:
            yield "max_delay", f"at least retry.base, which is {self.base:g} s"


class StatsSettings(Section, frozen=True, kw_only=True):
    """How often the counters are published, and under which keys."""

    interval: PositiveSeconds = 1.0
    summary_interval: PositiveSeconds = 60.0
    key_prefix: Text = "enricher:stats"


class LogSettings(Section, frozen=True, kw_only=True):
    """What the command line logs; a host application configures logging itself.

    ``format`` "auto" is "console" on a terminal and "json" elsewhere.
    """

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    slow_handler: PositiveSeconds = 0.25


class TraceSettings(Section, frozen=True, kw_only=True):
    """Spans of OpenTelemetry, for which the extra ``otel`` is needed."""

    enabled: bool = False


WEB_ADDRESS = "127.0.0.1:5555"


class WebSettings(Section, frozen=True, kw_only=True):
    """The web app. It is on with an address in ``listen``, or ``enabled`` at 127.0.0.1:5555.

    ``tokens`` {name: token} are asked for as ``Authorization: Bearer`` where there are any; without one only
    this machine may be listened to. ``hosts`` are the names by which it may be asked for (none: with tokens
    any, without those of this machine), ``read_only`` takes all actions away, ``open`` are the paths that
    need no token by one of these names, an address or a private name. ``header_timeout`` and ``body_timeout``
    bound how long a request may take to come in.
    """

    enabled: bool = False
    listen: str = ""
    tokens: Tokens = {}  # noqa: RUF012  frozen, and never changed
    hosts: tuple[Text, ...] = ()
    read_only: bool = False
    open: tuple[Text, ...] = ("/livez", "/readyz", "/healthcheck", "/metrics", "/scale")
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 5_000
    header_timeout: PositiveSeconds = 10.0
    body_timeout: PositiveSeconds = 30.0
    keep_alive: PositiveSeconds = 75.0

    def validate(self) -> Iterable[tuple[str, str]]:
        yield from listen_problems("listen", self.listen, self.tokens, "web.tokens")

    @property
    def address(self) -> str:
        """What is listened on, "" for nothing."""
        return self.listen or (WEB_ADDRESS if self.enabled else "")


class FeedSettings(Section, frozen=True, kw_only=True):
    """How the time of a message is read.

    ``naive_dates`` is what is stored as the ``timestamp`` of a time without an offset: the moment in UTC, or
    with "as_sent" its own digits taken for UTC, as readers that never convert expect them.
    """

    timezone: Zone = "UTC"
    max_future: Seconds = 60.0
    naive_dates: Literal["utc", "as_sent"] = "utc"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, read once and handed down.

    ``routes`` holds the sections the route packages brought, by name; ``origins`` the source of
    every key that is not at its default; ``renamed`` the old keys that were used, with the keys that they
    are now. No printed form shows a password.
    """

    service: ServiceSettings = ServiceSettings()
    redis: RedisSettings = RedisSettings()
    mongo: MongoSettings = MongoSettings()
    search: SearchSettings = SearchSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    streams: StreamSettings = StreamSettings()
    pool: PoolSettings = PoolSettings()
    writer: WriterSettings = WriterSettings()
    retry: RetrySettings = RetrySettings()
    stats: StatsSettings = StatsSettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()
    web: WebSettings = WebSettings()
    feed: FeedSettings = FeedSettings()
    retention: RetentionSettings = RetentionSettings()
    routes: Mapping[str, Section] = {}
    origins: Mapping[str, str] = {}
    renamed: Mapping[str, str] = {}

    def section(self, kind: type[SectionT]) -> SectionT:
        """The section of this type, core or brought by a route package; LookupError if none."""
        for section in self.sections().values():
            if type(section) is kind:
                return section
        raise LookupError(
            f"no section of type {kind.__name__}; there are {', '.join(self.sections())}; "
            "a route package's section is named in load(sections=...)"
        )

    def sections(self) -> dict[str, Section]:
        """Every section by its name, the core ones first."""
        core = {name: getattr(self, name) for name in CORE_SECTIONS}
        return {**core, **self.routes}

    @property
    def instance(self) -> str:
        """The configured instance, else host name and process id."""
        import socket

        return self.service.instance or f"{socket.gethostname()}-{os.getpid()}"

    @property
    def stats_key(self) -> str:
        """The Redis key under which this process keeps its figures."""
        return f"{self.stats.key_prefix}:{self.service.name}:{self.instance}"

    def kept(self) -> dict[str, int]:
        """How many seconds each collection is kept, 0 for ever, by the collection's name."""
        names = {key: name for section in self.routes.values() for key, name in section.collections().items()}
        kept = self.retention
        return {names.get(key, key): getattr(kept, key) for key in kept.__struct_fields__}

    def dead_letter_topics(self, key: str) -> dict[str, str]:
        """{name of a task: its topic} of the dead letters under ``key``, of the systems that are on."""
        on = (section for section in self.routes.values() if section.is_on())
        return {name: topic for section in on for name, topic in section.dead_letter_topics(key).items()}

    def printable(self) -> dict[str, dict[str, object]]:
        """{section: {key: value}} as plain data without passwords, for people to read."""
        return {name: section.printable() for name, section in self.sections().items()}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={section!r}" for name, section in self.sections().items())
        return f"Settings({shown})"


CORE_SECTIONS: dict[str, type[Section]] = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if is_section(field.type)
}
