"""What a setting may be: the base of all sections, the kinds of value and their wording.

A kind is an annotated type. Its limits are msgspec's (``ge``, ``le``, ``min_length``); what
msgspec has no word for stands in ``extra``:

* ``unit``: ``"s"`` or ``"bytes"``; the value may then also be text such as ``"250ms"``, ``"4MiB"``
* ``refused``: {value: why this one, though it exists, cannot be chosen}
* ``check``: a function that says None for a good value, else what would be right
* ``secret``: the value is an address that may hold a password
* ``hidden``: the value is a table of names, each with something that nobody may read
* ``server``: ``"redis"``; the value is an address, or "", which the client of Redis must take too
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from msgspec import Meta

from enricher.config.sentinels import is_sentinel_url, sentinel_url_problem
from enricher.redaction import HIDDEN, parse, redact, redact_text, redact_value


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every section: frozen, printable without a password, able to judge itself.

    ``old_names`` {variable: (key, unit)} are further names in the environment, which count while the
    section is on by all the other keys; the unit is that of a plain number there. ``renamed`` {old key: key}
    are old keys that are still accepted, from wherever. ``provides`` {key of another section: own key} are
    values that the section has for others while it is on: where nobody gives the other key, its own counts.
    """

    provides: ClassVar[Mapping[str, str]] = {}
    renamed: ClassVar[Mapping[str, str]] = {}
    old_names: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @classmethod
    def provided(cls, key: str, value: Any) -> Any:
        """What counts for another section's ``key``, of the value of the section's own."""
        return value

    def is_on(self) -> bool:
        """Whether the system of this section is switched on."""
        return bool(getattr(self, "enabled", True))

    def validate(self) -> Iterable[tuple[str, str]]:
        """Each disagreement between two keys, as (key, what would be right); none by default."""
        return ()

    def dead_letter_topics(self, key: str) -> Mapping[str, str]:
        """{name of a task: its topic} of the dead letters under ``key``; "" are those that name no task."""
        return {}

    def collections(self) -> Mapping[str, str]:
        """{key of `RetentionSettings`: collection} where the section says how the collection is called."""
        return {}

    def servers(self, kind: str) -> dict[str, str]:
        """{key: address} of the servers of a kind ("redis") that the section names."""
        found = {}
        for field in msgspec.structs.fields(type(self)):
            if any(extra.get("server") == kind for extra in _extras(field.type)):
                found[field.name] = getattr(self, field.name)
        return found

    def printable(self) -> dict[str, object]:
        """{key: value} as plain data without passwords."""
        found: dict[str, object] = {}
        for field in msgspec.structs.fields(type(self)):
            value = getattr(self, field.name)
            if isinstance(value, Section):
                found[field.name] = value.printable()
            elif _is_secret(field.type):
                found[field.name] = redact(value)
            elif _is_hidden(field.type):
                found[field.name] = dict.fromkeys(value, HIDDEN)
            else:
                found[field.name] = redact_value(msgspec.to_builtins(value))
        return found

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={_shown(field.type, value)}"
            for field in msgspec.structs.fields(type(self))
            for value in [getattr(self, field.name)]
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _is_secret(kind: object) -> bool:
    """Whether this kind says of itself that it is an address which may hold a password."""
    return any(extra.get("secret") for extra in _extras(kind))


def _is_hidden(kind: object) -> bool:
    """Whether this kind says of itself that its values are nobody's to read."""
    return any(extra.get("hidden") for extra in _extras(kind))


def _shown(kind: object, value: Any) -> str:
    if _is_secret(kind):
        return redact(value)
    return repr(dict.fromkeys(value, HIDDEN)) if _is_hidden(kind) else redact_text(repr(value))


def _extras(kind: object) -> list[dict[str, Any]]:
    return [getattr(meta, "extra", None) or {} for meta in getattr(kind, "__metadata__", ())]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest of the known words, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


_ENCODED = "; blanks and marks in a user or password are percent-encoded (%20 a blank, %2F a slash)"


def redis_url_problem(url: str) -> str | None:
    """None for an address redis-py can use, else what would be right."""
    right = "a URL such as redis://localhost:6379/0, rediss://host:6380/0 or unix:///run/redis.sock"
    address = parse(url)
    if address is None:
        return f"{right}, with a port from 1 to 65535{_ENCODED}"
    if is_sentinel_url(url):
        return sentinel_url_problem(url)
    try:
        # What it finds odd, redis-py does, too.
        port = urlsplit(url).port if address.scheme != "unix" else None
    except ValueError:
        return f"{right}, with a port from 1 to 65535{_ENCODED}"
    if address.scheme == "unix":
        return None if address.path else f"{right}, with the path of the socket"
    if address.scheme not in {"redis", "rediss"} or port == 0:
        return right
    database = address.path.strip("/")
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
    address = parse(url)
    if address is None:
        return right + _ENCODED
    if address.scheme not in {"mongodb", "mongodb+srv"} or not address.hosts:
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
        # Three letters are near to those of any other zone, which is no help.
        near = did_you_mean(name, (zone for zone in available_timezones() if "/" in zone or zone == "UTC"))
        return f"the name of a time zone such as 'UTC' or 'Asia/Kolkata'{near}"
    return None


Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0, extra={"unit": "s"})]
PositiveSeconds = Annotated[float, Meta(gt=0, extra={"unit": "s"})]
WholeSeconds = Annotated[int, Meta(ge=1, extra={"unit": "s"})]
ByteSize = Annotated[int, Meta(ge=1, extra={"unit": "bytes"})]
Zone = Annotated[str, Meta(extra={"check": zone_problem})]
RedisUrl = Annotated[str, Meta(extra={"check": redis_url_problem, "secret": True, "server": "redis"})]
OptionalRedisUrl = Annotated[
    str, Meta(extra={"check": optional_redis_url_problem, "secret": True, "server": "redis"})
]
MongoUrl = Annotated[str, Meta(extra={"check": mongo_url_problem, "secret": True})]
DatabaseName = Annotated[str, Meta(extra={"check": database_problem})]
Tokens = Annotated[Mapping[str, Text], Meta(extra={"hidden": True})]
CollectionName = Annotated[str, Meta(extra={"check": collection_problem})]
