"""Spilling: what finds memory full takes the way over a stream, and comes back in order.

From the first message of a topic that finds the pool full, all new ones of that topic are appended to a
stream of this process's own; beside it they are read from there, waiting for room. The topic returns to
memory only when every append has been answered and the last of its entries was handed to its lane. So a
message never overtakes an older one of its key, and what was spilled outlives the process: its next life,
under the same name, reads it before it takes anything new into memory.

The commit acknowledges entries as those of any stream. While Redis is away a bounded buffer waits for it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import msgspec
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.reconnect import BACKOFF
from enricher.adapters.redis.stream.appender import BridgeLimits, StreamAppender
from enricher.adapters.redis.stream.bridge import AppendingSource
from enricher.adapters.redis.stream.entry import GroupKeys, StreamDelivery
from enricher.adapters.redis.stream.group import group_info, parts
from enricher.adapters.redis.stream.source import StreamSource
from enricher.engine.ports import Clock, Delivery, Intake, Source
from enricher.engine.retry import Backoff
from enricher.log import log
from enricher.texts import as_text

# Seconds between two looks whether the stream is empty, which also ends what nobody can answer any more:
# entries that were trimmed or deleted.
_LOOK_EVERY = 0.25


class _Appended(msgspec.Struct, frozen=True):
    """Topics of a batch, and the id of its last entry."""

    last: tuple[int, int]
    topics: frozenset[str]


class SpillSource(AppendingSource):
    """Runs ``source`` (pub/sub) and hands over what it delivers, over ``stream`` while memory is full.

    ``reader`` reads that stream and is run by this source. ``client`` says where Redis is.
    """

    def __init__(
        self,
        source: Source,
        reader: StreamSource,
        client: Redis,
        *,
        instance: str,
        clock: Clock,
        limits: BridgeLimits | None = None,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self.spilled = 0
        self._reader = reader
        self._client = client
        appender = StreamAppender(
            client,
            reader.keys.stream,
            # Whoever appends here is alone by the stream's name; the lease is its own in any case.
            role=f"spill:{instance}",
            instance=instance,
            clock=clock,
            limits=limits,
            backoff=backoff,
            appended=self._answered,
            dropped=self._dropped,
            shared=False,
        )
        super().__init__(f"spill to {reader.keys.stream}", source, appender)
        reader.inbox.on_handed = self._handed_over
        # Topics whose new messages go to the stream: how many appends are not answered yet.
        self._open: Counter[str] = Counter()
        # Batches whose last entry was not handed over yet, and the last one of each topic.
        self._batches: deque[_Appended] = deque()
        self._last: dict[str, tuple[int, int]] = {}
        self._handed = (0, 0)
        # What an earlier life left in the stream comes first: all is spilled until this entry was handed
        # over. None: nobody has looked yet.
        self._behind = True
        self._target: tuple[int, int] | None = None
        self._changed = anyio.Event()

    def offer(self, delivery: Delivery) -> bool:
        """Take a message to memory or, if it is full or older ones are under way there, to the stream."""
        topic = delivery.topic
        if not self._behind and topic not in self._open:
            if not self._intake.full_for(delivery):
                return self._intake.offer(delivery)
            log.warning("spill_begins", topic=topic, stream=self._reader.keys.stream)
        self._open[topic] += 1
        self.spilled += 1
        self._changed.set()
        return self.appender.offer(delivery)

    # -- when a topic returns -----------------------------------------------------------------------

    def _answered(self, batch: Sequence[Delivery], last: str) -> None:
        """A batch is in the stream."""
        for delivery in batch:
            self._open[delivery.topic] -= 1
        topics = frozenset(delivery.topic for delivery in batch)
        appended = _Appended(parts(last), topics)
        self._batches.append(appended)
        self._last.update(dict.fromkeys(topics, appended.last))
        self._return()

    def _dropped(self, delivery: Delivery) -> None:
        """A message found the buffer full; it will not be appended."""
        self._open[delivery.topic] -= 1
        delivery.settled("dropped")

    def _handed_over(self, delivery: StreamDelivery) -> None:
        """An entry has been handed to its lane (or to the dead letters)."""
        if delivery.place == self._reader.keys:
            self._handed = max(self._handed, parts(delivery.entry))
            if self._behind or (self._batches and self._batches[0].last <= self._handed):
                self._return()

    def _return(self) -> None:
        """Let the topics go whose last entry was handed over and that have no append under way."""
        while self._batches and self._batches[0].last <= self._handed:
            self._batches.popleft()
        if self._target is not None and self._target <= self._handed:
            self._behind = False
        if not self._behind:
            for topic in [t for t, left in self._open.items() if left <= 0]:
                if self._last.get(topic, (0, 0)) <= self._handed:
                    self._release(topic)

    def _release(self, topic: str) -> None:
        del self._open[topic]
        self._last.pop(topic, None)
        log.warning("spill_ends", topic=topic, stream=self._reader.keys.stream, spilled=self.spilled)

    async def _look(self) -> None:
        """Look from time to time whether the stream is empty: then every topic returns."""
        while True:
            if self._behind or self._open:
                with suppress(errors.RedisError, OSError):  # whoever appends and reads says so
                    await self._look_once()
                await anyio.sleep(_LOOK_EVERY)
            else:
                self._changed = anyio.Event()
                await self._changed.wait()

    async def _look_once(self) -> None:
        if not self._reader.connected:
            return
        before = self.appender.appended
        with anyio.fail_after(self.appender.limits.timeout):
            finished, last = await progress(self._client, self._reader.keys)
        self._target = self._target or parts(last)
        # What was appended meanwhile may not have been there when the server looked.
        if not finished or self.appender.appended != before:
            return
        self._behind = False
        self._batches.clear()
        for topic in [t for t, left in self._open.items() if left <= 0]:
            self._release(topic)

    async def run(self, intake: Intake) -> None:
        """Hear, spill and read back until `stop_intake`, then append what is left."""
        self._intake = intake
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look)
            async with anyio.create_task_group() as both:
                both.start_soon(self._reader.run, intake)
                await super().run(intake)
            tasks.cancel_scope.cancel()

    async def stop_intake(self) -> None:
        """Stop hearing and reading; what was heard and does not fit is still appended."""
        await super().stop_intake()
        await self._reader.stop_intake()

    async def close(self) -> None:
        """Wait a moment for the last of it, and give up what is not finished; the next life has it."""
        await self.appender.close()
        await self._reader.close()
        await self._source.close()

    def health(self) -> Mapping[str, Any]:
        """The source's health; the topics that are being spilled; the stream's figures."""
        appending, reader = super().health(), self._reader.health()
        return {
            **appending,
            "ready": appending["ready"] and bool(reader["ready"]),
            "spilling": sorted(self._open),
            "spilled": self.spilled,
            "entries_lost": reader["entries_lost"],
            "last_error": appending["last_error"] or reader["last_error"],
            "stream": reader,
        }


async def progress(client: Redis, keys: GroupKeys) -> tuple[bool, str]:
    """Whether the group has been given every entry and has acknowledged it; the stream's last id."""
    last = as_text((await client.xinfo_stream(keys.stream))["last-generated-id"])
    group = await group_info(client, keys)
    finished = group is not None and group["pending"] == 0 and as_text(group["last-delivered-id"]) == last
    return finished, last
