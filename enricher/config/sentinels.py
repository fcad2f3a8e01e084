"""Addresses of a Redis that Sentinels watch over.

    redis+sentinel://user:password@host1:26379,host2:26379/service/0?option=value

The names and ports are those of the Sentinels, ``service`` is what they call the primary, ``0`` the number of
the database. User, password and options are for Redis, as in a redis:// URL; ``sentinel_username`` and
``sentinel_password`` among the options are for the Sentinels. ``rediss+sentinel://`` speaks TLS to all.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
PORT = 26379
_FOR_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}


class SentinelAddress(msgspec.Struct, frozen=True):
    """What such a URL says: who to ask for which ``service``, and as whom (keyword arguments of a client).

    ``redis_url`` is an ordinary URL with all that is for Redis; its host means nothing.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    credentials: dict[str, str]
    redis_url: str


def is_sentinel_url(url: str) -> bool:
    """Whether the address names Sentinels."""
    return url.partition("://")[0] in SCHEMES


def sentinel_address(url: str) -> SentinelAddress:
    """What the URL says; ValueError with what would be right."""
    right = "a URL such as redis+sentinel://host1:26379,host2:26379/service/0"
    parts = urlsplit(url)
    user, at, names = parts.netloc.rpartition("@")
    try:
        found = [urlsplit(f"//{name}") for name in names.split(",")]
        hosts = tuple((one.hostname or "", PORT if one.port is None else one.port) for one in found)
    except ValueError:
        raise ValueError(f"{right}, with ports from 1 to 65535") from None
    if not all(host and port for host, port in hosts):
        raise ValueError(right)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError(f"{right}, with the name of the service")
    if database and not database.isdecimal():
        raise ValueError(f"{right}, where the number of the database comes last")
    options = parse_qsl(parts.query, keep_blank_values=True)
    for_redis = urlencode([option for option in options if option[0] not in _FOR_SENTINELS])
    return SentinelAddress(
        sentinels=hosts,
        service=unquote(service),
        credentials={_FOR_SENTINELS[name]: value for name, value in options if name in _FOR_SENTINELS},
        redis_url=f"{SCHEMES[parts.scheme]}://{user}{at}{hosts[0][0]}/{database or 0}?{for_redis}",
    )


def sentinel_url_problem(url: str) -> str | None:
    """None for an address of Sentinels, else what would be right."""
    try:
        sentinel_address(url)
    except ValueError as error:
        return str(error)
    return None
