"""The lock of a shard: one process holds it, and what another one does for the shard is refused.

The holder has the lease ``{scope}:holder`` and the fencing number in ``{scope}:fence``. A second process for
the same shard waits; when the holder has left, or has been silent for a lease, it takes over under a higher
number, and with it whatever the other had under way. Should the other wake up, its commits carry the old
number and write nothing, its documents are not written, and it ends.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.reconnect import BACKOFF, Connection, own_client, reconnecting
from enricher.adapters.redis.scripts import load
from enricher.adapters.redis.stream.shards import Shard
from enricher.engine.ports import Answer, Intake, Reader, Sink, Source, Write
from enricher.engine.retry import Backoff
from enricher.errors import EnricherError, SinkUnavailable
from enricher.log import log

_LOCK, _RELEASE_LEASE = load("shard_lock"), load("release_lease")


class ShardLost(EnricherError):
    """Somebody else holds the shard: this process must end, what it remembers is no longer right."""


class ShardLock:
    """The lock of a shard, as a source that delivers nothing; put it behind those that it serves.

    ``number`` is the fencing number, 0 while the shard is somebody else's. Renewed every third of a lease.
    """

    def __init__(
        self,
        client: Redis,
        shard: Shard,
        *,
        scope: str,
        instance: str,
        lease: float = 30.0,
        timeout: float = 5.0,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self.name = f"shard {shard}"
        self.shard = shard
        self.number = 0
        self.other = ""
        self.fence = f"{scope}:fence"
        self._holder = f"{scope}:holder"
        self._client = client
        self._who = f"{instance} {uuid.uuid4().hex}"
        self._lease = lease
        self._timeout = timeout
        self._connection = Connection(self.name, backoff)
        self._sure_until = 0.0
        self._held = anyio.Event()
        self._stopped = anyio.Event()
        self._scope: anyio.CancelScope | None = None

    @property
    def sure(self) -> bool:
        """Whether nobody else can have the shard: the lease was renewed and has not run out since."""
        return self.number > 0 and time.monotonic() < self._sure_until

    @property
    def fencing(self) -> tuple[str, int]:
        """The key to check in a commit, and the number it must hold."""
        return self.fence, self.number

    async def wait(self) -> None:
        """Return once the shard is ours."""
        await self._held.wait()

    async def run(self, intake: Intake) -> None:
        """Take the shard when it is free and renew the lease until `close`. Raises `ShardLost`."""
        with anyio.CancelScope() as self._scope:
            await reconnecting(self._connection, self._hold)

    async def _hold(self) -> None:
        async with own_client(self._client) as client:
            while True:
                await self._take_or_renew(client)
                self._connection.up()
                await anyio.sleep(self._lease / 3 if self.number else min(self._lease / 3, 0.5))

    async def _take_or_renew(self, client: Redis) -> None:
        asked = time.monotonic()
        with anyio.fail_after(self._timeout):
            keys, lease_ms = (self._holder, self.fence), int(self._lease * 1000)
            reply = await _LOCK(client, keys, self._who, lease_ms, self.number)
        number, other = int(reply[0]), reply[1].decode()
        if self.number and not number:
            # The number stays: what is still on its way to Redis must be refused there.
            log.error("shard_lost", shard=str(self.shard), number=self.number, holder=other)
            self._sure_until = 0.0
            who = other or "somebody else"
            raise ShardLost(f"shard {self.shard} is held by {who} now; this process ends")
        if not number:
            if other != self.other:
                log.warning("shard_held_by_another", shard=str(self.shard), holder=other)
            self.other = other
            return
        if number != self.number:
            log.info("shard_held", shard=str(self.shard), number=number)
        self.number, self.other = number, ""
        # Counted from before the question: the server began to count later.
        self._sure_until = asked + self._lease
        self._held.set()

    async def stop_intake(self) -> None:
        """Nothing: what is under way is still committed."""

    async def close(self) -> None:
        """Let go of the shard, so that the next one begins at once."""
        if self._scope is not None:
            self._scope.cancel()
        self._sure_until = 0.0
        async with own_client(self._client) as client:
            with suppress(errors.RedisError, OSError), anyio.move_on_after(min(self._timeout, 2.0)):
                await _RELEASE_LEASE(client, [self._holder], self._who)

    def health(self) -> Mapping[str, Any]:
        """Ready while the shard is ours; the fencing number, or who else holds it."""
        return {
            "ready": self.sure,
            "shard": str(self.shard),
            "number": self.number,
            "holder": self.other,
            "last_error": "" if self._connection.works else self._connection.last_error,
        }


class WhileLeader:
    """Runs ``source`` once the shard is ours."""

    def __init__(self, source: Source, lock: ShardLock) -> None:
        self.name = source.name
        self._source = source
        self._lock = lock
        self._waiting: anyio.CancelScope | None = None
        self._stopped = False

    async def run(self, intake: Intake) -> None:
        """Wait, then run the source."""
        with anyio.CancelScope() as self._waiting:
            await self._lock.wait()
        self._waiting = None
        if not self._stopped:
            await self._source.run(intake)

    async def stop_intake(self) -> None:
        """Stop waiting, or the source."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        await self._source.stop_intake()

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    def health(self) -> Mapping[str, Any]:
        """The source's."""
        return self._source.health()


class FencedDocuments:
    """The documents of a shard: written only while it is surely ours, read once it is.

    Only writes of routes with state are held to that; those of other routes may come from anybody.
    """

    durable = True

    def __init__(self, documents: Sink, reader: Reader, lock: ShardLock) -> None:
        self.name = documents.name
        self.server: str = getattr(documents, "server", "")
        self._documents = documents
        self._reader = reader
        self._lock = lock
        # What only some sinks have.
        if (metrics := getattr(documents, "metrics", None)) is not None:
            self.metrics = metrics

    async def open(self) -> None:
        """Open the documents."""
        await self._documents.open()

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write the documents. Raises `SinkUnavailable` while the shard may be another's."""
        if not self._lock.sure and any(write.stateful for write in writes):
            raise SinkUnavailable(self.name, f"shard {self._lock.shard} may be held by another process")
        return await self._documents.commit(writes)

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Documents that match ``query``, once the shard is ours: before, another still adds to them."""
        await self._lock.wait()
        return await self._reader.find(collection, query, sort=sort, limit=limit)

    async def close(self) -> None:
        """Close the documents."""
        await self._documents.close()
