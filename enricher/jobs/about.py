"""What a worker says of itself, so that others can show it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from enricher.jobs.settings import JobSettings
from enricher.own_process import memory


class About:
    """Called by the thread that renews the leases: JSON with host, queues and slots, CPU and memory.

    ``cpu`` is the share of one core since the last call, ``memory`` bytes.
    """

    def __init__(self, jobs: JobSettings, tasks: Iterable[str], started_ms: int) -> None:
        self._said: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": jobs.queues,
            "concurrency": jobs.concurrency,
            "started_ms": started_ms,
            "tasks": list(tasks),
        }
        self._since = time.monotonic(), time.process_time()

    def __call__(self) -> bytes:
        (since, cpu), now = self._since, (time.monotonic(), time.process_time())
        self._since = now
        share = (now[1] - cpu) / max(now[0] - since, 0.001)
        return msgspec.json.encode({**self._said, "cpu": round(share, 3), "memory": memory()})
