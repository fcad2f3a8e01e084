"""A watchdog: a thread that ends the process when its event loop cannot.

A handler that blocks the loop keeps it from noticing a signal; one that swallows its cancellation keeps it
from ending. The thread gets the signals by itself. When the deadline of the drain and `MARGIN` have passed,
it logs which handler it was and ends the process. (C code that keeps the interpreter holds it, too.)
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
"""Seconds that the process may run on after the deadline of the drain."""

# Part of the margin: for writing the last line, and for the process to end.
_LOG_SECONDS, _END_SECONDS = 0.5, 0.7


class Watchdog:
    """Ends the process `deadline` seconds and `MARGIN` after the first signal, or `begin`.

    ``enricher`` is the worker, once there is one: before that ``deadline`` counts, then its longest drain.
    ``code`` is the exit code, once it is known.
    """

    def __init__(self, deadline: float, stall_after: float) -> None:
        self.enricher: Enricher | None = None
        self.code: int | None = None
        self._deadline = deadline
        self._stall_after = stall_after
        self._stop_began: float | None = None
        self._signals = 0
        self._closed = False
        self._asked_at: float | None = None
        self._blocked = False
        self._loop = asyncio.get_running_loop()
        self._main = threading.main_thread().ident
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        # Done in C, whatever the main thread does: a byte per signal that has a handler in Python.
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop_began is None:
            signal.set_wakeup_fd(self._before)
            self._closed = True
            self._wake(b"\0")
            self._thread.join()
            self._reader.close()
            self._writer.close()

    @property
    def deadline(self) -> float:
        """Seconds that a stop may take: the longest drain of the routes."""
        return self._deadline if self.enricher is None else self.enricher.engine.drain_deadline

    def begin(self) -> float:
        """Begin the stop, if it has not begun; the seconds left until the deadline."""
        if self._stop_began is None:
            self._stop_began = time.monotonic()
            self._wake(b"\0")
        return max(0.0, self._stop_began + self.deadline - time.monotonic())

    def _wake(self, what: bytes) -> None:
        with suppress(OSError):
            self._writer.send(what)

    # -- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            left = 1.0
            if self._stop_began is not None:
                left = self._stop_began + self.deadline + MARGIN - _END_SECONDS - time.monotonic()
                if left <= 0:
                    self._end()
            readable, _, _ = select.select([self._reader], [], [], min(left, 1.0))
            for number in self._reader.recv(64) if readable else ():
                self._on_signal(number)
            self._check_loop()

    def _on_signal(self, number: int) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            return
        self._signals += number != signal.SIGHUP
        self.begin()
        with suppress(RuntimeError):  # wakes the loop, which then calls the handlers in Python
            self._loop.call_soon_threadsafe(_do_nothing)
        if self._signals > 1:
            time.sleep(0.2)  # the handler ends the process itself, if it is called at all
            os._exit(SECOND_SIGNAL)

    def _check_loop(self) -> None:
        """Ask the loop to answer; log what blocks it when it has not answered for ``stall_after``."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answered)
            return
        silent = time.monotonic() - self._asked_at
        if silent > self._stall_after and not self._blocked and self._stop_began is None:
            self._blocked = True
            where, _ = _blocking(sys._current_frames().get(self._main or 0))
            self._log("event_loop_blocked", seconds=round(silent, 1), **where)

    def _answered(self) -> None:
        self._asked_at = None
        self._blocked = False

    def _end(self) -> None:
        where, delivery = _blocking(sys._current_frames().get(self._main or 0))
        lost, handed_back, handlers = self._unfinished(delivery)
        code = LOST if lost else self.code
        if code is None:
            code = FAILED if self._failed else OK
        self._log(
            "forced_exit",
            exit_code=code,
            seconds=round(time.monotonic() - (self._stop_began or 0), 1),
            handlers=handlers,
            lost=dict(lost),
            handed_back=dict(handed_back),
            **where,
        )
        os._exit(code)

    @property
    def _failed(self) -> bool:
        return self.enricher is not None and self.enricher.engine.failure is not None

    def _unfinished(
        self, in_hand: Delivery | None
    ) -> tuple[Counter[str], Counter[str], list[dict[str, Any]]]:
        if self.enricher is None:
            return Counter(), Counter(), []
        engine = self.enricher.engine
        for _ in range(20):
            with suppress(RuntimeError):  # changed while we looked
                now = time.perf_counter()
                handlers = [
                    {"topic": d.topic, "key": d.key, "seconds": round(now - began, 1)}
                    for d, began in engine.pool.handling
                ]
                lost, handed_back = engine.left()
                if in_hand is not None and not engine.ended:
                    # What the blocked turn has taken is counted nowhere else.
                    rest = engine.pool.count - sum(left.total() for left in engine.pool.left())
                    (handed_back if in_hand.kept else lost)[in_hand.topic] += max(rest, 0)
                return +lost, +handed_back, handlers
        return Counter(), Counter(), []

    def _log(self, event: str, **fields: Any) -> None:
        """Log from another thread: the blocked one may hold the lock of the log, or its pipe may be full."""
        writing = threading.Thread(target=log.critical, args=(event,), kwargs=fields, daemon=True)
        writing.start()
        writing.join(_LOG_SECONDS)


def _do_nothing() -> None:
    """Called by the loop only to wake it."""


def _blocking(frame: FrameType | None) -> tuple[dict[str, Any], Delivery | None]:
    """The stack of ``frame``, the innermost one, and the message it handles, if any."""
    found: dict[str, Any] = {"stack": "" if frame is None else "".join(traceback.format_stack(frame))}
    while frame is not None:
        delivery = frame.f_locals.get("delivery") if "/engine/" in frame.f_code.co_filename else None
        if isinstance(delivery, Delivery):
            return {"topic": delivery.topic, "key": delivery.key, **found}, delivery
        frame = frame.f_back
    return found, None
