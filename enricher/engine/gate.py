"""The way to one sink: an outage is waited out, and what nobody understands is narrowed down to its write."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping

import anyio

from enricher.engine.effects import Answer, Refused, Stored, Write
from enricher.engine.ports import Clock, Sink
from enricher.engine.retry import Backoff
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable
from enricher.log import log

Batch = list[Write]


class Gate:
    """The way to one sink: lets everybody through while it works, one probe at a time while it does not."""

    def __init__(self, sink: Sink, backoff: Backoff, clock: Clock, stats: Stats) -> None:
        self.sink = sink
        self.name = sink.name
        # Operators know servers by their addresses; a sink may say (without password) where its own is.
        self._server: str = getattr(sink, "server", "")
        self.down_since: int | None = None
        self.last_error = ""
        self._backoff = backoff
        self._clock = clock
        self._stats = stats
        self._probe = asyncio.Lock()

    async def commit(self, writes: Batch) -> Mapping[int, Answer]:
        """Land ``writes``, waiting out any outage. Repeats are harmless by the sink's contract."""
        tried = False
        if self.down_since is None:
            try:
                return await self._attempt(writes)
            except SinkUnavailable as error:
                tried = True
                self._mark_down(error)
        async with self._probe:
            return await self._piecemeal(writes, tried)

    async def _piecemeal(self, writes: Batch, tried: bool) -> dict[int, Answer]:
        """Land ``writes`` in order, of what is left half as many after each failure, twice after a success.

        A server that is slow may manage a part in time, and one that is away is asked little. A claim that
        is found is our own where this batch was ``tried`` before.
        """
        answers: dict[int, Answer] = {}
        attempt, at, size = 0, 0, len(writes)
        while at < len(writes):
            if self.down_since is not None:
                attempt += 1
                size = max(1, size // 2)
                await anyio.sleep(self._backoff.delay(attempt))
            try:
                found = await self._attempt(writes[at : at + size])
            except SinkUnavailable as error:
                tried = True
                self._mark_down(error)
                continue
            self._mark_up()
            attempt = 0
            for index, answer in (_without_own_claims(found) if tried else found).items():
                answers[at + index] = answer
            at += size
            size *= 2
        return answers

    async def _attempt(self, writes: Batch) -> Mapping[int, Answer]:
        """One try; an error that the sink cannot explain is narrowed down to the write that causes it."""
        try:
            return await self.sink.commit(writes)
        except SinkUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  the write that causes it is refused with it
            if len(writes) == 1:
                # As text: a console renderer of exceptions with their locals can take seconds for one.
                trace = "".join(traceback.format_exception(error))
                log.error("write_refused", sink=self.name, error=repr(error), traceback=trace)
                return {0: Refused(str(error) or repr(error), type(error).__name__)}
            half = len(writes) // 2
            answers = dict(await self._attempt(writes[:half]))
            for index, answer in (await self._attempt(writes[half:])).items():
                answers[index + half] = answer
            return _without_own_claims(answers)

    async def open(self) -> None:
        """Open the sink, waiting for it however long it takes."""
        attempt = 0
        while True:
            try:
                await self.sink.open()
            except SinkUnavailable as error:
                self._mark_down(error)
                attempt += 1
                await anyio.sleep(self._backoff.delay(attempt))
            else:
                self._mark_up()
                return

    def _mark_down(self, error: SinkUnavailable) -> None:
        self.last_error = error.reason
        self._stats.counters[f"{self.name}_failures"] += 1
        if self.down_since is None:
            self.down_since = self._clock()
            log.warning("outage_begin", sink=self.name, server=self._server, reason=error.reason)

    def _mark_up(self) -> None:
        if self.down_since is not None:
            lasted = (self._clock() - self.down_since) / 1e6
            self.down_since = None
            log.warning("outage_end", sink=self.name, server=self._server, seconds=round(lasted, 3))


def _without_own_claims(answers: Mapping[int, Answer]) -> dict[int, Answer]:
    """What an earlier try of the same batch landed before it failed is not a duplicate."""
    return {i: a for i, a in answers.items() if isinstance(a, (Refused, Stored))}
