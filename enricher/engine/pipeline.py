"""The life of one message: decode, drop duplicates, enrich, and out comes a write.

What the pool gives in is a delivery with its route and its lane's state; what it gets back is either a
`Write` (effects, acknowledgement, or a dead letter) or `RetryLater` (try later). Nothing here waits except an
async or blocking handler.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Generator, Iterable
from functools import partial
from types import GeneratorType
from typing import Any, final

import anyio.lowlevel
import msgspec

from enricher.engine.effects import DeadLetter, Effect
from enricher.engine.isolation import apart, is_ctrl_c, let_out
from enricher.engine.lanes import Lane
from enricher.engine.ports import Clock, Delivery, Failing, Folded, Refused, Write
from enricher.engine.retry import Retry
from enricher.engine.router import Context, HandlerKind, Route, Slots
from enricher.engine.stats import Stats
from enricher.engine.threads import HANDLED, NotBegun, Threads
from enricher.engine.writer import CommitGroup
from enricher.errors import BadMessage, Held, SinkUnavailable
from enricher.redaction import redact_text
from enricher.texts import text_of, trace_of


class RetryLater(msgspec.Struct, frozen=True):
    """The attempt failed (had not begun, without an ``error``); try again in ``delay`` seconds.

    ``held`` is what makes a dead letter of it when nobody can wait for that; ``effects`` are written with its
    way back.
    """

    delay: float
    error: str
    held: BadMessage | None = None
    effects: tuple[Effect, ...] = ()


# A message that could not begin is for whoever gets it then.
NOT_BEGUN = RetryLater(1.0, "")
_OUTAGE_PAUSE = 1.0
# Bytes of a message from which on its write is given to the sinks that can prepare it.
_LARGE = 4096


@final
class Unfinished(msgspec.Struct, frozen=True):
    """A message whose handler has more to do than the loop should wait for: ``work`` is the rest of it."""

    work: Any
    delivery: Delivery
    event: Any
    folded: bool


class Pipeline:
    """Runs handlers. ``clients`` are what async handlers find in their context by name."""

    def __init__(
        self, clock: Clock, stats: Stats, clients: dict[str, Any], blocking_threads: int = 16
    ) -> None:
        self._clock = clock
        self._stats = stats
        self._clients = clients
        self._blocking_threads = blocking_threads
        # By topic, or by the slots that several routes share.
        self._threads: dict[str | Slots, Threads] = {}

    def enrich(self, route: Route, delivery: Delivery, lane: Lane) -> Write | RetryLater | Unfinished:
        """What comes of one message; the rest of it where the handler waits or gave a generator."""
        delivery.attempts += 1
        topic, body, name = delivery.topic, delivery.body, delivery.id or ""
        context = Context(topic, body, delivery.received_us, delivery.attempts, self._clients, name)
        stage, folded, state_store = "decode", False, route.state_store
        try:
            event = route.decode(body, context)
            stage = "enrich"
            call: Any = route.handler
            if not route.inline and route.kind is HandlerKind.BLOCKING:
                call = partial(self._in_thread, route)
            if state_store is None:
                outcome: Any = call(event, context)
            else:
                if lane.key is None:
                    raise BadMessage("$", "a message from which the route's key function can read a key")
                seen = state_store.seen(lane.state, event, context)
                if seen is not None:
                    if seen is Folded.HERE:
                        return Write(delivery.ack(), delivery, lane, 0, "duplicate", True)
                    folded = True
                outcome = call(lane.state, event, context)
            if not route.inline or (type(outcome) is GeneratorType and state_store is not None):
                return Unfinished(outcome, delivery, event, folded)
            return self._enriched(route, delivery, lane, event, outcome, folded)
        except BaseException as error:  # noqa: BLE001  a message may fail in any way; the others go on
            return self._failed(route, delivery, stage, error)

    async def finish(
        self, route: Route, delivery: Delivery, lane: Lane, rest: Unfinished | None = None
    ) -> Write | RetryLater:
        """What comes of one message, or of the ``rest`` of it, in a task of its own: it may wait."""
        # The time in a thread is taken there.
        timeout = None if route.kind is HandlerKind.BLOCKING else route.timeout
        try:
            result: Write | RetryLater = await apart(
                self._to_the_end, route, delivery, lane, rest, timeout=timeout, name=delivery.topic
            )
        except NotBegun:
            delivery.attempts -= 1
            return NOT_BEGUN
        except Exception as error:  # noqa: BLE001  see `enrich`
            return self._failed(route, delivery, "enrich", error)
        return result

    async def _to_the_end(
        self, route: Route, delivery: Delivery, lane: Lane, rest: Unfinished | None
    ) -> Write | RetryLater:
        begun = self.enrich(route, delivery, lane) if rest is None else rest
        if not isinstance(begun, Unfinished):
            return begun
        if route.kind in (HandlerKind.ASYNC, HandlerKind.BLOCKING):
            HANDLED.set(delivery)
            delivery.run_began()
            try:
                outcome = await begun.work
            finally:
                delivery.run_ended()
        else:
            outcome = await _stepwise(begun.work)
        return self._enriched(route, delivery, lane, begun.event, outcome, begun.folded)

    def _enriched(
        self, route: Route, delivery: Delivery, lane: Lane, event: Any, outcome: Any, folded: bool
    ) -> Write:
        """The write of a message whose handler has returned, and its change in the state."""
        state_store = route.state_store
        change, effects = (None, outcome) if state_store is None else outcome
        try:
            done = tuple(effects) if effects is not None else ()
        except TypeError as error:
            if isinstance(effects, Iterable):
                raise
            raise _no_effects(effects, "route", route.topic) from error
        commit_group = lane.group.commit_group
        if not commit_group.accepted.issuperset(map(type, done)):
            accept(done, commit_group, "route", route.topic)
        if acks := delivery.ack():
            for ack in acks:
                if ack.sink not in commit_group.names:
                    raise _nowhere_to_land(ack, "route", route.topic, commit_group.names)
            done = (*done, *acks)
        event_us = getattr(event, "event_us", 0)
        write = Write(done, delivery, lane, event_us, "processed", state_store is not None)
        if len(delivery.body) >= _LARGE:
            for prepare in commit_group.prepare:
                prepare(write)
        if state_store is None or folded:
            return write
        try:
            counter = state_store.fold(lane.state, change)
        except BaseException as error:  # noqa: BLE001
            # Nobody knows how far the change got.
            lane.distrust()
            return self.dead(delivery, "fold", error if isinstance(error, Exception) else let_out(error))
        if counter is not None:
            self._stats.count(route.topic, counter)
        write.folded = change is not None
        return write

    def threads(self, route: Route) -> Threads | None:
        """The threads of a route that has used some, those of its handler's own included.

        Routes that share slots share threads.
        """
        found: Threads | None = getattr(route.handler, "threads", None)
        return self._threads.get(route.slots or route.topic, found)

    def _in_thread(self, route: Route, *arguments: Any) -> Awaitable[Any]:
        whose = route.slots or route.topic
        threads = self._threads.get(whose)
        if threads is None:
            own = route.max_concurrency if route.slots is None else route.slots.limit
            threads = self._threads[whose] = Threads(own or self._blocking_threads)
        return threads.run(route.handler, arguments, route.timeout)

    def _failed(
        self, route: Route, delivery: Delivery, stage: str, error: BaseException
    ) -> Write | RetryLater:
        try:
            return self._judged(route, delivery, stage, error)
        except BaseException as worse:
            if is_ctrl_c(worse):
                raise
            # It is somebody's own class, and raises when it is looked at.
            broken = RuntimeError(f"the handler raised a broken {type(error)!r}")
            broken.__cause__ = worse
            return self.dead(delivery, stage, broken)

    def _judged(
        self, route: Route, delivery: Delivery, stage: str, error: BaseException
    ) -> Write | RetryLater:
        if not isinstance(error, Exception):
            error = let_out(error)
        if isinstance(error, Held):
            if delivery.attempts == 1 and not delivery.awaited and not route.strict:
                return RetryLater(error.seconds, str(error), error.why)
            error = error.why
        if isinstance(error, SinkUnavailable):
            # Nobody is to blame: however long it lasts, no attempt is used up.
            delivery.attempts -= 1
            return RetryLater(_OUTAGE_PAUSE, str(error))
        retrying: tuple[Effect, ...] = ()
        failed: tuple[Effect, ...] = ()
        if isinstance(error, Failing):
            retrying, failed, error = error.retrying, error.failed, error.cause
        decision = route.policy.decide(delivery.attempts, error)
        if isinstance(decision, Retry):
            return RetryLater(decision.delay, f"{type(error).__name__}: {text_of(error)}", None, retrying)
        return self.dead(delivery, stage, error, effects=failed)

    def dead(
        self,
        delivery: Delivery,
        stage: str,
        error: Exception | Refused,
        task_name: str = "",
        effects: tuple[Effect, ...] = (),
    ) -> Write:
        """The write that sets ``delivery`` aside, whole, with why; ``task_name`` if it has no route.

        ``effects`` are written with it.
        """
        route = delivery.route
        if isinstance(error, Refused):
            text, kind, path, trace = error.reason, error.error_type, error.path, error.traceback
        else:
            text = text_of(error) or type(error).__name__
            kind = type(error).__name__
            path = error.path if isinstance(error, BadMessage) else None
            trace = trace_of(error)
        text, trace = redact_text(text), redact_text(trace)
        delivery.failed(stage, text, error if isinstance(error, Exception) else None)
        if route is not None and route.on_dead is not None:
            route.on_dead(delivery.body, stage, text)
        # A redelivered entry must give the same id, so that it is set aside once.
        identity = delivery.identity
        task_id = str(
            uuid.uuid4()
            if identity is None
            else uuid.uuid5(uuid.NAMESPACE_OID, f"{delivery.topic}\n{identity}")
        )
        letter = DeadLetter(
            task_id=task_id,
            task_name=route.name if route is not None else task_name or "unknown",
            topic=delivery.topic,
            key=delivery.key,
            body=delivery.body,
            stage=stage,
            error=text,
            error_type=kind,
            path=path,
            traceback=trace,
            attempts=max(delivery.attempts, 1),
            first_us=delivery.received_us,
            last_us=self._clock(),
        )
        stateful = delivery.lane is not None and route.state_store is not None
        return Write((*effects, letter, *delivery.ack()), delivery, delivery.lane, 0, "dead", stateful)


def accept(effects: Iterable[Any], commit_group: CommitGroup, kind: str, name: str) -> None:
    """Note the types of these effects as ones that the group's sinks take.

    ``kind`` ("route", "state store") and ``name`` are those of who made them. TypeError for what is no
    effect, LookupError for one whose sink is none of the group's.
    """
    for effect in effects:
        if not isinstance(effect, Effect):
            raise _no_effects(effects, kind, name)
        if effect.sink not in commit_group.names:
            raise _nowhere_to_land(effect, kind, name, commit_group.names)
        commit_group.accepted.add(type(effect))


def _nowhere_to_land(effect: Effect, kind: str, name: str, names: frozenset[str]) -> LookupError:
    known = ", ".join(sorted(names))
    return LookupError(
        f"effect {type(effect).__name__} wants sink {effect.sink!r}; {kind} {name!r} has: {known}"
    )


def _no_effects(returned: object, kind: str, name: str) -> TypeError:
    shown = repr(returned)[:200]
    maker = "handler" if kind == "route" else kind
    return TypeError(f"a {maker} returns a list of effects; that of {name!r} returned {shown}")


async def _stepwise(generator: Generator[Any, Any, Any]) -> Any:
    """Run a generator to its return value, giving the loop a turn at each yield."""
    while True:
        try:
            given = next(generator)
        except StopIteration as stop:
            return stop.value
        if given is not None:
            generator.close()
            raise TypeError(f"a handler yields None and returns its effects; this one yielded {given!r}")
        await anyio.lowlevel.checkpoint()
