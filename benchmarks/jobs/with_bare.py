"""The least there is: an entry of a stream, taken by a blocking read and acknowledged; nothing is kept.

``python -m benchmarks.jobs.with_bare`` takes, ``Client`` sends. What it runs is lost when it dies.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import redis
import uvloop
from redis.asyncio import Redis

from benchmarks.jobs import work

STREAM, GROUP = "bare", "workers"
JOBS = {"async": work.noop, "late": work.late}


async def take() -> None:
    """Run what comes, until killed."""
    client: Any = Redis.from_url(work.REDIS_URL, protocol=2, socket_timeout=None)
    await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    while True:
        for _, entries in await client.xreadgroup(GROUP, "one", {STREAM: ">"}, count=work.AT_ONCE, block=0):
            for _, fields in entries:
                JOBS[fields[b"job"].decode()](*json.loads(fields[b"arguments"]))
            await client.xack(STREAM, GROUP, *(entry for entry, _ in entries))
            await client.incrby("finished", len(entries))


class Client:
    """As `benchmarks.jobs.client.Client`."""

    def __init__(self) -> None:
        self._client: Any = redis.Redis.from_url(work.REDIS_URL, protocol=2)
        self._sha = self._client.script_load("return {ARGV[1]}")

    async def one(self, job: str, *arguments: object) -> None:
        if job == "evalsha":
            # What ours sends for a job.
            payload = json.dumps([arguments, {}])
            parts = (uuid4().hex, "async", "default", payload, "", "", "", 0, "", "")
            self._client.evalsha(self._sha, 1, "jobs", *parts)
            return
        self._client.xadd(STREAM, {"job": job, "arguments": json.dumps(arguments)})

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for row in rows:
                pipe.xadd(STREAM, {"job": job, "arguments": json.dumps(row)})
            pipe.execute()


if __name__ == "__main__":
    uvloop.run(take())
