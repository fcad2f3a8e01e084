"""Waiting for results in a loop: one connection hears of all of them, however many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.client import sibling_client

_LOOK_AGAIN = 1.0
"""Seconds after which a result is looked for untold: a connection may be lost with what it was to tell."""


class ResultChannels:
    """The channels that somebody waits for, on the server of ``client``; to be closed.

    A task reads them. It begins with the first who waits, and ends a second after the last.
    """

    def __init__(self, client: Redis, timeout: float) -> None:
        self._server = client
        self._timeout = timeout
        self._client: Redis | None = None
        self._pubsub: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._asked: set[bytes] = set()  # that the server was asked for, over this connection
        self._heard: set[bytes] = set()  # those that it has confirmed
        self._changing = asyncio.Lock()

    async def wait(self, channel: str, look: Callable[[], Awaitable[bytes | None]]) -> bytes:
        """What ``look`` finds; it is asked at once, and whenever something is published on the channel.

        Raises what ``look`` raises: no more than it can tell of a server that is away.
        """
        found = await look()
        name, told = channel.encode(), asyncio.Event()
        self._waiting.setdefault(name, set()).add(told)
        try:
            while found is None:
                if name not in self._heard:
                    await self._listen()
                    if name in self._heard:  # by somebody else's doing
                        told.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), _LOOK_AGAIN)
                told.clear()
                found = await look()
            return found
        finally:
            self._waiting[name].discard(told)
            if not self._waiting[name]:
                del self._waiting[name]
                await self._leave(name)

    async def close(self) -> None:
        """End the task, and close the connection."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
        async with self._changing:
            if self._client is not None:
                await self._client.aclose()
                self._client = None

    async def _listen(self) -> None:
        """Ask to hear whatever is waited for; who waits is told when it is heard.

        All at once: many who come together would take longer, one after the other, than the server may.
        """
        with suppress(errors.RedisError, OSError):
            async with asyncio.timeout(self._timeout), self._changing:
                if self._pubsub is None:
                    self._client = self._client or sibling_client(self._server, protocol=2)
                    self._pubsub = self._client.pubsub()
                pubsub = self._pubsub
                if names := self._waiting.keys() - self._asked:
                    await pubsub.subscribe(*names)
                    if self._pubsub is not pubsub:
                        return  # the connection was lost meanwhile
                    self._asked |= names
                if self._reader is None:
                    self._reader = asyncio.create_task(self._read(pubsub), name="job results")

    async def _leave(self, name: bytes) -> None:
        with suppress(errors.RedisError, OSError):
            async with asyncio.timeout(self._timeout), self._changing:
                if name in self._asked and name not in self._waiting:
                    self._asked.discard(name)
                    self._heard.discard(name)
                    await self._pubsub.unsubscribe(name)

    async def _read(self, pubsub: Any) -> None:
        try:
            while True:
                message = await pubsub.get_message(timeout=_LOOK_AGAIN)
                if message is None:
                    if not self._waiting:
                        return
                elif message["type"] == "subscribe":
                    self._heard.add(message["channel"])
                    self._tell(message["channel"])
                elif message["type"] == "message":
                    self._tell(message["channel"])
        except (errors.RedisError, OSError):
            pass  # whoever waits looks for the result, and hears by that what is wrong
        finally:
            # From here on whoever comes begins anew.
            self._pubsub = self._reader = None
            self._asked.clear()
            self._heard.clear()
            async with self._changing:
                with suppress(errors.RedisError, OSError):
                    await pubsub.aclose()

    def _tell(self, name: bytes) -> None:
        for told in self._waiting.get(name, ()):
            told.set()
