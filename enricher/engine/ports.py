"""What the engine asks of the world: sources with their deliveries, sinks with their answers, state stores.

Adapters and host programs implement these; the engine imports none of them. docs/library.md has an example.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from enum import Enum
from time import monotonic_ns
from typing import Any, Protocol, TypeVar

import msgspec

from enricher.engine.effects import Effect
from enricher.errors import EnricherError, Overloaded

S = TypeVar("S")

Clock = Callable[[], int]
"""Wall clock: microseconds since 1970, UTC."""


def steady_clock() -> int:
    """Microseconds by a clock that is never set: what delays are measured by."""
    return monotonic_ns() // 1000


class Delivery:
    """One message as it came: body, topic, when (microseconds UTC), and what to do when it is done.

    A source subclasses this to add its own acknowledgement. ``attempts`` counts the runs of the handler.
    ``id`` is the source's own name for the message, if it has one (a stream entry id). ``kept`` says that
    whoever sent it has it still: one that is not finished is handed back and not lost. ``awaited`` says that
    its sender waits for what becomes of it, so that it is not held.
    """

    kept = False
    awaited = False
    __slots__ = ("attempts", "backlog", "body", "gone", "id", "key", "lane", "received_us", "route", "topic")

    def __init__(self, topic: str, body: bytes, received_us: int, id: str | None = None) -> None:  # noqa: A002
        self.topic = topic
        self.body = body
        self.received_us = received_us
        self.id = id
        self.attempts = 0
        # Set by the pool: where the message belongs, and whether it has left its queue.
        self.key: str | None = None
        self.route: Any = None
        self.lane: Any = None
        self.backlog: Any = None
        self.gone = False

    @property
    def traceparent(self) -> str:
        """The context in which it was sent, as W3C's header of that name says it; "" without any."""
        return ""

    @property
    def identity(self) -> str | None:
        """What its dead letter is known by: the same whenever it is delivered, and no other message's."""
        return self.id

    def ack(self) -> Sequence[Effect]:
        """Effects that acknowledge the message; they are written in the same commit as its own."""
        return ()

    def defer(self, delay: float) -> Sequence[Effect] | None:
        """Effects that hand the message back for ``delay`` seconds; None if it must be kept in memory."""
        return None

    def run_began(self) -> None:
        """Called when a task or a thread begins to run the message's handler."""

    def run_ended(self) -> None:
        """Called for each `run_began`, when that task or thread has ended, perhaps long after the message
        has left: until then nobody else should be given it.
        """

    def failed(self, stage: str, text: str, error: Exception | None) -> None:
        """Called when a dead letter is made of the message: where it failed, and why.

        ``error`` is what was raised; None where a sink refused the message.
        """

    def settled(self, label: str) -> None:
        """Called once when the message has left.

        As `processed`, `duplicate`, `dead`, `dropped`, `conflated`, `lost`, or `handed_back`.
        """


class AwaitedDelivery(Delivery):
    """A delivery whose sender, in this process, awaits what becomes of it.

    ``ended`` is a future of the label under which it left the engine. ``why`` says what made a dead letter
    of it, else "", and ``error`` is what was raised then.
    """

    awaited = True
    __slots__ = ("ended", "error", "why")

    def __init__(self, topic: str, body: bytes, received_us: int, id: str) -> None:  # noqa: A002
        super().__init__(topic, body, received_us, id)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.why = ""
        self.error: Exception | None = None

    def failed(self, stage: str, text: str, error: Exception | None) -> None:
        self.why = f"{stage}: {text}"
        self.error = error

    async def committed(self) -> None:
        """Return when it is processed, or a duplicate of one that was.

        Raises what happened to it else: `EnricherError` as it was raised, `Overloaded` when it was dropped,
        else an `EnricherError` whose ``__cause__`` is what was raised.
        """
        label = await self.ended
        if label in ("processed", "duplicate"):
            return
        if isinstance(self.error, EnricherError):
            raise self.error
        why = f": {self.why}" if self.why else ""
        text = f"message {self.id} on {self.topic!r} ended as {label}{why}"
        happened = Overloaded(text) if label in ("dropped", "conflated") else EnricherError(text)
        raise happened from self.error

    def settled(self, label: str) -> None:
        if not self.ended.done():
            self.ended.set_result(label)


class Failing(Exception):
    """What a handler raises to have effects written where it fails; ``cause`` is what happened.

    ``retrying`` are written when the message is tried again, with its way back; ``failed`` with its dead
    letter.
    """

    def __init__(
        self, cause: Exception, *, retrying: Sequence[Effect] = (), failed: Sequence[Effect] = ()
    ) -> None:
        self.cause = cause
        self.retrying = tuple(retrying)
        self.failed = tuple(failed)
        super().__init__(str(cause))


class Intake(Protocol):
    """Where a source puts deliveries."""

    def offer(self, delivery: Delivery) -> bool:
        """Hand over without waiting; False if it (or something older) had to be dropped."""

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        """Hand over what was read at once: as `offer` one after the other, and cheaper when it is much."""

    async def put(self, delivery: Delivery) -> None:
        """Hand over, waiting for room where the route's policy is to block."""

    def set_aside(self, delivery: Delivery, stage: str, error: Exception, task_name: str = "") -> None:
        """Make a dead letter of what no handler shall see; ``task_name`` is for a topic without a route."""

    def full_for(self, delivery: Delivery) -> bool:
        """Whether `offer` would have to drop something."""


class Source(Protocol):
    """Where messages come from.

    A source that keeps messages before it hands them over may have a ``lost``: how many of each topic
    are nowhere else, after `close` as well. Another thread may ask.
    """

    name: str

    async def run(self, intake: Intake) -> None:
        """Read until `stop_intake`, and wait for it when there is nothing more: to return before is to fail.

        It connects by itself and goes on trying while the server is unreachable.
        """

    async def stop_intake(self) -> None:
        """Take nothing new."""

    async def close(self) -> None:
        """Release connections."""

    def health(self) -> Mapping[str, Any]:
        """`ready` (bool) plus figures for people: staleness per channel, gaps, reconnects."""


class Write(msgspec.Struct, eq=False):
    """All effects of one delivery (or of none: a clock event, statistics), committed together.

    ``event_us`` is the event's own time for the latency histogram, 0 when it has none. ``label`` says
    what the counters call it once it is committed. ``folded`` says that the lane's state holds its message.
    ``stateful`` says that its route has a state store. ``owner`` is the pool's: writes of one owner keep
    their order. ``failed`` are effects to be written with its dead letter, should a sink refuse it.
    ``body_size`` is that of its delivery, from when it is submitted.
    """

    effects: Sequence[Effect]
    delivery: Delivery | None = None
    owner: Any = None
    event_us: int = 0
    label: str = "processed"
    stateful: bool = False
    failed: tuple[Effect, ...] = ()
    folded: bool = False
    body_size: int = 0


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A sink's answer for one write: it will never take it."""

    reason: str
    error_type: str = "Rejected"
    traceback: str = ""
    path: str | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """A sink's answer for one write: it was not written, and nobody knows whether the write is to blame.

    The engine finds out, see `enricher.engine.circuit_breaker`.
    """

    reason: str
    error_type: str
    traceback: str = ""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A durable sink's answer for one write: the document was there already, and this is it."""

    document: Mapping[str, Any]


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A visible sink's answer for one write: somebody had claimed it, nothing was published."""


Answer = Refused | Failed | Stored | Claimed


class Sink(Protocol):
    """Writes effects.

    ``durable`` sinks are written before the others; those of them with a true ``derived`` after the rest,
    what these have taken. A coroutine method `metrics` of one gives figures of its own
    (`enricher.metrics.Metric`). A plain method `prepare` of a durable one is given the write of each large
    message as soon as it is made, and may encode what would else be kept as objects. `commit` answers only
    for writes that were not simply written (by index), raises `SinkUnavailable` when the server is to blame
    and `WriteRefused`, `TypeError` or `ValueError` when a write is, and must be harmless when repeated. What
    any other error means is found out, see `enricher.engine.circuit_breaker`.
    """

    name: str
    durable: bool

    async def open(self) -> None:
        """Prepare what must exist (indexes, scripts). Raises `SinkUnavailable` in an outage."""

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write the effects of ``writes`` that name this sink, in order."""

    async def close(self) -> None:
        """Release connections."""


class Reader(Protocol):
    """Reads documents back, for loading state."""

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Documents that match ``query``. Raises `SinkUnavailable`."""


class Folded(Enum):
    """That a message is in the state already: folded by this process, or before the state was restored."""

    HERE = "here"
    RESTORED = "restored"


class StateStore(Protocol[S]):
    """Owns the state of the lanes of some routes, one per key, whatever the topic. All methods but `restore`
    and `unfinished` are plain and fast.

    It may have these, too:

    ``unshown(state, now_us)``      effects of what was stored and perhaps never shown, a sequence for each
                                    write: asked once a key, after its first restore
    ``show_again(state)``           the next `show` must show everything: the state was restored anew, for a
                                    message was refused, and what was shown meanwhile was dropped
    ``clock_set(state, step_us)``   the wall clock was set by so much: what the state remembers as a time of
                                    that clock has to move along
    ``held(state, now_us)``         effects that wait for their time, a sequence for each write: asked at a
                                    stop, and nothing is asked after it
    ``on_gap(topic, from_us, to_us)``   see `Engine.missed`
    """

    name: str

    async def restore(self, reader: Reader, wanted: Mapping[str, Delivery]) -> Mapping[str, S]:
        """State for each wanted key (with the delivery that asked first), from what was stored."""

    async def unfinished(self, reader: Reader, now_us: int) -> Sequence[str]:
        """Keys that have something left to do although no message may come: asked once, at the start."""

    def seen(self, state: S, event: Any, context: Any) -> Folded | None:
        """Whether this very message was folded already; None if not, or if it is not remembered."""

    def fold(self, state: S, change: Any) -> str | None:
        """Fold a change; called only when nothing raised. May name a counter (`late`) to add to."""

    def show(self, state: S, now_us: int) -> Sequence[Effect]:
        """Effects of the state as a whole, once after each turn of the lane."""

    def due(self, state: S) -> int | None:
        """Wall clock (microseconds) at which `on_time` should be called, if ever."""

    def on_time(self, state: S, now_us: int) -> Sequence[Effect]:
        """A clock event: the time asked for by `due` has come."""


Handled = Iterable[Effect] | tuple[Any, Iterable[Effect] | None] | None
"""What a handler returns: effects, or with a state store a change of the state and effects."""

Handler = Callable[..., Handled | Generator[None, None, Handled] | Awaitable[Handled]]
"""A handler of any kind: called with event and context, after the state where its route has a state store."""
