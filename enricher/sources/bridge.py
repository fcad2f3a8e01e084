"""Durable intake for pub/sub: what channels say is appended to a stream before anything is done with it.

The reader only hands over, into a buffer that is bounded by messages and bytes; beside it the buffer is
appended in order, a batch per script call. Entries are ours: ``topic``, ``at`` and ``body``.

Of several processes one appends at a time: it holds the key ``{stream}:bridge`` (its lease). The others are
subscribed too and keep what was said during the last lease. Should the holder die, the next one appends
what it kept and goes on: nothing is missing then, some messages stand in the stream twice, and are told
apart by their identities like any repetition. A batch whose reply was lost is sent again under its number
and appended once.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
import msgspec
import redis.exceptions as errors
import structlog
from redis.asyncio import Redis

from enricher.connections import sibling_client
from enricher.engine.ports import Clock, Delivery, Intake, Source
from enricher.engine.retry import Backoff

log = structlog.get_logger("enricher")

_BACKOFF = Backoff(base=0.05, cap=5.0)
_WARN_EVERY_US = 10_000_000

# KEYS: stream, lease, number of the last batch. ARGV: who, lease (ms), number (0: the lease alone), longest
# stream (0: any), then topic, at and body of each message. Replies 1 if they are in the stream and ours is
# the lease, 0 if somebody else has it.
APPEND = """
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local mark = ARGV[1] .. ' ' .. ARGV[3]
if ARGV[3] == '0' or redis.call('GET', KEYS[3]) == mark then return 1 end
for i = 5, #ARGV, 3 do
  local fields = {'topic', ARGV[i], 'at', ARGV[i + 1], 'body', ARGV[i + 2]}
  if ARGV[4] == '0' then
    redis.call('XADD', KEYS[1], '*', unpack(fields))
  else
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', unpack(fields))
  end
end
redis.call('SET', KEYS[3], mark, 'EX', 86400)
return 1
"""

# KEYS: lease. ARGV: who. Lets the next one begin at once.
LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


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


class StreamBridge:
    """Runs ``source`` and appends what it delivers to ``stream`` in the Redis of ``client``.

    It delivers nothing itself: a `StreamSource` on the stream does.
    """

    can_wait = False

    def __init__(
        self,
        source: Source,
        client: Redis,
        stream: str,
        *,
        instance: str,
        clock: Clock,
        limits: BridgeLimits | None = None,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self.name = f"bridge to {stream}"
        self.limits = limits or BridgeLimits()
        self.holds = False
        self.dropped = 0
        self.appended = 0
        self.last_error = ""
        self._source = source
        self._client = client
        self._keys = (stream, f"{stream}:bridge", f"{stream}:bridge:last")
        # Lives of one instance must differ: their batches are numbered from 1.
        self._who = f"{instance} {uuid.uuid4().hex}"
        self._clock = clock
        self._backoff = backoff
        self._buffer: deque[Delivery] = deque()
        self._bytes = 0
        self._number = 0
        self._sending: list[Delivery] = []
        self._arrived = anyio.Event()
        self._ended = anyio.Event()
        self._heard = False
        self._done = False
        self._reached = False
        self._warned_us = 0

    # -- the buffer: what the source hands over -----------------------------------------------------

    def offer(self, delivery: Delivery) -> bool:
        """Keep a message until it is appended; False if the oldest had to go for it."""
        self._buffer.append(delivery)
        self._bytes += len(delivery.body)
        fits = True
        while len(self._buffer) > self.limits.max_messages or self._bytes > self.limits.max_bytes:
            fits = False
            self._bytes -= len(self._buffer.popleft().body)
            self.dropped += 1
        if not fits and self._clock() - self._warned_us > _WARN_EVERY_US:
            self._warned_us = self._clock()
            waiting = len(self._buffer)
            log.error("bridge_overflow", stream=self._keys[0], dropped=self.dropped, waiting=waiting)
        self._arrived.set()
        return fits

    async def put(self, delivery: Delivery) -> None:
        """As `offer`: pub/sub cannot wait."""
        self.offer(delivery)

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        """As `offer`: a bridge judges nothing, whoever reads the stream does."""
        self.offer(delivery)

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

    def _forget_old(self) -> None:
        """While somebody else appends, keep only what the end of the lease could leave undone."""
        oldest_us = self._clock() - int(self.limits.lease * 1.5e6)
        self._sending = [d for d in self._sending if d.received_us >= oldest_us]
        # What was under way goes back in front: it may or may not be in the stream.
        self._buffer.extendleft(reversed(self._sending))
        self._bytes += sum(len(d.body) for d in self._sending)
        self._sending = []
        while self._buffer and self._buffer[0].received_us < oldest_us:
            self._bytes -= len(self._buffer.popleft().body)

    # -- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Nothing to wait for: `run` keeps trying while the server is away."""
        await self._source.start()

    async def run(self, intake: Intake) -> None:
        """Hear and append until `stop_intake`, then append what is left."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._append_until_stopped)
                await self._source.run(self)
                self._heard = True
                self._arrived.set()
        finally:
            self._ended.set()

    async def _append_until_stopped(self) -> None:
        attempt = 0
        while not self._done:
            client = sibling_client(self._client, protocol=2)
            try:
                while not self._done:
                    await self._append_once(client)
                    attempt = 0
            except (errors.RedisError, OSError) as error:
                attempt += 1
                reason = f"{type(error).__name__}: {error}"
                if self._reached or reason != self.last_error:
                    log.warning("connection_lost", source=self.name, reason=reason)
                self._reached, self.last_error = False, reason
            finally:
                with anyio.CancelScope(shield=True), suppress(Exception), anyio.move_on_after(1):
                    await client.aclose()
            if not self._done:
                await anyio.sleep(self._backoff.delay(attempt))

    async def _append_once(self, client: Redis) -> None:
        """One call, and a wait if there is nothing more to append."""
        if self.holds and not self._sending:
            self._next_batch()
        batch = self._sending if self.holds else []
        arguments: list[bytes | str | int] = [self._who, int(self.limits.lease * 1000)]
        arguments += [self._number if batch else 0, self.limits.max_length]
        for delivery in batch:
            topic = delivery.topic.encode("utf-8", "surrogateescape")
            arguments += (topic, delivery.received_us, delivery.body)
        with anyio.fail_after(self.limits.timeout):
            held = await client.eval(APPEND, 3, *self._keys, *arguments)
        self._reached = True
        if held and not self.holds:
            log.info("bridge_begins", stream=self._keys[0], kept=len(self._buffer))
        elif not held and self.holds:
            log.warning("bridge_lost", stream=self._keys[0], who=self._who)
        self.holds = bool(held)
        if not self.holds:
            self._forget_old()
            self._done = self._heard
            if not self._done:
                await anyio.sleep(self.limits.lease / 3)
            return
        self.appended += len(batch)
        self._sending = []
        if self._buffer:
            return
        if self._heard:
            self._done = True
            with anyio.fail_after(self.limits.timeout):
                await client.eval(LET_GO, 1, self._keys[1], self._who)
            return
        # An event of its own for each wait: one that is set stays so.
        self._arrived = anyio.Event()
        with anyio.move_on_after(self.limits.lease / 3):
            await self._arrived.wait()

    async def stop_intake(self) -> None:
        """Stop hearing; what was heard is still appended."""
        await self._source.stop_intake()

    async def close(self) -> None:
        """Wait a moment for the last of it; what could not be appended is counted and logged."""
        with anyio.move_on_after(2):
            await self._ended.wait()
        left = len(self._buffer) + len(self._sending)
        if left and self.holds:
            log.error("messages_lost", total=left, source=self.name)
        await self._source.close()

    def health(self) -> Mapping[str, Any]:
        """The source's health; whether this process appends; buffered, appended and dropped messages."""
        inner = self._source.health()
        return {
            **inner,
            "ready": bool(inner["ready"]) and self._reached,
            "appends": self.holds,
            "buffered": len(self._buffer) + len(self._sending),
            "appended": self.appended,
            "dropped": self.dropped,
            "last_error": inner.get("last_error") or self.last_error,
        }
