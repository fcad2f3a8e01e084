"""All dead letters that match, tried again in a run.

A letter that was processed has gone from its store, and one that failed again is younger than the run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from enricher.dead_letters.bulk import RateLimit, Report, attempt_each
from enricher.dead_letters.filters import LetterFilter
from enricher.dead_letters.replay import Attempt
from enricher.dead_letters.selection import select
from enricher.dead_letters.store import LetterStore
from enricher.runs import Left, Run


class LetterRun(Run, frozen=True, kw_only=True):
    """Letters of the ``store`` (its number) that are ``wanted``."""

    store: int
    wanted: LetterFilter


def letters_left(
    stores: Sequence[LetterStore], attempts: Callable[[LetterStore], Attempt]
) -> Callable[[LetterRun], AbstractAsyncContextManager[Left]]:
    """What is left of a run. ``attempts`` makes the way to retry letters of a store."""

    @asynccontextmanager
    async def left(run: LetterRun) -> AsyncIterator[Left]:
        store = stores[run.store]
        with await select(store, _older(run)) as selection:

            async def do(report: Report, limit: RateLimit) -> None:
                await attempt_each(reversed(selection), attempts(store), report, limit)

            yield Left(len(selection), do, await _failed_again(store, run))

    return left


async def _failed_again(store: LetterStore, run: LetterRun) -> int:
    """How many letters of the run have failed since it began: they began before it, and ended after."""
    younger = msgspec.structs.replace(run.wanted, since_us=run.began_us, until_us=None)
    with await select(store, younger) as selection:
        return sum(1 for letter in selection if (letter.first_us or run.began_us) < run.began_us)


def _older(run: LetterRun) -> LetterFilter:
    """The letters of a run: those that were there when it began."""
    until = run.began_us - 1
    if run.wanted.until_us is not None:
        until = min(until, run.wanted.until_us)
    return msgspec.structs.replace(run.wanted, until_us=until)
