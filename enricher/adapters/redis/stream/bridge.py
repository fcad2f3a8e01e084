"""Durable intake for pub/sub: what channels say is appended to a stream before anything is done with it.

The reader only hands over, into a buffer that is bounded by messages and bytes; beside it the buffer is
appended in order, a batch per script call (`StreamAppender`).

Of several processes one appends at a time: it holds the key ``{stream}:bridge`` (its lease). The others are
subscribed too and keep what was said during the last lease, and whatever the holder has not appended yet.
Should it die, the next one appends what it kept and goes on: nothing is missing then, some messages stand
in the stream twice, and are told apart by their identities like any repetition. One that has just come
gives them half a lease to do so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
from redis.asyncio import Redis

from enricher.adapters.redis.reconnect import BACKOFF
from enricher.adapters.redis.stream.appender import BridgeLimits, StreamAppender
from enricher.engine.ports import Clock, Delivery, Intake, Source
from enricher.engine.retry import Backoff


class AppendingSource:
    """Runs ``source`` and keeps in ``appender`` what it hands over, without ever waiting."""

    def __init__(self, name: str, source: Source, appender: StreamAppender) -> None:
        self.name = name
        self.appender = appender
        self._source = source

    def offer(self, delivery: Delivery) -> bool:
        """Keep a message until it is appended; False if the oldest had to go for it."""
        return self.appender.offer(delivery)

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        """As `offer`, for each."""
        for delivery in deliveries:
            self.offer(delivery)

    async def put(self, delivery: Delivery) -> None:
        """As `offer`."""
        self.offer(delivery)

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        """As `offer`: nothing is judged here, whoever reads the stream does."""
        self.offer(delivery)

    def full_for(self, delivery: Delivery) -> bool:
        """Never: the buffer makes room by itself."""
        return False

    async def run(self, intake: Intake) -> None:
        """Hear and append until `stop_intake`, then append what is left."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.appender.run)
            await self._source.run(self)
            self.appender.finish()

    async def stop_intake(self) -> None:
        """Stop hearing; what was heard is still appended."""
        await self._source.stop_intake()

    async def close(self) -> None:
        """Wait a moment for the last of it; what could not be appended is counted and logged."""
        await self.appender.close()
        await self._source.close()

    @property
    def lost(self) -> Counter[str]:
        """What was heard and could not be appended, as `StreamAppender.lost`."""
        return self.appender.lost

    def health(self) -> Mapping[str, Any]:
        """The source's health; buffered, appended and dropped messages."""
        inner, appender = self._source.health(), self.appender
        return {
            **inner,
            "ready": bool(inner["ready"]) and appender.connection.works,
            "buffered": appender.waiting,
            "appended": appender.appended,
            "dropped": appender.dropped,
            "last_error": inner.get("last_error") or appender.connection.last_error,
        }


class StreamBridge(AppendingSource):
    """Runs ``source`` and appends what it delivers to ``stream`` in the Redis of ``client``.

    It delivers nothing itself: a `StreamSource` on the stream does.
    """

    def __init__(
        self,
        source: Source,
        client: Redis,
        stream: str,
        *,
        instance: str,
        clock: Clock,
        limits: BridgeLimits | None = None,
        backoff: Backoff = BACKOFF,
    ) -> None:
        appender = StreamAppender(
            client, stream, role="bridge", instance=instance, clock=clock, limits=limits, backoff=backoff
        )
        super().__init__(f"bridge to {stream}", source, appender)

    def health(self) -> Mapping[str, Any]:
        """The source's health; whether this process appends; buffered, appended and dropped messages."""
        return {**super().health(), "appends": self.appender.holds}
