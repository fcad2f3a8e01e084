"""``enricher run``: the worker as a process, with logs, signals, exit codes and a service manager."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

import anyio
import anyio.to_thread
import click
from click.core import ParameterSource

from enricher.app import Enricher
from enricher.cli import logs
from enricher.cli.embedded import NAMES, embedded_options, start_servers
from enricher.cli.loop import run_loop
from enricher.cli.main import FAILED, LOST, OK
from enricher.cli.notify import ServiceManager, watchdog_interval
from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.signals import stop_on_signal
from enricher.cli.watchdog import Watchdog
from enricher.cli.workers import status_line
from enricher.config import Settings
from enricher.config.loader import NOTHING
from enricher.embedded import EmbeddedServers
from enricher.errors import ConfigError, EmbeddedError, EngineFailed, EnricherError
from enricher.log import log
from enricher.system import code_of
from enricher.systems import SYSTEMS

# Seconds to drain once an embedded server has ended: there is nothing left to drain into.
_NO_SERVER_DRAIN = 1.0
# Seconds in which the last spans must be exported.
_LAST_SPANS = 1.0


def system_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives the command the options of the systems; what was given comes as settings, in ``given``."""
    for system in reversed(SYSTEMS):
        if system.run_options:
            command = code_of(system.run_options)(command)
    return command


def alone(given: Mapping[str, str]) -> dict[str, str]:
    """The settings that options of systems mean: these systems are on, and the others are off."""
    names = {key.partition(".")[0] for key in given}
    return {f"{system.name}.enabled": str(system.name in names).lower() for system in SYSTEMS if given}


@click.command(
    epilog="""\b
Examples:
  enricher run                                  servers as in config.toml
  enricher run --redis-url redis://cache/0 --mongo-url mongodb://db/market
  enricher run --embedded --data-dir ./data     with servers of its own
  enricher run --set pool.concurrency=128 --log-format json
  enricher run --consumer worker_02 --batch-size 50     a worker for mails

Exit code 0 after SIGTERM or Ctrl-C, 3 if messages were lost, 130 after a second signal, 2 for a wrong
setting, 1 otherwise. It ends at most 2 s after the longest drain (service.drain_deadline, or that of a
system), whatever a handler does.
"""
)
@click.option("--embedded", is_flag=True, help="Start the bundled servers and use them.")
@embedded_options()
@system_options
@settings_options
def command(
    options: SettingsOptions, embedded: bool, servers: EmbeddedServers, given: Mapping[str, str] = NOTHING
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; it then finishes the messages it has.

    The worker takes messages in, enriches them, and writes the results to MongoDB and Redis. It waits
    for a server that is unreachable. Logs go to standard output. An option of a system, such as
    --stream, switches that system on and the others off.
    """
    context = click.get_current_context()
    of_servers = [n for n in NAMES if context.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    if of_servers and not embedded:
        raise click.UsageError(f"--{of_servers[0].replace('_', '-')} is of use only with --embedded")
    # What was said by --set wins: a worker may do several things.
    options = SettingsOptions(options.config, {**alone(given), **given, **options.overrides})
    settings = options.load(find_servers=False)
    logs.configure(settings.log, settings.service.name)
    code = run_loop(lambda: serve(options, settings, servers if embedded else None))
    context.exit(code)


async def serve(options: SettingsOptions, settings: Settings, servers: EmbeddedServers | None) -> int:
    """Run a worker until a signal comes; returns the exit code.

    ``servers`` are started and their addresses win over all others.
    """
    service = settings.service
    with stop_on_signal() as stop, Watchdog(service.drain_deadline, service.stall_after) as watchdog:
        watchdog.code = await _serve(options, settings, servers, stop, watchdog)
        return watchdog.code


async def _serve(
    options: SettingsOptions,
    settings: Settings,
    servers: EmbeddedServers | None,
    stop: asyncio.Event,
    watchdog: Watchdog,
) -> int:
    try:
        async with AsyncExitStack() as stack:
            if servers is not None:
                urls = await start_servers(servers, stack, stop)
                if urls is None:
                    return OK
                settings = options.load(urls)
            return await _work(settings, servers, stop, watchdog)
    except ConfigError:
        raise
    except EngineFailed:
        log.exception("crashed")
    except EnricherError as error:
        log.error("cannot_run", error=str(error))
    except Exception:  # noqa: BLE001
        # The exit code alone says nothing; the log is where a crash is looked for.
        log.exception("crashed")
    return FAILED


async def _work(
    settings: Settings,
    servers: EmbeddedServers | None,
    stop: asyncio.Event,
    watchdog: Watchdog,
) -> int:
    manager = ServiceManager.from_environ(os.environ)
    died: BaseException | None = None
    async with _exported(settings), Enricher(settings) as enricher:
        watchdog.enricher = enricher
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_tell, enricher, manager)
                tasks.start_soon(_heed, enricher, stop)
                if servers is not None:
                    tasks.start_soon(servers.watch)
                await stop.wait()
                tasks.cancel_scope.cancel()
        except* EmbeddedError as group:
            died = group.exceptions[0]
        finally:
            # Also when the engine has failed, and what is left of it is drained.
            left = watchdog.begin()
            manager.stopping("draining")
        if died is not None:
            log.error("embedded_server_ended", error=str(died))
            await enricher.stop(_NO_SERVER_DRAIN)
        else:
            log.info("stopping", waiting=enricher.engine.pool.count)
            await enricher.stop(left)
    if died is not None:
        return FAILED
    return LOST if enricher.lost else OK


@asynccontextmanager
async def _exported(settings: Settings) -> AsyncIterator[None]:
    """Spans are exported; at the end the last ones, unless nobody takes them."""
    if not settings.trace.enabled or find_spec("opentelemetry") is None:
        yield  # the enricher says if it is missing
        return
    from enricher.tracing import set_up

    end = set_up(settings.service.name)
    try:
        yield
    finally:
        with anyio.move_on_after(_LAST_SPANS, shield=True):
            await anyio.to_thread.run_sync(end, abandon_on_cancel=True)


async def _heed(enricher: Enricher, stop: asyncio.Event) -> None:
    """Stop as after a signal when somebody else stops the engine: a worker may be told to."""
    while not enricher.engine.stopping:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    stop.set()


async def _tell(enricher: Enricher, manager: ServiceManager) -> None:
    """Keep the service manager informed: ready once, a status line, and a sign of life while we move."""
    settings = enricher.settings
    due = watchdog_interval(os.environ)
    interval = min(settings.service.health_interval, due or settings.service.health_interval)
    ready, status, next_ping = False, "", 0.0
    clock = asyncio.get_running_loop().time
    while True:
        line = status_line(enricher.figures())
        if enricher.ready and not ready:
            ready = True
            manager.ready(line)
        elif line != status:
            manager.status(line)
        status = line
        if due is not None and clock() >= next_ping:
            next_ping = clock() + due
            if enricher.health()["status"] not in ("stalled", "failed"):
                manager.watchdog()
        await asyncio.sleep(interval)
