"""An engine on memory sinks with a clock that only moves when told, for the tests of the engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from enricher.config import PoolSettings, WriterSettings
from enricher.engine.effects import DeadLetter, Effect, Insert, Publish
from enricher.engine.ports import Answer, Delivery, Folded, Refused, Sink, StateStore, Write, steady_clock
from enricher.engine.retry import Backoff, RetryPolicy
from enricher.engine.router import Context, Route
from enricher.engine.service import Engine
from enricher.errors import SinkUnavailable
from tests.memory import MemoryDeadLetters, MemoryDocuments, MemoryLive

NOW_US = 1_750_000_000_000_000
QUICK = Backoff(base=0.002, max_delay=0.004, jitter="none")
POOL, WRITER = PoolSettings(), WriterSettings()
# Seconds a test waits for what must come: however slow the machine, it costs nothing when all is well.
PATIENCE = 60.0


class Clock:
    """A wall clock in microseconds that stands still until `advance`; ``steady_us`` is what delays go by."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self.now_us = now_us
        self.steady_us = 0

    def __call__(self) -> int:
        return self.now_us

    def steady(self) -> int:
        return self.steady_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * 1e6)
        self.steady_us += int(seconds * 1e6)

    def set(self, seconds: float) -> None:
        """Set the wall clock forward, or back, which takes no time."""
        self.now_us += int(seconds * 1e6)


class Running(Clock):
    """A clock that runs, and can be set."""

    def __call__(self) -> int:
        return self.now_us + self.steady()

    def steady(self) -> int:
        return steady_clock()


class Told(Delivery):
    """A delivery that remembers how it ended."""

    __slots__ = ("ends",)

    def __init__(self, topic: str, body: bytes, id: str | None = None) -> None:  # noqa: A002
        super().__init__(topic, body, NOW_US, id)
        self.ends: list[str] = []

    def settled(self, label: str) -> None:
        self.ends.append(label)


class Steered:
    """A sink that passes on to ``inner`` and fails, waits or refuses as told; it keeps the batch sizes."""

    def __init__(self, inner: Sink) -> None:
        self.inner = inner
        self.name = inner.name
        self.durable = inner.durable
        self.down = False
        self.attempts = 0
        self.active = 0
        self.most_active = 0
        self.batches: list[int] = []
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.refuses: Callable[[Write], bool] = lambda write: False
        self.chokes_on: Callable[[Write], bool] = lambda write: False

    async def open(self) -> None:
        await self.inner.open()

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        self.attempts += 1
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(0)
            if self.down:
                raise SinkUnavailable(self.name, "switched off")
            await self.open_gate.wait()
            if any(self.chokes_on(write) for write in writes):
                raise RuntimeError("something in here is indigestible")
            good = [i for i, write in enumerate(writes) if not self.refuses(write)]
            answers: dict[int, Answer] = {
                i: Refused("no", "Refusal") for i in range(len(writes)) if i not in set(good)
            }
            found = await self.inner.commit([writes[i] for i in good])
            answers.update({good[i]: answer for i, answer in found.items()})
            self.batches.append(len(writes))
            return answers
        finally:
            self.active -= 1

    async def close(self) -> None:
        await self.inner.close()


class Rig:
    """Memory sinks (each steered), a clock and the engine over ``routes``; enter ``rig.engine``."""

    def __init__(
        self,
        *routes: Route,
        pool: PoolSettings = POOL,
        writer: WriterSettings = WRITER,
        clock: Clock | None = None,
        evict_after: float = 3600.0,
    ) -> None:
        self.clock = clock or Clock()
        self.stored, self.shown, self.letters = MemoryDocuments(), MemoryLive(), MemoryDeadLetters()
        self.documents, self.live = Steered(self.stored), Steered(self.shown)
        self.dead_letters = Steered(self.letters)
        self.engine = Engine(
            routes,
            [],
            [self.documents, self.live, self.dead_letters],
            clock=self.clock,
            steady=self.clock.steady,
            reader=self.stored,
            pool=pool,
            writer=writer,
            backoff=QUICK,
            drain_deadline=5.0,
            evict_after=evict_after,
        )

    def offer(self, topic: str, key: str = "a", number: int = 0, **fields: Any) -> Told:
        """Hand in a message {k, n, ...}."""
        delivery = Told(topic, message(key, number, **fields))
        self.engine.pool.offer(delivery)
        return delivery

    def counts(self, topic: str) -> dict[str, int]:
        """The counters of a topic that are not zero."""
        return {name: n for name, n in self.engine.stats.topic(topic).counts.items() if n}

    def numbers(self, key: str) -> list[int]:
        """The numbers published for ``key``, in order."""
        out = [json.loads(text) for _, text in self.shown.published]
        return [m["n"] for m in out if m["k"] == key]

    async def drained(self) -> None:
        """Wait until everything taken in is committed."""
        await asyncio.wait_for(self.engine.pool.drain(), PATIENCE)

    async def take(self, *numbers: int) -> list[Told]:
        """The whole life of an engine: what waits for it, and these messages of key a on topic t."""
        async with self.engine:
            told = [self.offer("t", number=number) for number in numbers]
            await self.drained()
        return told


def message(key: str, number: int, **fields: Any) -> bytes:
    """The body of a test message."""
    return json.dumps({"k": key, "n": number, **fields}).encode()


def dead_letter(**fields: Any) -> DeadLetter:
    """A dead letter of one attempt, with these fields."""
    given = {"task_id": "t", "task_name": "process_order", "topic": "t", "key": None, "body": b"{}"}
    given |= {"stage": "enrich", "error": "no", "error_type": "ValueError", "path": None, "traceback": ""}
    return DeadLetter(**{**given, "attempts": 1, "first_us": NOW_US, "last_us": NOW_US, **fields})


def key_of(body: bytes) -> str:
    """The key of a test message."""
    return str(json.loads(body)["k"])


def echo(event: Any, context: Any) -> list[Effect]:
    """A handler that publishes the message as it came."""
    return [Publish("out", context.body)]


async def until(condition: Callable[[], Any], what: str = "the condition", deadline: float = PATIENCE) -> Any:
    """The first true value of ``condition`` (plain or async); fail after ``deadline`` seconds."""
    limit = time.monotonic() + deadline
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < limit, f"waited in vain for {what}"
        await asyncio.sleep(0.002)


async def turns(number: int = 50) -> None:
    """Give the loop some turns, for what must not happen in them."""
    for _ in range(number):
        await asyncio.sleep(0)


class Sums:
    """A state_store whose state per key is the list of numbers folded, loaded from collection ``folded``."""

    name = "sums"

    def __init__(self) -> None:
        self.loads: list[dict[str, Any]] = []
        self.settles: list[tuple[str, ...]] = []
        self.clocked: list[int] = []
        self.left_over: tuple[str, ...] = ()
        self.due_us: int | None = None
        self.fails = 0
        self.breaks_on: int | None = None

    async def restore(self, reader: Any, wanted: Mapping[str, Delivery]) -> Mapping[str, dict[str, Any]]:
        self.loads.append(dict(wanted))
        if self.fails:
            self.fails -= 1
            raise SinkUnavailable("documents", "switched off")
        found = await reader.find("folded", {"k": {"$in": list(wanted)}}, sort=[("n", 1)])
        return {key: {"primed": [d["n"] for d in found if d["k"] == key], "folded": []} for key in wanted}

    async def unfinished(self, reader: Any, now_us: int) -> Sequence[str]:
        return self.left_over

    def seen(self, state: dict[str, Any], event: Any, context: Any) -> Folded | None:
        if event["n"] in state["folded"]:
            return Folded.HERE
        return Folded.RESTORED if event["n"] in state["primed"] else None

    def fold(self, state: dict[str, Any], change: int) -> str | None:
        if change == self.breaks_on:
            raise ValueError("cannot fold this")
        state["folded"].append(change)
        return "late" if change < 0 else None

    def show(self, state: dict[str, Any], now_us: int) -> Sequence[Effect]:
        return ()

    def due(self, state: dict[str, Any]) -> int | None:
        return self.due_us

    def on_time(self, state: dict[str, Any], now_us: int) -> Sequence[Effect]:
        self.clocked.append(now_us)
        self.due_us = None
        return [Publish("clock", b'{"k": "clock", "n": 0}')]


_: type[StateStore[Any]] = Sums


def failing(times: int, *numbers: int) -> Callable[..., Any]:
    """A handler that fails the first ``times`` attempts at messages ``numbers``."""

    async def handler(event: Any, context: Context) -> list[Effect]:
        if event["n"] in numbers and context.attempt <= times:
            raise OSError("not yet")
        return [Publish("out", context.body)]

    return handler


STEADY = RetryPolicy(max_retries=3, base=5, jitter="none")


def fill(rig: Rig, numbers: Sequence[int], key: str = "a", **fields: Any) -> list[Told]:
    """Offer numbered messages of one key."""
    return [rig.offer("t", key, number, **fields) for number in numbers]


class Streamed(Told):
    """A delivery that its source can take back until later."""

    __slots__ = ()

    def ack(self) -> Sequence[Effect]:
        return (Publish("acked", self.body),)

    def defer(self, delay: float) -> Sequence[Effect]:
        return (Publish("deferred", b"%g" % delay),)


def folding(state: dict[str, Any], event: Any, context: Context) -> tuple[int, list[Effect]]:
    """Store and publish the number with how many were folded before it."""
    n = event["n"]
    before = len(state["primed"]) + len(state["folded"])
    document = {"_id": f"{event['k']}{n}", "k": event["k"], "n": n, "before": before}

    def visible(stored: Any) -> list[Effect]:
        return [Publish("out", message(stored["k"], stored["n"], before=stored["before"]))]

    return n, [Insert("folded", document, stored=visible), *visible(document)]


def stateful(sums: Sums, **policy: Any) -> Route:
    """A route that folds into what ``sums`` keeps."""
    return Route(topic="t", handler=folding, key=key_of, state_store=sums, **policy)


class Held:
    """An async handler that publishes its message once it is let go; knows who is inside."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.inside: list[str] = []
        self.most = 0
        self.begun: Counter[str] = Counter()

    async def __call__(self, event: Any, context: Context) -> list[Effect]:
        self.begun[context.topic] += 1
        self.inside.append(event["k"])
        self.most = max(self.most, len(self.inside))
        try:
            await self.gate.wait()
        finally:
            self.inside.remove(event["k"])
        return [Publish("out", context.body)]
