"""The bound of a stop: a thread that ends the process when the loop cannot.

A handler that blocks the loop keeps it from hearing of the signal, one that swallows its cancellation from
ending. The thread hears of signals by itself, and when the drain's deadline and `MARGIN` have passed it says
whose handler it was and ends the process. (Code in C that keeps the interpreter to itself holds it, too.)
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from types import FrameType
from typing import Any

from enricher.app import Enricher
from enricher.cli.main import FAILED, LOST, OK, SECOND_SIGNAL
from enricher.engine.ports import Delivery
from enricher.log import log

MARGIN = 2.0
"""Seconds that the process may go on after the deadline of the drain."""

# Of that what the writing of the last line may take, and the end of what was ready to end.
_WRITING, _EARLY = 0.5, 0.7


class Bound:
    """Ends the process ``deadline`` seconds and `MARGIN` after the first signal, or `begin`.

    ``enricher`` is the worker, once there is one; ``code`` the exit code, once it is known.
    """

    def __init__(self, deadline: float, stall_after: float) -> None:
        self.enricher: Enricher | None = None
        self.code: int | None = None
        self._deadline = deadline
        self._stall_after = stall_after
        self._began: float | None = None
        self._signals = 0
        self._over = False
        self._asked: float | None = None
        self._stands = False
        self._loop = asyncio.get_running_loop()
        self._main = threading.main_thread().ident
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="bound of the stop", daemon=True)

    def __enter__(self) -> Bound:
        # In C, whatever the main thread is at: a byte per signal that has a handler in Python.
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._began is None:
            signal.set_wakeup_fd(self._before)
            self._over = True
            self._tell(b"\0")
            self._thread.join()
            self._reader.close()
            self._writer.close()

    @property
    def deadline(self) -> float:
        """Seconds that a stop may take, by the longest drain of the routes."""
        return self._deadline if self.enricher is None else self.enricher.engine.drain_deadline

    def begin(self) -> float:
        """A stop has begun, unless it had; the seconds that are left of the deadline."""
        if self._began is None:
            self._began = time.monotonic()
            self._tell(b"\0")
        return max(0.0, self._began + self.deadline - time.monotonic())

    def _tell(self, what: bytes) -> None:
        with suppress(OSError):
            self._writer.send(what)

    # -- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._over:
            left = 1.0
            if self._began is not None:
                left = self._began + self.deadline + MARGIN - _EARLY - time.monotonic()
                if left <= 0:
                    self._end()
            readable, _, _ = select.select([self._reader], [], [], min(left, 1.0))
            for number in self._reader.recv(64) if readable else ():
                self._heard(number)
            self._pulse()

    def _heard(self, number: int) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            return
        self._signals += number != signal.SIGHUP
        self.begin()
        with suppress(RuntimeError):  # so that the handlers in Python are called: the loop may sleep
            self._loop.call_soon_threadsafe(_nothing)
        if self._signals > 1:
            time.sleep(0.2)  # the handler says so itself, if it is called at all
            os._exit(SECOND_SIGNAL)

    def _pulse(self) -> None:
        """Ask the loop for a sign of life, and say who holds it when there was none for long."""
        if self._asked is None:
            self._asked = time.monotonic()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._turn)
            return
        silent = time.monotonic() - self._asked
        if silent > self._stall_after and not self._stands and self._began is None:
            self._stands = True
            where, _ = _where(sys._current_frames().get(self._main or 0))
            self._write("event_loop_blocked", seconds=round(silent, 1), **where)

    def _turn(self) -> None:
        self._asked = None
        self._stands = False

    def _end(self) -> None:
        where, delivery = _where(sys._current_frames().get(self._main or 0))
        lost, handed_back, handlers = self._left(delivery)
        code = LOST if lost else self.code
        if code is None:
            code = FAILED if self._failed else OK
        self._write(
            "forced_exit",
            exit_code=code,
            seconds=round(time.monotonic() - (self._began or 0), 1),
            handlers=handlers,
            lost=dict(lost),
            handed_back=dict(handed_back),
            **where,
        )
        os._exit(code)

    @property
    def _failed(self) -> bool:
        return self.enricher is not None and self.enricher.engine.failure is not None

    def _left(
        self, in_hand: Delivery | None
    ) -> tuple[Counter[str], Counter[str], list[dict[str, Any]]]:
        if self.enricher is None:
            return Counter(), Counter(), []
        engine = self.enricher.engine
        for _ in range(20):
            with suppress(RuntimeError):  # what is looked at has changed meanwhile
                now = time.perf_counter()
                handlers = [
                    {"topic": d.topic, "key": d.key, "seconds": round(now - began, 1)}
                    for d, began in engine.pool.handling
                ]
                lost, handed_back = engine.left()
                if in_hand is not None and not engine.ended:
                    # What the turn that stands has taken is nowhere else.
                    rest = engine.pool.count - sum(left.total() for left in engine.pool.left())
                    (handed_back if in_hand.kept else lost)[in_hand.topic] += max(rest, 0)
                return +lost, +handed_back, handlers
        return Counter(), Counter(), []

    def _write(self, event: str, **fields: Any) -> None:
        """A line, by a thread of its own: whoever stands may have the log's lock, or its pipe be full."""
        writing = threading.Thread(target=log.critical, args=(event,), kwargs=fields, daemon=True)
        writing.start()
        writing.join(_WRITING)


def _nothing() -> None:
    """What only wakes the loop."""


def _where(frame: FrameType | None) -> tuple[dict[str, Any], Delivery | None]:
    """The stack of ``frame``, the innermost one, and the message that it is at, if one."""
    found: dict[str, Any] = {"stack": "" if frame is None else "".join(traceback.format_stack(frame))}
    while frame is not None:
        delivery = frame.f_locals.get("delivery") if "/engine/" in frame.f_code.co_filename else None
        if isinstance(delivery, Delivery):
            return {"topic": delivery.topic, "key": delivery.key, **found}, delivery
        frame = frame.f_back
    return found, None
