"""What the script that begins runs is asked, and what it replies: ``job_fetch.lua``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from enricher.adapters.redis.jobs.calls import FETCH, run_of
from enricher.adapters.redis.raw_connection import Part, pack
from enricher.job_store import JobQueueSettings, Run, Shares

Newest = dict[bytes, bytes]
"""The newest entry of each queue."""


class Begun(NamedTuple):
    """Runs that have begun, in how many ms more is due (-1: nothing), and the newest entries after that."""

    runs: list[Run]
    due_ms: int
    newest: Newest


class Fetch:
    """Begins runs of ``worker``; STARTED is shown for ``shown`` seconds (0: not by the script)."""

    def __init__(self, settings: JobQueueSettings, worker: str, shares: Shares, *, shown: int) -> None:
        self._settings = settings
        self._worker = worker
        self._shares = shares
        self._shown = shown

    def parts(self, free: int, again: Collection[int] = (), *, suspects: bool = True) -> list[Part]:
        """The arguments for so many free slots.

        ``again`` is how often each run under way that is a second try was lost. Without ``suspects`` no job
        of a silent worker begins.
        """
        slots = 0
        if suspects and max(again, default=0) < 2:
            slots = max(self._settings.concurrency // 2, 1) - len(again)
        return [
            *(1, self._settings.prefix, self._worker, free, slots, "" if again else "1", self._shown),
            *(part for share in self._shares.take(free) for part in share),
        ]

    def packed(self, parts: Sequence[Part]) -> bytes:
        """The call as it travels, for a server that knows the script."""
        return pack("EVALSHA", FETCH.sha, *parts)

    def read(self, reply: Any) -> Begun:
        """What has begun; it counts for the shares."""
        rows, due_ms, newest = reply
        runs = [run_of(row) for row in rows]
        self._shares.served(Counter(run.queue for run in runs))
        return Begun(runs, due_ms, dict(zip(newest[::2], newest[1::2], strict=True)))
