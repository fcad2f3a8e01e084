"""One mail and the program's own function on a real server: after a hang, a stop, an accident, a kill."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
from redis.asyncio import Redis

from enricher.adapters.redis.claims import PREFIX, Idempotency
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.engine.claims import State
from enricher.engine.router import Context
from enricher.errors import BadMessage
from enricher.mail.entries import Entry
from enricher.mail.processor import Processor
from tests.integration.commands import Command, eventually
from tests.integration.mails import GROUP, LETTERS, STREAM, post, raw_mail
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


async def test_a_mail_whose_thread_goes_on_after_a_stop_stays_reserved_and_no_other_does(
    redis_url: str,
) -> None:
    go_on, begun = threading.Event(), []

    def hangs(mail: Any) -> str:
        begun.append(mail.id)
        assert go_on.wait(PATIENCE)
        return "done"

    async with Redis.from_url(redis_url) as client:
        seen = Idempotency(client)
        processor = Processor(seen, collection="c", clock=lambda: 0, handler=hangs, threads=1, lease=60)
        work = [asyncio.create_task(processor(entry(name), context())) for name in "ab"]
        await until(lambda: begun and processor.threads and processor.threads.waiting)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        (runs,) = begun
        found = {name: (await seen.begin(name, "another", 60_000)).state for name in "ab"}
        go_on.set()
        assert found == {"a": State.OURS, "b": State.OURS, runs: State.BUSY}


HANGS: dict[str, Any] = {
    "mail.timeout": 0.2,
    "mail.concurrency": 2,
    "mail.max_retries": 0,
    "service.stall_after": 0.5,
    "service.drain_deadline": 0.5,
}


async def test_a_function_whose_task_group_fails_while_it_is_left_is_a_dead_letter_and_others_go_on(
    redis_url: str, mongo_database_url: str
) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("a child")

    async def handler(mail: Any) -> None:
        if mail.subject == "mail 1":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fails())

    async with post(redis_url, mongo_database_url, handler, {"mail.max_retries": 1}) as found:
        await found.send(*(raw_mail(number) for number in range(20)))
        await found.count("processed", 19)
        await found.count("dead", 1)
        assert found.counts["retried"] == 1
        (letter,) = await found.letters()
        assert letter["error"].startswith("ExceptionGroup: ")
        assert found.enricher.ready
        await found.send(raw_mail(99))
        await found.count("processed", 20)


async def test_mails_that_cannot_begin_since_every_thread_hangs_are_handled_by_another_worker(
    redis_url: str, mongo_database_url: str
) -> None:
    release = threading.Event()

    def hangs(mail: Any) -> str:
        assert release.wait(60)
        return "here"

    def well(mail: Any) -> str:
        return "there"

    one = {**HANGS, "mail.consumer": "one", "service.instance": "one"}
    two = {"mail.consumer": "two", "service.instance": "two"}
    async with post(redis_url, mongo_database_url, hangs, one) as stuck:
        await stuck.send(*(raw_mail(number) for number in range(30)))
        await stuck.count("dead", 2)
        await stuck.until(lambda: stuck.enricher.health()["status"] == "stalled", "a stall")
        assert not stuck.enricher.ready
        async with post(redis_url, mongo_database_url, well, two) as other:
            await other.count("processed", 28)
            await other.send(*(raw_mail(number) for number in range(30, 40)))
            await other.count("processed", 38)
            assert {mail["result"] for mail in other.stored().values()} == {"there"}
        assert len(await stuck.redis.xrange("email_ingestion_dlq")) == 2
        release.set()
        await stuck.until(lambda: stuck.enricher.ready, "threads")
        await stuck.send(raw_mail(40))
        await stuck.count("processed", 1)
        assert await stuck.pending() == 0


# What it does outside is a list in Redis: it has begun with a mail, it has ended.
HANDLER = """
import asyncio, os
from redis.asyncio import Redis

async def on_mail(mail):
    async with Redis.from_url(os.environ["REDIS_URL"]) as client:
        await client.rpush("begun", mail.id)
        while mail.id == "2@x" and not await client.exists("go"):
            await asyncio.sleep(0.02)
        await client.rpush("ended", mail.id)
        return {"by": os.getpid()}
"""


def test_a_mail_whose_function_was_killed_is_handled_again_and_lands_once(
    tmp_path: Path, redis_url: str, mongo_database_url: str
) -> None:
    (tmp_path / "shop.py").write_text(HANDLER, encoding="utf-8")
    settings = ("mail.enabled=true", "mail.handler=shop:on_mail", "mail.lease=1", "market.enabled=false")
    arguments = ["run", *(part for each in settings for part in ("--set", each))]
    variables = {"REDIS_URL": redis_url, "MONGO_URL": mongo_database_url}
    client = redis.Redis.from_url(redis_url)
    emails = pymongo.MongoClient[dict[str, Any]](mongo_database_url).get_default_database()["emails"]

    def stored() -> dict[str, int]:
        return {mail["_id"]: mail["result"]["by"] for mail in emails.find()}

    with Command(tmp_path, *arguments, **variables) as killed:
        killed.until("ready")
        for number in (1, 2, 3):
            client.xadd(STREAM, {"raw": raw_mail(number)})
        eventually(lambda: client.llen("begun") == 3 and len(stored()) == 2)
        # Stored first, acknowledged after it.
        eventually(lambda: client.xpending(STREAM, GROUP)["pending"] == 1)
        killed.signal(signal.SIGKILL)
        killed.end()
    assert set(stored()) == {"1@x", "3@x"}
    client.set("go", "1")
    client.xadd(STREAM, {"raw": raw_mail(2)})  # and somebody sends it once more
    with Command(tmp_path, *arguments, **variables) as other:
        other.until("ready")
        eventually(lambda: len(stored()) == 3)
        eventually(lambda: client.xpending(STREAM, GROUP)["pending"] == 0)
        pid = other.process.pid
        other.signal(signal.SIGTERM)
        assert other.end() == 0
    assert stored() == {"1@x": killed.process.pid, "2@x": pid, "3@x": killed.process.pid}
    # What landed did so once; what the function did outside before it was killed it did twice.
    assert sum(client.scard(key) for key in client.keys(f"{PREFIX}:[0-9]*")) == 3
    assert Counter(client.lrange("begun", 0, -1)) == {b"1@x": 1, b"2@x": 2, b"3@x": 1}
    assert Counter(client.lrange("ended", 0, -1)) == {b"1@x": 1, b"2@x": 1, b"3@x": 1}
    assert client.xlen(LETTERS) == 0
    emails.database.client.close()
    client.close()
