"""A child process of a worker: ``python -m enricher.jobs.child FD PARENT`` runs one job after the other.

It ends with its parent: the kernel kills it then (on Linux), and it ends where the connection does. Jobs run
in the main thread, where signals can interrupt what waits. Another thread reads what the parent says.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from enricher.job_store import Call, FindStep, StoreStep
from enricher.jobs import client
from enricher.jobs.context import SyncJob, current
from enricher.jobs.definition import Definition
from enricher.jobs.errors import Cancelled, SoftTimeLimitExceeded, WrongPlace
from enricher.jobs.frames import (
    CONNECTION_ENDED,
    HEAD,
    Answer,
    Begin,
    Done,
    Frame,
    Hello,
    Raised,
    Report,
    Say,
    Step,
    Throw,
    ToChild,
    Wrote,
    packed,
    to_child,
)
from enricher.jobs.interrupts import Interrupts
from enricher.jobs.results import job_error, success
from enricher.jobs.worker import definition_of

LAST_SECONDS = 5.0
"""How long the end of the process may take when the connection has ended."""

_PR_SET_PDEATHSIG = 1


class Child:
    """Runs the jobs that come over ``connection`` from the process ``parent``."""

    def __init__(self, connection: socket.socket, parent: int) -> None:
        self._connection = connection
        self._parent = parent
        self._stream = connection.makefile("rb")
        self._jobs: queue.SimpleQueue[Begin | None] = queue.SimpleQueue()
        self._interrupts = Interrupts()
        self._outlet: _Outlet | None = None

    def serve(self) -> None:
        """Return when the connection ends while no job runs."""
        threading.Thread(target=self._read, name="parent", daemon=True).start()
        while (begin := self._jobs.get()) is not None:
            outlet = self._outlet = _Outlet(self._connection, self._interrupts)
            outcome = self._outcome(begin, outlet)
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            self._outlet = None
            outlet.close(outcome)

    def _outcome(self, begin: Begin, outlet: _Outlet) -> Done | Raised:
        try:
            definition = _definition(begin.module, begin.name)
            args, kwargs = definition.arguments.decode(begin.run.payload)
            job = outlet.job = SyncJob(
                begin.run, outlet, outlet.ask, time_limit=begin.time_limit, max_payload=begin.max_payload
            )
            with current(job):
                perform = partial(definition.perform, *args, **kwargs)
                result = self._interrupts.run((begin.run.id, begin.run.number), perform)
            return Done(_encoded(result), job.children)
        except BaseException as error:  # noqa: BLE001  the parent gets it
            return _raised(error)

    def _read(self) -> None:
        try:
            while True:
                self._take(self._next())
        except (EOFError, OSError):
            pass
        except Exception:  # noqa: BLE001  without this thread the process would hang
            traceback.print_exc()
        if self._outlet is None:
            self._jobs.put(None)
            time.sleep(LAST_SECONDS)
        elif os.getppid() == self._parent:  # it is there, so that the job has ended the connection
            os._exit(CONNECTION_ENDED)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def _next(self) -> ToChild:
        head = self._stream.read(HEAD.size)
        if len(head) < HEAD.size:
            raise EOFError
        return to_child(self._stream.read(*HEAD.unpack(head)))

    def _take(self, frame: ToChild) -> None:
        outlet = self._outlet
        match frame:
            case Begin():
                self._jobs.put(frame)
            case Answer() if outlet is not None:
                outlet.answers.put(frame)
            case Wrote() if outlet is not None:
                outlet.wrote(frame.lost)
            case Throw():
                if frame.cancel and outlet is not None and outlet.job is not None:
                    outlet.job.cancelled = True
                self._interrupts.throw(frame.run, Cancelled if frame.cancel else SoftTimeLimitExceeded)
            case Hello():
                _prepare(frame)


class _Outlet:
    """What a run says to the parent; after its end threads that it has left behind say nothing."""

    def __init__(self, connection: socket.socket, interrupts: Interrupts) -> None:
        self.job: SyncJob | None = None
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._connection = connection
        self._interrupts = interrupts
        self._asking = threading.Lock()
        self._lock = threading.RLock()
        self._open = True
        self._newest: bytes | None = None
        self._reporting = False

    def progress(self, progress: bytes) -> None:
        """The newest is sent, the next when the parent has written the one before."""
        with self._interrupts.later(), self._lock:
            if self._reporting:
                self._newest = progress
            else:
                self._reporting = True
                self._send(Report(progress))

    def wrote(self, lost: bool) -> None:
        """The parent has written it; ``lost``: for nobody, as the run is another worker's."""
        if lost and self.job is not None:
            self.job.cancelled = True
        with self._lock:
            progress, self._newest, self._reporting = self._newest, None, False
            if progress is not None:
                self.progress(progress)

    def log(self, message: str, fields: Mapping[str, Any]) -> None:
        try:
            said = Say(message, dict(fields))
            packed(said)
        except Exception:  # noqa: BLE001  values may be anything
            said = Say(ascii(message), {ascii(name): ascii(fields[name]) for name in fields})
        with self._interrupts.later(), self._lock:
            self._send(said)

    def ask(self, call: Call[Any]) -> Any:
        """What the parent's store says to what is asked of steps."""
        assert isinstance(call, FindStep | StoreStep)  # noqa: S101  a job asks for nothing else
        outcome = call.outcome if isinstance(call, StoreStep) else None
        # An interrupt in here would leave the answer to the next one who asks.
        with self._interrupts.later(), self._asking:
            if not self._open:
                raise WrongPlace(f"step {call.name!r} was begun after the end of its job, by a thread of its")
            with self._lock:
                self._send(Step(call.name, outcome))
            answer = self.answers.get()
        return answer.found if outcome is None else answer.stored

    def close(self, outcome: Done | Raised) -> None:
        """Say how the run has ended, and nothing from then on."""
        with self._asking, self._lock:
            self._send(msgspec.structs.replace(outcome, progress=self._newest))
            self._open = False

    def _send(self, frame: Frame) -> None:
        if self._open:
            self._connection.sendall(packed(frame))


def _definition(module: str, name: str) -> Definition:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return definition_of(found)


def _encoded(result: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(result))
    except Exception:
        success("", result)  # raises what jobs elsewhere raise
        raise


def _raised(error: BaseException) -> Raised:
    args: list[Any] | None = None
    state: dict[str, Any] = {}
    with suppress(Exception):  # it is somebody's own class
        # Beside `args` it knows what only the class knows, as the file's name of an OSError.
        made = error.__reduce__()
        args = _as_json(list(made[1]))
        attributes = made[2] if len(made) > 2 and isinstance(made[2], dict) else {}
        state = {name: _as_json(value) for name, value in attributes.items() if _as_json(value) is not None}
    return Raised(error=job_error(error), cancelled=isinstance(error, Cancelled), args=args, state=state)


def _as_json(value: Any) -> Any:
    """The value as it comes out of JSON, None for what is none."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except Exception:  # noqa: BLE001  it may be anything
        return None


def _prepare(hello: Hello) -> None:
    sys.path[:] = hello.path
    logging.basicConfig(level=hello.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if hello.settings:
        client.connect(hello.settings["jobs.url"], hello.settings)


def main(arguments: list[str]) -> None:
    """Serve the connection with that file descriptor, as a child of that process."""
    file, parent = map(int, arguments)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    # Who stops a service may signal all of its processes; when this one ends, the worker says. It is not
    # ignored, for what a job starts would inherit that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.set_inheritable(file, False)  # what a job starts must not hold the connection
    with socket.socket(fileno=file) as connection:
        Child(connection, parent).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
