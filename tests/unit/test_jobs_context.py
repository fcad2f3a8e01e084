"""What a job knows and does while it runs: progress, steps, children, log."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from enricher.job_store import AddToLog, Call, FindStep, LogLine, Progress, Run, StoreStep, StoreUnavailable
from enricher.jobs import BadArguments, RunLost, TimeLimitExceeded, Worker, WrongPlace, job
from enricher.jobs.context import Job, running
from enricher.jobs.threads import JobThreads
from tests.rig import until


class Store:
    """Keeps steps and progress of one job; ``number`` is the run that it is."""

    def __init__(self) -> None:
        self.number = 1
        self.steps: dict[str, bytes] = {}
        self.progress: list[Any] = []
        self.log: list[LogLine] = []
        self.away = False
        self.slow = asyncio.Event()
        self.slow.set()

    async def ask(self, call: Call[Any]) -> Any:
        await self.slow.wait()
        if self.away:
            raise StoreUnavailable("away")
        match call:
            case FindStep(name=name):
                return self.steps.get(name)
            case StoreStep(run=run, name=name, outcome=outcome):
                if run.number == self.number:
                    self.steps[name] = outcome
                return run.number == self.number
            case Progress(run=run, progress=progress):
                self.progress.append(msgspec.json.decode(progress))
                return run.number == self.number
            case AddToLog(run=run, lines=lines):
                self.log += msgspec.json.Decoder(LogLine).decode_lines(lines)
                return run.number == self.number
        raise AssertionError(call)

    async def wait(self, id: str, timeout: float | None) -> bytes | None:  # noqa: A002
        raise AssertionError

    async def close(self) -> None: ...


class Report(Worker):
    @classmethod
    def perform(cls, name: str) -> None: ...


def run_of(number: int = 1) -> Run:
    return Run(
        id="7", task="a.Task", queue="low", payload=b"[[],{}]", attempt=number, number=number, entry="0-1",
        enqueued_ms=1_700_000_000_500, started_ms=1_700_000_001_000,
    )  # fmt: skip


@pytest.fixture
def store() -> Store:
    return Store()


async def in_thread(store: Store, perform: Callable[[], Any], number: int = 1) -> Any:
    """What a sync job does, as a worker runs it."""
    async with running(run_of(number), store, sync=True):
        return await JobThreads(1).run(perform, name="7")


def in_loop(store: Store, number: int = 1) -> AbstractAsyncContextManager[Job]:
    return running(run_of(number), store, sync=False)


async def test_a_job_knows_what_it_is(store: Store) -> None:
    async with running(run_of(2), store, sync=False, time_limit=60):
        one = job()
        assert (one.id, one.task, one.queue, one.attempt) == ("7", "a.Task", "low", 2)
        assert one.enqueued_at == datetime(2023, 11, 14, 22, 13, 20, 500_000, UTC)
        assert one.deadline is not None
        assert timedelta(0) < one.deadline - datetime.now(UTC) <= timedelta(seconds=60)
        assert not one.cancelled
    assert await in_thread(store, lambda: job().deadline) is None


async def test_outside_of_a_job_there_is_none() -> None:
    with pytest.raises(WrongPlace, match="where no job runs"):
        job()


async def test_a_stored_step_is_not_run_again_in_whatever_kind_of_job(store: Store) -> None:
    calls = []

    def charge(amount: int) -> tuple[str, int]:
        calls.append(amount)
        return "paid", amount

    async def charge_soon(amount: int) -> tuple[str, int]:
        return charge(amount)

    assert await in_thread(store, lambda: job().step("plain", charge, 5)) == ["paid", 5]
    async with in_loop(store):
        assert await job().step("async", charge_soon, amount=6) == ["paid", 6]
        assert await job().step("nothing", lambda: None) is None
    store.number = 2
    async with in_loop(store, 2):
        assert await job().step("plain", charge, 5) == ["paid", 5]
        assert await job().step("async", charge_soon, 6) == ["paid", 6]
        assert await job().step("nothing", calls.clear) is None
    assert calls == [5, 6]


async def test_a_step_that_fails_is_not_stored_and_may_be_tried_again_at_once(store: Store) -> None:
    def fails() -> None:
        raise LookupError("not yet")

    def perform() -> Any:
        with pytest.raises(LookupError):
            job().step("a", fails)
        return job().step("a", lambda: "now")

    assert await in_thread(store, perform) == "now"
    assert store.steps == {"a": b'"now"'}


async def test_one_name_is_for_one_step(store: Store) -> None:
    async with in_loop(store):
        await job().step("a", lambda: 1)
        with pytest.raises(ValueError, match="step 'a' has run"):
            await job().step("a", lambda: 2)
    with pytest.raises(ValueError, match="step 'b' has run"):
        await in_thread(store, lambda: [job().step("b", list) for _ in range(2)])


async def test_a_step_says_what_it_cannot_do(store: Store) -> None:
    async with in_loop(store):
        with pytest.raises(TypeError, match=r"step 'a' returned what is no JSON.*object"):
            await job().step("a", object)
    with pytest.raises(TypeError, match="step 'b' is async in a job that is not"):
        await in_thread(store, lambda: job().step("b", asyncio.sleep, 0))
    assert not store.steps


async def test_a_step_is_stored_however_long_the_store_is_away_and_runs_once(store: Store) -> None:
    ran: list[str] = []

    def act(name: str) -> int:
        ran.append(name)
        store.away = True
        loop.call_soon_threadsafe(loop.call_later, 0.3, setattr, store, "away", False)
        return len(ran)

    loop = asyncio.get_running_loop()
    async with in_loop(store):
        assert await job().step("a", act, "a") == 1
    assert await in_thread(store, lambda: job().step("b", act, "b")) == 2
    assert (ran, store.steps) == (["a", "b"], {"a": b"1", "b": b"2"})


async def test_a_run_that_is_another_workers_stores_nothing_and_is_told(store: Store) -> None:
    store.number = 2
    async with in_loop(store) as one:
        with pytest.raises(RunLost, match="another worker"):
            await one.step("a", lambda: 1)
        assert one.cancelled
    async with in_loop(store) as one:
        one.progress(1)
        await until(lambda: one.cancelled)


async def test_what_a_step_did_is_stored_though_the_job_is_cancelled_meanwhile(store: Store) -> None:
    done = asyncio.Event()

    async def pays() -> str:
        store.slow.clear()
        done.set()
        return "paid"

    async def perform() -> None:
        async with in_loop(store):
            await job().step("pay", pays)

    running_job = asyncio.create_task(perform())
    await done.wait()
    await asyncio.sleep(0)
    running_job.cancel()
    store.slow.set()
    with pytest.raises(asyncio.CancelledError):
        await running_job
    assert store.steps == {"pay": b'"paid"'}


async def test_progress_is_written_now_and_then_and_at_the_end(store: Store) -> None:
    def perform() -> None:
        for done in range(20_001):
            job().progress(done, 20_000, "rows")

    await in_thread(store, perform)
    assert store.progress[-1] == {"done": 20_000, "total": 20_000, "note": "rows"}
    assert len(store.progress) < 200

    async with in_loop(store) as one:
        one.progress(0.5)
    assert store.progress[-1] == {"done": 0.5}


async def test_progress_is_written_while_the_job_goes_on(store: Store) -> None:
    go_on = threading.Event()

    def perform() -> None:
        job().progress(1, 3)
        job().progress(2, 3)
        go_on.wait(60)

    running_job = asyncio.create_task(in_thread(store, perform))
    await until(lambda: store.progress and store.progress[-1]["done"] == 2)
    assert not running_job.done()
    go_on.set()
    await running_job


async def test_a_store_that_is_away_costs_no_more_than_the_progress(store: Store) -> None:
    store.away = True
    async with in_loop(store) as one:
        one.progress(1)
    assert store.progress == []


async def test_a_thread_that_goes_on_past_its_limit_is_told_to_stop(store: Store) -> None:
    threads, stopped = JobThreads(1), threading.Event()

    def perform() -> None:
        while not job().cancelled:
            with suppress(BaseException):
                time.sleep(0.01)
        stopped.set()

    with pytest.raises(TimeLimitExceeded):
        async with running(run_of(), store, sync=True):
            await threads.run(perform, name="7", hard=0.1)
    await threads.ended("7")
    assert stopped.is_set()


async def test_children_wait_for_their_parent(store: Store) -> None:
    async with in_loop(store) as one:
        child = one.enqueue(Report, "a")
        later = one.enqueue(Report.options(delay=60, queue="critical"), name="b")
        with pytest.raises(WrongPlace, match="when its parent succeeds"):
            child.get()
        with pytest.raises(WrongPlace, match="when its parent succeeds"):
            await later.wait()
        with pytest.raises(BadArguments):
            one.enqueue(Report, nonsense=1)
    async with running(run_of(), store, sync=False, max_payload=20) as small:
        with pytest.raises(BadArguments, match="at most 20 bytes"):
            small.enqueue(Report, "x" * 20)
    assert [(each.id, each.parent, each.payload) for each in one.children] == [
        (child.id, "7", b'[["a"],{}]'),
        (later.id, "7", b'[[],{"name":"b"}]'),
    ]
    assert (one.children[1].queue, one.children[1].delay_ms) == ("critical", 60_000)


async def test_every_line_of_a_job_is_in_the_log_with_its_name(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "enricher")
    await in_thread(store, lambda: [job().log("imported a row", row=row) for row in range(20)])
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"imported a row job='7' task='a.Task' row={row}" for row in range(20)]
    assert [(line.text, line.fields) for line in store.log] == [
        ("imported a row", {"row": row}) for row in range(20)
    ]


async def test_a_job_that_talks_more_than_is_kept_keeps_its_last_lines(store: Store) -> None:
    store.slow.clear()
    async with in_loop(store) as one:
        for number in range(1000):
            one.log("line", number=number, secret="redis://me:secret@host/0")
        store.slow.set()
    assert [line.fields["number"] for line in store.log][-100:] == list(range(900, 1000))
    assert len(store.log) <= 200
    assert "secret@" not in str(store.log)
