"""The engine as one service: started, stopped and drained in one fixed order inside one task group.

    start   writer, pool, sinks, sources, what was left from before (an unreachable server delays
            readiness, not the start)
    stop    not ready -> sources take nothing new -> drain to a deadline -> count what is left
            -> cancelled handlers end -> services end -> sources close -> sinks close
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from enricher.config import PoolSettings, WriterSettings
from enricher.engine.effects import EMITTED, Effect
from enricher.engine.health import Health
from enricher.engine.isolation import is_ctrl_c
from enricher.engine.pipeline import Pipeline
from enricher.engine.pool import Pool
from enricher.engine.pool_parts import Core
from enricher.engine.ports import AwaitedDelivery, Clock, Reader, Sink, Source, Write, steady_clock
from enricher.engine.retry import Backoff
from enricher.engine.router import Route, Router, covers
from enricher.engine.stats import Stats
from enricher.engine.supervision import Parts, Service, is_asked_to_end, to_its_end
from enricher.engine.writer import Writer
from enricher.errors import EngineFailed, EnricherError, Overloaded
from enricher.log import log
from enricher.texts import text_of

if TYPE_CHECKING:
    from enricher.tracing import Tracing

# At most this part of the pool is with one group of the writer, out of reach of every overload policy.
HELD = 1 / 4

# Seconds in which a source or sink is to end.
_END = 10.0

OUTAGE_BACKOFF = Backoff(base=0.05, factor=2.0, max_delay=5.0)


class Engine:
    """Sources in, routes through, sinks out. Use it as an async context manager, once.

    A handler run of ``slow_handler`` seconds is logged; the state of a lane idle for ``evict_after`` goes.
    ``owns`` says which keys are this process's, where several processes share them. ``troubles`` says what is
    wrong with topics, {topic: a sentence}, though every server is there. ``services`` are coroutine functions
    that run beside it, by name: cancelled after the drain, before sources and sinks close. ``tracing`` makes
    spans of messages. ``stopping`` says that it accepts no more messages.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        sources: Sequence[Source],
        sinks: Sequence[Sink],
        *,
        clock: Clock,
        steady: Clock = steady_clock,
        reader: Reader | None = None,
        clients: Mapping[str, Any] | None = None,
        pool: PoolSettings = PoolSettings(),  # noqa: B008  frozen
        writer: WriterSettings = WriterSettings(),  # noqa: B008  frozen
        backoff: Backoff = OUTAGE_BACKOFF,
        drain_deadline: float = 10.0,
        stall_after: float = 10.0,
        slow_handler: float = 0.25,
        evict_after: float = 3600.0,
        owns: Callable[[str], bool] | None = None,
        troubles: Callable[[], Mapping[str, str]] = dict,
        services: Iterable[tuple[str, Callable[[], Awaitable[None]]]] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self.clock = clock
        self.stats = Stats()
        self.router = Router(routes)
        self.sources = tuple(sources)
        self.sinks = tuple(sinks)
        self.services = tuple(Service(name, function) for name, function in services)
        self.stopping = False
        self.lost: Counter[str] = Counter()
        self.handed_back: Counter[str] = Counter()
        self.drain_deadline = max(
            [drain_deadline, *(r.drain_deadline for r in self.router.routes if r.drain_deadline)]
        )
        self.writer = Writer(
            sinks,
            limits=writer,
            most=max(1, int(pool.max_messages * HELD)),
            most_bytes=max(1, int(pool.max_bytes * HELD)),
            backoff=backoff,
            stats=self.stats,
            clock=clock,
        )
        pipeline = Pipeline if tracing is None else tracing.pipeline
        core = Core(
            router=self.router,
            pipeline=pipeline(clock, self.stats, dict(clients or {})),
            writer=self.writer,
            stats=self.stats,
            clock=clock,
            steady=steady,
            reader=reader,
            owns=owns,
            limits=pool,
            slow_handler=slow_handler,
            evict_after=evict_after,
        )
        self.pool = Pool(core)
        if tracing is not None:
            self.writer.settle = tracing.settling(self.writer.settle)
        self._health = Health(self.pool, self.writer, self.sources, troubles, stall_after)
        self._parts = Parts(self._part_failed)
        self._draining = anyio.CancelScope()
        self._stop_turn = anyio.Lock()
        self._stopped = anyio.Event()

    # -- life --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        await self._parts.enter()
        self.begin("writer", _forever, self.writer.run)
        self.begin("pool", _forever, self.pool.run)
        self.begin("watchdog", _forever, self._health.watch)
        self.begin("opening of the sinks", _open_sinks, self.writer, self._health)
        for source in self.sources:
            self.begin(source.name, self._read, source)
        for service in self.services:
            self.begin(service.name, service.run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._parts.leave(self.stop, kind, error, trace)

    def begin(self, part: str, run: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run a part beside the others until the engine has ended; `EngineFailed` if it raises."""
        self._parts.begin(part, run, *arguments)

    @property
    def failure(self) -> EngineFailed | None:
        """The first part that failed, and why."""
        return self._parts.failure

    @property
    def ended(self) -> bool:
        """Whether it commits nothing any more."""
        return self._parts.ended

    def _part_failed(self, part: str) -> None:
        if part in ("pool", "writer"):
            self._draining.cancel()  # nothing moves any more

    async def _read(self, source: Source) -> None:
        await source.run(self.pool)
        if not self.stopping:
            raise RuntimeError("run() returned although the source was not stopped")

    @property
    def ready(self) -> bool:
        """Every sink was opened that is not derived from others, every source is connected, what was left
        from before is restored, and nobody has asked to stop."""
        return not self.stopping and self.failure is None and self._health.ready

    @property
    def stalled(self) -> Sequence[str]:
        """What waits and does not move, and why; also for other threads, while the loop itself stands."""
        return self._health.stalled

    async def wait_ready(self) -> None:
        """Return when `ready` holds. Raises `EnricherError` when it has failed or is stopped before."""
        while not self.ready:
            if self.failure is not None:
                raise EnricherError(str(self.failure)) from self.failure
            if self.stopping:
                raise EnricherError("the enricher was stopped before it was ready")
            await anyio.sleep(0.02)  # sources have no event to wait for

    async def stop(self, deadline: float | None = None) -> None:
        """Stop taking in, drain for at most ``deadline`` seconds, count and log what is left.

        What came from a source that has it still is handed back, the rest is lost. Who calls it while another
        stops waits for that one, and goes on where it was cancelled. A part that fails to end is logged and
        keeps none of the others from ending; the first such error is raised when all have.
        """
        self.stopping = True
        async with self._stop_turn:
            if self._stopped.is_set():
                return
            failed = [await _ended(source, source.stop_intake) for source in self.sources]
            seconds = self.drain_deadline if deadline is None else deadline
            with self._draining, anyio.move_on_after(seconds) as scope:
                await self.pool.drain()
                while self.writer.unfinished and not self.writer.outages:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            # What is counted as left is counted once, and what was opened is closed, whoever is cancelled.
            with anyio.CancelScope(shield=True):
                self._count_left(deadline_passed=scope.cancelled_caught)
                # Nobody else should have a message before its handler has ended.
                await self.pool.wait_ended()
                failed += [await _ended(service, service.close) for service in self.services]
                failed += [await _ended(source, source.close) for source in self.sources]
                failed += [await _ended(sink, sink.close) for sink in self.sinks]
                for topic, number in self._lost_by_sources().items():
                    self.lost[topic] += number
                    self.stats.count(topic, "lost", number)
                log.catch_up(at_end=True)
                self._stopped.set()
        errors = [error for error in failed if error is not None]
        if errors:
            raise errors[0]

    async def wait_stopped(self) -> None:
        """Return when somebody has stopped it, and it is drained and closed."""
        await self._stopped.wait()

    def _count_left(self, *, deadline_passed: bool) -> None:
        self._parts.ended = True
        self.lost, self.handed_back = self.pool.leftover()
        for event, write, left in (
            ("messages_handed_back", log.info, self.handed_back),
            ("messages_lost", log.error, self.lost),
        ):
            if left:
                write(event, total=left.total(), topics=dict(left), deadline_passed=deadline_passed)

    def _lost_by_sources(self) -> Counter[str]:
        lost: Counter[str] = Counter()
        for source in () if self._stopped.is_set() else self.sources:
            lost.update(getattr(source, "lost", {}))
        return lost

    def left(self) -> tuple[Counter[str], Counter[str]]:
        """Messages per topic that an end now loses, and hands back. Another thread may ask."""
        lost, handed_back = (self.lost, self.handed_back) if self.ended else self.pool.left()
        return lost + self._lost_by_sources(), handed_back

    # -- use ---------------------------------------------------------------------------------------

    def missed(self, topic: str, from_us: int, to_us: int) -> None:
        """Tell the state stores that messages of a topic, or of those a pattern covers, may have been missed.

        That is between two moments of the clock; ``from_us`` is 0 for all the time before.
        """
        for route in self.router.routes:
            on_gap = getattr(route.state_store, "on_gap", None)
            if on_gap is not None and (route.topic == topic or covers(topic, route.topic)):
                on_gap(route.topic, from_us, to_us)

    def emit(self, *effects: Effect) -> None:
        """Commit effects that belong to no message (progress, status), in order among themselves.

        Raises `EnricherError` when it is stopped and nothing is committed any more.
        """
        if self.ended:
            raise EnricherError("the enricher is stopped: effects are no longer committed")
        self.writer.submit(Write(effects, label=EMITTED))

    def check_accepts(self) -> None:
        """Raises `EnricherError` when it has failed, `Overloaded` when it is stopping."""
        if self.failure is not None:
            raise EnricherError(str(self.failure)) from self.failure
        if self.stopping:
            raise Overloaded("the worker is stopping and accepts no more messages; try another one")

    async def commit(self, topic: str, body: bytes, *effects: Effect) -> None:
        """Commit effects of a message that was checked elsewhere; return when all of them are written.

        It waits for no room: who calls it bounds what is under way. Raises `Overloaded` when it is
        stopping, and what `AwaitedDelivery.committed` raises.
        """
        self.check_accepts()
        delivery = AwaitedDelivery(topic, body, self.clock(), uuid.uuid4().hex)
        self.pool.commit(delivery, effects)
        try:
            await delivery.committed()
        except EnricherError as error:
            if self.ended:
                raise Overloaded("the worker has stopped before it was committed; try another one") from error
            raise

    @property
    def outages(self) -> dict[str, str]:
        """The sinks that are unreachable now, for writes or for states to be read, and why."""
        return self._health.outages

    def health(self) -> dict[str, Any]:
        """`status` (starting, restoring, ready, degraded, stalled, stopping, failed), how many keys of how
        many are restored while some are not, outages, troubles, what is stalled, sources, the pool's level.
        """
        return self._health.report(failed=self.failure is not None, stopping=self.stopping)


async def _forever(run: Callable[[], Awaitable[None]]) -> None:
    await run()
    raise RuntimeError("it ended although nothing stopped it")


async def _open_sinks(writer: Writer, health: Health) -> None:
    breakers = writer.breakers.values()
    derived = [breaker for breaker in breakers if getattr(breaker.sink, "derived", False)]
    async with anyio.create_task_group() as others:
        for breaker in derived:  # nothing but their own routes needs them
            others.start_soon(to_its_end, breaker.open)
        async with anyio.create_task_group() as tasks:
            for breaker in breakers:
                if breaker not in derived:
                    tasks.start_soon(to_its_end, breaker.open)
        health.opened = True


async def _ended(part: Source | Service | Sink, end: Callable[[], Awaitable[None]]) -> BaseException | None:
    """What ``part`` raised when it was told to end, or `TimeoutError`."""
    try:
        with anyio.fail_after(_END):
            await end()
    except BaseException as error:
        if is_ctrl_c(error) or (isinstance(error, asyncio.CancelledError) and is_asked_to_end()):
            raise
        # The others are to end all the same.
        log.error("part_failed_to_end", part=part.name, error=f"{type(error).__name__}: {text_of(error)}")
        return error
    return None
