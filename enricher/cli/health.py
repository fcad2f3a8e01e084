"""``enricher health``: one question to the worker on this host, for a container's health check."""

from __future__ import annotations

import asyncio

import click
import msgspec

from enricher.cli.main import FAILED, OK
from enricher.cli.options import SettingsOptions, duration_option, settings_options
from enricher.cli.workers import own_pattern, read_figures, stats_client, verdict
from enricher.clock import wall_clock
from enricher.config import Settings
from enricher.errors import SinkUnavailable
from enricher.web.calling import own_readiness


@click.command(
    epilog="""\b
Examples:
  enricher health
  enricher health --max-age 5s
"""
)
@duration_option(
    "--max-age",
    help="How old the worker's figures may be [default: 3 x stats.interval, at least 5s].",
)
@duration_option("--timeout", default="3s", help="How long to wait for each of them.")
@settings_options
def command(options: SettingsOptions, max_age: float | None, timeout: float) -> None:
    """Say whether the worker on this host works.

    It asks the worker's web app; where there is none, or it does not answer, it reads the figures that the
    worker keeps in Redis. Exit code 0 when these are fresh and the status is ready, or degraded (the worker
    waits for a server); 1 otherwise.
    """
    settings = options.load()
    oldest = max_age if max_age is not None else max(5.0, 3 * settings.stats.interval)
    said = own_readiness(settings, timeout)
    if said is None:
        well, line = asyncio.run(_ask(settings, oldest, timeout))
    else:
        now = wall_clock()
        well, line = verdict([{**msgspec.structs.asdict(said), "now_us": now}], now, oldest)
        line += "".join(f"; {name}: {why}" for name, why in said.missing.items())
    click.echo(line, err=not well)
    click.get_current_context().exit(OK if well else FAILED)


async def _ask(settings: Settings, max_age: float, timeout: float) -> tuple[bool, str]:
    async with stats_client(settings, timeout) as client:
        try:
            found = await read_figures(client, settings, own_pattern(settings))
        except SinkUnavailable as error:
            return False, str(error)
    return verdict(found, wall_clock(), max_age)
