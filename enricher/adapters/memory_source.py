"""A source inside the process: what is sent to it is delivered, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from enricher.engine.ports import Clock, Delivery, Intake


class MemoryDelivery(Delivery):
    """A delivery that tells its sender how it ended.

    ``why`` says what made a dead letter of it, else "", and ``error`` is what was raised then.
    """

    awaited = True
    __slots__ = ("_on_settled", "error", "why")

    def __init__(
        self, topic: str, body: bytes, received_us: int, on_settled: Callable[[str], None] | None
    ) -> None:
        super().__init__(topic, body, received_us)
        self._on_settled = on_settled
        self.why = ""
        self.error: Exception | None = None

    def failed(self, stage: str, text: str, error: Exception | None) -> None:
        """Keep what the dead letter says."""
        self.why = f"{stage}: {text}"
        self.error = error

    def settled(self, label: str) -> None:
        """Pass the label on to the sender."""
        if self._on_settled is not None:
            self._on_settled(label)


class AwaitedDelivery(MemoryDelivery):
    """A delivery whose sender awaits ``ended``: the label under which it left the engine."""

    __slots__ = ("ended",)

    def __init__(self, topic: str, body: bytes, received_us: int, id: str) -> None:  # noqa: A002
        super().__init__(topic, body, received_us, self._end)
        self.id = id
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def _end(self, label: str) -> None:
        if not self.ended.done():
            self.ended.set_result(label)


class MemorySource:
    """Delivers what `send` was given. It can wait, so routes may block it."""

    def __init__(self, clock: Clock, name: str = "memory") -> None:
        self.name = name
        self._clock = clock
        self._waiting: deque[MemoryDelivery] = deque()
        self._arrived = anyio.Event()
        self._stopped = False

    def send(
        self, topic: str, body: bytes, on_settled: Callable[[str], None] | None = None
    ) -> None:
        """Queue a message; ``on_settled`` is called with its label when it has left the engine."""
        self._waiting.append(MemoryDelivery(topic, body, self._clock(), on_settled))
        self._arrived.set()

    async def run(self, intake: Intake) -> None:
        """Hand over in order until `stop_intake`; what was sent before that is still handed over."""
        while True:
            while self._waiting:
                await intake.put(self._waiting.popleft())
            if self._stopped:
                return
            self._arrived = anyio.Event()
            await self._arrived.wait()

    async def stop_intake(self) -> None:
        """Take nothing new."""
        self._stopped = True
        self._arrived.set()

    async def close(self) -> None:
        """Nothing to release."""

    def health(self) -> Mapping[str, Any]:
        """Always ready."""
        return {"ready": True, "waiting": len(self._waiting)}
