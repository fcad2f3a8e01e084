"""The run that there is, in Redis: what is meant, how far it is, which process works on it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.adapters.redis.client import unavailable
from enricher.runs import Run
from enricher.texts import as_text

R = TypeVar("R", bound=Run)
# A run is forgotten a week after its last change.
_KEPT = 7 * 24 * 3600


class RedisRunStore(Generic[R]):
    """The run under ``key``, as a ``kind``; under ``{key}:holder`` who works on it.

    ``{key}:stop`` has the id of one that is to stop, and why. ``name`` is what the server is called where it
    is unreachable.
    """

    def __init__(self, client: Redis, key: str, kind: type[R], name: str) -> None:
        self._client = client
        self._key = key
        self._kind = kind
        self._name = name
        self._holder = secrets.token_hex(8)

    async def load(self) -> R | None:
        """The newest run. Raises `SinkUnavailable`."""
        kept = await self._asked(self._client.get(self._key))
        return None if kept is None else msgspec.json.decode(kept, type=self._kind)

    async def save(self, run: R) -> None:
        """Keep this in its place. Raises `SinkUnavailable`."""
        await self._asked(self._client.set(self._key, msgspec.json.encode(run), ex=_KEPT))

    async def hold(self, seconds: float) -> bool:
        """Whether this process works on it, from now for so long. Raises `SinkUnavailable`."""
        key, lease = f"{self._key}:holder", int(seconds * 1000)
        if await self._asked(self._client.set(key, self._holder, nx=True, px=lease)):
            return True
        holder = await self._asked(self._client.get(key))
        if holder is None or as_text(holder) != self._holder:
            return False
        await self._asked(self._client.pexpire(key, lease))
        return True

    async def stop(self, id: str, why: str) -> None:  # noqa: A002
        """Ask whoever works on the run of this id to stop. Raises `SinkUnavailable`."""
        await self._asked(self._client.set(f"{self._key}:stop", f"{id} {why}", ex=_KEPT))

    async def stopped(self, id: str) -> str:  # noqa: A002
        """Why the run of this id is to stop; "" if it is not. Raises `SinkUnavailable`."""
        said = as_text(await self._asked(self._client.get(f"{self._key}:stop")) or b"")
        of, _, why = said.partition(" ")
        return why if of == id else ""

    async def _asked(self, question: Awaitable[Any]) -> Any:
        try:
            return await question
        except (RedisError, OSError) as error:
            away = unavailable(self._name, error)
            if away is None:
                raise
            raise away from error
