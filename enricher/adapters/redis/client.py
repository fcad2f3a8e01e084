"""Redis clients as enricher needs them: nothing is repeated behind our back, and outages are known as such.

redis-py's default repeats a command whose reply was lost, which makes an append happen twice. Our
commits are harmless to repeat and are repeated by the engine, so the client itself never retries.
"""

from __future__ import annotations

import re
from typing import Any

import redis.exceptions as errors
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff

from enricher.config.sentinels import is_sentinel_url, sentinel_address
from enricher.errors import SinkUnavailable

# Replies with which a server refuses everybody for now. The message is innocent.
OUTAGE_REPLIES = (
    "OOM",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY ",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    # NOPERM as a command in a script is told it: by Redis 7.0 and before, and by later ones and Valkey.
    "The user executing the script",
    "ACL failure in script",
    "UNKILLABLE",
    "max number of clients",
    # What a connection is told that asks for a database which is not there.
    "DB index is out of range",
    "SELECT is not allowed in cluster mode",
)

# The client takes the leading word off these replies and gives them a class instead.
_OUTAGES = (
    errors.ConnectionError,
    errors.TimeoutError,
    errors.ReadOnlyError,
    errors.NoScriptError,  # it was told a server that another has replaced since
    errors.OutOfMemoryError,
    errors.ClusterDownError,
    errors.TryAgainError,
    errors.NoPermissionError,
    OSError,
)

_WHERE_AND_WHOM = {
    "client_name",
    "credential_provider",
    "db",
    "host",
    "password",
    "path",
    "port",
    "socket_connect_timeout",
    "socket_keepalive",
    "username",
}


class _LeavesReplicas:
    """A connection that ends when its server answers that it is read-only.

    After a failover the address leads to the new primary, and whoever stayed connected to the old one would
    be refused for as long as that lives.
    """

    async def read_response(self, *given: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*given, **options)  # type: ignore[misc]
        except errors.ReadOnlyError:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise


_LEAVING = {
    kind: type(kind.__name__, (_LeavesReplicas, kind), {})
    for kind in (Connection, SSLConnection, UnixDomainSocketConnection)
}


def redis_client(
    url: str,
    *,
    socket_timeout: float | None,
    protocol: int = 2,
    max_connections: int = 32,
    client_name: str | None = None,
) -> Redis:
    """A client for ``url``; options in the URL win over the arguments.

    It begins with redis://, rediss://, unix:// or as `enricher.config.sentinels` says. Replies are bytes
    whatever it says. ``socket_timeout`` is in seconds; None waits for ever, as a reader of pub/sub must.
    ``client_name`` is what CLIENT LIST shows, with "-" for what Redis takes in none. No connection is made
    yet, and one to a server that turns out to be read-only is not kept.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": 5.0 if socket_timeout is None else socket_timeout,
        "socket_keepalive": True,
        "protocol": protocol,
        "max_connections": max_connections,
        "retry": Retry(NoBackoff(), 0),
        "client_name": client_name and re.sub(r"[^!-~]", "-", client_name),
        "health_check_interval": 0,
    }
    if is_sentinel_url(url):
        client: Redis = Redis.from_pool(_watched_pool(url, options))
    else:
        if url.startswith("unix:"):
            del options["socket_keepalive"]
        client = Redis.from_url(url, **options)
        kinds: Any = client.connection_pool
        kinds.connection_class = _LEAVING[kinds.connection_class]
    # An address that is shared with other programs may ask for text; what we read is bytes.
    client.connection_pool.connection_kwargs.update(decode_responses=False, encoding="utf-8")
    return client


class _WatchedPool(SentinelConnectionPool):
    """Connections to whoever is the primary now, by Sentinels that nobody else has a hand in."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


def _watched_pool(url: str, options: dict[str, Any]) -> _WatchedPool:
    address = sentinel_address(url)
    given: dict[str, Any] = dict(parse_url(address.redis_url))
    secure = given.pop("connection_class", None) is not None
    del given["host"]
    options = {**options, **given}
    to_ask = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl_"))}
    # A reader of pub/sub may wait for ever, but not for an answer of a Sentinel.
    to_ask["socket_timeout"] = options["socket_timeout"] or options["socket_connect_timeout"]
    to_ask |= {"retry": options["retry"], "ssl": secure, **address.credentials}
    options["connection_class"] = SentinelManagedSSLConnection if secure else SentinelManagedConnection
    watch = Sentinel(address.sentinels, sentinel_kwargs=to_ask)  # type: ignore[no-untyped-call]
    return _WatchedPool(address.service, watch, **options)  # type: ignore[no-untyped-call]


def sibling_client(client: Redis, *, protocol: int, same_loop: bool = True) -> Redis:
    """A client of the same server with one connection that may wait for ever: a reader of pub/sub.

    The reader gets raw bytes and never repeats anything, whatever ``client`` was made for. It is for the same
    event loop as that, or else shares nothing with it.
    """
    pool = client.connection_pool
    # Where and as whom, and nothing of how: a host's client also carries objects of its own pool.
    options: dict[str, Any] = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name in _WHERE_AND_WHOM or name.startswith("ssl_")
    }
    # No error is one to retry: else redis-py, before it says that a connection is lost, subscribes anew on
    # one that nobody reads, and Redis counts us among those who heard.
    never = Retry(NoBackoff(), 0, supported_errors=())
    options.update(socket_timeout=None, retry=never, protocol=protocol)
    options.update(connection_class=pool.connection_class, max_connections=1)
    if isinstance(pool, SentinelConnectionPool):
        # It asks the same Sentinels, and asks them again for every connection.
        options["is_master"] = pool.is_master
        if not same_loop:
            own = _copied(pool.sentinel_manager)
            return Redis.from_pool(_WatchedPool(pool.service_name, own, **options))  # type: ignore[no-untyped-call]
        watched = SentinelConnectionPool(pool.service_name, pool.sentinel_manager, **options)  # type: ignore[no-untyped-call]
        return Redis.from_pool(watched)
    return Redis.from_pool(ConnectionPool(**options))


def _copied(watch: Sentinel) -> Sentinel:
    known = [client.connection_pool.connection_kwargs for client in watch.sentinels]
    addresses = [(options["host"], options["port"]) for options in known]
    return Sentinel(addresses, sentinel_kwargs=watch.sentinel_kwargs)  # type: ignore[no-untyped-call]


def is_outage(text: str) -> bool:
    """Whether an error reply says that the server refuses everybody, not this one write."""
    return text.startswith(OUTAGE_REPLIES) or text.removeprefix("ERR ").startswith(OUTAGE_REPLIES)


def unavailable(sink: str, error: Exception) -> SinkUnavailable | None:
    """The outage behind a redis-py exception; None if it is none."""
    if isinstance(error, _OUTAGES) or is_outage(str(error)):
        return SinkUnavailable(sink, f"{type(error).__name__}: {error}")
    return None
