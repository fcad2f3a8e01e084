"""Jobs in tests: collected, drained, run at once; and what a handle says of them."""

import asyncio
import contextvars
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from enricher.job_store import Queues
from enricher.jobs import (
    AsyncResult,
    BadArguments,
    Cancel,
    JobCancelled,
    Retry,
    Worker,
    WrongPlace,
    client,
    enqueue,
    job,
    send,
)
from enricher.jobs.testing import FakeJobs, drain, fake, inline

pytest_plugins = ["enricher.jobs.pytest_fixtures"]

RUN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_has_run() -> None:
    RUN.clear()


class Sum(Worker):
    @classmethod
    def perform(cls, a: int, b: int = 1) -> int:
        RUN.append((a, b))
        return a + b


class AsyncSum(Worker):
    @staticmethod
    async def perform(a: int, b: int) -> int:
        await asyncio.sleep(0)
        RUN.append((a, b))
        return a + b


class Fails(Worker):
    @classmethod
    def perform(cls, text: str) -> None:
        raise ValueError(text, 7)


class Flaky(Worker):
    max_retries = 2

    @classmethod
    def perform(cls, successes: int) -> int:
        RUN.append(job().attempt)
        if job().attempt <= 2 - successes:
            raise Retry("not yet", in_seconds=3600)
        return job().attempt


class GivesUp(Worker):
    @classmethod
    def perform(cls) -> None:
        raise Cancel("nothing to do")


class Parent(Worker):
    @classmethod
    def perform(cls, fail: bool = False) -> str:
        child = job().enqueue(Sum, 1, b=2)
        with pytest.raises(WrongPlace, match=f"AsyncResult\\('{child.id}'\\)"):
            child.get()
        job().progress(1, 2)
        job().step("once", RUN.append, "step")
        if fail:
            raise RuntimeError("after the child")
        return child.id


class Once(Worker):
    unique = "until_finished"

    @classmethod
    def perform(cls, key: str) -> None: ...


def test_perform_called_directly_is_the_plain_function() -> None:
    assert Sum.perform(1, b=2) == 3
    with pytest.raises(ValueError, match="bad"):
        Fails.perform(text="bad")


def test_jobs_are_collected_and_run_when_the_test_wants() -> None:
    with fake() as jobs:
        handle = Sum.perform_async(1, b=2)
        assert [each.kwargs for each in jobs.of(Sum)] == [{"b": 2}]
        assert (handle.status, handle.result, handle.ready(), RUN) == ("PENDING", None, False, [])
        with pytest.raises(WrongPlace, match=r"has not run: call drain\(\) first"):
            handle.get()
        assert jobs.drain() == 1
        assert (handle.get(timeout=1), handle.result) == (3, 3)
        assert (handle.status, handle.successful()) == ("SUCCESS", True)
        assert jobs.drain() == 0


def test_each_way_to_enqueue_says_when_the_job_is_due() -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    with fake() as jobs:
        Sum.perform_at(when, 1)
        Sum.perform_in(60, 2)
        Sum.perform_in(a=3)
        Sum.perform_in(delay_seconds=5, a=4, b=5)
        Sum.options(delay=7, queue="low").perform_async(a=6)
        first, *rest = jobs.of(Sum)
        assert (first.at, first.args, first.state) == (when, [1], "scheduled")
        assert [(each.delay, each.args, each.kwargs) for each in rest] == [
            (60, [2], {}),
            (300, [], {"a": 3}),
            (5, [], {"a": 4, "b": 5}),
            (7, [], {"a": 6}),
        ]
        assert rest[-1].queue == "low"
        assert drain() == 5


async def test_the_twins_are_awaited() -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    with fake() as jobs:
        handles = [
            await Sum.enqueue(1),
            await Sum.enqueue_at(when, 2),
            await Sum.enqueue_in(60, 3),
            await Sum.options(id="own").enqueue(4),
            *await Sum.enqueue_bulk([{"a": 5}, [6, 7]]),
            await enqueue(f"{__name__}.Sum", 7),
        ]
        assert await jobs.drain_async() == 7
        assert [await each.wait(1) for each in handles] == [2, 3, 4, 5, 6, 13, 8]
        assert handles[3].id == "own"


def test_many_are_enqueued_together_or_not_at_all() -> None:
    with fake() as jobs:
        handles = Sum.perform_bulk({"a": n} for n in range(2500))
        assert len({each.id for each in handles}) == 2500
        assert [each.kwargs["a"] for each in jobs.all] == list(range(2500))
        jobs.clear()
        with pytest.raises(BadArguments, match=r"\$\[1\]\.kwargs\.a"):
            Sum.perform_bulk([{"a": 1}, {"a": object()}])
        assert not jobs.all


def test_arguments_are_checked_where_they_are_given() -> None:
    with fake() as jobs:
        with pytest.raises(BadArguments, match="missing a required argument: 'a'"):
            Sum.perform_async()
        with pytest.raises(TypeError, match=r"\$\.kwargs\.b: expected JSON"):
            Sum.perform_async(1, b={1})
        assert not jobs.all


def test_async_jobs_run_in_sync_and_in_async_tests_alike() -> None:
    with inline():
        assert AsyncSum.perform_async(1, 2).get() == 3

    async def in_a_loop() -> None:
        with inline():
            assert AsyncSum.perform_async(3, 4).result == 7
            assert await (await AsyncSum.enqueue(5, 6)).wait() == 11

    asyncio.run(in_a_loop())
    assert RUN == [(1, 2), (3, 4), (5, 6)]


def test_what_a_job_raises_comes_out_of_where_it_is_run() -> None:
    with inline() as jobs:
        with pytest.raises(ValueError, match="bad"):
            Fails.perform_async("bad")
        handle = AsyncResult(jobs.all[0].id)
    with fake() as jobs:
        handle = Fails.perform_async("bad")
        with pytest.raises(ValueError, match="bad"):
            jobs.drain()
        assert (handle.status, handle.failed()) == ("FAILURE", True)
        assert isinstance(handle.result, ValueError)
        assert "in perform" in (handle.traceback or "")
        with pytest.raises(ValueError, match="bad") as caught:
            handle.get()
        assert caught.value.args == ("bad", 7)


def test_a_job_that_asks_for_it_is_tried_again() -> None:
    with fake() as jobs:
        handle = Flaky.perform_async(0)
        jobs.drain()
        assert (RUN, handle.get()) == ([1, 2, 3], 3)
        jobs.of(Flaky)[0].attempt = 0
    with inline():
        assert Flaky.perform_async(1).get() == 2
    assert RUN == [1, 2, 3, 1, 2]


def test_it_is_not_tried_again_for_ever() -> None:
    class Never(Worker):
        max_retries = 1

        @classmethod
        def perform(cls) -> None:
            raise Retry("not yet")

    with inline() as jobs:
        with pytest.raises(Retry, match="not yet"):
            Never.perform_async()
        assert jobs.all[0].attempt == 2


def test_a_job_that_gives_up_is_cancelled() -> None:
    with inline():
        handle = GivesUp.perform_async()
        assert handle.status == "REVOKED"
        with pytest.raises(JobCancelled, match="nothing to do"):
            handle.get()


async def test_a_job_that_waits_can_be_cancelled() -> None:
    with fake() as jobs:
        one, other = Sum.perform_async(1), Sum.perform_async(2)
        assert one.cancel()
        assert await other.cancel_async()
        assert not one.cancel()
        assert not AsyncResult("nobody").cancel()
        assert jobs.drain() == 0
        with pytest.raises(JobCancelled):
            one.get()
        assert isinstance(one.result, JobCancelled)
        one.forget()
        assert one.status == "PENDING"


def test_children_are_enqueued_when_their_parent_succeeds() -> None:
    with fake() as jobs:
        parent = Parent.perform_async()
        jobs.drain()
        child = AsyncResult(parent.get())
        assert child.get() == 3
        assert jobs.of(Sum)[0].request.parent == parent.id
        assert jobs.of(Parent)[0].progress == b'{"done":1,"total":2}'
        assert RUN == ["step", (1, 2)]
    with fake() as jobs:
        Parent.perform_async(fail=True)
        with pytest.raises(RuntimeError, match="after the child"):
            jobs.drain()
        assert not jobs.of(Sum)


def test_a_unique_job_that_is_there_is_the_handle_of_the_second() -> None:
    with fake() as jobs:
        first = Once.perform_async("a")
        assert Once.perform_async("a") == first
        assert Once.perform_async("b") != first
        jobs.drain()
        assert Once.perform_async("a") != first


def test_jobs_are_enqueued_by_name_too() -> None:
    with fake() as jobs:
        assert send(f"{__name__}.Sum", 1, b=3).id == jobs.of(Sum)[0].id
        with pytest.raises(BadArguments, match="too many positional arguments"):
            send(f"{__name__}.Sum", 1, 2, 3)
        send("some.other.Program", anything={})
        assert jobs.all[1].queue == "default"
        with pytest.raises(LookupError, match=r"no class of task 'some\.other\.Program' is imported"):
            jobs.drain()


def test_other_threads_enqueue_into_the_same_test(fake_jobs: FakeJobs) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Sum.perform_async, range(10)))
    assert len(fake_jobs.of(Sum)) == 10


def test_the_fixture_runs_jobs_at_once(inline_jobs: FakeJobs) -> None:
    assert Sum.perform_async(1).get() == 2
    assert len(inline_jobs.all) == 1


def test_drain_outside_of_fake_says_so() -> None:
    with pytest.raises(WrongPlace, match=r"outside of fake\(\)"):
        drain()


def test_tests_end_where_they_end() -> None:
    before = client.current()
    with fake(), inline():
        assert client.current() is not before
    assert client.current() is before


def test_a_handle_is_its_id() -> None:
    handle = AsyncResult("an-id")
    assert pickle.loads(pickle.dumps(handle)) == handle == AsyncResult("an-id")
    assert len({handle, AsyncResult("an-id"), AsyncResult("other")}) == 2
    assert repr(handle) == "<Job an-id>"


def test_jobs_know_nothing_of_a_test_that_no_test_asks() -> None:
    with pytest.raises(LookupError, match="Queues"):
        FakeJobs().answer(Queues(()))


async def test_get_would_stop_an_engine_s_loop() -> None:
    with client.bound(FakeJobs()):
        handle = AsyncResult("an-id")
        with pytest.raises(WrongPlace, match=r"await .*\.wait\(timeout\)"):
            handle.get(timeout=1)


def test_what_a_context_binds_holds_in_threads_that_copy_it() -> None:
    jobs = FakeJobs()
    with client.bound(jobs), ThreadPoolExecutor(1) as thread:
        found: Callable[[], Any] = contextvars.copy_context().run
        assert thread.submit(found, client.current).result() is jobs  # type: ignore[call-arg]
        assert thread.submit(client.current).result() is not jobs
