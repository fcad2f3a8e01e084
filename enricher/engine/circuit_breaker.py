"""The way to one sink: a circuit breaker that waits for its server, and refuses only what is to blame.

What becomes of a write that could not be written:

- The sink knows that its server is unreachable (`SinkUnavailable`): it waits, as long as that lasts.
- The sink knows that this write can never be written (`Refused`, `WriteRefused`, a value that cannot be
  encoded): it is refused, so that its message becomes a dead letter. The others go on.
- Anything else (`Failed`, any other error): it waits while nothing like it is written either, for then the
  server is to blame. Once others like it are written, the write is: it is tried some more and refused.

"Like it" means the same operation on the same collection, and any effect where there are no collections.
While the circuit is open (`down_since`) one probe at a time goes to the server, after an exponential backoff.
A batch that failed is tried in smaller parts, which grow again as they are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic

import anyio

from enricher.engine.failed_batch import FailedBatch, Outcome, Written
from enricher.engine.ports import Answer, Clock, Failed, Sink, Write
from enricher.engine.retry import Backoff
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable
from enricher.log import log

Batch = list[Write]
More = Callable[[], int]
"""Adds to the batch in hand a few of the writes that follow it; how many."""


class CircuitBreaker:
    """The way to one sink: lets everybody through while it works, one probe at a time while it does not."""

    def __init__(self, sink: Sink, backoff: Backoff, steady: Clock, stats: Stats) -> None:
        self.sink = sink
        self.name = sink.name
        # Operators know servers by their addresses; a sink may say (without password) where its own is.
        self._server: str = getattr(sink, "server", "")
        self.down_since: int | None = None
        self.last_error = ""
        self._backoff = backoff
        self._steady = steady
        self._stats = stats
        self._probe = asyncio.Lock()
        self._up = asyncio.Event()
        self._written = Written(sink.name)
        self._failed: list[FailedBatch] = []

    async def commit(self, writes: Batch, more: More | None = None) -> Mapping[int, Answer]:
        """Write ``writes``, waiting out any outage. Repeats are harmless by the sink's contract.

        ``more`` lets the batch grow where only what follows it can show whether anything is written.
        """
        outcome: Outcome | None = None
        if self.down_since is None:
            try:
                outcome = await self.sink.commit(writes)
            except Exception as error:  # noqa: BLE001  who is to blame is looked for
                outcome = error
            else:
                if not self._failed and (not outcome or Failed not in map(type, outcome.values())):
                    return outcome
        batch = FailedBatch(writes, self._written, in_order=not self.sink.durable)
        self._failed.append(batch)
        try:
            return await self._see_through(batch, writes, outcome, more)
        finally:
            self._failed.remove(batch)

    async def _see_through(
        self, batch: FailedBatch, writes: Batch, outcome: Outcome | None, more: More | None
    ) -> Mapping[int, Answer]:
        while True:
            down = batch.take(outcome, monotonic())
            if down:
                self._mark_down(down)
            elif down is not None:
                self._mark_up()
            if not batch.left:
                return batch.answers
            waits, reason = batch.look(monotonic(), down=self.down_since is not None)
            if reason:
                self._mark_down(reason)
            if waits:
                # No longer than until the end of the outage, or until somebody should look.
                with anyio.move_on_after(self._backoff.delay(batch.attempt)):
                    await self._up.wait()
                if more is not None and batch.exhausted(monotonic()):
                    batch.add(more())
            async with self._probe:
                if failures := batch.choose(monotonic()):
                    await anyio.sleep(self._backoff.delay(failures))
                try:
                    outcome = await self.sink.commit([writes[i] for i in batch.chosen])
                except Exception as error:  # noqa: BLE001  who is to blame is looked for
                    outcome = error

    async def open(self) -> None:
        """Open the sink, waiting for it however long it takes."""
        attempt = 0
        while True:
            try:
                await self.sink.open()
            except SinkUnavailable as error:
                self._mark_down(error.reason)
                attempt += 1
                await anyio.sleep(self._backoff.delay(attempt))
            else:
                self._mark_up()
                return

    def _mark_down(self, reason: str) -> None:
        self.last_error = reason
        self._stats.counters[f"{self.name}_failures"] += 1
        if self.down_since is None:
            self._up.clear()
            self.down_since = self._steady()
            log.warning("outage_begin", sink=self.name, server=self._server, reason=reason)

    def _mark_up(self) -> None:
        """The server has answered: that ends an outage, unless some of what failed is not written yet."""
        if self.down_since is None or any(batch.fails(monotonic()) for batch in self._failed):
            return
        lasted = (self._steady() - self.down_since) / 1e6
        self.down_since = None
        self._up.set()
        log.warning("outage_end", sink=self.name, server=self._server, seconds=round(lasted, 3))
