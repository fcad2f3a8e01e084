"""``enricher check``: is the configuration right, are the servers there, and what looks wrong?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from enricher import __version__
from enricher.adapters.mongo import COSTS, close_client, mongo_client
from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.stream.group import WrongKey, check_key
from enricher.assembly import planned, stores_documents
from enricher.build_info import described
from enricher.cli import logs
from enricher.cli.check_growth import HEAD as GROWTH
from enricher.cli.check_growth import Stored, ask_growth
from enricher.cli.check_search import ask_search
from enricher.cli.check_streams import HEAD, row_of, stream_warnings
from enricher.cli.main import FAILED, OK
from enricher.cli.options import SettingsOptions, duration_option, settings_options
from enricher.config import Section, Settings, named_by_origin, redact, redact_text
from enricher.engine.router import Route, Router
from enricher.errors import EnricherError
from enricher.feed_gaps import GAPS
from enricher.intake import over_streams
from enricher.stream_groups import StreamState, ask_streams, groups_of
from enricher.system import Plan, StreamUse
from enricher.systems import SYSTEMS


@dataclass(frozen=True, slots=True)
class Server:
    """What one server said: its version and what else is known, or why it could not be asked."""

    name: str
    url: str
    says: str = ""
    error: str = ""
    policy: str = ""
    dead_letters: int | None = None
    streams: tuple[StreamState, ...] = ()
    problem: str = ""
    stored: Stored | None = None

    @property
    def problems(self) -> list[str]:
        """Keys that hold something else than a worker with these settings expects."""
        return [text for text in (self.problem, *(state.problem for state in self.streams)) if text]


@click.command(
    epilog="""\b
Examples:
  enricher check
  enricher check --config /etc/enricher/config.toml --verbose
  enricher check --quiet && systemctl restart enricher

Exit code 0 when the servers answer (there may be warnings), 1 when one does not,
when one of our keys has a value of another type, or for a class of jobs that is
wrong, 2 for a wrong setting.
"""
)
@click.option("-v", "--verbose", is_flag=True, help="Also print all settings, and where each comes from.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what is wrong.")
@duration_option("--timeout", default="3s", help="How long to wait for a server.")
@settings_options
def command(options: SettingsOptions, verbose: bool, quiet: bool, timeout: float) -> None:
    """Test the settings and the servers, and print warnings.

    Shows the routes, the streams with their waiting entries, the number of dead letters, how fast the
    collections grow, and when the disk will be full. With --verbose it shows every setting. It prints
    no passwords, and writes nothing.
    """
    settings = options.load()
    # What it would say is said here.
    logs.configure_aside(settings, level="critical")
    well = asyncio.run(_check(settings, verbose, quiet, timeout))
    click.get_current_context().exit(OK if well else FAILED)


async def _check(settings: Settings, verbose: bool, quiet: bool, timeout: float) -> bool:
    """Print what there is to say; whether all is well."""
    with named_by_origin(settings):
        plans = planned(settings)
        routes = over_streams(settings, [route for plan in plans for route in plan.routes])
    Router(routes)
    groups = groups_of(settings, routes, plans)
    stores = stores_documents(routes, plans)
    servers = await ask_servers(settings, timeout, groups, growth=not quiet, stores=stores)
    unreachable = [server for server in servers if server.error]
    if not quiet:
        for line in _report(settings, servers, routes, plans, verbose):
            click.echo(line)
    for server in unreachable:
        click.echo(f"Error: {server.name} at {server.url} is unreachable: {server.error}", err=True)
    probed = [] if unreachable else await _probe(plans, timeout)
    for warning in [*warnings(settings, servers, plans, stores=stores), *probed]:
        click.echo(f"Warning: {warning}", err=True)
    wrong = [f"{server.name} at {server.url}: {text}" for server in servers for text in server.problems]
    wrong += [text for plan in plans for text in plan.problems()]
    for text in wrong:
        click.echo(f"Error: {redact_text(text)}", err=True)
    return not unreachable and not wrong


async def _probe(plans: Sequence[Plan], timeout: float) -> list[str]:
    """What systems find out from their servers and warn of."""
    found: list[str] = []
    for plan in plans:
        if plan.probe is not None:
            with suppress(TimeoutError, EnricherError):  # a server that went away since it was asked
                async with asyncio.timeout(timeout):
                    found += await plan.probe()
    return found


async def ask_servers(
    settings: Settings,
    timeout: float,
    groups: Sequence[StreamUse] = (),
    *,
    growth: bool = False,
    stores: bool = True,
) -> list[Server]:
    """Ask Redis, MongoDB, a search server and other Redis, of dead letters and of systems, all at once.

    With ``growth`` MongoDB is also asked how fast its collections grow; it is left alone without ``stores``.
    """
    letters_url = settings.dead_letters.url or settings.redis.url
    apart = letters_url != settings.redis.url
    questions = [
        _ask_redis("Redis", settings, settings.redis.url, timeout, groups, letters=not apart),
    ]
    if stores:
        questions.append(_ask_mongo(settings, timeout, growth))
    if settings.search.is_on():
        questions.append(_ask_search(settings, timeout))
    if apart:
        questions.append(
            _ask_redis("Redis of the dead letters", settings, letters_url, timeout, letters=True)
        )
    asked = {settings.redis.url, letters_url, ""}
    for name, section in settings.routes.items():
        for key, url in section.servers("redis").items() if section.is_on() else ():
            if url not in asked:
                asked.add(url)
                questions.append(_ask_redis(f"Redis of {name}.{key}", settings, url, timeout, letters=False))
    return await asyncio.gather(*questions)


async def _ask_redis(
    name: str,
    settings: Settings,
    url: str,
    timeout: float,
    groups: Sequence[StreamUse] = (),
    *,
    letters: bool,
) -> Server:
    shown, problem = redact(url), ""
    async with redis_client(url, socket_timeout=timeout, protocol=settings.redis.protocol) as client:
        try:
            await client.ping()
            info: Mapping[str, Any] = {}
            # A worker need not be allowed to ask.
            with suppress(NoPermissionError):
                info = await client.info()
            count = None
            try:
                count = await _letters(client, settings) if letters else None
            except WrongKey as error:
                problem = str(error)
            states = await ask_streams(client, settings, groups) if groups else []
        except (RedisError, OSError, TimeoutError) as error:
            return Server(name, shown, error=redact_text(f"{type(error).__name__}: {error}"))
    kind, policy = info.get("server_name", "redis"), str(info.get("maxmemory_policy", ""))
    version = info.get(f"{kind}_version") or info.get("redis_version", "of unknown version")
    says = f"{kind} {version}, maxmemory-policy {policy or 'unknown'}"
    return Server(name, shown, says, "", policy, count, tuple(states), problem)


async def _letters(client: Redis, settings: Settings) -> int:
    key = settings.dead_letters.key
    await check_key(client, key, settings.dead_letters.store)
    return int(await (client.xlen(key) if settings.dead_letters.store == "stream" else client.llen(key)))


async def _ask_mongo(settings: Settings, timeout: float, growth: bool) -> Server:
    shown = redact(settings.mongo.url)
    client = mongo_client(settings.mongo.url, driver=settings.mongo.driver, timeout=timeout)
    try:
        await client.admin.command("ping")
        build = await client.admin.command("buildInfo")
        # These two anybody may ask; what a worker does needs a user.
        database = client[settings.mongo.database_name]
        await database.command("count", GAPS, limit=1)
        stored = await ask_growth(database, settings, timeout) if growth else None
    except (PyMongoError, OSError) as error:
        # The driver adds a dump of its view of the servers; the first part is what a reader needs.
        text = str(error).partition(", Timeout:")[0]
        return Server("MongoDB", shown, error=redact_text(f"{type(error).__name__}: {text}"))
    finally:
        await close_client(client)
    driver = settings.mongo.driver
    says = f"version {build.get('version', 'unknown')}, database {settings.mongo.database_name}"
    return Server("MongoDB", shown, f"{says}, driver {driver} ({COSTS[driver]})", stored=stored)


async def _ask_search(settings: Settings, timeout: float) -> Server:
    says, error = await ask_search(settings.search, timeout)
    return Server("Search server", redact(settings.search.url), says, redact_text(error))


def warnings(
    settings: Settings, servers: Sequence[Server], plans: Sequence[Plan], *, stores: bool = True
) -> Iterator[str]:
    """What is allowed but will probably be regretted, one sentence each."""
    for server in servers:
        if server.policy.startswith("allkeys-"):
            yield (
                f"{server.name}: maxmemory-policy {server.policy} may throw away claims, dead letters and "
                "streams, which have to stay; expected noeviction or one of volatile-*"
            )
        yield from stream_warnings(server.streams)
    if stores:
        yield from settings.mongo.warnings()
    if not any(plan.routes or plan.services for plan in plans):
        switches = " and ".join(f"{system.name}.enabled" for system in SYSTEMS)
        yield f"no route is registered, so nothing will be processed; see {switches}"
    for plan in plans:
        yield from plan.warnings()
    for old, key in settings.renamed.items():
        yield f"{old} ({settings.origins[key]}) is an old name; write {key}"


def _report(
    settings: Settings,
    servers: Sequence[Server],
    routes: Sequence[Route],
    plans: Sequence[Plan],
    verbose: bool,
) -> Iterator[str]:
    sources = sorted(set(settings.origins.values()))
    yield f"enricher {__version__} on {described()}"
    yield f"Settings are valid ({', '.join(sources) if sources else 'all at their defaults'})."
    for server in servers:
        yield f"{server.name} at {server.url}: {server.says or 'unreachable'}"
        if server.dead_letters is not None:
            yield f"  {server.dead_letters} dead letters in {settings.dead_letters.key}"
    yield "Routes:"
    yield from columns(
        ["topic", "handler", "sinks", "overload"],
        [[r.topic, r.name, "+".join(r.sinks), r.overload.value] for r in routes],
    )
    states = [state for server in servers for state in server.streams]
    if states:
        yield "Streams:"
        yield from columns(HEAD, [row_of(state) for state in states])
    for stored in (server.stored for server in servers if server.stored is not None):
        if stored.growths:
            yield "Growth:"
            yield from columns(GROWTH, [growth.row for growth in stored.growths])
            yield from stored.lines(datetime.now(UTC))
    for plan in plans:
        yield from plan.notes
    if verbose:
        shown = settings.printable()
        yield "Settings in effect:"
        yield from columns(
            ["key", "value", "from"],
            [
                [key, repr(value), settings.origins.get(key, "default")]
                for name, section in settings.sections().items()
                for key, value in _flat(name, section, shown[name])
            ],
        )


def _flat(prefix: str, section: Section, shown: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Every dotted key of a section with its printable value; ``shown`` is the section as plain data."""
    for name, value in shown.items():
        inner = getattr(section, name)
        if isinstance(inner, Section):
            yield from _flat(f"{prefix}.{name}", inner, value)
        else:
            yield f"{prefix}.{name}", value


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of left-aligned columns, two spaces in and apart, under their names."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
