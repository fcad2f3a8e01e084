"""The way to one sink: an outage is waited out, and what nobody understands is narrowed down to its write.

What a sink knows to be an outage (`SinkUnavailable`) waits; what it knows of one write (`Refused`,
`WriteRefused`, values that cannot be encoded) refuses that write. An error on neither list is an outage as
long as nothing else lands. A write that goes on failing while others like it land is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import anyio

from enricher.engine.doubts import Doubts, Landings
from enricher.engine.ports import Answer, Claimed, Clock, Failed, Refused, Sink, Write
from enricher.engine.retry import Backoff
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable, WriteRefused
from enricher.log import log
from enricher.texts import text_of, trace_of

Batch = list[Write]
Outcome = Mapping[int, Answer] | Exception
"""What became of a try: the sink's answers, or what it raised."""
More = Callable[[], int]
"""Adds to the batch in hand a few of the writes that follow it; how many."""

# Errors of what a write holds: it cannot be encoded, today or tomorrow.
_OF_ONE_WRITE = (WriteRefused, TypeError, ValueError, OverflowError, RecursionError)


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
        self._landings = Landings(sink.name)
        self._doubted: list[Doubts] = []

    async def commit(self, writes: Batch, more: More | None = None) -> Mapping[int, Answer]:
        """Land ``writes``, waiting out any outage. Repeats are harmless by the sink's contract.

        ``more`` lets the batch grow where only what follows it can show whether anything lands.
        """
        outcome: Outcome | None = None
        if self.down_since is None:
            try:
                outcome = await self.sink.commit(writes)
            except Exception as error:  # noqa: BLE001  whose fault it is, is looked for
                outcome = error
            else:
                if not self._doubted and (not outcome or Failed not in map(type, outcome.values())):
                    return outcome
        return await self._see_through(writes, outcome, more)

    async def _see_through(
        self, writes: Batch, outcome: Outcome | None, more: More | None
    ) -> Mapping[int, Answer]:
        """Land what is left of ``writes`` after a first try, half as many after each failure, twice after a
        success. ``outcome`` is None where an outage did not let anybody try.

        A server that is slow may manage a part in time, and one that is away is asked little. A claim that
        is found is our own where this batch was tried before.
        """
        if isinstance(outcome, _OF_ONE_WRITE):
            try:
                outcome = await self._narrowed(writes, outcome)
            except Exception as error:  # noqa: BLE001
                outcome = error
        doubts = Doubts(writes, self._landings, in_order=not self.sink.durable)
        chosen: Sequence[int] = range(len(writes))
        witness: int | None = None
        size, tried, away, attempt = len(writes), False, outcome is None, 0
        self._doubted.append(doubts)
        try:
            while True:
                if isinstance(outcome, SinkUnavailable):
                    tried = away = True
                    doubts.away = chosen
                    self._mark_down(outcome.reason)
                elif isinstance(outcome, Exception):
                    tried, size = True, max(1, len(chosen) // 2)
                    if witness is not None:
                        self._mark_down(_told(outcome)[0])
                    elif len(chosen) == 1:
                        doubts.take(chosen, {0: Failed(*_told(outcome))}, monotonic(), raised=True)
                        self._look_up()
                elif outcome is not None:
                    attempt, away, size = 0, False, size * 2
                    answer = None if witness is None else outcome.get(0)
                    if isinstance(answer, Failed):
                        self._mark_down(answer.reason)
                    else:
                        if witness is not None:
                            doubts.repeated(witness)
                        else:
                            found = _without_own_claims(outcome) if tried else outcome
                            doubts.take(chosen, found, monotonic())
                        self._look_up()
                if not doubts.left:
                    return doubts.answers
                witness = None
                stuck = doubts.stuck(monotonic())
                if stuck:
                    witness = doubts.witness(monotonic())
                    if witness is None:
                        self._mark_down(doubts.reason)
                if away or (stuck and self.down_since is not None):
                    attempt += 1
                    size = max(1, size // 2)
                    await self._pause(attempt)
                    now = monotonic()
                    if more is not None and doubts.stuck(now) and doubts.exhausted(now):
                        doubts.add(more())
                async with self._probe:
                    chosen = doubts.choose(size, monotonic()) if witness is None else [witness]
                    if rounds := doubts.rounds(chosen):
                        await anyio.sleep(self._backoff.delay(rounds))
                    try:
                        outcome = await self._attempt([writes[i] for i in chosen])
                    except Exception as error:  # noqa: BLE001  the write that causes it is looked for
                        outcome = error
        finally:
            self._doubted.remove(doubts)

    async def _pause(self, attempt: int) -> None:
        """Wait for the end of the outage, but no longer than until somebody should look."""
        with anyio.move_on_after(self._backoff.delay(attempt)):
            await self._up.wait()

    async def _attempt(self, writes: Batch) -> Mapping[int, Answer]:
        """One try; a value that no server takes is narrowed down to its write. Other errors are passed on."""
        try:
            return await self.sink.commit(writes)
        except _OF_ONE_WRITE as error:
            return await self._narrowed(writes, error)

    async def _narrowed(self, writes: Batch, error: Exception) -> Mapping[int, Answer]:
        """The answers where one of ``writes`` caused ``error``, whichever it was."""
        if len(writes) == 1:
            return {0: Refused(*_told(error), path=getattr(error, "path", None))}
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
                self._mark_down(error.reason)
                attempt += 1
                await anyio.sleep(self._backoff.delay(attempt))
            else:
                self._look_up()
                return

    def _mark_down(self, reason: str) -> None:
        self.last_error = reason
        self._stats.counters[f"{self.name}_failures"] += 1
        if self.down_since is None:
            self._up.clear()
            self.down_since = self._steady()
            log.warning("outage_begin", sink=self.name, server=self._server, reason=reason)

    def _look_up(self) -> None:
        """The server has answered: that ends an outage, unless some of what failed has not landed yet."""
        if self.down_since is None or any(doubts.fail(monotonic()) for doubts in self._doubted):
            return
        lasted = (self._steady() - self.down_since) / 1e6
        self.down_since = None
        self._up.set()
        log.warning("outage_end", sink=self.name, server=self._server, seconds=round(lasted, 3))


def _told(error: Exception) -> tuple[str, str, str]:
    """What an error says, its type, and its traceback: text, as a console's rendering can take seconds."""
    kind = type(error.__cause__ if isinstance(error, WriteRefused) and error.__cause__ else error)
    return text_of(error) or repr(error), kind.__name__, trace_of(error)


def _without_own_claims(answers: Mapping[int, Answer]) -> dict[int, Answer]:
    """What an earlier try of the same batch landed before it failed is not a duplicate."""
    return {i: a for i, a in answers.items() if not isinstance(a, Claimed)}
