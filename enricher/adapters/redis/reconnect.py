"""Connect again and again: one loop for every part that has a connection to Redis of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.adapters.redis.client import sibling_client
from enricher.engine.retry import Backoff
from enricher.log import log

BACKOFF = Backoff(base=0.05, max_delay=5.0)
"""Between two tries, with full jitter, if no setting says otherwise."""


class Connection:
    """Whether the connection of ``source`` works, and what ended the last one.

    ``expected`` are parts of errors that are no outage: they end a connection, and nobody is told.
    """

    def __init__(self, source: str, backoff: Backoff = BACKOFF, *, expected: tuple[str, ...] = ()) -> None:
        self.source = source
        self.works = False
        self.last_error = ""
        self.backoff = backoff
        self._expected = expected
        self.attempt = 0
        self._down_since: float | None = None

    def up(self) -> None:
        """It works: the server has answered."""
        self.works = True
        self.attempt = 0
        if self._down_since is not None:
            seconds = round(time.monotonic() - self._down_since, 1)
            log.info("connection_restored", source=self.source, seconds=seconds)
            self._down_since = None

    def down(self, reason: str) -> None:
        """It does not, or no longer, work."""
        if any(part in reason for part in self._expected):
            return
        if self.works or reason != self.last_error:
            log.warning("connection_lost", source=self.source, reason=reason)
        self.works = False
        self.last_error = reason
        self._down_since = self._down_since or time.monotonic()


async def reconnecting(
    connection: Connection, use: Callable[[], Awaitable[None]], *, wanted: Callable[[], bool] = lambda: True
) -> None:
    """Call ``use``, which connects and works until the connection is lost, for as long as it is ``wanted``.

    ``use`` says `Connection.up` once it has an answer. Errors of Redis and of the network are an outage; any
    other one is raised, out of the groups of its tasks.
    """
    while wanted():
        try:
            await use()
        except Exception as error:
            causes = _alone(error)
            cause = next((each for each in causes if not isinstance(each, (RedisError, OSError))), None)
            if cause is error:
                raise
            if cause is not None:
                raise cause from error
            cause = causes[0]
            if wanted():
                connection.down(f"{type(cause).__name__}: {cause}")
        connection.works = False
        connection.attempt += 1
        if wanted():
            await anyio.sleep(connection.backoff.delay(connection.attempt))


def _alone(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [each for part in error.exceptions for each in _alone(part)]


@asynccontextmanager
async def ending(*closes: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call each of ``closes`` in the end, which wait no longer than a second for a frozen server."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
            for close in closes:
                with suppress(Exception):
                    await close()


@asynccontextmanager
async def own_client(client: Redis, *, same_loop: bool = True) -> AsyncIterator[Redis]:
    """A client of the server of ``client``, with a connection of its own, that is closed in the end.

    Where it is used in another event loop, ``same_loop`` is off.
    """
    own = sibling_client(client, protocol=2, same_loop=same_loop)
    async with ending(own.aclose):
        yield own
