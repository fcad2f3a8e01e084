"""What a mail's function does to its task or thread ends its mail alone; others take what cannot begin."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tests.integration.mails import post, raw_mail

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
