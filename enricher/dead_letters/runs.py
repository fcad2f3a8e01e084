"""Many dead letters retried beside the work of the engine: at a pace, one run at a time, over a restart.

What is meant is kept in Redis: which letters, how fast, since when. A letter that was processed has gone from
its store, and one that failed again is younger than the run. So whoever goes on with a run after a restart
finds the letters that are left, and from these the counters, whatever the one before had written last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import anyio
import msgspec

from enricher.dead_letters.bulk import RateLimit, Report, retry_each
from enricher.dead_letters.filters import LetterFilter
from enricher.dead_letters.replay import Attempt
from enricher.dead_letters.selection import select
from enricher.dead_letters.store import LetterStore
from enricher.engine.ports import Clock
from enricher.errors import EnricherError
from enricher.log import log

State = Literal["running", "done", "stopped"]

_LOOKED = 1.0
_LEASE = 5.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Letters of the ``store`` (its number) that are ``wanted`` and older than ``began_us``, retried.

    ``rate`` is a second. ``meant`` is how many there were, ``processed`` how many have gone, ``failed`` how
    many failed again; ``why`` says why it was stopped.
    """

    id: str
    store: int
    wanted: LetterFilter
    rate: float
    who: str
    began_us: int
    state: State = "running"
    meant: int = 0
    processed: int = 0
    failed: int = 0
    why: str = ""

    @property
    def left(self) -> int:
        """How many are still to be tried."""
        return max(self.meant - self.processed - self.failed, 0)


class RunStore(Protocol):
    """Where the run is kept, and who works on it. All raise `SinkUnavailable`."""

    async def load(self) -> Run | None: ...

    async def save(self, run: Run) -> None: ...

    async def hold(self, seconds: float) -> bool:
        """Whether this process is the one that works on runs, for so long from now."""
        ...


class RunUnderWay(EnricherError):
    """There is a run already."""


class Runs:
    """Works on the run there is. ``attempts`` makes the way to retry letters of a store."""

    def __init__(
        self,
        kept: RunStore,
        stores: Sequence[LetterStore],
        attempts: Callable[[LetterStore], Attempt],
        clock: Clock,
    ) -> None:
        self._kept = kept
        self._stores = stores
        self._attempts = attempts
        self._clock = clock
        self._stopped: set[str] = set()
        self._asked = anyio.Event()
        self._current: Run | None = None
        self._report: Report | None = None
        self._before = 0, 0

    async def now(self) -> Run | None:
        """The newest run with its counters; None if there never was one. Raises `SinkUnavailable`."""
        if self._current is not None:
            return self._counted(self._current)
        return await self._kept.load()

    async def begin(self, run: Run) -> Run:
        """Begin a run. Raises `RunUnderWay`, `SinkUnavailable`."""
        before = await self.now()
        if before is not None and before.state == "running":
            raise RunUnderWay(f"{before.left:,} dead letters are being retried already: stop that first")
        with await select(self._stores[run.store], _older(run)) as selection:
            run = msgspec.structs.replace(run, meant=len(selection))
        await self._kept.save(run)
        self._asked.set()
        return run

    async def stop(self, who: str) -> Run | None:
        """Stop the run there is; what is under way ends. Raises `SinkUnavailable`."""
        run = await self.now()
        if run is None or run.state != "running":
            return run
        self._stopped.add(run.id)
        if self._current is None:
            run = msgspec.structs.replace(run, state="stopped", why=f"by {who}")
            await self._kept.save(run)
        return run

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001  a server is away; the engine goes on, and so does the run
                log.warning("retries_wait", reason=f"{type(error).__name__}: {error}")
            self._asked = anyio.Event()
            with anyio.move_on_after(_LOOKED):
                await self._asked.wait()

    async def _work(self) -> None:
        run = await self._kept.load()
        if run is None or run.state != "running" or not await self._kept.hold(_LEASE):
            return
        store = self._stores[run.store]
        with await select(store, _older(run)) as selection:
            failed = await self._failed_again(store, run)
            self._before = max(run.meant - len(selection) - failed, 0), failed
            self._current = run = self._counts(run)
            self._report = Report(meant=len(selection), kinds=selection.kinds)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._keep)
                    limit = RateLimit(rate=run.rate, stop=None)
                    await retry_each(reversed(selection), self._attempts(store), self._report, limit)
                    tasks.cancel_scope.cancel()
                stopped = run.id in self._stopped
                state: State = "stopped" if stopped else "done"
                await self._kept.save(msgspec.structs.replace(self._counted(run), state=state))
                log.info("dead_letters_retried", state=state, **_figures(self._counted(run)))
            finally:
                self._current = self._report = None

    async def _failed_again(self, store: LetterStore, run: Run) -> int:
        """How many letters of the run have failed since it began: they began before it, and ended after."""
        younger = msgspec.structs.replace(run.wanted, since_us=run.began_us, until_us=None)
        with await select(store, younger) as selection:
            return sum(1 for letter in selection if (letter.first_us or run.began_us) < run.began_us)

    async def _keep(self) -> None:
        """Write the counters down, and hold the run; who loses it stops."""
        while True:
            await anyio.sleep(_LOOKED)
            run, report = self._current, self._report
            if run is None or report is None:
                return
            if run.id in self._stopped:
                report.stopped = "asked to stop"
            try:
                if not await self._kept.hold(_LEASE):
                    report.stopped = "another process goes on with it"
                    return
                await self._kept.save(self._counted(run))
            except EnricherError as error:
                log.debug("retries_not_kept", reason=str(error))

    def _counts(self, run: Run) -> Run:
        return msgspec.structs.replace(run, processed=self._before[0], failed=self._before[1])

    def _counted(self, run: Run) -> Run:
        report = self._report
        if report is None:
            return run
        gone, failed = self._before
        return msgspec.structs.replace(
            run, processed=gone + report.gone, failed=failed + report.tried - report.gone, why=report.stopped
        )


def _older(run: Run) -> LetterFilter:
    """The letters of a run: those that were there when it began."""
    until = run.began_us - 1
    if run.wanted.until_us is not None:
        until = min(until, run.wanted.until_us)
    return msgspec.structs.replace(run.wanted, until_us=until)


def _figures(run: Run) -> dict[str, object]:
    return {"who": run.who, "meant": run.meant, "processed": run.processed, "failed": run.failed}
