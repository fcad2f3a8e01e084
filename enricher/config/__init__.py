"""Settings: typed, frozen, read once; every mistake is named with what would be right."""

from enricher.config.loader import environment_name, find_config, load
from enricher.config.provenance import named_by_origin
from enricher.config.retention import RetentionSettings
from enricher.config.search import SearchSettings
from enricher.config.settings import (
    WEB_ADDRESS,
    DeadLetterSettings,
    FeedSettings,
    LogSettings,
    MongoSettings,
    PoolSettings,
    RedisSettings,
    RetrySettings,
    ServiceSettings,
    Settings,
    StatsSettings,
    StreamSettings,
    WebSettings,
    WriterSettings,
)
from enricher.config.types import (
    ByteSize,
    CollectionName,
    Count,
    PositiveSeconds,
    Seconds,
    Section,
    Text,
    Tokens,
    WholeSeconds,
    Zone,
)
from enricher.redaction import redact, redact_text

__all__ = [
    "WEB_ADDRESS",
    "ByteSize",
    "CollectionName",
    "Count",
    "DeadLetterSettings",
    "FeedSettings",
    "LogSettings",
    "MongoSettings",
    "PoolSettings",
    "PositiveSeconds",
    "RedisSettings",
    "RetentionSettings",
    "RetrySettings",
    "SearchSettings",
    "Seconds",
    "Section",
    "ServiceSettings",
    "Settings",
    "StatsSettings",
    "StreamSettings",
    "Text",
    "Tokens",
    "WebSettings",
    "WholeSeconds",
    "WriterSettings",
    "Zone",
    "environment_name",
    "find_config",
    "load",
    "named_by_origin",
    "redact",
    "redact_text",
]
