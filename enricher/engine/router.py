"""Routes: which handler a topic has, and under which policy.

The kind of a handler is read off the function: a coroutine function may do I/O, a generator gives
the loop a turn at each ``yield None``, everything else is pure and runs inline; ``blocking=True`` runs it
in a thread. With a state store the handler's first argument is the lane's state and it returns
``(change, effects)``; without one it returns ``effects``. A pure handler with state may also return, for a
message that would hold the loop for long, a generator of what it returns otherwise.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal

import msgspec

from enricher.engine.effects import DOCUMENTS, LIVE
from enricher.engine.ports import Handler, StateStore
from enricher.engine.retry import IO_RETRY, NO_RETRY, RetryPolicy
from enricher.errors import BadMessage, ConfigError
from enricher.storable import check_escapes


class Overload(Enum):
    """The policy of a route for a full pool.

    ``BLOCK``        the source waits (only sources that can)
    ``CONFLATE``     the oldest per key that is still queued makes room for a newer one
    ``DROP_OLDEST``  the oldest queued message of the route makes room
    ``SPILL``        what finds memory full takes the way over a Redis stream (`sources.spill`), from which
                     it comes back when there is room; a source without that way drops it
    """

    BLOCK = "block"
    CONFLATE = "conflate"
    DROP_OLDEST = "drop_oldest"
    SPILL = "spill"


class HandlerKind(Enum):
    """How a handler is run."""

    PURE = "pure"
    GENERATOR = "generator"
    ASYNC = "async"
    BLOCKING = "blocking"


class Context(msgspec.Struct, frozen=True, gc=False):
    """What a handler may know besides the event.

    ``now_us`` is the clock at receipt (microseconds UTC), ``attempt`` counts from 1, ``clients`` are the
    named clients the application was given (for async handlers). ``id`` is what its source calls the message,
    whenever it brings it; "" where it has no name for it.
    """

    topic: str
    body: bytes
    now_us: int
    attempt: int
    clients: dict[str, Any]
    id: str = ""


def decode_json(body: bytes, context: Context) -> Any:
    """The message as plain JSON values; raises `BadMessage` when it is none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        check_escapes(body)
        raise BadMessage("$", "JSON in UTF-8", str(error)) from error


@dataclass(frozen=True, slots=True)
class Slots:
    """A named share of slots: routes with one of this ``name`` have ``limit`` slots between them.

    They take none of the pool's, and no others take theirs. ``limit`` is at least 1.
    """

    name: str
    limit: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError("slots", "name", self.name, "a name for them")
        if not isinstance(self.limit, int) or self.limit < 1:
            raise ConfigError(f"slots {self.name!r}", "limit", self.limit, "a whole number of 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Topic -> event type + handler + policy.

    ``topic``            the channel or stream; a pattern (``orders.*``) serves what no exact topic does
    ``handler``          see the module's first lines
    ``decode``           body -> event; raises `BadMessage`
    ``key``              body -> key of the lane (cheap: it runs at receipt); None: every message for itself
    ``state_store``      owner of the lane's state; routes with the same state_store share lanes
    ``sinks``            the sinks its effects name; routes with the same set are committed together
    ``retry``            default: none for pure handlers, three retries for those with I/O
    ``overload``         what happens when the pool is full
    ``conflation``       body -> what "the same thing, newer" means under `conflate` (default: the key)
    ``timeout``          seconds one attempt may take (not for plain functions that run inline), None:
                         unlimited; the thread of a blocking one cannot be stopped and takes one until it
                         ends
    ``blocking``         whether a plain function is run in a thread
    ``strict``           a message waiting for its retry holds back its lane, so order is kept
    ``weight``           share of the slots among routes of one ``priority``; higher priorities go first
    ``max_concurrency``  at most so many slots of this process at once, 0: no limit
    ``slots``            slots that it shares with the routes of the same `Slots` alone, their threads too;
                         None: those of the pool
    ``name``             what dead letters and log lines call it (default: the handler's name)
    ``events``           debug log events of a processed message and of a duplicate
    ``drain_deadline``   seconds that its queued messages get at a stop (default: the service's)
    ``slow_handler``     seconds after which a run of the handler is logged as slow (default: the setting)
    ``intake``           where its messages come from: "pubsub"; "stream", by way of the service's stream; or
                         "none", where a source of one's own brings them
    ``max_bytes``        bytes of one message; a longer one is a dead letter; 0: as the pool's limit says
    ``on_dead``          called with body, stage and error of each message that becomes a dead letter

    ``kind`` is read off the handler; ``inline`` says that it is pure.
    """

    topic: str
    handler: Handler
    decode: Callable[[bytes, Context], Any] = decode_json
    key: Callable[[bytes], str | None] | None = None
    state_store: StateStore[Any] | None = None
    sinks: tuple[str, ...] = (DOCUMENTS, LIVE)
    retry: RetryPolicy | None = None
    overload: Overload = Overload.BLOCK
    conflation: Callable[[bytes], str | None] | None = None
    timeout: float | None = None
    strict: bool = False
    blocking: bool = False
    weight: int = 1
    priority: int = 0
    max_concurrency: int = 0
    slots: Slots | None = None
    name: str = ""
    events: tuple[str, str] = ("processed", "already_processed")
    drain_deadline: float | None = None
    slow_handler: float | None = None
    intake: Literal["pubsub", "stream", "none"] = "pubsub"
    max_bytes: int = 0
    on_dead: Callable[[bytes, str, str], object] | None = None
    kind: HandlerKind = field(init=False)
    inline: bool = field(init=False)
    lane_group: str = field(init=False)

    def __post_init__(self) -> None:
        where = f"route {self.topic!r}"
        for key, right, expected in (
            ("topic", isinstance(self.topic, str) and self.topic, "a channel, stream or pattern"),
            ("handler", callable(self.handler), "a function of event and context"),
            ("sinks", isinstance(self.sinks, tuple) and self.sinks, "a tuple of names of sinks"),
            ("retry", isinstance(self.retry, RetryPolicy | None), "a RetryPolicy"),
            ("overload", isinstance(self.overload, Overload), "a member of Overload"),
            ("timeout", _positive(self.timeout), "seconds above 0, or None for no limit"),
            ("drain_deadline", _positive(self.drain_deadline), "seconds above 0, or None for the service's"),
            ("slow_handler", _positive(self.slow_handler), "seconds above 0, or None for the setting"),
            ("weight", self.weight >= 1, "a whole number of 1 or more"),
            ("max_concurrency", self.max_concurrency >= 0, "a whole number, 0 for no limit"),
            ("slots", isinstance(self.slots, Slots | None), "Slots(name, limit), or None for the pool's"),
            ("intake", self.intake in ("pubsub", "stream", "none"), "'pubsub', 'stream' or 'none'"),
            ("max_bytes", self.max_bytes >= 0, "a number of bytes, 0 for the pool's limit"),
        ):
            if not right:
                raise ConfigError(where, key, getattr(self, key), expected)
        for key in ("decode", "key", "conflation"):
            if inspect.iscoroutinefunction(getattr(self, key)):
                raise ConfigError(where, key, getattr(self, key), "a plain function, not an async one")
        if self.overload is Overload.CONFLATE and self.key is None and self.conflation is None:
            raise ConfigError(
                where, "conflation", None, "a key or conflation function, which says what replaces what"
            )
        kind = _kind(self.handler, self.blocking)
        if self.blocking and kind is not HandlerKind.BLOCKING:
            raise ConfigError(where, "blocking", True, f"a plain function, not {kind.value}")
        if self.timeout is not None and kind is HandlerKind.PURE:
            expected = "none for a plain function, which nothing can stop unless blocking = True"
            raise ConfigError(where, "timeout", self.timeout, expected)
        if self.state_store is not None and self.key is None:
            raise ConfigError(where, "key", None, "a key function, since the route has a state store")
        set_ = object.__setattr__
        set_(self, "kind", kind)
        set_(self, "inline", kind is HandlerKind.PURE)
        set_(self, "name", self.name or getattr(self.handler, "__name__", self.topic))
        set_(self, "lane_group", self.state_store.name if self.state_store is not None else self.topic)
        if self.retry is None:
            plain = kind in (HandlerKind.PURE, HandlerKind.GENERATOR)
            set_(self, "retry", NO_RETRY if plain else IO_RETRY)

    @property
    def policy(self) -> RetryPolicy:
        assert self.retry is not None  # noqa: S101  set in __post_init__
        return self.retry


def _positive(seconds: object) -> bool:
    return seconds is None or (isinstance(seconds, int | float) and seconds > 0)


def _kind(handler: Callable[..., Any], blocking: bool) -> HandlerKind:
    function = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(function):
        return HandlerKind.ASYNC
    if inspect.isasyncgenfunction(handler) or inspect.isasyncgenfunction(function):
        expected = "a function that returns its effects, not one that yields them"
        raise ConfigError("route", "handler", getattr(handler, "__name__", handler), expected)
    if inspect.isgeneratorfunction(handler) or inspect.isgeneratorfunction(function):
        return HandlerKind.GENERATOR
    return HandlerKind.BLOCKING if blocking else HandlerKind.PURE


def is_pattern(topic: str) -> bool:
    """Whether a topic is a glob pattern (PSUBSCRIBE) rather than the name of a channel."""
    return any(c in topic for c in "*?[")


def covers(pattern: str, topic: str) -> bool:
    """Whether a topic matches a pattern as Redis matches: ``*``, ``?``, ``[abc]``, ``[^abc]``, ``\\x``."""
    return fnmatchcase(topic, _as_fnmatch(pattern))


@lru_cache(maxsize=1024)
def _as_fnmatch(pattern: str) -> str:
    return re.sub(r"\\(.)", r"[\1]", pattern).replace("[^", "[!")


class Router:
    """Finds the route of a topic: the exact one, else the first pattern that matches."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, Route] = {}
        self._patterns: list[Route] = []
        for route in self.routes:
            if route.topic in self._exact:
                raise ConfigError("routes", "topic", route.topic, "one route per topic")
            self._exact[route.topic] = route
            if is_pattern(route.topic):
                self._patterns.append(route)
        for name in {r.lane_group for r in self.routes}:
            members = [r for r in self.routes if r.lane_group == name]
            if len({(r.weight, r.priority, r.max_concurrency, r.slots, r.sinks) for r in members}) > 1:
                raise ConfigError(
                    "routes",
                    "weight, priority, max_concurrency, slots, sinks",
                    [r.topic for r in members],
                    f"the same for all routes that share the lanes of {name!r}",
                )
        limits: dict[str, int] = {}
        for route in self.routes:
            if (slots := route.slots) and limits.setdefault(slots.name, slots.limit) != slots.limit:
                expected = f"{limits[slots.name]}, as other routes with these slots have it"
                raise ConfigError(f"route {route.topic!r}", f"slots {slots.name!r}", slots.limit, expected)

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(r.topic for r in self.routes)

    def match(self, topic: str) -> Route | None:
        """The route for ``topic``, None if nothing is registered for it."""
        route = self._exact.get(topic)
        if route is None:
            route = next((r for r in self._patterns if covers(r.topic, topic)), None)
        return route
