"""`Enricher`: the whole service inside any asyncio program.

    async with Enricher.from_settings(settings) as enricher:
        await enricher.wait_ready()
        ...

It installs no signal handler, sets up no logging and keeps no global state; several live in one loop. What it
has to say goes to structlog's logger "enricher" where the program has configured structlog, else to that of
`logging`.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, Unpack

from enricher.assembly import build, with_sections
from enricher.clock import wall_clock
from enricher.config import Settings, named_by_origin
from enricher.engine.effects import DOCUMENTS, Effect
from enricher.engine.ports import AwaitedDelivery
from enricher.engine.service import Engine
from enricher.engine.stats import Stats
from enricher.errors import EnricherError, Overloaded
from enricher.log import log
from enricher.options import Options, checked
from enricher.own_task import OwnTask
from enricher.systems import load
from enricher.worker_figures import Figures

ASGI = Callable[[Any, Any, Any], Awaitable[None]]

_NOT_RUNNING = "the enricher is not running: use `async with enricher:`"


class Enricher:
    """The service: made from settings, entered once, drained and closed on leaving, by whatever task.

    When the engine fails, the task that entered is cancelled, if it still runs, and leaving raises the cause.

    Should a part of it fail, which none may, the block is cancelled and raises `EnricherError`.

    Where a framework has hooks for start and stop and no block: ``task = create_task(enricher.run())`` and
    ``await enricher.wait_ready()`` in the one, ``await enricher.stop()`` and ``await task`` in the other.

    ``options`` are those of `Options`: routes, clients, sinks and systems of the program's own.
    """

    def __init__(self, settings: Settings, **options: Unpack[Options]) -> None:
        self._options = checked(options)
        self.settings = with_sections(settings, options.get("systems", ()))
        self.instance = settings.instance
        self._clock = options.get("clock", wall_clock)
        self._engine: Engine | None = None
        self._figures: Figures | None = None
        self._life: OwnTask
        self._app: ASGI | None = None
        self._make_app: Callable[[], ASGI]

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **options: Unpack[Options]) -> Self:
        """An enricher for ``settings`` (default: every default); ``options`` as in the constructor."""
        return cls(load() if settings is None else settings, **options)

    # -- life --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._engine is not None:
            raise EnricherError("an Enricher is entered once; make a new one to run again")
        life = OwnTask(self._serving(), "enricher")
        await life.enter()
        self._life = life
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._life.leave()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        # Who made it may have been another process, which forked this one.
        self.instance = self.settings.instance
        with named_by_origin(self.settings):
            parts = build(self.settings, self._options)
        engine = self._engine = parts.engine
        self._make_app = parts.app
        figures = self._figures = Figures(engine, self.settings, parts.summaries)
        async with AsyncExitStack() as stack:
            stack.callback(self._log_end, engine, figures)
            stack.push_async_callback(parts.close)
            log.info(
                "starting",
                instance=self.instance,
                routes=[route.topic for route in engine.router.routes],
                pid=os.getpid(),
                servers={
                    sink.name: getattr(sink, "server", "")
                    for sink in engine.sinks
                    if parts.stores or sink.name != DOCUMENTS
                },
                database=self.settings.mongo.database_name if parts.stores else "",
                timezone=self.settings.feed.timezone,
            )
            for warning in self.settings.mongo.warnings() if parts.stores else ():
                log.warning("configuration_warning", reason=warning)
            for listener in parts.listeners:
                stack.callback(listener.close)
                await listener.bind()
            await stack.enter_async_context(engine)
            figures.begin()
            engine.begin("retention", parts.retention.run)
            yield

    def _log_end(self, engine: Engine, figures: Figures) -> None:
        figures.log_summaries(at_end=True)
        log.info("stopped", instance=self.instance, lost=engine.lost.total())

    async def run(self) -> None:
        """Serve until cancelled or stopped, drain and close: ``await Enricher(settings).run()``."""
        async with self:
            await self.engine.wait_stopped()

    async def stop(self, deadline: float | None = None) -> None:
        """Stop taking in, drain for at most ``deadline`` seconds (default: the setting) and close.

        `run` returns then; a block goes on without it, and `submit` raises `Overloaded`.
        """
        await self.engine.stop(deadline)

    @property
    def engine(self) -> Engine:
        """The engine underneath, while the block lasts."""
        if self._engine is None:
            raise EnricherError(_NOT_RUNNING)
        return self._engine

    # -- use ---------------------------------------------------------------------------------------

    async def submit(self, topic: str, body: bytes | str, *, committed: bool = False) -> str:
        """Hand a message in; returns its id once it is accepted, or once it is committed.

        Raises `Overloaded` when the pool is full or takes nothing any more, `EnricherError` when
        the engine has failed. With ``committed`` it raises what
        happened when the message ended any other way than processed (or as a duplicate of one that was):
        `BadMessage` as it was raised, with its path, also for a topic without a route; `Overloaded` when it
        was dropped; else `EnricherError`, whose ``__cause__`` is what the handler raised. What failed is a
        dead letter as well, as from any other source.
        """
        data = body.encode() if isinstance(body, str) else body
        if not isinstance(data, bytes) or not isinstance(topic, str):
            raise TypeError(
                f"topic {topic!r} with a body of {type(body).__name__}: "
                "expected text, and bytes or text (`json.dumps` makes text of values)"
            )
        identity = uuid.uuid4().hex
        delivery = AwaitedDelivery(topic, data, self._clock(), identity)
        pool = self.engine.pool
        self.engine.check_accepts()
        if pool.full_for(delivery):
            raise Overloaded(f"the pool is full ({pool.count} messages, {pool.bytes} bytes); try later")
        pool.offer(delivery)
        if committed:
            await delivery.committed()
        return identity

    def emit(self, *effects: Effect) -> None:
        """Commit effects that belong to no message, in their order; those of a stop's deadline are logged.

        Raises `EnricherError` when the enricher is stopped.
        """
        self.engine.emit(*effects)

    def asgi(self) -> ASGI:
        """The web app, to be mounted in an ASGI program: ``app.mount("/enricher", enricher.asgi())``.

        It answers 503 while the enricher does not run.
        """

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if self._app is None and self._engine is not None:
                self._app = self._make_app()
            if self._app is not None:
                await self._app(scope, receive, send)
            elif scope["type"] == "http":
                headers = [(b"content-type", b"application/json"), (b"retry-after", b"5")]
                await send({"type": "http.response.start", "status": 503, "headers": headers})
                body = b'{"detail": "the enricher does not run yet"}'
                await send({"type": "http.response.body", "body": body})

        return app

    @property
    def ready(self) -> bool:
        """Everything is open, connected and moves, and nobody has asked to stop."""
        return self._engine is not None and self._engine.ready

    async def wait_ready(self) -> None:
        """Return when `ready` holds. Raises `EnricherError` when it is stopped before."""
        for _ in range(2):
            if self._engine is None:
                # A task just made for `run` begins with the next turn of the loop, its own with another.
                await asyncio.sleep(0)
        await self.engine.wait_ready()

    @property
    def stats(self) -> Stats:
        """Counters, histograms and the in-flight table."""
        return self.engine.stats

    @property
    def lost(self) -> Counter[str]:
        """After the end: messages per topic that the drain deadline cut off."""
        return self.engine.lost

    def health(self) -> dict[str, Any]:
        """Status, outages, troubles, sources and level of the pool, as plain values without passwords."""
        return self._running.health()

    def figures(self) -> dict[str, Any]:
        """Everything a viewer wants to know, as plain values: health and counters, times in UTC."""
        return self._running.now()

    @property
    def _running(self) -> Figures:
        if self._figures is None:
            raise EnricherError(_NOT_RUNNING)
        return self._figures
