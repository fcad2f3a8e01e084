"""The run of retries that there is, in Redis: what is meant, how far it is, and which process works on it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.adapters.redis.client import unavailable
from enricher.dead_letters.runs import Run
from enricher.engine.effects import DEAD_LETTERS

T = TypeVar("T")
# A run is forgotten a week after its last change.
_KEPT = 7 * 24 * 3600


class RedisRunStore:
    """The run under ``key``; under ``{key}:holder`` who works on it."""

    def __init__(self, client: Redis, key: str) -> None:
        self._client = client
        self._key = key
        self._holder = secrets.token_hex(8)

    async def load(self) -> Run | None:
        """The newest run. Raises `SinkUnavailable`."""
        kept = await _asked(self._client.get(self._key))
        return None if kept is None else msgspec.json.decode(kept, type=Run)

    async def save(self, run: Run) -> None:
        """Keep this in its place. Raises `SinkUnavailable`."""
        await _asked(self._client.set(self._key, msgspec.json.encode(run), ex=_KEPT))

    async def hold(self, seconds: float) -> bool:
        """Whether this process works on it, from now for so long. Raises `SinkUnavailable`."""
        key, lease = f"{self._key}:holder", int(seconds * 1000)
        if await _asked(self._client.set(key, self._holder, nx=True, px=lease)):
            return True
        holder = await _asked(self._client.get(key))
        if holder not in (self._holder, self._holder.encode()):
            return False
        await _asked(self._client.pexpire(key, lease))
        return True


async def _asked(question: Awaitable[Any]) -> Any:
    try:
        return await question
    except (RedisError, OSError) as error:
        away = unavailable(DEAD_LETTERS, error)
        if away is None:
            raise
        raise away from error
