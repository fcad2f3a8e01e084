"""The leases of a worker's runs, renewed from a thread with a connection of its own.

A job that blocks the event loop for longer than the lease would otherwise be begun by another worker too. The
thread stops renewing ``max_block`` seconds after the loop's last turn, so that a dead loop holds nothing for
ever. A call that holds the interpreter itself (a long sort, a regular expression) holds this thread as well:
if it takes longer than the lease, the job is begun twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import redis.exceptions as errors

from enricher.adapters.redis.jobs.calls import END, RENEW, end_parts
from enricher.adapters.redis.jobs.client import blocking_client
from enricher.adapters.redis.jobs.records import end_settings
from enricher.adapters.redis.scripts import Script
from enricher.job_store import Description, End, JobQueueSettings, Run
from enricher.log import log
from enricher.texts import text_of

Found = Callable[[Sequence[Run], Sequence[Run], Sequence[Run], str], None]


class Leases:
    """Renews every third of a lease what ``held`` has.

    ``held`` is asked by another thread. ``found`` is called there with the runs that have begun elsewhere,
    those whose jobs are gone from the store, those that were cancelled, and the order that the worker was
    given ("": none). `turn` is to be called by the
    loop from time to time.
    """

    def __init__(
        self,
        settings: JobQueueSettings,
        worker: str,
        description: Description,
        held: Callable[[], Collection[Run]],
        found: Found,
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._description = description
        self._held = held
        self._found = found
        self._last_turn = time.monotonic()
        self._asked = threading.Event()
        self._left: list[Run] | None = None
        self._goes_on: Callable[[str], bool] = lambda _: False
        self._thread = threading.Thread(target=self._run, name="job leases", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def turn(self) -> None:
        """The loop lives."""
        self._last_turn = time.monotonic()

    def stop(self, left: Sequence[Run], goes_on: Callable[[str], bool]) -> None:
        """From now on renew ``left`` alone, whether the loop lives or not, and hand back what has ended.

        ``goes_on`` says whether the thread of a job still runs.
        """
        self._left, self._goes_on = list(left), goes_on
        self._asked.set()

    def _run(self) -> None:
        lease = self._settings.lease
        client = blocking_client(self._settings.url, min(self._settings.timeout, lease / 3))
        failing, look_at = False, 0.0
        try:
            while self._left is None or self._left:
                now = time.monotonic()
                try:
                    if self._left is not None:
                        self._hand_back(client, self._left)
                    if now >= look_at and self._may_renew(now):
                        look_at = now + lease / 3
                        self._renew(client, self._held() if self._left is None else self._left)
                    failing = False
                except Exception as error:  # noqa: BLE001  whatever it is: the jobs run, and are to be kept
                    if not failing:
                        log.warning("leases_not_renewed", reason=f"{type(error).__name__}: {text_of(error)}")
                    failing, look_at = True, now + lease / 9
                self._asked.wait(max(look_at - time.monotonic(), 0.05) if self._left is None else 0.1)
                self._asked.clear()
            with suppress(errors.RedisError, OSError):
                # Who asks for the workers need not wait until this one is forgotten.
                client.delete(f"{self._settings.prefix}:worker:{self._worker}")
        finally:
            client.close()

    def _may_renew(self, now: float) -> bool:
        return self._left is not None or now - self._last_turn < self._settings.max_block

    def _hand_back(self, client: Any, left: list[Run]) -> None:
        ended = [run for run in left if not self._goes_on(run.id)]
        if ended:
            parts = [p for run in ended for p in end_parts(End(run=run, state="waiting"), shown=False)]
            _call(client, END, [1, self._settings.prefix, *end_settings(self._settings), *parts])
            self._left = [run for run in left if run not in ended]

    def _renew(self, client: Any, held: Collection[Run]) -> None:
        runs = list(held)
        arguments: list[Any] = [1, self._settings.prefix, self._worker, self._description()]
        arguments.append(max(int(self._settings.lease * 3), 3))
        for run in runs:
            arguments += (run.queue, run.id, run.number)
        reply = _call(client, RENEW, arguments)
        if any(reply):
            lapsed, gone, cancelled = ([runs[at] for at in places] for places in reply[:3])
            self._found(lapsed, gone, cancelled, reply[3].decode())


def _call(client: Any, script: Script, arguments: Sequence[Any]) -> Any:
    try:
        return client.execute_command("EVALSHA", script.sha, *arguments)
    except errors.NoScriptError:
        return client.execute_command("EVAL", script.text, *arguments)
