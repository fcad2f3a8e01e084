"""The jobs of workers that went silent: who finds them, and what a worker was never told that it began."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from redis.asyncio import Redis

from enricher.adapters.redis.jobs.calls import TAKE_OVER, run_of
from enricher.job_store import JobQueueSettings, Run

AT_ONCE = 100
"""How many of a queue are found at once, see ``job_takeover.lua``."""


async def take_over(
    client: Redis, settings: JobQueueSettings, worker: str, mine: Sequence[Run], *, reconnected: bool
) -> tuple[int, list[Run]]:
    """Let jobs begin again whose worker is silent; how many, and the runs of those to be set aside.

    ``mine`` are the runs of ``worker``, who asks. When it has just ``reconnected``, only what began there
    and is none of them is found. -1: nobody was looked for, as the server stood still lately.
    """
    with anyio.fail_after(max(settings.timeout, 1.0)):
        found, poison = await TAKE_OVER(
            client,
            [settings.prefix],
            int(settings.lease * 1000),
            settings.max_deliveries,
            worker,
            "1" if reconnected else "",
            len(mine),
            *(part for run in mine for part in (run.id, run.number)),
            *settings.queues,
        )
    return int(found), [run_of(row) for row in poison]
