"""How the worker is doing: measured once a second, told to the browsers that watch, kept for an hour.

All watchers share one measurement and one text. Every five seconds a point is added to the history, which is
kept in Redis, so that a worker that was restarted shows what was before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import msgspec

from enricher.engine.effects import SetKey
from enricher.engine.ports import Write
from enricher.engine.service import Engine
from enricher.engine.stats import Histogram
from enricher.errors import EnricherError
from enricher.log import log
from enricher.own_process import memory
from enricher.redaction import redact_value

EVERY = 1.0
STEP = 5
POINTS = 3600 // STEP
_KEPT_EVERY = STEP - EVERY / 2
_KEPT_MS = 2 * 3600 * 1000

_encode = msgspec.json.Encoder().encode


class Point(msgspec.Struct, frozen=True, array_like=True):
    """Five seconds: when they ended (s since 1970), rates a second, latencies in ms (null: nothing came)."""

    at: int
    received: float
    processed: float
    dead: float
    p50: float | None
    p99: float | None
    in_pool: int
    cpu: float


class Figures(msgspec.Struct, frozen=True):
    """Now: the state, rates a second, latencies from receipt to visible in ms, what is waiting.

    ``cpu`` is the share of one core, ``memory`` bytes, ``loop_lag`` ms. ``point`` is new in the history.
    """

    at: float
    state: str
    received: float
    processed: float
    p50: float | None
    p99: float | None
    in_pool: int
    pool_bytes: int
    lanes: int
    dead_letters: int
    gaps: int
    cpu: float
    memory: int
    loop_lag: float
    outages: dict[str, str]
    stalled: list[str]
    missing: dict[str, str]
    point: Point | None


class _Mark:
    """Counters at a moment, to be compared with those of a later one."""

    def __init__(self, engine: Engine) -> None:
        stats = engine.stats
        self.at = anyio.current_time()
        self.received = stats.total("received")
        self.processed = stats.total("processed")
        self.dead = stats.total("dead")
        self.commit: Histogram = stats.histograms["commit"].copy()
        self.cpu = time.process_time()


class Pulse:
    """Measures ``engine`` while it runs. ``read`` gets a key of Redis, ``key`` is that of the history."""

    def __init__(self, engine: Engine, read: Callable[[str], Awaitable[bytes | None]], key: str) -> None:
        self._engine = engine
        self._read = read
        self._key = key
        self._history: deque[Point] = deque(maxlen=POINTS)
        self._told = anyio.Event()
        self._text = b""
        self._running = False
        self._figures: Figures | None = None
        self.watchers = 0

    def begin(self) -> None:
        """Measure as long as the engine runs; again it does nothing."""
        if not self._running:
            self._running = True
            self._engine.begin("pulse", self._run)

    @property
    def history(self) -> list[Point]:
        """The last hour, oldest first; where the worker was down points are missing."""
        return list(self._history)

    def now(self) -> Figures:
        """The newest measurement."""
        if self._figures is None:
            mark = _Mark(self._engine)
            self._figures = self._measured(mark, mark, None)
        return self._figures

    async def follow(self) -> AsyncIterator[bytes]:
        """Server-sent events: the figures, once a second. Who reads slowly misses some."""
        yield b"retry: 1000\n\n" + self._event()
        while not self._engine.stopping:
            with anyio.move_on_after(EVERY * 3) as waited:
                await self._told.wait()
            # Outside of the scope: how long a reader takes is none of its business.
            if not waited.cancelled_caught:
                yield self._text

    def _event(self) -> bytes:
        return b"data: " + _encode(self.now()) + b"\n\n"

    async def _run(self) -> None:
        await self._restore()
        last = step = _Mark(self._engine)
        kept = last.at
        while True:
            await anyio.sleep(EVERY)
            mark = _Mark(self._engine)
            point = None
            if mark.at - step.at >= STEP - EVERY / 2:
                point = self._point(step, mark)
                self._history.append(point)
                step = mark
            self._figures = self._measured(last, mark, point)
            last = mark
            if self.watchers:
                self._text = self._event()
                told, self._told = self._told, anyio.Event()
                told.set()
            if mark.at - kept >= _KEPT_EVERY:
                kept = mark.at
                self._keep()

    def _keep(self) -> None:
        # While Redis is away they do not pile up: the next ones replace them anyway.
        writer = self._engine.writer
        if not writer.group(("live",)).unfinished and not self._engine.ended:
            history = SetKey(self._key, msgspec.json.encode(list(self._history)), _KEPT_MS)
            writer.submit(Write((history,), label="history"))

    async def _restore(self) -> None:
        try:
            kept = await self._read(self._key)
            if kept is not None:
                earliest = self._engine.clock() / 1e6 - 3600
                points = msgspec.json.decode(kept, type=list[Point])
                self._history.extend(point for point in points if point.at >= earliest)
        except (EnricherError, msgspec.MsgspecError) as error:
            log.debug("history_missing", reason=str(error))

    def _point(self, since: _Mark, mark: _Mark) -> Point:
        passed = mark.at - since.at
        recent = mark.commit.since(since.commit)
        return Point(
            at=int(self._engine.clock() / 1e6),
            received=round((mark.received - since.received) / passed, 1),
            processed=round((mark.processed - since.processed) / passed, 1),
            dead=round((mark.dead - since.dead) / passed, 2),
            p50=_ms(recent.quantile(0.5)),
            p99=_ms(recent.quantile(0.99)),
            in_pool=self._engine.health()["pool"]["messages"],
            cpu=round((mark.cpu - since.cpu) / passed, 3),
        )

    def _measured(self, since: _Mark, mark: _Mark, point: Point | None) -> Figures:
        passed = max(mark.at - since.at, 0.001)
        recent = mark.commit.since(since.commit)
        health = self._engine.health()
        missing = {name: "not connected" for name, each in health["sources"].items() if not each["ready"]}
        if health["restoring"] is not None:
            missing["states"] = "restored {done} of {total}".format(**health["restoring"])
        return Figures(
            at=self._engine.clock() / 1e6,
            state=health["status"],
            received=round((mark.received - since.received) / passed, 1),
            processed=round((mark.processed - since.processed) / passed, 1),
            p50=_ms(recent.quantile(0.5)),
            p99=_ms(recent.quantile(0.99)),
            in_pool=health["pool"]["messages"],
            pool_bytes=health["pool"]["bytes"],
            lanes=health["pool"]["lanes"],
            dead_letters=mark.dead,
            gaps=sum(int(each.get("gaps") or 0) for each in health["sources"].values()),
            cpu=round((mark.cpu - since.cpu) / passed, 3),
            memory=memory(),
            loop_lag=round(self._engine.stats.loop_lag_us / 1000, 2),
            outages={name: str(redact_value(why)) for name, why in health["outages"].items()},
            stalled=list(health["stalled"]),
            missing=missing,
            point=point,
        )


def _ms(us: float | None) -> float | None:
    return None if us is None else round(us / 1000, 2)
