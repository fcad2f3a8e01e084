"""Jobs in the loop, in threads and in processes: limits, cancellation, children, what a stop does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from enricher import Enricher, load
from enricher.job_store import Find
from enricher.jobs import JobCancelled, JobFailed, WrongPlace, connect
from enricher.jobs.client import close, current
from enricher.jobs.dead_letters import FailedJobs
from tests.jobs_app import limits, orders
from tests.jobs_app.orders import _CLIENTS, book
from tests.rig import until
from tests.servers import FaultyProxy


@pytest.fixture
def url(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ENRICHER_REDIS__URL", redis_url)
    _CLIENTS.clear()
    return redis_url


@asynccontextmanager
async def worker(url: str, **more: Any) -> AsyncIterator[Enricher]:
    given = {
        "redis.url": url,
        "market.enabled": False,
        "jobs.packages": "tests.jobs_app",
        "jobs.poll": 0.1,
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    connect(url)
    try:
        async with Enricher(load(overrides=given)) as enricher:
            await enricher.wait_ready()
            yield enricher
    finally:
        await close()


async def test_no_attempt_begins_before_the_thread_of_the_last_has_ended(url: str) -> None:
    async with worker(url):
        handle = await limits.Sleeps.enqueue(1.5)
        assert await handle.wait(60) == "attempt 2"
    assert [each.decode() for each in book().lrange("sleeps", 0, -1)] == ["begun 1", "ended 1", "begun 2"]


async def test_a_worker_without_a_free_slot_that_loses_its_connections_goes_on(url: str) -> None:
    async with (
        FaultyProxy(urlsplit(url).port or 0) as proxy,
        worker(proxy.redis_url(), jobs__concurrency=1, jobs__poll=60) as enricher,
    ):
        await orders.Wait.enqueue("first", 1.0)
        await until(lambda: book().llen("begun:first") == 1)
        proxy.refuse = True
        proxy.cut()
        await until(lambda: not enricher.health()["sources"]["job queues"]["ready"])
        proxy.heal()
        await until(lambda: book().llen("ended:first") == 1)
        await orders.Wait.enqueue("second", 0.0)
        await until(lambda: book().llen("ended:second") == 1)


@pytest.mark.parametrize("kind", [limits.AsyncSleeps, limits.ProcessSleeps])
async def test_a_job_past_its_limit_is_ended_and_tried_again(url: str, kind: Any) -> None:
    async with worker(url):
        assert await (await kind.enqueue()).wait(60) == "attempt 2"


async def test_a_process_that_ends_fails_its_job_alone_and_children_come_with_success(url: str) -> None:
    async with worker(url):
        handle = await limits.ProcessDies.enqueue()
        assert await handle.wait(60) != os.getpid()
        record = await stored(handle.id)
        assert (record.attempt, record.progress) == (2, b'{"done":1,"total":2,"note":"half"}')
        assert record.error.type == "ProcessDied"
        await until(lambda: book().zcard("jobs:finished:succeeded") == 2, "the child")


async def test_a_queue_that_no_worker_has_served_yet_is_not_one_that_was_deleted(url: str) -> None:
    connect(url)
    handle = await orders.Order.enqueue(1, 0)
    with capture_logs() as logged:
        async with worker(url):
            assert await handle.wait(60) == 10
    assert "queue_was_deleted" not in [line["event"] for line in logged]


async def test_the_program_around_a_worker_may_not_stop_its_loop(url: str) -> None:
    async with worker(url):
        handle = await orders.Order.enqueue(1, 0)
        with pytest.raises(WrongPlace, match=r"await job\.wait\(timeout\)"):
            handle.get(timeout=60)
        assert await asyncio.to_thread(handle.get, 60) == 10


async def test_what_a_job_returned_is_no_json_and_it_is_not_run_again(url: str) -> None:
    async with worker(url):
        for kind in (limits.ReturnsNoJson, limits.ProcessReturnsNoJson):
            handle = await kind.enqueue()
            with pytest.raises(JobFailed, match=r"BadResult: \$\.result: expected a result that JSON knows"):
                await handle.wait(60)
            assert (await stored(handle.id)).attempt == 1


async def test_a_job_may_ask_for_later_and_give_up(url: str) -> None:
    async with worker(url):
        handle = await limits.AsksForLater.enqueue()
        with pytest.raises(JobCancelled, match="no longer wanted"):
            await handle.wait(60)


@pytest.mark.parametrize("kind", [limits.Forever, limits.AsyncForever, limits.ProcessForever])
async def test_a_running_job_is_cancelled(url: str, kind: Any) -> None:
    async with worker(url) as enricher:
        handle = await kind.enqueue()
        await until(lambda: book().llen("forever"), "its begin")
        assert await handle.cancel_async()
        with pytest.raises(JobCancelled):
            await handle.wait(60)
        assert (await stored(handle.id)).state == "cancelled"
        await until(lambda: enricher.engine.pool.count == 0, "the slot to be free")


async def test_the_dead_letters_of_jobs_are_the_jobs_that_have_failed(url: str) -> None:
    async with worker(url):
        gone, kept = await limits.Answer.enqueue(5), await limits.Fails.enqueue(7)
        with pytest.raises(ValueError, match="7"):
            await kept.wait(60)
        assert await gone.wait(60) == 5
        letters = FailedJobs(current().in_loop(), "jobs")
        await until(letters.count, "the dead letter")
        (letter,) = await letters.peek()
        assert (letter.task_id, letter.error_type, letter.error) == (kept.id, "ValueError", "7")
        assert letter.message["arguments"] == [[7], {}]
        assert letter.attempts == 1
        assert await letters.remove(letter)
        assert not await letters.remove(letter)
        assert await letters.count() == 0


async def stored(id_: str) -> Any:
    return await current().in_loop().ask(Find(id_))


async def test_a_fork_that_comes_back_from_its_job_ends(url: str) -> None:
    async with worker(url):
        assert await (await limits.ForksBack.enqueue()).wait(60) == 0


async def test_a_job_that_waits_for_one_that_was_cancelled_is_not_cancelled_itself(url: str) -> None:
    async with worker(url):
        other = await limits.Sleeps.options(delay=60).enqueue(0.0)
        waiting = await limits.WaitsForOther.enqueue(other.id)
        assert await other.cancel_async()
        with pytest.raises((JobFailed, JobCancelled)):
            await waiting.wait(60)
        record = await current().in_loop().ask(Find(waiting.id))
    assert record is not None
    assert record.state == "failed"
