"""A program that has jobs done: enqueued from wherever it is, waited for, with clear words where it fails."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
import redis

from enricher.errors import ConfigError
from enricher.job_store import Find
from enricher.jobs import (
    AsyncResult,
    Handle,
    JobCancelled,
    JobFailed,
    StoreUnavailable,
    client,
    close,
    connect,
    send,
)
from tests.integration.commands import eventually
from tests.integration.jobs import JobWorkers, job_workers
from tests.jobs_app.answers import (
    Answer,
    AsksAnother,
    AsksInThread,
    AsyncPrice,
    Refuses,
    Sleeps,
    UnpaidError,
)
from tests.rig import until
from tests.servers import RedisProcess

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program(nobodys_settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A program of nobody's settings, and how to tell it where its jobs are."""
    monkeypatch.setattr(client, "_default", client.Connection(client._from_environment()))

    def at(url: str) -> None:
        monkeypatch.setenv("ENRICHER_JOBS__URL", url)

    yield at
    client._default.close()


@pytest.fixture
def workers(
    program: Callable[[str], None], redis_url: str, tmp_path: Path
) -> Iterator[JobWorkers]:
    """A worker, and the program that this test is enqueues for it."""
    program(redis_url)
    with job_workers(redis_url, tmp_path) as workers:
        workers.start("worker")
        yield workers


def keys(url: str) -> list[bytes]:
    return sorted(redis.Redis.from_url(url).keys("*"))


def test_a_job_is_enqueued_runs_and_answers(workers: JobWorkers) -> None:
    handle = Answer.perform_async(7, data={"x": [1, None]})
    assert handle.get(timeout=60) == {"args": [7], "kwargs": {"data": {"x": [1, None]}}}
    assert (handle.status, handle.ready(), handle.successful()) == ("SUCCESS", True, True)
    assert handle.result == AsyncResult(handle.id).result
    day = date(2026, 1, 2)
    priced = AsyncPrice.perform_async(Decimal("1.5"), day=day)
    assert priced.get(timeout=60) == {"gross": "3.0", "day": "2026-01-02"}


async def test_the_twins_do_the_same_in_a_loop(workers: JobWorkers) -> None:
    handles = [await Answer.enqueue(7), *await Answer.enqueue_bulk([[8], {"n": 9}])]
    answers = await asyncio.gather(*(each.wait(60) for each in handles))
    assert [(each["args"], each["kwargs"]) for each in answers] == [([7], {}), ([8], {}), ([], {"n": 9})]
    later = await Answer.enqueue_in(0.05, "later")
    at = await Answer.enqueue_at(datetime.now() + timedelta(milliseconds=50), "at")  # noqa: DTZ005
    assert [(await each.wait(60))["args"] for each in (later, at)] == [["later"], ["at"]]
    await close()


def test_failures_come_back_as_what_they_were(workers: JobWorkers) -> None:
    handle = Refuses.perform_async("unpaid")
    with pytest.raises(UnpaidError) as caught:
        handle.get(timeout=60)
    assert caught.value.args == ("unpaid", 7)
    assert isinstance(caught.value.__cause__, JobFailed)
    assert "answers.py" in caught.value.__cause__.traceback
    assert (handle.status, isinstance(handle.result, UnpaidError)) == ("FAILURE", True)
    with pytest.raises(JobFailed, match=r"tests\.jobs_app\.only_here\.OnlyHere: seldom"):
        Refuses.perform_async("unknown").get(timeout=60)
    with pytest.raises(JobCancelled, match="not needed any more"):
        Refuses.perform_async("cancel").get(timeout=60)


def test_jobs_are_cancelled_waiting_and_running(workers: JobWorkers) -> None:
    waiting = Answer.perform_in(3600, 1)
    assert waiting.cancel()
    with pytest.raises(JobCancelled):
        waiting.get(timeout=60)
    running = Sleeps.perform_async()
    eventually(lambda: workers.record(running.id).state == "running", "the job to run")
    assert running.cancel()
    with pytest.raises(JobCancelled):
        running.get(timeout=60)
    assert not running.cancel()
    running.forget()
    assert running.status == "PENDING"


def test_jobs_enqueue_into_their_worker_s_redis(workers: JobWorkers) -> None:
    said, answer = AsksAnother.perform_async(5).get(timeout=60)
    assert said == "get() would stop this loop, in which jobs run, until the time is up"
    assert answer == {"args": [5], "kwargs": {}}
    assert AsksInThread.perform_async(6).get(timeout=60) == {"args": [6], "kwargs": {}}


def test_results_may_be_kept_elsewhere_and_the_old_names_count(
    program: Callable[[str], None], redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, elsewhere = redis_url.replace("/0", "/1"), redis_url.replace("/0", "/2")
    redis.Redis.from_url(redis_url).flushall()
    monkeypatch.setenv("CELERY_BROKER_URL", jobs)
    monkeypatch.setenv("CELERY_RESULT_BACKEND", elsewhere)
    with job_workers(jobs, tmp_path, {"jobs.results_url": elsewhere}) as workers:
        workers.start("worker")
        handle = Answer.perform_async(1)
        assert handle.get(timeout=60)["args"] == [1]
        assert keys(elsewhere) == [f"celery-task-meta-{handle.id}".encode()]
    redis.Redis.from_url(redis_url).flushall()


def said_by(program: str, **environment: str) -> str:
    """What a program of its own prints; nothing on standard error."""
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", program], env=own, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_program_needs_only_the_class_and_the_address(workers: JobWorkers) -> None:
    program = """
from tests.jobs_app.answers import Answer
print(Answer.perform_async("hello").get(timeout=60)["args"])
"""
    assert said_by(program, CELERY_BROKER_URL=workers.url) == "['hello']\n"


def test_a_program_without_the_class_needs_its_name(workers: JobWorkers) -> None:
    program = """
import asyncio
from enricher.jobs import enqueue, send
print(send("tests.jobs_app.answers.Answer", 1, x=2).get(timeout=60)["kwargs"])

async def main():
    return await (await enqueue("tests.jobs_app.answers.Answer", 3)).wait(60)

print(asyncio.run(main())["args"])
"""
    assert said_by(program, ENRICHER_JOBS__URL=workers.url) == "{'x': 2}\n[3]\n"


def test_many_threads_enqueue_at_once(program: Callable[[str], None], redis_url: str) -> None:
    program(redis_url)
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(Answer.perform_async, range(400)))
    assert len({each.id for each in handles}) == 400
    assert redis.Redis.from_url(redis_url).xlen("jobs:default") == 400


def test_many_are_enqueued_by_few_round_trips(program: Callable[[str], None], redis_url: str) -> None:
    program(redis_url)
    server = redis.Redis.from_url(redis_url)
    Answer.perform_async(0)  # the script is known from now on
    def round_trips(jobs: Iterable[list[Any]]) -> tuple[int, list[Handle]]:
        before = server.info("commandstats")["cmdstat_evalsha"]["calls"]
        handles = Answer.perform_bulk(jobs)
        return server.info("commandstats")["cmdstat_evalsha"]["calls"] - before, handles

    trips, handles = round_trips([number] for number in range(2500))
    assert trips == 3
    assert server.xlen("jobs:default") == 2501
    store = client.current().blocking()
    first, last = store.ask(Find(handles[0].id)), store.ask(Find(handles[-1].id))
    assert first is not None
    assert last is not None
    assert (first.payload, last.payload) == (b"[[0],{}]", b"[[2499],{}]")
    assert round_trips(["x" * 1_000_000] for _ in range(9))[0] == 3  # four of them are 4 MB


def _enqueue_some(numbers: range, ids: Any) -> None:
    ids.put([Answer.perform_async(number).id for number in numbers])


def test_forked_processes_have_connections_of_their_own(
    program: Callable[[str], None], redis_url: str
) -> None:
    program(redis_url)
    Answer.perform_async("before the fork")
    forks = multiprocessing.get_context("fork")
    ids = forks.SimpleQueue()
    children = [forks.Process(target=_enqueue_some, args=(range(100), ids)) for _ in range(3)]
    for child in children:
        child.start()
    own = [Answer.perform_async(number).id for number in range(100)]
    others = [id_ for _ in children for id_ in ids.get()]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len({*own, *others}) == 400
    server = redis.Redis.from_url(redis_url)
    stored = [server.hget(f"jobs:job:{id_}", "payload") for id_ in own]
    assert stored == [f"[[{number}],{{}}]".encode() for number in range(100)]


def test_without_redis_the_error_is_clear_and_hides_the_password(
    program: Callable[[str], None], own_redis: RedisProcess
) -> None:
    program(own_redis.url.replace("redis://", "redis://somebody:secret@"))
    own_redis.kill()
    with pytest.raises(StoreUnavailable, match=r"the jobs' Redis .*127\.0\.0\.1") as caught:
        Answer.perform_async(1)
    assert "secret" not in str(caught.value)


@pytest.fixture
def no_redis() -> Iterator[int]:
    """The port of a server that speaks something else."""

    class Page(StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


async def test_what_is_no_redis_cannot_be_used(program: Callable[[str], None], no_redis: int) -> None:
    program(f"redis://127.0.0.1:{no_redis}/0")
    with pytest.raises(StoreUnavailable, match="InvalidResponse"):
        Answer.perform_async(1)
    with pytest.raises(StoreUnavailable, match="InvalidResponse"):
        await Answer.enqueue(1)
    await close()


def test_an_outage_passes_by_itself_and_leaves_nothing_half_done(
    program: Callable[[str], None], own_redis: RedisProcess
) -> None:
    program(own_redis.url)
    first = Answer.perform_async(1)
    own_redis.pause()
    with pytest.raises(StoreUnavailable):
        Answer.perform_async(2)
    with pytest.raises(StoreUnavailable):
        _ = first.status
    own_redis.resume()
    third = Answer.perform_async(3)
    server = redis.Redis.from_url(own_redis.url)
    jobs, entries = server.keys("jobs:job:*"), server.xlen("jobs:default")
    # What was sent to a frozen server it may do when it goes on, but then all of it.
    assert len(jobs) == entries
    assert {f"jobs:job:{each.id}".encode() for each in (first, third)} <= set(jobs)


async def test_in_a_loop_an_outage_is_the_same(
    program: Callable[[str], None], own_redis: RedisProcess
) -> None:
    program(own_redis.url)
    await Answer.enqueue(1)
    own_redis.kill()
    with pytest.raises(StoreUnavailable):
        await Answer.enqueue(2)
    own_redis.start()
    handle = await Answer.enqueue(3)
    with pytest.raises(TimeoutError, match=f"job {handle.id} has no result after 0.05 s: it is PENDING"):
        await handle.wait(0.05)
    await close()


def test_loops_that_come_and_go_leave_no_connections(
    program: Callable[[str], None], redis_url: str
) -> None:
    program(redis_url)
    server = redis.Redis.from_url(redis_url)
    before = server.info("clients")["connected_clients"]
    for number in range(30):
        asyncio.run(Answer.enqueue(number))

    def closed() -> bool:
        gc.collect()
        return bool(server.info("clients")["connected_clients"] < before + 4)

    eventually(closed, "connections to be closed")
    assert server.xlen("jobs:default") == 30


def test_a_job_that_does_not_end_in_time_says_so(program: Callable[[str], None], redis_url: str) -> None:
    program(redis_url)
    handle = Answer.perform_async(1)
    with pytest.raises(TimeoutError, match=f"job {handle.id} has no result after 0.05 s: it is PENDING"):
        handle.get(timeout=0.05)


def test_a_program_may_say_itself_where_its_jobs_are(
    program: Callable[[str], None], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("redis://127.0.0.1:1/0")
    monkeypatch.setattr(client, "_default", client._default)
    connect(redis_url)
    assert isinstance(send("any.Task", 1), Handle)
    assert redis.Redis.from_url(redis_url).xlen("jobs:default") == 1
    client._default.close()


def test_an_address_that_is_none_is_named(program: Callable[[str], None]) -> None:
    program("amqp://guest@localhost//")
    with pytest.raises(ConfigError, match=r"ENRICHER_JOBS__URL: jobs\.url = .*amqp"):
        Answer.perform_async(1)


def listeners(url: str) -> list[dict[str, str]]:
    """The connections that hear of results."""
    found: list[dict[str, str]] = redis.Redis.from_url(url).client_list(_type="pubsub")
    return [each for each in found if each["sub"] != "0"]


async def test_however_many_wait_one_connection_hears_of_them(
    program: Callable[[str], None], redis_url: str, tmp_path: Path
) -> None:
    program(redis_url)
    handles = [await Answer.enqueue(number) for number in range(200)]
    waiting = [asyncio.create_task(each.wait(300)) for each in handles]

    async def heard() -> bool:
        return [each["sub"] for each in await asyncio.to_thread(listeners, redis_url)] == ["200"]

    await until(heard, "one to listen for all of them")
    with job_workers(redis_url, tmp_path) as workers:
        workers.start("worker")
        answers = await asyncio.gather(*waiting)
    assert [each["args"] for each in answers] == [[number] for number in range(200)]
    await until(lambda: not listeners(redis_url), "nobody to listen any more")
    await close()


async def test_who_waits_outlives_the_loss_of_its_connection(
    program: Callable[[str], None], redis_url: str, tmp_path: Path
) -> None:
    program(redis_url)
    handle = await Answer.enqueue(1)
    in_loop = asyncio.create_task(handle.wait(120))
    in_thread = asyncio.create_task(asyncio.to_thread(handle.get, 120))
    await until(lambda: len(listeners(redis_url)) == 2, "both to listen")
    first = {each["id"] for each in listeners(redis_url)}
    redis.Redis.from_url(redis_url).client_kill_filter(_type="pubsub")

    def others() -> set[str]:
        return {each["id"] for each in listeners(redis_url)} - first

    await until(lambda: len(others()) == 2, "both to listen again")
    with job_workers(redis_url, tmp_path) as workers:
        workers.start("worker")
        assert (await in_loop)["args"] == (await in_thread)["args"] == [1]
    await close()


async def test_who_waits_says_how_the_job_stands(workers: JobWorkers) -> None:
    handle = await Sleeps.enqueue()
    await until(lambda: handle.status == "STARTED", "the job to run")
    with pytest.raises(TimeoutError, match=r"no result after 0\.05 s: it is STARTED"):
        await handle.wait(0.05)
    with pytest.raises(TimeoutError, match=r"no result after 0\.05 s: it is STARTED"):
        await asyncio.to_thread(handle.get, 0.05)
    assert await handle.cancel_async()
    with pytest.raises(JobCancelled):
        await handle.wait(60)
    await close()
