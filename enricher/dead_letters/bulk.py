"""Many dead letters tried again: at a rate, and not for longer than it makes sense."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import anyio
import msgspec

from enricher.dead_letters.filters import EVERY, LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import UNANSWERED, Attempt, Outcome
from enricher.dead_letters.selection import Kind, select
from enricher.dead_letters.store import LetterStore

OnOutcome = Callable[[StoredLetter, Outcome], None]

T = TypeVar("T")


class Ended(Protocol):
    """What became of one of many: a label to count it under, and whether it was what was wanted."""

    @property
    def label(self) -> str: ...

    @property
    def done(self) -> bool: ...


E = TypeVar("E", bound=Ended)

# So many in a row that nobody answers, and nobody is there.
NOBODY = 3


class StopRule(msgspec.Struct, frozen=True):
    """Stop when of the last ``last`` answers at least ``share`` (0 to 1) were not good.

    Before there are so many answers, it does not stop.

        >>> StopRule(share=0.5, last=4).broken([False, True, True, False, True])
        True
        >>> StopRule(share=0.5, last=4).broken([True, True, True])
        False
    """

    share: float = 0.5
    last: int = 20

    def broken(self, failures: Iterable[bool]) -> bool:
        """Whether the answers so far (True: failed), in their order, are reason to stop."""
        recent = deque(failures, maxlen=self.last)
        return len(recent) == self.last and sum(recent) >= self.share * self.last


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """How fast: at most ``rate`` letters a second (None: as fast as they are answered), evenly.

    ``at_once`` of them are under way at most. ``stop`` says when to give up (None: never).
    """

    rate: float | None = None
    at_once: int = 8
    stop: StopRule | None = StopRule()


DEFAULT_LIMIT = RateLimit()


class Report(msgspec.Struct):
    """What became of the letters: how many were ``meant``, of which kinds, and how they ended.

    ``stopped`` says why the rest was not tried; empty if there is no rest. In a dry run nothing has ended.
    """

    meant: int = 0
    kinds: Counter[Kind] = msgspec.field(default_factory=Counter)
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    gone: int = 0
    stopped: str = ""

    @property
    def tried(self) -> int:
        return self.outcomes.total()

    @property
    def untried(self) -> int:
        return self.meant - self.tried


async def retry(
    store: LetterStore,
    attempt: Attempt,
    *,
    wanted: LetterFilter = EVERY,
    limit: int | None = None,
    rate_limit: RateLimit = DEFAULT_LIMIT,
    dry_run: bool = False,
    on_outcome: OnOutcome | None = None,
) -> Report:
    """Retry the newest ``limit`` letters that ``wanted`` lets through, oldest first.

    ``on_outcome`` hears of each outcome. A letter goes when its message was processed; any other stays. What
    ``attempt`` raises is passed on.
    """
    with await select(store, wanted, limit) as selection:
        report = Report(meant=len(selection), kinds=selection.kinds)
        if not dry_run:
            await attempt_each(reversed(selection), attempt, report, rate_limit, on_outcome)
        return report


async def attempt_each(
    items: Iterable[T],
    attempt: Callable[[T], Awaitable[E]],
    report: Report,
    rate_limit: RateLimit = DEFAULT_LIMIT,
    on_outcome: Callable[[T, E], None] | None = None,
) -> None:
    """Attempt ``items`` in their order, and keep ``report`` up to date.

    ``on_outcome`` hears of each outcome. What ``attempt`` raises is passed on.
    """
    rule, silent = rate_limit.stop, 0
    answers = deque[bool](maxlen=rule.last if rule else 1)
    slots = anyio.Semaphore(rate_limit.at_once)
    due = anyio.current_time()

    async def attempt_one(item: T) -> None:
        nonlocal silent
        try:
            outcome = await attempt(item)
        finally:
            slots.release()
        report.outcomes[outcome.label] += 1
        report.gone += outcome.done
        answers.append(not outcome.done)
        silent = silent + 1 if outcome.label == UNANSWERED else 0
        if rule is not None and not report.stopped:
            if rule.broken(answers):
                report.stopped = f"{sum(answers)} of the last {rule.last} were not processed"
            elif silent >= NOBODY:
                report.stopped = f"{silent} in a row were not answered"
        if on_outcome is not None:
            on_outcome(item, outcome)

    try:
        async with anyio.create_task_group() as tasks:
            for item in items:
                await slots.acquire()
                if rate_limit.rate is not None:
                    await anyio.sleep_until(due)
                    # What was late is not made up for: the rate holds in every second.
                    due = anyio.current_time() + 1 / rate_limit.rate
                if report.stopped:
                    return
                tasks.start_soon(attempt_one, item)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


reprocess = retry
"""What `retry` was called before."""
