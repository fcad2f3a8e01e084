"""arq: a worker process that subscribes and runs its own jobs (``arq ...with_arq.WorkerSettings``)."""

from __future__ import annotations

from functools import partial
from typing import Any

import uvloop
from arq.connections import RedisSettings

from benchmarks.peers import subscriber
from benchmarks.peers.landing import REDIS_URL, Landing

AT_ONCE = 32

LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"arq": {"level": "WARNING"}}}
"""Without it arq writes two lines for every job."""

uvloop.install()


async def connect(context: dict[str, Any]) -> None:
    """Clients belong to the loop that runs now; so does the subscriber."""
    context["landing"] = Landing()
    subscriber.start(partial(context["redis"].enqueue_job, "enrich"))


async def enrich(context: dict[str, Any], topic: str, text: str) -> None:
    """One message."""
    await context["landing"].land(topic, text.encode())


class WorkerSettings:
    """arq reads these by name."""

    functions = (enrich,)
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    on_startup = connect
    max_jobs = AT_ONCE
    queue_read_limit = 5 * AT_ONCE
    # The default of half a second would be the longest wait of all.
    poll_delay = 0.01
    keep_result = 0
    log_results = False
