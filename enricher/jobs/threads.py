"""Where sync jobs run: each has a thread to itself, into which its time limits reach."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from enricher.engine.isolation import GRACE, let_out
from enricher.jobs.errors import Cancel, Cancelled, SoftTimeLimitExceeded, TimeLimitExceeded
from enricher.jobs.idle import Idle
from enricher.log import log


class JobThreads:
    """Runs functions in at most ``limit`` threads, those included that nobody waits for any more.

    An exception can be raised in a thread, but only when it next runs Python code: a C call is not
    interrupted. It may come anywhere, also where a lock is taken without ``with``. A thread that does not end
    its job is abandoned and counts until it has. Threads are kept for the next jobs, for ``idle`` seconds,
    with what they keep in `threading.local`. They are daemons, so that the end of the process waits for none.
    """

    def __init__(self, limit: int, *, idle: float = 60.0) -> None:
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._calls: dict[str, _Call] = {}
        self._idle: Idle[_Thread] = Idle(idle, _Thread.let_go)

    @property
    def free(self) -> int:
        """How many more can begin at once."""
        return self._limit - len(self._calls)

    @property
    def abandoned(self) -> int:
        """How many threads run that nobody waits for any more."""
        return sum(call.abandoned for call in self._calls.values())

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
        call = self._calls[name] = _Call(function, name)
        timer = None
        try:
            self._begin(call)
            if soft is not None:
                timer = loop.call_later(soft, call.throw, SoftTimeLimitExceeded)
            await asyncio.wait((call.ended,), timeout=hard)
        finally:
            if timer is not None:
                timer.cancel()
            call.abandoned = not call.ended.done()
        if call.abandoned:
            call.throw(Cancelled)
            loop.call_later(GRACE, call.report)
            raise TimeLimitExceeded(hard or 0.0)
        return call.outcome()

    def cancel(self, name: str) -> bool:
        """Raise `Cancelled` in the thread of that name; False: there is none that has not returned."""
        call = self._calls.get(name)
        return call is not None and call.throw(Cancelled)

    def running(self) -> set[str]:
        """The names of those whose functions have not returned."""
        return {name for name, call in self._calls.items() if not call.returned}

    def returned(self, name: str) -> bool:
        """Whether no function of that name runs. Any thread may ask, also when the loop has ended."""
        call = self._calls.get(name)
        return call is None or call.returned

    async def ended(self, name: str) -> None:
        """Return once no thread of that name runs."""
        while (call := self._calls.get(name)) is not None:
            await call.gone.wait()

    async def _slot(self, name: str) -> None:
        """Take a slot, at a moment when no thread of that name runs."""
        while True:
            await self.ended(name)
            await self._slots.acquire()
            if name not in self._calls:
                return
            self._slots.release()

    def _begin(self, call: _Call) -> None:
        try:
            thread = self._idle.take() or _started()
        except BaseException:  # the system has no thread left
            self._forget(call)
            raise
        call.ended.add_done_callback(lambda _: self._end(call, thread))
        thread.calls.put(call)

    def _end(self, call: _Call, thread: _Thread) -> None:
        self._forget(call)
        self._idle.keep(thread)
        if call.abandoned:
            log.info("abandoned_job_ended", job=call.name, seconds=round(call.seconds(), 1))

    def _forget(self, call: _Call) -> None:
        del self._calls[call.name]
        self._slots.release()
        call.gone.set()


class _Thread(threading.Thread):
    """Makes one call after the other, until None comes."""

    def __init__(self) -> None:
        super().__init__(name="job", daemon=True)
        self.calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()

    def run(self) -> None:
        process = os.getpid()
        while (call := self.calls.get()) is not None:
            self.name = call.name
            call.make()
            if os.getpid() != process:
                os._exit(0)  # a fork that the job has made, and that came back: the job is its parent's
            del call  # what it returned is not kept until the next one

    def let_go(self) -> None:
        """Let it end after the call under way."""
        self.calls.put(None)


def _started() -> _Thread:
    """A new thread. Raises RuntimeError where the system has none left."""
    thread = _Thread()
    thread.start()
    return thread


class _Call:
    """A call of a function in a thread, in which exceptions can be raised until the function has returned."""

    def __init__(self, function: Callable[[], Any], name: str) -> None:
        self.name = name
        self.abandoned = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self._created = time.monotonic()
        self._function = function
        self._context = contextvars.copy_context()
        self._result: Any = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._thread: int | None = None
        self.returned = False
        self._thrown: type[BaseException] | None = None

    def seconds(self) -> float:
        return time.monotonic() - self._created

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
            self._thrown = exception
            if self._thread is not None:
                _raise_in(self._thread, exception)
            return True

    def make(self) -> None:
        """Call the function; for the thread. Raises nothing."""
        try:
            try:
                self._begin()
                self._result = self._context.run(self._function)
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
            self._thread = threading.get_ident()
            if self._thrown is not None:
                raise self._thrown

    def _return(self) -> None:
        """From here on nothing is raised in the thread: the next call is made in it."""
        with self._lock:
            self.returned = True
        if self._thrown is not None and self._thread is not None:
            # In place of one that is still to come. It is not just taken back: the interpreter would look
            # for it at every step from then on.
            with suppress(_Nothing):
                _raise_in(self._thread, _Nothing)
                while True:
                    pass

    def _set_ended(self) -> None:
        self.ended.set_result(None)


class _Nothing(BaseException):
    """Raised in a thread and caught at once."""


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    """Raise an exception in the thread with that identifier, instead of one that is still to come there."""
    raised = ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
