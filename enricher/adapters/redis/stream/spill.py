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

from enricher.adapters.redis.client import sibling_client
from enricher.adapters.redis.stream.appender import BridgeLimits, StreamAppender
from enricher.adapters.redis.stream.entry import GroupKeys, StreamDelivery
from enricher.adapters.redis.stream.source import StreamSource
from enricher.engine.ports import Clock, Delivery, Intake, Source
from enricher.engine.retry import Backoff
from enricher.log import log

_BACKOFF = Backoff(base=0.05, max_delay=5.0)
# Seconds between two looks whether the stream is empty, which also ends what nobody can answer any more:
# entries that were trimmed or deleted.
_LOOK_EVERY = 0.25


class _Appended(msgspec.Struct, frozen=True):
    """Topics of a batch, and the id of its last entry."""

    last: tuple[int, int]
    topics: frozenset[str]


class SpillSource:
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
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self.name = f"spill to {reader.keys.stream}"
        self.spilled = 0
        self._source = source
        self._reader = reader
        self._client = client
        self._backoff = backoff
        self._appender = StreamAppender(
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

    # -- what the source hands over -----------------------------------------------------------------

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
        return self._appender.offer(delivery)

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        """As `offer`, for each."""
        for delivery in deliveries:
            self.offer(delivery)

    async def put(self, delivery: Delivery) -> None:
        """As `offer`: it never waits."""
        self.offer(delivery)

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        """Pass on what the source cannot understand."""
        self._intake.set_aside(delivery, stage, error, task_name)

    def full_for(self, delivery: Delivery) -> bool:
        """Never: what does not fit is spilled."""
        return False

    # -- when a topic returns -----------------------------------------------------------------------

    def _answered(self, batch: Sequence[Delivery], last: str) -> None:
        """A batch is in the stream."""
        for delivery in batch:
            self._open[delivery.topic] -= 1
        topics = frozenset(delivery.topic for delivery in batch)
        appended = _Appended(_parts(last), topics)
        self._batches.append(appended)
        self._last.update(dict.fromkeys(topics, appended.last))
        self._return()

    def _dropped(self, delivery: Delivery) -> None:
        """A message found the buffer full; it will not be appended."""
        self._open[delivery.topic] -= 1
        delivery.settled("dropped")

    def handed(self, delivery: Delivery) -> None:
        """An entry has been handed to its lane (or to the dead letters)."""
        if isinstance(delivery, StreamDelivery) and delivery.place == self._reader.keys:
            self._handed = max(self._handed, _parts(delivery.entry))
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
        attempt = 0
        while True:
            client = sibling_client(self._client, protocol=2)
            try:
                while True:
                    attempt = 0
                    if self._behind or self._open:
                        await self._look_once(client)
                        await anyio.sleep(_LOOK_EVERY)
                    else:
                        self._changed = anyio.Event()
                        await self._changed.wait()
            except (errors.RedisError, OSError):
                attempt += 1
            finally:
                with anyio.CancelScope(shield=True), suppress(Exception), anyio.move_on_after(1):
                    await client.aclose()
            await anyio.sleep(self._backoff.delay(attempt))

    async def _look_once(self, client: Redis) -> None:
        if not self._reader.connected:
            return
        before = self._appender.appended
        with anyio.fail_after(self._appender.limits.timeout):
            finished, last = await progress(client, self._reader.keys)
        self._target = self._target or _parts(last)
        # What was appended meanwhile may not have been there when the server looked.
        if not finished or self._appender.appended != before:
            return
        self._behind = False
        self._batches.clear()
        for topic in [t for t, left in self._open.items() if left <= 0]:
            self._release(topic)

    # -- life ---------------------------------------------------------------------------------------

    async def run(self, intake: Intake) -> None:
        """Hear, spill and read back until `stop_intake`, then append what is left."""
        self._intake = intake
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look)
            async with anyio.create_task_group() as both:
                both.start_soon(self._reader.run, _Returning(self, intake))
                both.start_soon(self._appender.run)
                await self._source.run(self)
                self._appender.finish()
            tasks.cancel_scope.cancel()

    async def stop_intake(self) -> None:
        """Stop hearing and reading; what was heard and does not fit is still appended."""
        await self._source.stop_intake()
        await self._reader.stop_intake()

    async def close(self) -> None:
        """Wait a moment for the last of it, and give up what is not finished; the next life has it."""
        await self._appender.close()
        await self._reader.close()
        await self._source.close()

    @property
    def lost(self) -> Counter[str]:
        """What was spilled and could not be appended, as `StreamAppender.lost`."""
        return self._appender.lost

    def health(self) -> Mapping[str, Any]:
        """The source's health; the topics that are being spilled; the stream's figures."""
        inner, reader = self._source.health(), self._reader.health()
        return {
            **inner,
            "ready": bool(inner["ready"]) and bool(reader["ready"]) and self._appender.reached,
            "spilling": sorted(self._open),
            "spilled": self.spilled,
            "buffered": self._appender.waiting,
            "entries_lost": reader["entries_lost"],
            "dropped": self._appender.dropped,
            "last_error": inner.get("last_error") or reader["last_error"] or self._appender.last_error,
            "stream": reader,
        }


class _Returning:
    """The intake of the stream's reader: hands on, and says what was handed."""

    def __init__(self, spill: SpillSource, intake: Intake) -> None:
        self._spill = spill
        self._intake = intake

    def offer(self, delivery: Delivery) -> bool:
        taken = self._intake.offer(delivery)
        self._spill.handed(delivery)
        return taken

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.offer(delivery)

    async def put(self, delivery: Delivery) -> None:
        await self._intake.put(delivery)
        self._spill.handed(delivery)

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        self._intake.set_aside(delivery, stage, error, task_name)
        self._spill.handed(delivery)

    def full_for(self, delivery: Delivery) -> bool:
        return self._intake.full_for(delivery)


async def progress(client: Redis, keys: GroupKeys) -> tuple[bool, str]:
    """Whether the group has been given every entry and has acknowledged it; the stream's last id."""
    last = (await client.xinfo_stream(keys.stream))["last-generated-id"]
    finished = False
    for found in await client.xinfo_groups(keys.stream):
        if found["name"] == keys.group.encode():
            finished = bool(found["pending"] == 0 and found["last-delivered-id"] == last)
    return finished, last.decode()


def _parts(id_: str) -> tuple[int, int]:
    ms, _, number = id_.partition("-")
    return int(ms), int(number)
