"""Dead letters opened for work, and who reprocesses them: the running worker, or this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from redis.asyncio import Redis

from enricher.app import wall_clock
from enricher.build import build, market_routes
from enricher.cli.until import say
from enricher.cli.workers import every_pattern, read_figures
from enricher.config import Settings
from enricher.connections import redis_client
from enricher.deadletters.filters import LetterFilter
from enricher.deadletters.record import StoredLetter
from enricher.deadletters.redis import ListLetterStore as DeadLetterStore
from enricher.deadletters.replay import UNANSWERED, Outcome, Reprocess, retry, through
from enricher.deadletters.requests import ask_worker, listening
from enricher.engine.service import Engine
from enricher.errors import SinkUnavailable

HERE, WORKER, AUTO = "here", "worker", "auto"


@dataclass(frozen=True, slots=True)
class Letters:
    """What a subcommand works with: the settings, both clients and the store."""

    settings: Settings
    live: Redis
    store: DeadLetterStore

    async def chosen(
        self, names: Sequence[str], wanted: LetterFilter, limit: int | None = None
    ) -> list[StoredLetter]:
        """The letters of these names, else all, that ``wanted`` lets through; newest first."""
        found: list[StoredLetter] = []
        if names:
            named = {letter.raw: letter for letter in [await self.store.get(name) for name in names]}
            return [letter for letter in named.values() if wanted.matches(letter)][:limit]
        async for letter in self.store.letters():
            if limit is not None and len(found) >= limit:
                break
            if wanted.matches(letter):
                found.append(letter)
        return found


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Letters]:
    """The dead letters of ``settings``."""
    options, section = settings.redis, settings.dead_letters
    routes = market_routes(settings)
    async with redis_client(options.url, socket_timeout=options.socket_timeout) as live:
        topics = {route.name: route.topic for route in routes}
        if section.url and section.url != options.url:
            async with redis_client(section.url, socket_timeout=options.socket_timeout) as client:
                yield Letters(settings, live, DeadLetterStore(client, section.key, topics))
        else:
            yield Letters(settings, live, DeadLetterStore(live, section.key, topics))


Attempt = Callable[[StoredLetter], Awaitable[Outcome]]


@asynccontextmanager
async def reprocessing(letters: Letters, via: str, timeout: float) -> AsyncIterator[Attempt]:
    """A way to reprocess one letter, by whom ``via`` says; ``timeout`` is in seconds per letter."""
    service = letters.settings.service.name
    heard = await listening(letters.live, service)
    if via == WORKER or (via == AUTO and heard):

        async def by_worker(letter: StoredLetter) -> Outcome:
            return await ask_worker(letters.live, service, letter, timeout)

        say("reprocessed by the running worker")
        yield by_worker
        return
    figures = await read_figures(letters.live, letters.settings, every_pattern(letters.settings))
    if running := ", ".join(str(found["instance"]) for found in figures if found["service"] == service):
        say(f"Warning: {unseen(running, heard)}")
    say("reprocessed in this process")
    async with engine(letters.settings, timeout) as reprocess:

        async def here(letter: StoredLetter) -> Outcome:
            with anyio.move_on_after(timeout):
                return await retry(letters.store, letter, reprocess)
            return Outcome(UNANSWERED, f"not committed after {timeout:g} s; the entry stays as it was")

        yield here


def unseen(running: str, heard: bool) -> str:
    """What a worker that runs misses of what is reprocessed here; ``heard``: it listens for retries."""
    if heard:
        return (
            f"{running} runs, and its windows and bars will lack these messages; "
            "with --via worker they would see them"
        )
    return f"{running} runs and takes no retries: its windows and bars will lack these messages"


@asynccontextmanager
async def engine(settings: Settings, timeout: float) -> AsyncIterator[Reprocess]:
    """An engine that subscribes to nothing: only what is handed in goes through the routes.

    Raises SinkUnavailable if a server does not answer within ``timeout`` seconds.
    """
    parts = build(settings, clock=wall_clock)
    running = Engine(
        parts.routes,
        (),
        parts.sinks,
        clock=wall_clock,
        reader=parts.reader,
        pool=parts.pool,
        writer=parts.writer,
        backoff=parts.backoff,
        drain_deadline=parts.drain_deadline,
    )
    try:
        async with running:
            with anyio.move_on_after(timeout):
                await running.wait_ready()
            if not running.ready:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in running.outages.items())
                await running.stop(0)
                raise SinkUnavailable("a server", reasons or f"no answer within {timeout:g} s")
            yield through(running.put, wall_clock)
            if running.outages:
                await running.stop(0)  # what could not be committed is still in its entry
    finally:
        with anyio.CancelScope(shield=True):
            for close in parts.closers:
                await close()
