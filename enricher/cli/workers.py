"""The figures that running workers keep in Redis, and what they say in a word and in a line."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.adapters.redis.client import redis_client
from enricher.config import Settings, redact
from enricher.errors import SinkUnavailable

Figures = Mapping[str, Any]
"""What `Enricher.figures` returned, decoded."""

_GLOB = str.maketrans({c: f"\\{c}" for c in "\\*?[]"})


def stats_client(settings: Settings, timeout: float) -> Redis:
    """A client for looking: it waits at most ``timeout`` seconds, or less if the settings say so."""
    seconds = min(timeout, settings.redis.socket_timeout)
    return redis_client(settings.redis.url, socket_timeout=seconds, protocol=settings.redis.protocol)


def own_pattern(settings: Settings) -> str:
    """The pattern of the stats keys of this host's workers of the configured service."""
    if settings.service.instance:
        return settings.stats_key.translate(_GLOB)
    prefix = f"{settings.stats.key_prefix}:{settings.service.name}:{socket.gethostname()}-"
    return prefix.translate(_GLOB) + "*"


def every_pattern(settings: Settings) -> str:
    """The pattern of the stats keys of all workers, whatever their service."""
    return f"{settings.stats.key_prefix}:".translate(_GLOB) + "*"


async def read_figures(client: Redis, settings: Settings, pattern: str) -> list[Figures]:
    """The figures under the keys that match, by service and instance.

    A value that is no JSON object of ours is left out. Raises SinkUnavailable when Redis is unreachable.
    """
    try:
        keys = [key async for key in client.scan_iter(match=pattern, count=1000)]
        values = await client.mget(keys) if keys else []
    except (RedisError, OSError) as error:
        raise SinkUnavailable(redact(settings.redis.url), f"{type(error).__name__}: {error}") from error
    found = [figures for value in values if value is not None and (figures := _decoded(value)) is not None]
    return sorted(found, key=lambda f: (f["service"], f["instance"]))


def _decoded(value: bytes | str) -> Figures | None:
    try:
        figures = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return None
    known = isinstance(figures, dict) and figures.keys() >= {"service", "instance", "now_us", "status"}
    return figures if known else None


def status_of(figures: Figures) -> str:
    """The status, and while what is stored is restored how much of it is: ``restoring 3/8``."""
    status, restoring = str(figures["status"]), figures.get("restoring")
    if status != "restoring" or not restoring:
        return status
    return f"{status} {restoring['done']}/{restoring['total']}"


def status_line(figures: Figures) -> str:
    """One line for people: status, what is unreachable, messages waiting and processed, dead letters."""
    topics = figures["topics"].values()
    parts = [status_of(figures)]
    if figures["outages"]:
        parts.append("unreachable: " + ", ".join(sorted(figures["outages"])))
    parts.append(f"{figures['pool']['messages']} waiting")
    parts.append(f"{sum(topic.get('processed', 0) for topic in topics)} processed")
    parts.append(f"{sum(topic.get('dead', 0) for topic in topics)} dead letters")
    return ", ".join(parts)


def verdict(found: Sequence[Figures], now: int, max_age: float) -> tuple[bool, str]:
    """Whether the newest of these workers is well, and a line that says why.

    Well is: figures at most ``max_age`` seconds old, and a status of ready or degraded. Degraded is well,
    because a worker that waits out an outage is not mended by starting it again.
    """
    if not found:
        return False, "no worker of this service has left figures"
    newest = max(found, key=lambda f: int(f["now_us"]))
    age = max(0.0, (now - int(newest["now_us"])) / 1e6)
    line = f"{newest['instance']}: {status_of(newest)}, {age:.1f} s ago"
    line += "".join(f"; {topic}: {why}" for topic, why in newest.get("troubles", {}).items())
    line += "".join(f"; {why}" for why in newest.get("stalled", ()))
    if age > max_age:
        return False, f"{line}; expected within {max_age:g} s"
    return newest["status"] in ("ready", "degraded"), line
