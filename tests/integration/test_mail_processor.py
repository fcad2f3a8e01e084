"""One mail and the program's own function, on a real server: what a hang or a stop leaves behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.claims import Idempotency
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.engine.router import Context
from enricher.errors import BadMessage
from enricher.mail.entries import Entry
from enricher.mail.processor import Processor
from tests.rig import PATIENCE, until
from tests.servers import RedisProcess

RAW = b"Subject: hello\n\nhi\n"


def entry(name: str) -> Entry:
    return Entry(id=name, message_id=name, raw=RAW, fields={})


def context() -> Context:
    return Context("mails", b"", 0, 1, {})


async def test_functions_that_hang_fill_no_more_threads_than_there_may_be(redis_url: str) -> None:
    go_on, begun = threading.Event(), []

    def hangs(mail: Any) -> str:
        begun.append(mail.id)
        go_on.wait(PATIENCE)
        return "done"

    async with Redis.from_url(redis_url) as client:
        processor = Processor(
            Idempotency(client), collection="c", clock=lambda: 0, handler=hangs, timeout=0.5, threads=2
        )
        work = [asyncio.create_task(processor(entry(f"m{n}"), context())) for n in range(6)]
        await until(lambda: sum(task.done() for task in work) == 2)
        await asyncio.sleep(0.1)  # time enough for the others, were there threads for them
        assert {type(task.exception()) for task in work if task.done()} == {TimeoutError}
        assert len(begun) == 2
        waiting = [task for task in work if not task.done()]
        go_on.set()
        landed = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
        assert [effects[0].document["result"] for effects in landed] == ["done"] * 4


@pytest.mark.parametrize(
    ("result", "path"),
    [({"names": ["\ud800"]}, "$.result.names[0]"), ({"a\0b": 2}, "$.result.a\\u0000b")],
)
async def test_text_in_a_result_that_cannot_be_stored_is_refused_with_its_path_and_may_be_tried_again(
    redis_url: str, result: Any, path: str
) -> None:
    results = [result, {"fine": True}]

    async with Redis.from_url(redis_url) as client:
        seen = Idempotency(client)
        processor = Processor(seen, collection="c", clock=lambda: 0, handler=lambda mail: results.pop(0))
        with pytest.raises(BadMessage) as caught:
            await processor(entry("m"), context())
        assert caught.value.path == path
        landed = await processor(entry("m"), context())
        assert landed[0].document["result"] == {"fine": True}  # type: ignore[attr-defined]


async def test_a_mail_given_up_while_it_is_being_reserved_is_reserved_by_nobody(
    own_redis: RedisProcess,
) -> None:
    async def handler(mail: Any) -> None:
        """There is nothing to do."""

    async with Redis.from_url(own_redis.url) as client:
        seen = Idempotency(client, connection=RawConnection(client, timeout=PATIENCE))
        processor = Processor(seen, collection="c", clock=lambda: 0, handler=handler)
        await processor(entry("warm"), context())
        await client.flushall()
        own_redis.pause()
        task = asyncio.create_task(processor(entry("m"), context()))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
        own_redis.resume()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert await client.keys("*:doing:*") == []
        await seen.close()
