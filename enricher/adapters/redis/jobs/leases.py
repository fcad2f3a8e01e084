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
from typing import Any

import redis.exceptions as errors

from enricher.adapters.redis.jobs.calls import RENEW
from enricher.adapters.redis.jobs.client import blocking_client
from enricher.job_store import JobQueueSettings, Run
from enricher.log import log


class Leases:
    """Renews every third of a lease what ``held`` has, until `release` leaves nothing of it.

    ``held`` is asked by another thread. ``found`` is called there with the ids of runs that are somebody
    else's by now, and of those that were cancelled. `turn` is to be called by the loop from time to time.
    """

    def __init__(
        self,
        settings: JobQueueSettings,
        worker: str,
        description: bytes,
        held: Callable[[], Collection[Run]],
        found: Callable[[Sequence[str], Sequence[str]], None],
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._description = description
        self._held = held
        self._found = found
        self._last_turn = time.monotonic()
        self._asked = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="job leases", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def turn(self) -> None:
        """The loop lives."""
        self._last_turn = time.monotonic()

    def stop(self) -> None:
        """Renew only while there is anything to renew; whether the loop lives does not count any more."""
        self._ending = True
        self._asked.set()

    def _run(self) -> None:
        client = blocking_client(self._settings.url, min(self._settings.timeout, self._settings.lease / 3))
        failing = False
        try:
            while not (self._ending and not self._held()):
                pause = self._settings.lease / 3
                if self._ending or time.monotonic() - self._last_turn < self._settings.max_block:
                    try:
                        self._renew(client)
                        failing = False
                    except (errors.RedisError, OSError) as error:
                        if not failing:
                            log.warning("leases_not_renewed", reason=f"{type(error).__name__}: {error}")
                        failing, pause = True, pause / 3
                self._asked.wait(0.05 if self._ending else pause)
                if not self._ending:
                    self._asked.clear()
        finally:
            client.close()

    def _renew(self, client: Any) -> None:
        runs = list(self._held())
        arguments: list[Any] = [1, self._settings.prefix, self._worker, self._description]
        arguments.append(max(int(self._settings.lease * 3), 3))
        for run in runs:
            arguments += (run.queue, run.entry, run.id)
        try:
            lapsed, cancelled = client.execute_command("EVALSHA", RENEW.sha, *arguments)
        except errors.NoScriptError:
            lapsed, cancelled = client.execute_command("EVAL", RENEW.text, *arguments)
        if lapsed or cancelled:
            self._found([each.decode() for each in lapsed], [each.decode() for each in cancelled])
