"""A child process as its worker sees it: started, given one job after the other, killed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from enricher.job_store import FindStep, JobStore, StoreStep
from enricher.jobs.context import Job, patiently
from enricher.jobs.errors import Cancel, JobFailed, MemoryLimitExceeded, ProcessDied
from enricher.jobs.frames import (
    CONNECTION_ENDED,
    HEAD,
    Answer,
    Begin,
    Done,
    Frame,
    FromChild,
    Hello,
    Raised,
    Report,
    Say,
    Step,
    Wrote,
    from_child,
    packed,
)
from enricher.jobs.progress import INTERVAL
from enricher.jobs.results import imported_exception

MEMORY_SECONDS = 0.2
"""How often the memory of a child is looked at."""

CLOSE_SECONDS = 5.0
"""What a child that is let go may take to end."""

GRACE = 1.0
"""Seconds that are waited for the death of a child that was killed, or has closed its connection."""


class ChildProcess:
    """A child that runs one job at a time. ``jobs`` counts those that it was given."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.jobs = 0
        self._process = process
        self._reader = reader
        self._writer = writer
        self._killed_for: Exception | None = None
        self._usable = True
        self._exit = asyncio.create_task(self._until_exit())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return not self._exit.done()

    @property
    def usable(self) -> bool:
        """Whether it can be given another job."""
        return self._usable and not self._exit.done()

    async def run(self, begin: Begin, job: Job, store: JobStore, max_memory: int | None) -> msgspec.Raw:
        """What `perform` returns there, as JSON. Raises what it raises, `ProcessDied`, or why it was killed.

        The child is killed when its memory exceeds ``max_memory`` bytes, and when whoever waits is cancelled.
        """
        self.jobs += 1
        memory = _MemoryWatch(self, max_memory)
        outcome = None
        try:
            self.send(begin)
            outcome = await self._served(begin, job, store)
        finally:
            memory.stop()
            if outcome is None:
                self.kill(Cancel("the worker stopped"))
                await asyncio.wait((self._exit,), timeout=GRACE)
            elif max_memory is not None and self.memory() > max_memory / 2:
                self._usable = False  # the next job is not to pay for what this one has left
        if isinstance(outcome, Done):
            job.children.extend(outcome.children)
            return outcome.result
        raise _exception(begin.run.id, outcome)

    async def _served(self, begin: Begin, job: Job, store: JobStore) -> Done | Raised:
        """How the run ends; until then, what the child asks for is done."""
        loop = asyncio.get_running_loop()
        while True:
            frame = await self._next(begin.run.id)
            if isinstance(frame, Step):
                self.send(await _answer(frame, begin, store))
            elif isinstance(frame, Say):
                job.log(frame.message, **frame.fields)
            elif isinstance(frame, Report):
                job.report(frame.progress)
                loop.call_later(INTERVAL, lambda: self.send(Wrote(job.cancelled)))
            else:
                if frame.progress is not None:
                    job.report(frame.progress)
                return frame

    def send(self, frame: Frame) -> None:
        """Send it, unless the connection has ended."""
        if not self._writer.is_closing():
            self._writer.write(packed(frame))

    def kill(self, why: Exception) -> None:
        """Kill it with all that it has started; whoever waits for its job gets ``why``."""
        if self._killed_for is None:
            self._killed_for = why
        self._usable = False
        if not self._exit.done():
            self._kill_group()

    def let_go(self) -> None:
        """Let it end by itself, for a few seconds."""
        self._usable = False
        self._writer.close()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.kill, Cancel("the worker stopped"))

    async def ended(self) -> None:
        """Return once it has ended."""
        await asyncio.wait((self._exit,))
        self._writer.close()

    def memory(self) -> int:
        """Bytes of memory that it holds (RSS); 0 once it has ended."""
        with suppress(OSError):
            pages = int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        return 0

    async def _until_exit(self) -> None:
        await self._process.wait()
        self._kill_group()  # what it has left behind

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _next(self, id: str) -> FromChild:  # noqa: A002
        """The next message. Raises why the child was killed, or `ProcessDied`."""
        try:
            (length,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            return from_child(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise await self._death(id) from error

    async def _death(self, id: str) -> Exception:  # noqa: A002
        await asyncio.wait((self._exit,), timeout=GRACE)
        if not self._exit.done():
            self.kill(self._closed(id))
            await asyncio.wait((self._exit,))
        if self._killed_for is not None:
            return self._killed_for
        code = self._process.returncode or 0
        if code == CONNECTION_ENDED:
            return self._closed(id)
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended by itself with status {code}"
        return ProcessDied(f"the process of job {id} (pid {self.pid}) {how}")

    def _closed(self, id: str) -> ProcessDied:  # noqa: A002
        return ProcessDied(f"the process of job {id} (pid {self.pid}) has closed its connection")


class _MemoryWatch:
    """Kills a child that holds too much memory. Looked at is the child alone, not what it has started."""

    def __init__(self, child: ChildProcess, most: int | None) -> None:
        if most is not None and sys.platform != "linux":
            raise RuntimeError("max_memory needs /proc, which only Linux has: leave it out")
        self._child = child
        self._most = most
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._most is None:
            return
        held = self._child.memory()
        if held > self._most:
            text = f"the job held {held:,} bytes of memory, more than its max_memory = {self._most:,}"
            self._child.kill(MemoryLimitExceeded(text))
        else:
            self._timer = asyncio.get_running_loop().call_later(MEMORY_SECONDS, self._look)


async def start(settings: dict[str, Any]) -> ChildProcess:
    """A new child. ``settings`` are those by which its jobs enqueue others (none: its environment's)."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "enricher.jobs.child", str(theirs.fileno()), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # A group of its own: Ctrl-C in the terminal reaches us, who drain first, not it.
                start_new_session=True,
            )
        except BaseException:
            writer.close()
            raise
    child = ChildProcess(process, reader, writer)
    child.send(Hello(sys.path, logging.getLogger().getEffectiveLevel(), settings))
    return child


async def _answer(step: Step, begin: Begin, store: JobStore) -> Answer:
    if step.outcome is None:
        return Answer(found=await patiently(store, FindStep(begin.run.id, step.name)))
    return Answer(stored=await patiently(store, StoreStep(begin.run, step.name, step.outcome)))


def _exception(id: str, raised: Raised) -> Exception:  # noqa: A002
    """What was raised in the child, of its own class if that is imported here, with its traceback."""
    if raised.cancelled:
        return Cancel("cancelled while it ran")
    said = raised.error
    failed = JobFailed(id, said.type, said.message, said.module, said.traceback)
    known = imported_exception(said.module, said.type)
    if known is None:
        return failed
    args = raised.args if raised.args is not None else [said.message]
    error = _made(known, args)
    if error is None:
        return failed
    with suppress(AttributeError, TypeError):  # a class that does not let itself be changed
        vars(error).update(raised.state)
    error.__cause__ = failed
    return error


def _made(known: type[Exception], args: list[Any]) -> Exception | None:
    for make in (known, known.__new__):
        with suppress(Exception):  # a class that cannot be made of its own arguments
            error = make(*args) if make is known else make(known, *args)
            if isinstance(error, known):
                return error
    return None


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
