"""Appends messages to a stream: a bounded buffer, and a batch per script call.

Whoever hands over never waits. One process appends to a stream at a time: it holds the lease. A batch
whose reply was lost is sent again under its number and appended once. Entries are ours: ``topic``, ``at``
and ``body``.
"""

from __future__ import annotations

import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence

import anyio
import msgspec
from redis.asyncio import Redis

from enricher.adapters.redis.client import sibling_client
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.reconnect import BACKOFF, Connection, ending, reconnecting
from enricher.adapters.redis.scripts import load
from enricher.engine.ports import Clock, Delivery
from enricher.engine.retry import Backoff
from enricher.log import log

_APPEND, _RELEASE_LEASE = load("stream_append"), load("release_lease")


class BridgeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the buffer (``max_messages``, ``max_bytes`` of bodies: beyond them the oldest are dropped and
    counted) and of a script call (``batch`` messages or ``batch_bytes``); seconds of the ``lease`` and of the
    ``timeout`` of a command; ``max_length`` of the stream (0: whoever reads it trims it).
    """

    max_messages: int = 100_000
    max_bytes: int = 64 * 1024 * 1024
    batch: int = 500
    batch_bytes: int = 1024 * 1024
    lease: float = 3.0
    timeout: float = 5.0
    max_length: int = 0


class StreamAppender:
    """Appends to ``stream``, in the order of `offer`, while it holds the lease ``{stream}:{role}``.

    ``appended`` is called with each batch and the id of its last entry, ``dropped`` with each message that
    found the buffer full. With ``shared`` others hear the same, and one that began to hear before the last
    message was appended is preferred to one that did not.
    """

    def __init__(
        self,
        client: Redis,
        stream: str,
        *,
        role: str,
        instance: str,
        clock: Clock,
        limits: BridgeLimits | None = None,
        backoff: Backoff = BACKOFF,
        appended: Callable[[Sequence[Delivery], str], None] | None = None,
        dropped: Callable[[Delivery], None] | None = None,
        shared: bool = True,
    ) -> None:
        self.stream = stream
        self.limits = limits or BridgeLimits()
        self.holds = False
        self._closed = False
        self._elsewhere = False  # somebody else appends, as far as we know
        self.dropped = 0
        self.appended = 0
        self._client = client
        self._keys = (stream, *(f"{stream}:{role}{part}" for part in ("", ":last", ":at", ":waits")))
        # Lives of one instance must differ: their batches are numbered from 1.
        self._who = f"{instance} {uuid.uuid4().hex}"
        self._clock = clock
        self.connection = Connection(f"append to {stream}", backoff)
        self._on_appended = appended
        self._on_dropped = dropped
        self._buffer: deque[Delivery] = deque()
        self._bytes = 0
        self._number = 0
        self._shared = shared
        self._heard_us = 0
        self._sending: list[Delivery] = []
        self._arrived = anyio.Event()
        self._ended = anyio.Event()
        self._finishing = False
        self._done = False

    @property
    def waiting(self) -> int:
        """Messages that are not known to be in the stream."""
        return len(self._buffer) + len(self._sending)

    @property
    def lost(self) -> Counter[str]:
        """Messages per topic that are nowhere but here: an end now would lose them.

        What is on its way to a server that answers is there, as a rule, unless it was so after `close`.
        """
        if self._elsewhere:
            return Counter()
        unsure = self._sending if self._closed or not self.connection.works else ()
        return Counter(delivery.topic for delivery in (*self._buffer, *unsure))

    # -- the buffer ---------------------------------------------------------------------------------

    def offer(self, delivery: Delivery) -> bool:
        """Keep a message until it is appended; False if the oldest had to go for it."""
        self._buffer.append(delivery)
        self._bytes += len(delivery.body)
        self._heard_us = self._heard_us or delivery.received_us
        fits = True
        while len(self._buffer) > self.limits.max_messages or self._bytes > self.limits.max_bytes:
            fits = False
            oldest = self._buffer.popleft()
            self._bytes -= len(oldest.body)
            self.dropped += 1
            if self._on_dropped is not None:
                self._on_dropped(oldest)
        if not fits:
            waiting = len(self._buffer)
            log.error("bridge_overflow", stream=self.stream, dropped=self.dropped, waiting=waiting)
        self._arrived.set()
        return fits

    def _next_batch(self) -> list[Delivery]:
        """What the next call appends; it stays the same until it is known to be in the stream."""
        size = 0
        while self._buffer and len(self._sending) < self.limits.batch and size < self.limits.batch_bytes:
            delivery = self._buffer.popleft()
            self._sending.append(delivery)
            size += len(delivery.body)
            self._bytes -= len(delivery.body)
        self._number += bool(self._sending)
        return self._sending

    def _forget_old(self, appended_us: int) -> None:
        """While somebody else appends, keep what its end could leave undone.

        That is what was received since the last it has appended, and during the last lease in any case. Half
        a lease more is for clocks that differ.
        """
        oldest_us = min(self._clock(), appended_us or self._clock()) - int(self.limits.lease * 1.5e6)
        self._sending = [d for d in self._sending if d.received_us >= oldest_us]
        # What was under way goes back in front: it may or may not be in the stream.
        self._buffer.extendleft(reversed(self._sending))
        self._bytes += sum(len(d.body) for d in self._sending)
        self._sending = []
        while self._buffer and self._buffer[0].received_us < oldest_us:
            self._bytes -= len(self._buffer.popleft().body)

    # -- life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Append until `finish` was called and nothing is left."""
        try:
            await reconnecting(self.connection, self._append, wanted=lambda: not self._done)
        finally:
            self._ended.set()

    async def _append(self) -> None:
        raw = RawConnection(sibling_client(self._client, protocol=2), timeout=self.limits.timeout)
        async with ending(raw.close):
            while not self._done:
                await self._append_once(raw)

    async def _append_once(self, raw: RawConnection) -> None:
        """One call, and a wait if there is nothing more to append."""
        if self.holds and not self._sending:
            self._next_batch()
        batch = self._sending if self.holds else []
        arguments: list[bytes | str | int] = [self._who, int(self.limits.lease * 1000)]
        heard_us = (self._heard_us or self._clock()) if self._shared else 0
        arguments += [self._number if batch else 0, self.limits.max_length, heard_us]
        for delivery in batch:
            topic = delivery.topic.encode("utf-8", "surrogateescape")
            arguments += (topic, delivery.received_us, delivery.body)
        ((last, appended_us),) = await raw.run(_APPEND, (5, *self._keys, *arguments))
        self.connection.up()
        if last and not self.holds:
            log.info("bridge_begins", stream=self.stream, kept=len(self._buffer))
        elif not last and self.holds:
            log.warning("bridge_lost", stream=self.stream, who=self._who)
        self.holds = bool(last)
        self._elsewhere = not last
        if not self.holds:
            self._forget_old(int(appended_us))
            self._done = self._finishing
            if not self._done:
                await anyio.sleep(self.limits.lease / 3)
            return
        self.appended += len(batch)
        self._sending = []
        if batch and self._on_appended is not None:
            self._on_appended(batch, last.decode())
        if self._buffer:
            return
        if self._finishing:
            self._done = True
            await raw.run(_RELEASE_LEASE, (1, self._keys[1], self._who))
            return
        # An event of its own for each wait: one that is set stays so.
        self._arrived = anyio.Event()
        with anyio.move_on_after(self.limits.lease / 3):
            await self._arrived.wait()

    def finish(self) -> None:
        """Nothing more is offered: `run` ends once all of it is appended."""
        self._finishing = True
        self._arrived.set()

    async def close(self) -> None:
        """Wait a moment for the last of it; what could not be appended is counted and logged."""
        with anyio.move_on_after(2):
            await self._ended.wait()
        self._closed = True
        if lost := self.lost:
            log.error("messages_lost", total=lost.total(), topics=dict(lost), stream=self.stream)
