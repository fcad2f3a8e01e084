"""The bundled servers as commands use them: their options, their start, and how others find them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from enricher.cli.options import DATA_DIR, Command, gathered
from enricher.config import redact
from enricher.embedded import EmbeddedOptions, EmbeddedServers
from enricher.errors import EmbeddedError
from enricher.log import log

_PORT = click.IntRange(1, 65535)

NAMES = ("data_dir", "redis_port", "mongo_port")
"""The parameters that `embedded_options` takes from the command line."""


def embedded_options(folder: Path = DATA_DIR) -> Callable[[Command], Command]:
    """Gives a command --data-dir, --redis-port and --mongo-port; it gets ``servers``, not yet started."""

    def servers(*, data_dir: Path, **ports: Any) -> EmbeddedServers:
        return EmbeddedServers(data_dir, options=EmbeddedOptions(**ports))

    return gathered(
        "servers",
        servers,
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            default=folder,
            show_default=True,
            help="Where the bundled servers keep their data and endpoints.json.",
        ),
        click.option("--redis-port", type=_PORT, help="Port of the bundled Redis [default: a free one]."),
        click.option("--mongo-port", type=_PORT, help="Port of the bundled MongoDB [default: a free one]."),
    )


async def start_servers(
    servers: EmbeddedServers, stack: AsyncExitStack, stop: asyncio.Event
) -> dict[str, str] | None:
    """Start the bundled servers; their addresses as settings, or None if ``stop`` came first.

    They end when ``stack`` does. Raises EmbeddedError.
    """
    endpoints = None
    failed: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(stack.enter_async_context(servers))
            stopping = tasks.create_task(stop.wait())
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if starting.done():
                endpoints = starting.result()
            else:
                starting.cancel()
    except* EmbeddedError as group:
        failed = group.exceptions[0]
    if failed is not None:
        raise failed
    if endpoints is None:
        return None
    log.info("embedded_servers", redis=redact(endpoints.redis_url), mongo=redact(endpoints.mongo_url))
    return endpoints.settings
