"""The life of one message: decode, drop duplicates, enrich, and out comes a write.

What the pool gives in is a delivery with its route and its lane's state; what it gets back is either a
`Write` (effects, acknowledgement, or a dead letter) or `Again` (try later). Nothing here waits except an
async or blocking handler.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Generator, Iterable
from types import GeneratorType
from typing import Any

import anyio.lowlevel
import msgspec

from enricher.engine.apart import apart, is_ctrl_c, let_out
from enricher.engine.effects import DeadLetter, Effect
from enricher.engine.lanes import Lane
from enricher.engine.ports import Clock, Delivery, Folded, Refused, Write
from enricher.engine.retry import Retry
from enricher.engine.router import Context, Kind, Route
from enricher.engine.stats import Stats
from enricher.engine.threads import NotBegun, Threads
from enricher.errors import BadMessage, Held
from enricher.redaction import redact_text
from enricher.texts import text_of, trace_of


class Again(msgspec.Struct, frozen=True):
    """The attempt failed (had not begun, without an ``error``); try again in ``delay`` seconds.

    ``held`` is what makes a dead letter of it when nobody can wait for that.
    """

    delay: float
    error: str
    held: BadMessage | None = None


# A message that could not begin is for whoever gets it then.
NOT_BEGUN = Again(1.0, "")


class Unfinished(msgspec.Struct, frozen=True):
    """A pure handler with state that has more to do than the loop should wait for, and the rest of it."""

    generator: Generator[Any, Any, Any]
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
        self._threads: dict[str, Threads] = {}

    def enrich(self, route: Route, delivery: Delivery, lane: Lane) -> Write | Again | Unfinished:
        """The write of one message whose handler is pure; the rest of it where a handler gave a generator."""
        context = self._context(delivery)
        try:
            event = route.decode(delivery.body, context)
        except BaseException as error:  # noqa: BLE001  a message may fail in any way; the others go on
            return self._failed(route, delivery, "decode", error)
        try:
            state_store = route.state_store
            if state_store is None:
                effects: Any = route.handler(event, context)
                return self._write(route, delivery, lane, event, effects)
            state = self._state(lane)
            seen = state_store.seen(state, event, context)
            if seen is Folded.HERE:
                return Write(delivery.ack(), delivery, lane, 0, "duplicate", True)
            outcome: Any = route.handler(state, event, context)
            if type(outcome) is GeneratorType:
                return Unfinished(outcome, delivery, event, seen is not None)
            change, effects = outcome
            write = self._write(route, delivery, lane, event, effects)
        except BaseException as error:  # noqa: BLE001  see `_failed`
            return self._failed(route, delivery, "enrich", error)
        return write if seen is not None else self._fold(route, delivery, lane, change, write)

    async def enrich_waiting(self, route: Route, delivery: Delivery, lane: Lane) -> Write | Again:
        """The write of one message whose handler may wait, of any kind, in a task of its own."""
        # The time in a thread is taken there.
        timeout = None if route.kind is Kind.BLOCKING else route.timeout
        work = self._enrich_waiting
        return await self._apart(route, delivery, work, route, delivery, lane, timeout=timeout)

    async def _enrich_waiting(self, route: Route, delivery: Delivery, lane: Lane) -> Write | Again:
        if route.kind is Kind.PURE:
            result = self.enrich(route, delivery, lane)
            return await self._go_on(route, result, lane) if isinstance(result, Unfinished) else result
        context = self._context(delivery)
        try:
            event = route.decode(delivery.body, context)
        except BaseException as error:  # noqa: BLE001
            return self._failed(route, delivery, "decode", error)
        state_store = route.state_store
        if state_store is None:
            effects = await self._call(route, (event, context))
            return self._write(route, delivery, lane, event, effects)
        state = self._state(lane)
        seen = state_store.seen(state, event, context)
        if seen is Folded.HERE:
            return Write(delivery.ack(), delivery, lane, 0, "duplicate", True)
        change, effects = await self._call(route, (state, event, context))
        write = self._write(route, delivery, lane, event, effects)
        return write if seen is not None else self._fold(route, delivery, lane, change, write)

    async def go_on(self, route: Route, rest: Unfinished, lane: Lane) -> Write | Again:
        """The write of a message whose handler goes on, with a turn for the loop between its steps."""
        return await self._apart(route, rest.delivery, self._go_on, route, rest, lane)

    async def _go_on(self, route: Route, rest: Unfinished, lane: Lane) -> Write | Again:
        change, effects = await _stepwise(rest.generator)
        write = self._write(route, rest.delivery, lane, rest.event, effects)
        return write if rest.folded else self._fold(route, rest.delivery, lane, change, write)

    async def _apart(
        self,
        route: Route,
        delivery: Delivery,
        function: Callable[..., Awaitable[Write | Again]],
        *arguments: Any,
        timeout: float | None = None,
    ) -> Write | Again:
        try:
            result: Write | Again = await apart(function, *arguments, timeout=timeout, name=delivery.topic)
        except NotBegun:
            delivery.attempts -= 1
            return NOT_BEGUN
        except Exception as error:  # noqa: BLE001  see `enrich`
            return self._failed(route, delivery, "enrich", error)
        return result

    def threads(self, route: Route) -> Threads | None:
        """The threads of a route that has used some, those of its handler's own included."""
        found: Threads | None = getattr(route.handler, "threads", None)
        return self._threads.get(route.topic, found)

    def _fold(
        self, route: Route, delivery: Delivery, lane: Lane, change: Any, write: Write
    ) -> Write | Again:
        assert route.state_store is not None  # noqa: S101  only stateful routes fold
        try:
            counter = route.state_store.fold(lane.state, change)
        except BaseException as error:  # noqa: BLE001
            # Nobody knows how far the change got: the state is loaded anew.
            lane.stale = True
            return self.dead(delivery, "fold", error if isinstance(error, Exception) else let_out(error))
        if counter is not None:
            self._stats.count(route.topic, counter)
        write.folded = change is not None
        return write

    async def _call(self, route: Route, arguments: tuple[Any, ...]) -> Any:
        if route.kind is Kind.BLOCKING:
            threads = self._threads.get(route.topic)
            if threads is None:
                limit = route.max_concurrency or self._blocking_threads
                threads = self._threads[route.topic] = Threads(limit)
            return await threads.run(route.handler, arguments, route.timeout)
        returned: Any = route.handler(*arguments)
        return await (returned if route.kind is Kind.ASYNC else _stepwise(returned))

    def _context(self, delivery: Delivery) -> Context:
        delivery.attempts += 1
        return Context(
            delivery.topic, delivery.body, delivery.received_us, delivery.attempts, self._clients
        )

    @staticmethod
    def _state(lane: Lane) -> Any:
        if lane.key is None:
            raise BadMessage("$", "a message that its route's key function understands")
        return lane.state

    @staticmethod
    def _write(
        route: Route, delivery: Delivery, lane: Lane, event: Any, effects: Iterable[Effect] | None
    ) -> Write:
        try:
            done = tuple(effects) if effects is not None else ()
        except TypeError as error:
            if isinstance(effects, Iterable):
                raise
            raise _no_effects(effects, route) from error
        group = lane.family.group
        names = group.names
        if not group.landing.issuperset(map(type, done)):
            for effect in done:
                if not isinstance(effect, Effect):
                    raise _no_effects(effects, route)
                if effect.sink not in names:
                    raise _nowhere_to_land(effect, route, names)
                group.landing.add(type(effect))
        acks = delivery.ack()
        if acks:
            for ack in acks:
                if ack.sink not in names:
                    raise _nowhere_to_land(ack, route, names)
            done = (*done, *acks)
        stateful = route.state_store is not None
        return Write(done, delivery, lane, getattr(event, "event_us", 0), "processed", stateful)

    def _failed(
        self, route: Route, delivery: Delivery, stage: str, error: BaseException
    ) -> Write | Again:
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
    ) -> Write | Again:
        if not isinstance(error, Exception):
            error = let_out(error)
        if isinstance(error, Held):
            if delivery.attempts == 1 and not delivery.awaited and not route.strict:
                return Again(error.seconds, str(error), error.why)
            error = error.why
        decision = route.policy.decide(delivery.attempts, error)
        if isinstance(decision, Retry):
            return Again(decision.delay, f"{type(error).__name__}: {text_of(error)}")
        return self.dead(delivery, stage, error)

    def dead(
        self, delivery: Delivery, stage: str, error: Exception | Refused, task_name: str = ""
    ) -> Write:
        """The write that sets ``delivery`` aside, whole, with why; ``task_name`` if it has no route."""
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
        return Write((letter, *delivery.ack()), delivery, delivery.lane, 0, "dead", stateful)


def _nowhere_to_land(effect: Effect, route: Route, names: frozenset[str]) -> LookupError:
    known = ", ".join(sorted(names))
    return LookupError(
        f"effect {type(effect).__name__} wants sink {effect.sink!r}; route {route.topic!r} has: {known}"
    )


def _no_effects(returned: object, route: Route) -> TypeError:
    shown = repr(returned)[:200]
    return TypeError(f"a handler returns a list of effects; that of {route.topic!r} returned {shown}")


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
