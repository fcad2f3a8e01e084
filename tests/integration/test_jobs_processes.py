"""Jobs in child processes: whatever they do to their process, the worker goes on and knows what happened."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import msgspec
import psutil
import pytest

from enricher.adapters.redis.jobs.client import blocking_store
from enricher.job_store import Find, JobQueueSettings, Run
from enricher.jobs import (
    BadResult,
    Cancel,
    JobFailed,
    MemoryLimitExceeded,
    ProcessDied,
    Retry,
    TimeLimitExceeded,
    Worker,
)
from enricher.jobs.context import running
from enricher.jobs.processes import JobProcesses
from enricher.jobs.worker import definition_of
from tests.integration import process_jobs as jobs
from tests.rig import until
from tests.unit.test_jobs_context import Store

REPOSITORY = Path(__file__).resolve().parents[2]


class Rig:
    """Runs jobs in ``processes`` as a worker does, with a store of its own."""

    def __init__(self, processes: JobProcesses) -> None:
        self.processes = processes
        self.store = Store()
        self.children: list[Any] = []

    async def run(
        self,
        worker: type[Worker],
        *args: Any,
        id: str = "7",  # noqa: A002
        number: int = 1,
        **limits: Any,
    ) -> Any:
        definition = definition_of(worker)
        payload = definition.arguments.encode(args, {})
        self.store.number = number
        run = Run(
            id=id, task=definition.task, queue="default", payload=payload, attempt=number, number=number,
            entry="0-1", enqueued_ms=1, started_ms=1,
        )  # fmt: skip
        async with running(run, self.store, sync=True) as job:
            result = await self.processes.run(run, definition, job, self.store, **limits)
        self.children += job.children
        return msgspec.json.decode(result)

    async def pid(self) -> int:
        return int((await self.run(jobs.Where))["pid"])


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    processes = JobProcesses(4)
    yield Rig(processes)
    await processes.close()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_a_job_runs_in_a_process_that_the_next_one_finds_warm(rig: Rig) -> None:
    first = await rig.run(jobs.Where)
    assert first == {"pid": first["pid"], "id": "7", "attempt": 1, "main": True}
    assert first["pid"] != os.getpid()
    assert os.getpgid(first["pid"]) == first["pid"]
    assert await rig.pid() == first["pid"]


async def test_a_hundred_jobs_share_as_many_children_as_there_are_slots(rig: Rig) -> None:
    outcomes = await asyncio.gather(*[rig.run(jobs.Where, id=str(n)) for n in range(100)])
    assert [one["id"] for one in outcomes] == [str(n) for n in range(100)]
    assert 1 <= len({one["pid"] for one in outcomes}) <= 4


async def test_huge_arguments_and_results_arrive(rig: Rig) -> None:
    assert await rig.run(jobs.Echo, "x" * 500_000, 100) == "x" * 50_000_000


async def test_what_a_job_prints_and_logs_is_where_the_workers_own_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    processes = JobProcesses(1)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel("INFO")
    await Rig(processes).run(jobs.Prints)
    await processes.close()
    logger.setLevel(level)
    out, err = capfd.readouterr()
    assert "printed by a job\n" in out
    assert "complained by a job\n" in err
    assert "INFO a.library logged by a job\n" in err


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("file", FileNotFoundError, "[Errno 2] No such file or directory: '/nowhere/at/all'"),
        ("retry", Retry, "busy"),
        ("odd", jobs.OddError, "odd number 3"),
        ("lambda", ValueError, "<function Raises.perform.<locals>.<lambda> at"),
        ("exit", JobFailed, "job 7 failed: SystemExit: 3"),
        ("result", BadResult, "$.result: expected a result that JSON knows"),
        ("local", JobFailed, "LocalError: nobody knows me"),
    ],
)
async def test_what_a_job_raises_comes_back(rig: Rig, what: str, kind: type[Exception], text: str) -> None:
    pid = await rig.pid()
    with pytest.raises(kind) as caught:
        await rig.run(jobs.Raises, what)
    error = caught.value
    assert type(error) is kind
    assert text in str(error)
    assert ('process_jobs.py", line' in str(error.__cause__ or error)) == (what != "result")
    if isinstance(error, Retry):
        assert error.in_seconds == 7
    if isinstance(error, jobs.OddError):
        assert error.number == 3
    assert await rig.pid() == pid, "the child goes on"


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("exit", r"the process of job 7 \(pid \d+\) ended by itself with status 3"),
        ("segfault", r"was killed by signal 11 \(SIGSEGV\)"),
        ("kill", r"was killed by signal 9 \(SIGKILL\)"),
        ("connection", r"\(pid \d+\) has closed its connection"),
    ],
)
async def test_a_child_that_dies_says_how_and_the_next_job_has_another(rig: Rig, how: str, text: str) -> None:
    pid = await rig.pid()
    with pytest.raises(ProcessDied, match=text):
        await rig.run(jobs.Dies, how)
    assert await rig.pid() != pid
    assert not alive(pid)


async def test_a_signal_to_all_processes_of_a_service_ends_no_job(rig: Rig) -> None:
    pid = await rig.pid()
    os.kill(pid, signal.SIGTERM)
    assert await rig.run(jobs.EndsAnother) == -signal.SIGTERM, "what a job starts has signals as usual"
    assert await rig.pid() == pid


@pytest.mark.parametrize("how", ["python", "sleep"])
async def test_a_job_past_its_soft_limit_may_tidy_up_and_return(rig: Rig, how: str) -> None:
    pid = await rig.pid()
    assert await rig.run(jobs.Spins, how, soft=1.0) == "tidy"
    assert await rig.pid() == pid


@pytest.mark.parametrize("how", ["python", "sleep", "c"])
async def test_a_job_past_its_hard_limit_is_killed(rig: Rig, how: str) -> None:
    pid = await rig.pid()
    with pytest.raises(TimeLimitExceeded, match=r"time limit of 0\.5 s exceeded"):
        await rig.run(jobs.Spins, how, hard=0.5)
    assert not alive(pid)


async def test_a_job_that_holds_too_much_memory_is_killed_and_told_how_much(rig: Rig) -> None:
    assert await rig.run(jobs.Eats, 20) == 20
    with pytest.raises(MemoryLimitExceeded, match=r"held [\d,]+ bytes .* max_memory = 209,715,200") as caught:
        await rig.run(jobs.Eats, 400)
    held = re.search(r"held ([\d,]+)", str(caught.value))
    assert held
    assert int(held[1].replace(",", "")) > 200 * jobs.MEGABYTE


async def test_a_cancelled_job_ends_and_one_that_does_not_is_killed(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enricher.jobs.processes.CANCEL_GRACE", 0.5)
    for how, survives in (("sleep", True), ("stubborn", False)):
        file = tmp_path / how
        running_job = asyncio.create_task(rig.run(jobs.Spins, how, str(file)))
        await until(lambda file=file: file.exists() and file.read_text())  # type: ignore[misc]
        assert rig.processes.cancel("7")
        with pytest.raises(Cancel, match="cancelled while it ran"):
            await running_job
        assert alive(int(file.read_text())) == survives
    assert not rig.processes.cancel("7")


async def test_a_child_ends_with_whoever_waits_for_its_job(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    running_job = asyncio.create_task(rig.run(jobs.Spins, "c", str(file)))
    await until(lambda: file.exists() and file.read_text())
    running_job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_job
    assert not alive(int(file.read_text()))


async def test_steps_progress_log_and_children_go_through_the_worker(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "enricher")
    calls = str(tmp_path / "calls")
    with pytest.raises(LookupError, match="not this time"):
        await rig.run(jobs.Steps, calls, "fails")
    assert rig.children == []
    assert await rig.run(jobs.Steps, calls, "succeeds", number=2) == [1, 2]
    assert await rig.run(jobs.Steps, calls, "succeeds", number=3) == [1, 2]
    assert rig.store.steps == {"first": b"1", "second": b"2"}
    assert [(child.queue, child.payload, child.parent) for child in rig.children] == [
        ("low", b'[["a child"],{}]', "7")
    ] * 2
    assert rig.store.progress[0] == {"done": 1, "total": 3, "note": "begun"}
    assert rig.store.progress[-1] == {"done": 3, "total": 3}
    assert "a line from a child job='7'" in caplog.text


async def test_what_a_job_enqueues_by_itself_goes_where_its_worker_keeps_jobs(redis_url: str) -> None:
    processes = JobProcesses(1, settings={"jobs.url": redis_url, "jobs.prefix": "theirs"})
    id_ = await Rig(processes).run(jobs.Enqueues)
    await processes.close()
    with closing(blocking_store(JobQueueSettings(url=redis_url, prefix="theirs"))) as store:
        record = store.ask(Find(id_))
    assert record is not None
    assert (record.state, record.payload) == ("waiting", b'[["at once"],{}]')


async def test_a_run_that_is_another_workers_by_now_is_told_in_the_child(rig: Rig) -> None:
    running_job = asyncio.create_task(rig.run(jobs.WaitsForCancel))
    await asyncio.sleep(0)
    rig.store.number = 2
    assert await running_job == "told"


async def test_children_end_when_there_is_nothing_to_do_and_after_so_many_jobs() -> None:
    processes = JobProcesses(1, idle=0.3, max_tasks=2)
    rig = Rig(processes)
    first, second, third = [await rig.pid() for _ in range(3)]
    assert first == second != third
    await until(lambda: not alive(first) and not alive(third))
    assert alive(await rig.pid())
    await processes.close()


async def test_closing_leaves_no_child_behind(tmp_path: Path) -> None:
    processes = JobProcesses(2)
    rig, file = Rig(processes), tmp_path / "pids"
    idle = await rig.pid()
    running_job = asyncio.create_task(rig.run(jobs.StartsAnother, str(file)))
    await until(file.exists)
    await processes.close()
    with pytest.raises(Cancel, match="the worker stopped"):
        await running_job
    await until(lambda: not any(map(alive, [idle, *map(int, file.read_text().split())])))


async def test_who_stops_serving_waits_for_the_end_of_the_children() -> None:
    processes = JobProcesses(2)
    rig = Rig(processes)
    async with anyio.create_task_group() as group:
        group.start_soon(processes.serve)
        pids = await asyncio.gather(rig.pid(), rig.run(jobs.LeavesThread))
        group.cancel_scope.cancel()
    assert not any(map(alive, pids))


PARENT = """
import asyncio, sys
from enricher.jobs.processes import JobProcesses
from tests.integration import process_jobs as jobs
from tests.integration.test_jobs_processes import Rig

async def main():
    rig = Rig(JobProcesses(3))
    print(await rig.pid(), flush=True)
    await asyncio.gather(
        rig.run(jobs.Spins, "c", sys.argv[1]),
        rig.run(jobs.Spins, "sleep", sys.argv[2]),
        rig.run(jobs.Spins, "python", sys.argv[3]),
    )

{run}
"""


@pytest.mark.parametrize("run", ["asyncio.run(main())", "import uvloop; uvloop.run(main())"])
def test_no_child_survives_a_parent_that_is_killed(tmp_path: Path, run: str) -> None:
    files = [tmp_path / str(number) for number in range(3)]
    program = [sys.executable, "-c", PARENT.format(run=run), *map(str, files)]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, cwd=REPOSITORY) as parent:
        deadline = time.monotonic() + 60
        while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = [int(file.read_text()) for file in files]
        assert all(map(alive, pids))
        parent.send_signal(signal.SIGKILL)
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))
