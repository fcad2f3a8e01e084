"""How a system plugs in: `System` is what it declares, `Host` what it gets, `Plan` what it answers.

    SYSTEM = System(name="orders", settings=OrderSettings, plan=plan)

    def plan(section: OrderSettings, host: Host) -> Plan:
        return Plan(routes=[Route(topic=section.channel, handler=enrich)])

    Enricher(settings, systems=[SYSTEM])

Where a field takes code it also takes its name, ``"package.module:name"``, so that nothing is imported before
it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from msgspec import field

from enricher.errors import ConfigError, WrongSetting

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from enricher.config import Section, Settings, StreamSettings
    from enricher.dead_letters.sink import DeadLetterSink
    from enricher.engine.claims import Claims
    from enricher.engine.effects import DeadLetter, Effect
    from enricher.engine.ports import Clock, Reader, Sink, Source
    from enricher.engine.router import Route
    from enricher.engine.stats import Stats
    from enricher.job_store import JobQueues, JobQueueSettings
    from enricher.metrics import Metric
    from enricher.options import Options
    from enricher.web.views import Action, View


class Command(NamedTuple):
    """A subcommand: ``module:name`` of a click command, and the line that the program's help shows."""

    code: str
    help: str


class System(msgspec.Struct, frozen=True, kw_only=True):
    """What a system declares.

    ``name`` is that of its section in the settings, ``settings`` the type of the section, whose `is_on` says
    whether the system is on: it is unless a field ``enabled`` is false. ``plan`` is called with the section
    and the `Host` when an enricher starts; it connects to nothing. ``commands`` are subcommands by name.
    ``run_options`` is a decorator that adds options to ``enricher run``; it hands what was given to the
    command as ``given``, a mapping of dotted settings to text.
    """

    name: str
    settings: type[Section] | str
    plan: Callable[[Any, Host], Plan] | str
    commands: Mapping[str, Command] = field(default_factory=dict)
    run_options: str = ""

    @property
    def section(self) -> type[Section]:
        """The type of its section."""
        return code_of(self.settings)  # type: ignore[no-any-return]


class Host(Protocol):
    """What a system gets: the settings, what the program added to them, and the means to reach Redis.

    ``options`` are the keyword arguments of `Enricher`; ``clock`` tells microseconds since 1970, UTC;
    ``instance`` is the name of this process among several. ``reader`` reads documents
    back, once the enricher runs.
    """

    settings: Settings
    options: Options
    clock: Clock
    instance: str

    reader: Reader

    @property
    def stats(self) -> Stats:
        """The counters, once the enricher runs."""
        ...

    @property
    def outages(self) -> Mapping[str, str]:
        """The sinks that are unreachable now, and why, once the enricher runs."""
        ...

    def health(self) -> Mapping[str, Any]:
        """As `Enricher.health`, once the enricher runs."""
        ...

    def emit(self, *effects: Effect) -> None:
        """As `Enricher.emit`, once the enricher runs."""
        ...

    def stop(self) -> None:
        """Begin what `Enricher.stop` does, once the enricher runs; doing it again changes nothing."""
        ...

    async def cached(self, *keys: str) -> list[bytes | None]:
        """The values of keys in Redis, for whoever looks at them. Raises `SinkUnavailable`."""
        ...

    async def drop_dead_letters(self, topic: str, field: str, value: str) -> int:
        """Remove the common dead letters of a topic whose message has this in a field; how many there were.

        Errors of the store are passed on.
        """
        ...

    async def commit(self, topic: str, body: bytes, *effects: Effect) -> None:
        """As `Engine.commit`: commit effects of a message that was checked elsewhere, and wait for it."""
        ...

    def stream(
        self,
        name: str,
        *,
        group: str,
        consumer: str,
        task: str,
        settings: StreamSettings,
        dead_letters: DeadLetterSink | None = None,
        trim: bool = True,
    ) -> Source:
        """A consumer group on a Redis stream as a source.

        A message's body is its whole entry, as a JSON object of its fields. ``task`` is what dead letters
        call an entry that nobody could read. Of ``settings`` those count that say how a stream is read and
        trimmed. ``dead_letters`` are those of a store of the system's own. With ``trim`` entries go that all
        groups have finished.
        """
        ...

    def claims(self, ttl: int) -> Claims:
        """Claims of processed messages, remembered for ``ttl`` seconds; they are closed with the enricher."""
        ...

    def dead_letter_stream(
        self,
        key: str,
        *,
        topics: Mapping[str, str],
        fields: Callable[[DeadLetter], dict[bytes, bytes]],
    ) -> DeadLetterSink:
        """A store of dead letters in a stream of the system's own.

        ``topics`` by the names of their tasks; ``fields`` are what an entry has besides the dead letter.
        """
        ...

    def job_queues(self, settings: JobQueueSettings) -> JobQueues:
        """The jobs of a server, as this process works on them."""
        ...


class StreamUse(NamedTuple):
    """A consumer group that is read; ``dead_letters`` is their stream, "" where they go with all others."""

    stream: str
    group: str
    dead_letters: str = ""


Index = tuple[str, tuple[tuple[str, int], ...]]
"""A collection and the keys of an index on it, each with 1 (ascending) or -1."""


Pages = Callable[[], "Sequence[BaseRoute]"]
"""Makes pages of the web app, when there is one."""

Views = Callable[[], "Sequence[View | Action]"]
"""Makes the views and actions of the dashboard, when there is a web app."""


def _no_lines() -> Iterable[str]:
    return ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a system adds to an enricher.

    ``routes`` are fed as their ``intake`` says; ``sources`` bring messages besides; ``patterns`` are
    subscribed to without a route. ``sinks`` write effects of the system's own kinds, under names that no
    other has. ``views`` are screens, answers of the API and actions of the dashboard; ``pages`` are further
    pages of the web app, ``listens`` {address: pages} those of addresses of the
    system's own; they are asked for when there is an app. ``services`` {name: coroutine function} run beside
    the engine. At a stop they are cancelled after the drain, before the sinks close; one that raises ends the
    enricher, one that returns is done. ``collections`` and ``indexes`` are made in MongoDB,
    ``search_indices`` {name: settings and mappings} in the search server if there is one. ``dead_letters``
    {topic: sink} are for topics whose dead letters go to a store of their own. ``troubles`` {topic: what is
    wrong with it} is read whenever somebody asks for the health. ``summary`` makes a line for the log and its
    figures from the counters, ``metrics`` are figures for whoever scrapes them. ``streams``, ``warnings`` and
    ``notes`` are what ``enricher check`` shows; ``problems`` are what it fails for, ``probe`` asks servers
    for more warnings.
    """

    routes: Sequence[Route] = ()
    sources: Sequence[Source] = ()
    sinks: Sequence[Sink] = ()
    services: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    pages: Pages = tuple
    views: Views = tuple
    listens: Mapping[str, Pages] = field(default_factory=dict)
    patterns: Sequence[str] = ()
    collections: Sequence[str] = ()
    indexes: Sequence[Index] = ()
    search_indices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dead_letters: Mapping[str, DeadLetterSink] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    summary: Callable[[Stats], tuple[str, Mapping[str, int]]] | None = None
    metrics: Callable[[], Awaitable[Iterable[Metric]]] | None = None
    streams: Sequence[StreamUse] = ()
    warnings: Callable[[], Iterable[str]] = _no_lines
    notes: Sequence[str] = ()
    problems: Callable[[], Iterable[str]] = _no_lines
    probe: Callable[[], Awaitable[Iterable[str]]] | None = None


def code_of(code: Any) -> Any:
    """What ``module:name`` names, imported now; anything but text is returned as it is."""
    if not isinstance(code, str):
        return code
    module, _, name = code.partition(":")
    return getattr(importlib.import_module(module), name)


def plans(systems: Iterable[System], host: Host) -> list[Plan]:
    """The plans of the systems that are switched on; a section that is not in the settings is off.

    Raises `ConfigError` for a section of another type than its system's, and for what the systems find wrong.
    """
    found: list[Plan] = []
    errors: list[ConfigError] = []
    for system in systems:
        section = host.settings.routes.get(system.name)
        if section is None:
            continue
        try:
            if not isinstance(section, system.section):
                expected = f"a section of type {system.section.__name__}: name it in load(sections=...)"
                raise WrongSetting(system.name, type(section).__name__, expected)
            if section.is_on():
                plan = code_of(system.plan)(section, host)
                if not isinstance(plan, Plan):
                    raise TypeError(f"the plan of system {system.name!r} returned {plan!r}: expected a Plan")
                found.append(plan)
        except ConfigError as error:
            errors.append(error)
    if errors:
        raise ConfigError.together(errors) from errors[0].__cause__
    return found
