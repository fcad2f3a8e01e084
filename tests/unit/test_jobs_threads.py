"""Sync jobs in threads: time limits, cancelling, threads that do not end."""

import asyncio
import contextvars
import re
import sys
import threading
import time
from collections.abc import Callable

import pytest

from enricher.jobs.errors import Cancel, SoftTimeLimitExceeded, TimeLimitExceeded
from enricher.jobs.threads import JobThreads
from tests.rig import until

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")
LONG = 60.0


def spin() -> None:
    while True:
        time.sleep(0)


async def test_a_job_sees_the_variables_of_its_caller_in_a_thread_that_no_exit_waits_for() -> None:
    VARIABLE.set("mine")
    seen = await JobThreads(1).run(
        lambda: (VARIABLE.get(), threading.current_thread().daemon, threading.current_thread().name),
        name="a job",
    )
    assert seen == ("mine", True, "a job")


async def test_what_a_job_raises_comes_out_with_the_place_where_it_did() -> None:
    def fails() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there") as caught:
        await JobThreads(1).run(fails, name="a")
    assert caught.traceback[-1].name == "fails"


@pytest.mark.parametrize(
    "stray", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
async def test_what_would_end_more_than_the_job_is_an_error_of_the_job(stray: BaseException) -> None:
    def raises() -> None:
        raise stray

    with pytest.raises(RuntimeError, match="let out") as caught:
        await JobThreads(1).run(raises, name="a")
    assert caught.value.__cause__ is stray


async def test_a_job_past_its_soft_limit_may_tidy_up_and_return() -> None:
    def tidies() -> str:
        try:
            spin()
        except SoftTimeLimitExceeded:
            return "tidy"
        return "never"

    assert await JobThreads(1).run(tidies, name="a", soft=0.05, hard=LONG) == "tidy"
    with pytest.raises(TimeoutError):
        await JobThreads(1).run(spin, name="a", soft=0.05)


async def test_a_job_past_its_hard_limit_is_stopped_where_it_runs_python_code() -> None:
    threads, ended = JobThreads(1), threading.Event()

    def holds_on() -> None:
        try:
            while True:
                try:
                    spin()
                except Exception:
                    continue
        finally:
            ended.set()

    with pytest.raises(TimeLimitExceeded):
        await threads.run(holds_on, name="a", soft=0.05, hard=0.2)
    await threads.ended("a")
    assert ended.is_set()
    assert (threads.free, threads.abandoned) == (1, 0)


def sleeps(go_on: threading.Event) -> None:
    go_on.wait()


def backtracks(go_on: threading.Event) -> None:
    while not go_on.is_set():
        re.match(r"(a|a)*b", "a" * 16)


@pytest.mark.parametrize("busy", [sleeps, backtracks])
async def test_a_thread_that_cannot_be_stopped_counts_until_it_ends(
    busy: Callable[[threading.Event], None], caplog: pytest.LogCaptureFixture
) -> None:
    threads, go_on = JobThreads(2), threading.Event()

    def stubborn() -> None:
        while not go_on.is_set():
            try:
                busy(go_on)
            except BaseException:
                continue

    with pytest.raises(TimeLimitExceeded):
        await threads.run(stubborn, name="a", hard=0.05)
    assert (threads.free, threads.abandoned, threads.running()) == (1, 1, {"a"})
    assert await threads.run(lambda: "others go on", name="b") == "others go on"
    await until(lambda: "job_does_not_end job='a'" in caplog.text)

    again = asyncio.create_task(threads.run(lambda: go_on.is_set(), name="a"))
    third = asyncio.create_task(threads.run(lambda: "at once", name="c"))
    assert await third == "at once"
    assert not again.done()
    go_on.set()
    assert await again, "a second thread of one name began before the first had ended"
    assert (threads.free, threads.abandoned) == (2, 0)


async def test_no_more_threads_begin_than_there_are_slots() -> None:
    threads, go_on = JobThreads(3), threading.Event()
    running: list[int] = []

    def works(number: int) -> int:
        running.append(number)
        go_on.wait()
        return number

    def job(number: int) -> Callable[[], int]:
        return lambda: works(number)

    tasks = [asyncio.create_task(threads.run(job(n), name=str(n))) for n in range(8)]
    await until(lambda: len(running) == 3)
    await asyncio.sleep(0.05)
    assert (sorted(running), threads.free) == ([0, 1, 2], 0)
    go_on.set()
    assert await asyncio.gather(*tasks) == list(range(8))
    assert threads.free == 3


async def test_a_cancelled_job_gets_an_exception_that_except_exception_lets_through() -> None:
    threads, begun = JobThreads(1), threading.Event()

    def holds_on() -> None:
        begun.set()
        while True:
            try:
                spin()
            except Exception:
                continue

    running = asyncio.create_task(threads.run(holds_on, name="a"))
    await until(begun.is_set)
    assert threads.cancel("a")
    with pytest.raises(Cancel, match="cancelled while it ran"):
        await running
    assert not threads.cancel("a"), "it has ended"
    assert not threads.cancel("nobody")


async def test_whoever_gives_up_leaves_the_thread_alone_and_its_slot_taken() -> None:
    threads, go_on, ended = JobThreads(1), threading.Event(), []

    def works() -> None:
        go_on.wait()
        ended.append("undisturbed")

    running = asyncio.create_task(threads.run(works, name="a"))
    await until(lambda: threads.free == 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (threads.free, threads.abandoned) == (0, 1)
    go_on.set()
    await threads.ended("a")
    assert ended == ["undisturbed"]


async def test_a_limit_that_comes_as_the_job_returns_harms_nobody() -> None:
    """Jobs end about when their limit does: each returns or is late, and the next in its thread never is."""
    threads, interval = JobThreads(4), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def works() -> str:
        until_then = time.monotonic() + 0.001
        while time.monotonic() < until_then:
            pass
        return "done"

    async def one(number: int) -> str:
        soft = 0.001 if number % 2 else None
        try:
            return str(await threads.run(works, name=str(number), soft=soft))
        except SoftTimeLimitExceeded:
            return "late"

    try:
        async with asyncio.timeout(LONG):
            outcomes = await asyncio.gather(*[one(number) for number in range(1000)])
    finally:
        sys.setswitchinterval(interval)
    assert set(outcomes[1::2]) <= {"done", "late"}
    assert set(outcomes[::2]) == {"done"}
    assert (threads.free, threads.abandoned) == (4, 0)


async def test_threads_are_kept_for_a_while_with_what_is_theirs() -> None:
    threads, local = JobThreads(2, idle=0.1), threading.local()
    before = threading.active_count()

    def counts() -> int:
        local.count = getattr(local, "count", 0) + 1
        return int(local.count)

    assert [await threads.run(counts, name=str(number)) for number in range(3)] == [1, 2, 3]
    assert threading.active_count() == before + 1
    await until(lambda: threading.active_count() == before)
    assert await threads.run(counts, name="a") == 1
