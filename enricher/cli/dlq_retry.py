"""Dead letters opened for work, and who retries them: the running worker, this process, or a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import click
import msgspec
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.dead_letters.base import RedisLetterStore
from enricher.adapters.redis.dead_letters.configured import STORES, letter_store
from enricher.adapters.redis.dead_letters.retry_requests import by_worker, listening
from enricher.adapters.redis.dead_letters.target_stream import TargetStream, groups_of
from enricher.cli.output import say
from enricher.cli.workers import every_pattern, read_figures
from enricher.config import Settings, named_by_origin
from enricher.dead_letters.bulk import DEFAULT_LIMIT, RateLimit
from enricher.dead_letters.edits import NO_EDIT, Edit
from enricher.dead_letters.filters import LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import Attempt, Process, here, through
from enricher.dead_letters.selection import Selection, select
from enricher.errors import EnricherError, SinkUnavailable
from enricher.texts import as_bytes

HERE, WORKER, AUTO = "here", "worker", "auto"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the dead letters are; what is empty is as the settings say, and as the key turns out to be."""

    key: str = ""
    store: str = ""


@dataclass(frozen=True, slots=True)
class How:
    """Who retries, how fast, and with which changes. ``timeout`` is in seconds per letter.

    With ``to`` it is whoever reads that stream: ``group``, or the only one there is, or with ``wait`` off
    nobody that is waited for.
    """

    via: str = AUTO
    timeout: float = 30.0
    edit: Edit = NO_EDIT
    rate_limit: RateLimit = DEFAULT_LIMIT
    to: str = ""
    group: str = ""
    wait: bool = True
    fields: bool = False


@dataclass(frozen=True, slots=True)
class Letters:
    """What a subcommand works with: the settings, the client of feeds and workers, and the store."""

    settings: Settings
    live: Redis
    store: RedisLetterStore

    async def select(
        self, names: Sequence[str], wanted: LetterFilter, limit: int | None = None
    ) -> Selection:
        """The letters of these names, else all, that ``wanted`` lets through, newest first."""
        return await select(self.store, wanted, limit, self._named(names) if names else None)

    async def _named(self, names: Sequence[str]) -> AsyncIterator[StoredLetter]:
        letters = [await self.store.get(name) for name in names]
        named = {(letter.raw, letter.id): letter for letter in letters}
        for letter in sorted(named.values(), key=lambda letter: letter.position):
            yield letter


@asynccontextmanager
async def opened(settings: Settings, place: Place) -> AsyncIterator[Letters]:
    """The dead letters of ``settings``, or those at ``place``.

    Raises `EnricherError` for a key that is neither list nor stream.
    """
    options, section = settings.redis, settings.dead_letters
    async with AsyncExitStack() as stack:

        async def connected(url: str) -> Redis:
            client = redis_client(url, socket_timeout=options.socket_timeout)
            return await stack.enter_async_context(client)

        live = await connected(options.url)
        client = live if section.url in ("", options.url) else await connected(section.url)
        key = place.key or section.key
        kind = await kind_of(client, key, place.store, section.store)
        section = msgspec.structs.replace(section, key=key, store=kind)
        store = letter_store(section, client, settings.dead_letter_topics(key))
        yield Letters(msgspec.structs.replace(settings, dead_letters=section), live, store)


async def kind_of(client: Redis, key: str, wanted: str, default: str) -> str:
    """``list`` or ``stream``: as the key is, else as it is ``wanted``, else ``default``.

    Raises `EnricherError` if it is anything else, or not what is wanted.
    """
    kind = as_bytes(await client.type(key)).decode()
    if kind == "none":
        return wanted or default
    if kind not in STORES:
        raise EnricherError(f"{key} is a {kind}; dead letters are in a list or a stream")
    if wanted and wanted != kind:
        raise EnricherError(f"{key} is a {kind}, not a {wanted}; without --store it is read as it is")
    return kind


@asynccontextmanager
async def attempts(letters: Letters, how: How) -> AsyncIterator[Attempt]:
    """A way to retry one letter, as ``how`` says."""
    if how.to:
        yield await _by_readers(letters, how)
        return
    service = letters.settings.service.name
    heard = await listening(letters.live, service)
    if how.via == WORKER:
        # It may be about to start; each letter would be waited for as long.
        with anyio.move_on_after(how.timeout):
            while not (heard := await listening(letters.live, service)):  # noqa: ASYNC110
                await anyio.sleep(0.1)
        if not heard:
            raise EnricherError(
                f"no worker of service {service!r} retries dead letters; start one, or use --via here"
            )
    if how.via == WORKER or (how.via == AUTO and heard):
        say("retried by the running worker")
        yield by_worker(letters.live, service, letters.store, seconds=how.timeout, edit=how.edit)
        return
    figures = await read_figures(letters.live, letters.settings, every_pattern(letters.settings))
    if running := ", ".join(str(worker["instance"]) for worker in figures if worker["service"] == service):
        say(f"Warning: {unseen(running, heard)}")
    say("retried in this process")
    async with engine(letters.settings, how.timeout) as process:
        yield here(letters.store, process, how.edit, seconds=how.timeout)


async def _by_readers(letters: Letters, how: How) -> TargetStream:
    """Retries by whoever reads the stream ``how.to``, which is in the Redis of the feeds."""
    group = how.group
    if how.wait and not group:
        groups = await groups_of(letters.live, how.to)
        if len(groups) > 1:
            raise click.UsageError(f"{how.to} has the groups {', '.join(groups)}: give --group, or --no-wait")
        group = groups[0] if groups else ""
    if group:
        say(f"retried by group {group} of {how.to}; a dead letter is removed when its message is done")
    else:
        say(f"moved to {how.to}; a dead letter is removed when its message is in the stream")
    return TargetStream(
        letters.store,
        letters.live,
        how.to,
        group=group,
        fields=how.fields,
        seconds=how.timeout,
        edit=how.edit,
    )


def unseen(running: str, heard: bool) -> str:
    """What a worker that runs misses of what is retried here; ``heard``: it listens for retries."""
    lacking = "its windows and bars will lack these messages"
    if heard:
        return f"{running} runs, and {lacking}; with --via worker they would see them"
    return f"{running} runs and takes no retries: {lacking}"


@asynccontextmanager
async def engine(settings: Settings, timeout: float) -> AsyncIterator[Process]:
    """An engine that subscribes to nothing: only what is handed in goes through the routes.

    Raises SinkUnavailable if a server does not answer within ``timeout`` seconds.
    """
    # All that a worker is made of: whoever only looks does without.
    from enricher.assembly import build
    from enricher.clock import wall_clock

    with named_by_origin(settings):
        parts = build(settings, listens=False)
    running = parts.engine
    try:
        async with running:
            with anyio.move_on_after(timeout):
                await running.wait_ready()
            if not running.ready:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in running.outages.items())
                await running.stop(0)
                raise SinkUnavailable("a server", reasons or f"no answer within {timeout:g} s")
            yield through(running.pool.put, wall_clock)
            if running.outages:
                await running.stop(0)  # what could not be committed is still in its entry
    finally:
        await parts.close()
