"""What a setting may be: the base of all sections, the kinds of value and their wording.

A kind is an annotated type. Its limits are msgspec's (``ge``, ``le``, ``min_length``); what
msgspec has no word for stands in ``extra``:

* ``unit``: ``"s"`` or ``"bytes"``; the value may then also be text such as ``"250ms"``, ``"4MiB"``
* ``refused``: {value: why this one, though it exists, cannot be chosen}
* ``check``: a function that says None for a good value, else what would be right
* ``secret``: the value is an address that may hold a password
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from msgspec import Meta

from enricher.config.sentinels import is_sentinel_url, sentinel_url_problem
from enricher.redaction import redact_text


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every section: frozen, printable without a password, able to judge itself.

    ``old_names`` {variable: (key, unit)} are further names in the environment, which count while the
    section's ``enabled`` is on; the unit is that of a plain number there.
    """

    old_names: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def problems(self) -> Iterable[tuple[str, str]]:
        """Each disagreement between two keys, as (key, what would be right); none by default."""
        return ()

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={redact_text(repr(getattr(self, name)))}" for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({shown})"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest of the known words, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def redis_url_problem(url: str) -> str | None:
    """None for an address redis-py can use, else what would be right."""
    if is_sentinel_url(url):
        return sentinel_url_problem(url)
    right = "a URL such as redis://localhost:6379/0, rediss://host:6380/0 or unix:///run/redis.sock"
    try:
        parts = urlsplit(url)
        port = parts.port if parts.scheme != "unix" else None
    except ValueError:
        return f"{right}, with a port from 1 to 65535"
    if parts.scheme == "unix":
        return None if parts.path else f"{right}, with the path of the socket"
    if parts.scheme not in {"redis", "rediss"} or port == 0:
        return right
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        return f"{right}, where the path is the number of the database"
    return None


def optional_redis_url_problem(url: str) -> str | None:
    """As `redis_url_problem`; empty is good too and means the Redis of `redis.url`."""
    problem = redis_url_problem(url) if url else None
    return problem and f"{problem}; or empty for the Redis of redis.url"


def mongo_url_problem(url: str) -> str | None:
    """None for an address the MongoDB drivers can use, else what would be right."""
    right = "a URL such as mongodb://localhost:27017 or mongodb+srv://cluster.example.org/name"
    try:
        parts = urlsplit(url)
    except ValueError:
        return right
    if parts.scheme not in {"mongodb", "mongodb+srv"} or not parts.netloc.rpartition("@")[2]:
        return right
    return None


def is_own_database(name: str) -> bool:
    """Whether MongoDB keeps its own things in the database of this name: users, settings, its log."""
    return name.lower() in {"admin", "config", "local"}


def database_problem(name: str) -> str | None:
    """None for a name MongoDB takes as that of a database to write to, else what would be right."""
    if is_own_database(name):
        return "a database of its own, for MongoDB keeps its users and settings there; or empty"
    if len(name.encode("utf-8", "surrogatepass")) > 63 or set(name) & set('/\\. "$\0'):
        return 'at most 63 bytes without any of / \\ . " $ or a space; or empty'
    return None


def collection_problem(name: str) -> str | None:
    """None for a name MongoDB takes as that of a collection, else what would be right."""
    odd = "$" in name or "\0" in name or ".." in name or name.startswith("system.")
    if odd or not name.strip(".") or name != name.strip(".") or len(name.encode("utf-8", "replace")) > 120:
        return "at most 120 bytes without $, not beginning with system., with dots only between words"
    return None


def zone_problem(name: str) -> str | None:
    """None for a time zone this machine knows, else what would be right."""
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        near = did_you_mean(name, available_timezones())
        return f"the name of a time zone such as 'UTC' or 'Asia/Kolkata'{near}"
    return None


Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0, extra={"unit": "s"})]
PositiveSeconds = Annotated[float, Meta(gt=0, extra={"unit": "s"})]
WholeSeconds = Annotated[int, Meta(ge=1, extra={"unit": "s"})]
ByteSize = Annotated[int, Meta(ge=1, extra={"unit": "bytes"})]
Zone = Annotated[str, Meta(extra={"check": zone_problem})]
RedisUrl = Annotated[str, Meta(extra={"check": redis_url_problem, "secret": True})]
OptionalRedisUrl = Annotated[str, Meta(extra={"check": optional_redis_url_problem, "secret": True})]
MongoUrl = Annotated[str, Meta(extra={"check": mongo_url_problem, "secret": True})]
DatabaseName = Annotated[str, Meta(extra={"check": database_problem})]
CollectionName = Annotated[str, Meta(extra={"check": collection_problem})]
