"""Redis pub/sub as a source: a reader that never waits for work, and that knows what it missed.

Pub/sub forgets what nobody hears, so this source makes every silence visible: whenever the connection was
lost it records a `Gap` per channel, and a canary that it publishes to itself finds out within seconds
that a server is frozen, which an idle feed would hide. The reader only hands over, because Redis
disconnects a subscriber that reads too slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from time import monotonic, perf_counter
from typing import Any

import anyio
import msgspec
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.raw_connection import RawConnection, pack
from enricher.adapters.redis.reconnect import BACKOFF, Connection, ending, reconnecting
from enricher.engine.ports import Clock, Delivery, Intake
from enricher.engine.retry import Backoff
from enricher.engine.router import covers
from enricher.log import log
from enricher.texts import as_text

# How long (seconds) the reader may hold the loop when Redis has much to say.
_SLICE = 0.002
# Channels whose names are remembered.
_KNOWN = 10_000

_topic_of = attrgetter("topic")


class Gap(msgspec.Struct, frozen=True):
    """A time (microseconds UTC) in which messages of ``channel`` may have been missed, and why.

    ``from_us`` is 0 for the time before the subscription began.
    """

    channel: str
    from_us: int
    to_us: int
    reason: str


class PubSubSource:
    """Subscribes to ``channels`` and ``patterns`` and delivers their messages.

    What a pattern hears of a channel in ``elsewhere`` is left to the source that subscribes to it by name.
    ``connect`` makes a client whose replies may take for ever (the reader blocks on it); ``canary`` is a
    client with a timeout, used to publish to ourselves every ``canary_interval`` seconds. A canary that
    has not come back after ``canary_timeout`` seconds ends the connection, and a new one is made. ``alone``
    says that nobody else hears for it: then the time before its beginning is a gap, too. ``keeps`` is asked
    with topic and body, if given: what it does not keep is left to others.
    """

    def __init__(
        self,
        connect: Callable[[], Redis],
        canary: Redis,
        *,
        channels: Sequence[str],
        patterns: Sequence[str] = (),
        elsewhere: Collection[str] = (),
        instance: str,
        clock: Clock,
        canary_interval: float = 1.0,
        canary_timeout: float = 5.0,
        backoff: Backoff = BACKOFF,
        on_gap: Callable[[Gap], None] | None = None,
        alone: bool = False,
        keeps: Callable[[str, bytes], bool] | None = None,
        name: str = "pubsub",
    ) -> None:
        self.name = name
        self._connect = connect
        self._canary = canary
        self._canary_channel = f"enricher:canary:{instance}"
        self._channels = tuple(channels)
        self._patterns = tuple(patterns)
        self._clock = clock
        self._interval = canary_interval
        self._timeout = canary_timeout
        self._connection = Connection(name, backoff)
        self._on_gap = on_gap
        self._alone = alone
        self._keeps = keeps
        self._stopped = False
        self._scope: anyio.CancelScope | None = None
        self._reading: anyio.CancelScope | None = None
        self._canary_forbidden = False
        self._named = {channel.encode() for channel in (*self._channels, *elsewhere)}
        self.reconnects = -1
        self.gaps = 0
        self.last_good_us = 0
        self._good = self._began = monotonic()
        self.canary_us: int | None = None
        self.last_message_us: dict[str, int] = {}
        self._topics: dict[bytes, str] = {}

    @property
    def connected(self) -> bool:
        """Whether every subscription is confirmed and the connection stands."""
        return self._connection.works

    async def run(self, intake: Intake) -> None:
        with anyio.CancelScope() as self._scope:
            await reconnecting(
                self._connection, lambda: self._read_one_connection(intake), wanted=lambda: not self._stopped
            )

    async def _read_one_connection(self, intake: Intake) -> None:
        client = self._connect()
        raw = RawConnection(client, timeout=None)
        try:
            async with ending(raw.close, client.aclose):
                with anyio.CancelScope() as self._reading:
                    with anyio.fail_after(self._timeout):
                        await raw.open()
                        await self._subscribe(raw, intake)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._heartbeat)
                        await self._read(raw, intake)
                reason = f"no canary for {self._timeout:g} s"
        except TimeoutError:
            reason = f"no answer to SUBSCRIBE for {self._timeout:g} s"
        if not self._stopped:
            self._connection.down(reason)

    async def _subscribe(self, raw: RawConnection, intake: Intake) -> None:
        """Subscribe and wait for every confirmation; only then is the gap over.

        What the channels say before the patterns are confirmed is handed over like everything later.
        """
        commands = [pack("SUBSCRIBE", *self._channels, self._canary_channel)]
        if self._patterns:
            commands.append(pack("PSUBSCRIBE", *self._patterns))
        raw.send(commands)
        wanted, heard_us = len(self._channels) + len(self._patterns) + 1, 0
        while wanted > 0:
            replies = await raw.receive()
            heard_us = heard_us or self._clock()
            wanted -= sum(1 for reply in replies if _kind(reply) in (b"subscribe", b"psubscribe"))
            self._hand_over(replies, intake)
        now = self._clock()
        self.reconnects += 1
        if self.reconnects:
            self._record_gap(heard_us)
        elif self._alone and self._on_gap is not None:
            for channel in (*self._channels, *self._patterns):
                self._on_gap(Gap(channel, 0, heard_us, "the beginning"))
        self.last_good_us = now
        self._good = monotonic()
        self.canary_us = now
        self._connection.up()
        log.info("subscribed", source=self.name, channels=self._channels, patterns=self._patterns)

    async def _read(self, raw: RawConnection, intake: Intake) -> None:
        slice_began = perf_counter()
        while True:
            replies = await raw.receive()
            self._hand_over(replies, intake)
            if perf_counter() - slice_began > _SLICE:
                await asyncio.sleep(0)
                slice_began = perf_counter()

    def _hand_over(self, replies: Sequence[Any], intake: Intake) -> None:
        """Deliver the messages among what Redis said. Raises an error it answered with."""
        now = self._clock()
        if self._connection.works:
            self.last_good_us = now
            self._good = monotonic()
        topics, deliveries = self._topics, list[Delivery]()
        try:
            try:
                # Of a flood nearly all is this: messages of channels that were heard before.
                deliveries = [Delivery(topics[c], body, now) for k, c, body in replies if k == b"message"]
            except (KeyError, TypeError, ValueError):
                for reply in replies:
                    self._hear(reply, now, deliveries)
        finally:  # an error among the replies takes nothing from those before it
            self.last_message_us.update(dict.fromkeys(map(_topic_of, deliveries), now))
            if self._keeps is not None:
                deliveries = [d for d in deliveries if self._keeps(d.topic, d.body)]
            intake.offer_all(deliveries)

    def _hear(self, reply: Any, now: int, deliveries: list[Delivery]) -> None:
        """Add the message that a reply is, if it is one. Raises an error reply."""
        kind = _kind(reply)
        if kind == b"message":
            _, channel, body = reply
        elif kind == b"pmessage":
            _, pattern, channel, body = reply
            if self._is_repeated(channel, pattern):
                return
        else:
            return
        topic = self._topics.get(channel) or self._topic(channel)
        if topic == self._canary_channel:
            self.canary_us = now
        else:
            deliveries.append(Delivery(topic, body, now))

    def _topic(self, channel: bytes) -> str:
        """The channel's name as text. A pattern may match channels without end: so many are remembered."""
        topic = as_text(channel)
        if topic == self._canary_channel:
            return topic
        if len(self._topics) >= _KNOWN:
            self._topics.clear()
            self.last_message_us.clear()
        self._topics[channel] = topic
        return topic

    def _is_repeated(self, channel: bytes, pattern: bytes) -> bool:
        """Whether another subscription, here or elsewhere, covers the channel too and has its message."""
        if channel in self._named:
            return True
        if len(self._patterns) == 1:
            return False
        name = as_text(channel)
        first = next((p for p in self._patterns if covers(p, name)), None)
        return first is not None and first.encode() != pattern

    async def _heartbeat(self) -> None:
        """Publish to ourselves and give the connection up when it does not come back."""
        while True:
            await anyio.sleep(self._interval)
            try:
                await self._canary.publish(self._canary_channel, b"")
            except errors.NoPermissionError as error:
                # Not a sign of the server's health. Without a canary only the server's own end is noticed.
                if not self._canary_forbidden:
                    self._canary_forbidden = True
                    log.warning("canary_forbidden", channel=self._canary_channel, reason=str(error))
                continue
            except (errors.RedisError, OSError):
                pass  # the subscription's own silence decides
            # Any message is as good as a canary, which may be queued behind many of them.
            silent = monotonic() - self._good
            if silent > self._timeout and self._reading is not None:
                self._reading.cancel()

    def _record_gap(self, now: int) -> None:
        # The clock may have been set back meanwhile.
        since = min(self.last_good_us, now - int((monotonic() - self._good) * 1e6))
        for channel in (*self._channels, *self._patterns):
            self.gaps += 1
            gap = Gap(channel, since, now, self._connection.last_error or "reconnected")
            log.warning(
                "gap", channel=channel, seconds=round((gap.to_us - gap.from_us) / 1e6, 3), reason=gap.reason
            )
            if self._on_gap is not None:
                self._on_gap(gap)

    async def stop_intake(self) -> None:
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def close(self) -> None:
        """Nothing: the connection ends with `run`, the canary's client belongs to who made it."""

    def health(self) -> Mapping[str, Any]:
        """Connected or not, gaps and reconnects, and for how long nothing was heard of each channel.

        Of a channel that was never heard that is since the start.
        """
        now = self._clock()
        silent = dict.fromkeys(self._channels, round(monotonic() - self._began, 1))
        silent |= {name: round((now - at) / 1e6, 1) for name, at in sorted(self.last_message_us.items())}
        return {
            "ready": self.connected,
            "reconnects": max(self.reconnects, 0),
            "gaps": self.gaps,
            "last_error": self._connection.last_error,
            "silent_s": round(monotonic() - self._good, 1) if self.last_good_us else None,
            "channels": silent,
        }


def _kind(reply: Any) -> bytes:
    """What Redis says: `message`, `subscribe` and so on. Raises an error reply."""
    if isinstance(reply, Exception):
        raise reply
    kind: bytes = reply[0]
    return kind
