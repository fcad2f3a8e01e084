"""Where sync jobs run: each in a thread of its own, into which its time limits reach."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from enricher.engine.isolation import GRACE, let_out
from enricher.jobs.errors import Cancel, Cancelled, SoftTimeLimitExceeded, TimeLimitExceeded
from enricher.log import log


class JobThreads:
    """Runs functions in at most ``limit`` threads, those included that nobody waits for any more.

    An exception can be raised in a thread, but only when it next runs Python code: a C call is not
    interrupted. A thread that does not end is abandoned and counts until it has ended. The threads are
    daemons, so that the end of the process waits for none.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._threads: dict[str, _JobThread] = {}

    @property
    def free(self) -> int:
        """How many more can begin at once."""
        return self._limit - len(self._threads)

    @property
    def abandoned(self) -> int:
        """How many threads run that nobody waits for any more."""
        return sum(thread.abandoned for thread in self._threads.values())

    async def run(
        self,
        function: Callable[[], Any],
        *,
        name: str,
        soft: float | None = None,
        hard: float | None = None,
    ) -> Any:
        """What ``function`` returns or raises; it sees the caller's context variables.

        After ``soft`` seconds `SoftTimeLimitExceeded` is raised in the thread. After ``hard`` seconds
        `Cancelled` is, and the caller gets `TimeLimitExceeded` at once; who must know that the thread has
        ended awaits `ended`. When the caller is cancelled, the thread goes on undisturbed. Raises `Cancel`
        when `cancel` has ended it, RuntimeError for what else is no Exception. The seconds count from the
        begin of the thread. Of one ``name`` only one thread runs at a time: the next waits.
        """
        await self._slot(name)
        loop = asyncio.get_running_loop()
        thread = self._threads[name] = _JobThread(function, name)
        thread.ended.add_done_callback(lambda _: self._end(thread))
        timer = None
        try:
            thread.start()
            if soft is not None:
                timer = loop.call_later(soft, thread.throw, SoftTimeLimitExceeded)
            await asyncio.wait((thread.ended,), timeout=hard)
        finally:
            if timer is not None:
                timer.cancel()
            thread.abandoned = not thread.ended.done()
        if thread.abandoned:
            thread.throw(Cancelled)
            loop.call_later(GRACE, thread.report)
            raise TimeLimitExceeded(hard or 0.0)
        return thread.outcome()

    def cancel(self, name: str) -> bool:
        """Raise `Cancelled` in the thread of that name; False: there is none that has not returned."""
        thread = self._threads.get(name)
        return thread is not None and thread.throw(Cancelled)

    def runs(self, name: str) -> bool:
        """Whether a thread of that name runs, one that nobody waits for included."""
        return name in self._threads

    def returned(self, name: str) -> bool:
        """Whether no function of that name runs. Any thread may ask, also when the loop has ended."""
        thread = self._threads.get(name)
        return thread is None or thread.returned

    async def ended(self, name: str) -> None:
        """Return once no thread of that name runs."""
        while name in self._threads:
            await asyncio.wait((self._threads[name].ended,))

    async def _slot(self, name: str) -> None:
        """Take a slot, at a moment when no thread of that name runs."""
        while True:
            await self.ended(name)
            await self._slots.acquire()
            if name not in self._threads:
                return
            self._slots.release()

    def _end(self, thread: _JobThread) -> None:
        del self._threads[thread.name]
        self._slots.release()
        if thread.abandoned:
            log.info("abandoned_job_ended", job=thread.name, seconds=round(thread.seconds(), 1))


class _JobThread:
    """A function in a thread, in which exceptions can be raised until the function has returned."""

    def __init__(self, function: Callable[[], Any], name: str) -> None:
        self.name = name
        self.abandoned = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began = time.monotonic()
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._begun = self.returned = False
        self._early: type[BaseException] | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True)

    def start(self) -> None:
        """Raises RuntimeError where the system has no thread left."""
        try:
            self._thread.start()
        except BaseException:
            self.ended.set_result(None)
            raise

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def report(self) -> None:
        """Say that it has not ended, if so."""
        if not self.ended.done():
            log.error("job_does_not_end", job=self.name, seconds=round(self.seconds(), 1))

    def outcome(self) -> Any:
        """What the function returned. Raises what it raised."""
        error, self._error = self._error, None  # what refers to itself is freed late
        try:
            if error is None:
                return self._result
            if isinstance(error, Cancelled):
                raise Cancel("cancelled while it ran") from error
            raise error if isinstance(error, Exception) else let_out(error)
        finally:
            del error

    def throw(self, exception: type[BaseException]) -> bool:
        """Raise it where the function runs Python code next; False: the function has returned."""
        with self._lock:
            if self.returned:
                return False
            if self._begun:
                _raise_in(self._thread, exception)
            else:
                self._early = exception
            return True

    def _run(self) -> None:
        try:
            try:
                self._begin()
                self._result = self._function()
            except BaseException as error:  # noqa: BLE001  whoever waits gets it
                self._error = error
            try:
                self._return()
            except BaseException:  # noqa: BLE001  it was thrown before and came too late
                self._return()
        finally:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self.ended.get_loop().call_soon_threadsafe(self._set_ended)

    def _begin(self) -> None:
        with self._lock:
            self._begun = True
            if self._early is not None:
                raise self._early

    def _return(self) -> None:
        """From here on nothing is raised in the thread."""
        with self._lock:
            self.returned = True
            _raise_in(self._thread, None)

    def _set_ended(self) -> None:
        self.ended.set_result(None)


def _raise_in(thread: threading.Thread, exception: type[BaseException] | None) -> None:
    """Raise an exception in another thread, None: take back one that has not been raised yet."""
    assert thread.ident is not None  # noqa: S101  it has begun
    raised = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), raised)
