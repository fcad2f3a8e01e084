"""The same done with many, beside the work of the engine: at a pace, one run at a time, over a restart.

What is meant is kept in Redis: which ones, how fast, since when. Those that it was done to are not found any
more, or are younger than the run. So whoever goes on with a run after a restart finds those that are left,
and from these the counters, whatever the one before had written last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, Literal, Protocol, TypeVar

import anyio
import msgspec

from enricher.dead_letters.bulk import RateLimit, Report
from enricher.errors import EnricherError
from enricher.log import log

State = Literal["running", "done", "stopped"]

_LOOKED = 1.0
_LEASE = 3.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What ``who`` wants done with all that match and were there at ``began_us``.

    ``rate`` is a second. ``meant`` is how many there were (None: they are being counted), ``processed`` to
    how many it was done, ``failed`` to how many it could not be; ``why`` says why it was stopped.
    """

    id: str
    rate: float
    who: str
    began_us: int
    state: State = "running"
    meant: int | None = None
    processed: int = 0
    failed: int = 0
    why: str = ""

    @property
    def left(self) -> int:
        """How many are still to be tried."""
        return max((self.meant or 0) - self.processed - self.failed, 0)


R = TypeVar("R", bound=Run)


class Left(msgspec.Struct, frozen=True):
    """What is left of a run: how many are still to be tried, how many have ``failed`` since it began.

    ``do`` does it, and keeps the report up to date; it ends early once the report says ``stopped``.
    """

    number: int
    do: Callable[[Report, RateLimit], Awaitable[None]]
    failed: int = 0


class RunStore(Protocol[R]):
    """Where the run is kept, who works on it, and whether it is to stop. All raise `SinkUnavailable`."""

    async def load(self) -> R | None: ...

    async def save(self, run: R) -> None: ...

    async def hold(self, seconds: float) -> bool:
        """Whether this process is the one that works on runs, for so long from now."""
        ...

    async def stop(self, id: str, why: str) -> None:  # noqa: A002
        """Ask whoever works on the run of this id to stop."""
        ...

    async def stopped(self, id: str) -> str:  # noqa: A002
        """Why the run of this id is to stop; "" if it is not."""
        ...


class RunUnderWay(EnricherError):
    """There is a run already."""


class Runs(Generic[R]):
    """Works on the run there is, of ``what``. ``find`` says what is left of one; its context holds that."""

    def __init__(
        self, kept: RunStore[R], find: Callable[[R], AbstractAsyncContextManager[Left]], what: str
    ) -> None:
        self._kept = kept
        self._find = find
        self._what = what
        self._asked = anyio.Event()
        self._current: R | None = None
        self._report = Report()

    async def now(self) -> R | None:
        """The newest run with its counters; None if there never was one. Raises `SinkUnavailable`."""
        if self._current is not None:
            return self._counted(self._current)
        return await self._kept.load()

    async def begin(self, run: R) -> None:
        """Begin a run. Raises `RunUnderWay`, `SinkUnavailable`."""
        before = await self.now()
        if before is not None and before.state == "running":
            raise RunUnderWay(f"a run with {before.left:,} {self._what} left is under way: stop that first")
        await self._kept.save(run)
        self._asked.set()

    async def stop(self, who: str) -> R | None:
        """Stop the run there is; what is under way ends. Raises `SinkUnavailable`."""
        run = await self.now()
        if run is not None and run.state == "running":
            await self._kept.stop(run.id, f"by {who}")
            self._asked.set()
        return run

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._work()
            except Exception as caught:  # noqa: BLE001  a server is away; the engine goes on, and so does the run
                error: BaseException = caught
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                log.warning("run_waits", of=self._what, reason=f"{type(error).__name__}: {error}")
            self._asked = anyio.Event()
            with anyio.move_on_after(_LOOKED):
                await self._asked.wait()

    async def _work(self) -> None:
        run = await self._kept.load()
        if run is None or run.state != "running" or not await self._kept.hold(_LEASE):
            return
        if why := await self._kept.stopped(run.id):
            await self._kept.save(msgspec.structs.replace(run, state="stopped", why=why))
            return
        self._report = report = Report()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep, run.id, report)
                async with self._find(run) as left:
                    meant = left.number if run.meant is None else run.meant
                    before = max(meant - left.number - left.failed, 0)
                    run = msgspec.structs.replace(run, meant=meant, processed=before, failed=left.failed)
                    # Before anything is done: what was not counted by then is not found any more.
                    await self._kept.save(run)
                    self._current = run
                    if not report.stopped:
                        await left.do(report, RateLimit(rate=run.rate, stop=None))
                tasks.cancel_scope.cancel()
            if await self._kept.hold(_LEASE):
                state: State = "stopped" if report.stopped else "done"
                run = msgspec.structs.replace(self._counted(run), state=state)
                await self._kept.save(run)
                figures = {"meant": run.meant, "processed": run.processed, "failed": run.failed}
                log.info("run_ended", of=self._what, state=state, who=run.who, **figures)
        finally:
            self._current = None

    async def _keep(self, id: str, report: Report) -> None:  # noqa: A002
        """Write the counters down, hold the run, and hear that it is to stop; who loses it stops."""
        while True:
            with anyio.move_on_after(_LOOKED):
                await self._asked.wait()
            self._asked = anyio.Event()
            try:
                if not await self._kept.hold(_LEASE):
                    report.stopped = "another process goes on with it"
                    return
                report.stopped = report.stopped or await self._kept.stopped(id)
                if self._current is not None:
                    await self._kept.save(self._counted(self._current))
            except EnricherError as error:
                log.debug("run_not_kept", of=self._what, reason=str(error))

    def _counted(self, run: R) -> R:
        report = self._report
        return msgspec.structs.replace(
            run,
            processed=run.processed + report.gone,
            failed=run.failed + report.tried - report.gone,
            why=report.stopped,
        )
