"""STARTED as a result where a server has results alone; elsewhere the script that begins runs shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.jobs.wires import result_key
from enricher.adapters.redis.scripts import load
from enricher.job_store import Run

_SHOW = load("job_started")
_STARTED: Mapping[str, Any] = {"status": "STARTED", "result": None, "traceback": None, "children": ()}


class StartedResults:
    """Shows the runs that it is told of, on ``results`` for ``ttl`` seconds, while `run` goes on.

    Nobody waits for it: while that server is away nothing is shown, and no job is held up.
    """

    def __init__(self, results: Redis, ttl: int) -> None:
        self._results = results
        self._ttl = ttl
        self._ids: list[str] = []
        self._told = asyncio.Event()

    def add(self, runs: Iterable[Run]) -> None:
        """These have begun."""
        self._ids += [run.id for run in runs]
        self._told.set()

    async def run(self) -> None:
        """Show what is added, until it is cancelled."""
        while await self._told.wait():
            self._told.clear()
            ids, self._ids = self._ids, []
            with suppress(errors.RedisError, OSError):
                for id_ in ids:
                    result = msgspec.json.encode({**_STARTED, "task_id": id_})
                    await _SHOW(self._results, [result_key(id_)], result, self._ttl)
