"""A queue that somebody has deleted gets its entries again: what is a job is said by its hash."""

from __future__ import annotations

from typing import Any

import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.jobs.calls import GROUP, RESTORE
from enricher.job_store import JobQueueSettings
from enricher.log import log

_PAGE = 1000


async def create(client: Redis, settings: JobQueueSettings, queue: str) -> None:
    """Make the group that reads ``queue``, if there is none; what was deleted is restored."""
    try:
        await client.xgroup_create(f"{settings.prefix}:{queue}", GROUP, "0", mkstream=True)
    except errors.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
        return
    known: Any = client.sadd(f"{settings.prefix}:served", queue)
    if not await known:
        restored = await restore(client, settings, queue)
        log.warning("queue_was_deleted", queue=queue, jobs_restored=restored)


async def restore(client: Redis, settings: JobQueueSettings, queue: str) -> int:
    """Append what waits in ``queue`` and has no entry there; how many that were.

    Every key of the database is passed once (about a second for a million). An entry too many is harmless.
    """
    stream, prefix = f"{settings.prefix}:{queue}", f"{settings.prefix}:job:"
    known: set[bytes] = set()
    after = "-"
    while page := await _entries(client, stream, after):
        known.update(fields[b"id"] for _, fields in page if b"id" in fields)
        after = f"({page[-1][0].decode()}"
    restored, cursor = 0, 0
    keys: Any
    while True:
        cursor, keys = await client.scan(cursor, match=_literal(prefix) + "*", count=_PAGE)
        ids = [key[len(prefix.encode()) :] for key in keys]
        if missing := [id_ for id_ in ids if id_ not in known]:
            lease = int(settings.lease * 1000)
            restored += await RESTORE(client, [settings.prefix], queue, lease, *missing)
        if cursor == 0:
            return restored


async def _entries(client: Redis, stream: str, after: str) -> list[Any]:
    found: Any = await client.xrange(stream, after, "+", _PAGE)
    return list(found)


def _literal(text: str) -> str:
    """As a pattern that matches nothing else."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)
