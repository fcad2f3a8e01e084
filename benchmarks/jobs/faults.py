"""Jobs in the fault matrix (``python -m benchmarks faults``): lost, twice at once, ended twice; from outside.

Two workers run jobs that take a while, of which some fail at first, and each of which has a step and a child.
While they do something breaks. Afterwards what the jobs have noted is compared with what was accepted:

    lost             accepted, but not succeeded, or its child never ran
    at_once          begun while another run of it went on in a process that was neither killed nor frozen
    twice            ended twice: it has more than one child
    steps_again      its step ran again although its outcome had been stored
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from benchmarks.faults_scenarios import Plan
from benchmarks.faults_stage import DURABLE, PATIENCE, Process, StageOptions
from enricher.adapters.redis.jobs.client import job_store
from enricher.job_store import Enqueue, Find, JobQueueSettings, Request, StoreUnavailable
from tests.servers import FaultyProxy, RedisProcess

WORKERS = ("one", "two")
COLUMNS = ["scenario", "faults", "accepted", "runs", "lost", "at_once", "twice", "steps_again", "recovery_s"]


class Line(NamedTuple):
    """What a job has noted."""

    word: str
    id: str
    pid: int
    us: int
    number: int


def judged(
    accepted: dict[str, int], states: dict[str, str], lines: Sequence[Line], cuts: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """What is missing and what is there too often. ``accepted`` has the number of each job, ``cuts`` which
    process was killed or frozen when (microseconds)."""
    children, runs, stored = defaultdict(set), defaultdict(list), set()
    found = {"accepted": len(accepted), "at_once": 0, "steps_again": 0}
    for line in lines:
        if line.word == "begin":
            # Until its end is noted or its process is cut, whichever comes first.
            ends = [one.us for one in lines if (one.word, one.id, one.pid) == ("end", line.id, line.pid)]
            ends += [us for pid, us in cuts if pid == line.pid]
            runs[line.id].append((line.us, min((us for us in ends if us >= line.us), default=1 << 62)))
        elif line.word == "child":
            children[line.number].add(line.id)
        elif line.word == "stored":
            stored.add(line.id)
        elif line.word == "step" and line.id in stored:
            found["steps_again"] += 1
    for spans in runs.values():
        spans.sort()
        found["at_once"] += sum(start < end for (_, end), (start, _) in pairwise(spans))
    found["runs"] = sum(map(len, runs.values()))
    found["lost"] = sum(
        states.get(id_) != "succeeded" or not children[number] for id_, number in accepted.items()
    )
    found["twice"] = sum(len(ids) > 1 for ids in children.values())
    return found


class JobStage:
    """A durable Redis behind a proxy, workers, and a sender of jobs that notes which were accepted."""

    def __init__(self, folder: Path, options: StageOptions) -> None:
        self.folder = folder
        self.options = options
        self.random = random.Random(options.seed)
        self.redis = RedisProcess(folder / "redis", extra=DURABLE)
        self.proxy = FaultyProxy(self.redis.port)
        self.workers: dict[str, Any] = {}
        self.accepted: dict[str, int] = {}
        self.cuts: list[tuple[int, int]] = []
        self.ends_us: list[int] = []
        self._log = folder / "noted"
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            undo.callback(self.redis.kill)
            await asyncio.to_thread(self.redis.start)
            await undo.enter_async_context(self.proxy)
            self.store = job_store(JobQueueSettings(url=self.proxy.redis_url(), prefix="jobs", timeout=1.0))
            undo.push_async_callback(self.store.close)
            undo.callback(self._end_workers)
            self._log.touch()
            for name in WORKERS:
                self.start_worker(name)
            self._exit = undo.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit.aclose()

    def start_worker(self, name: str) -> Process:
        """Start a worker under this name."""
        settings = (
            *(f"redis.url={self.proxy.redis_url()}", f"service.instance={name}", "market.enabled=false"),
            *("jobs.packages=benchmarks.jobs.faults_work", f"jobs.lease={self.options.lease}"),
        )
        arguments = ["run", "--log-level", "warning"]
        arguments += [part for setting in settings for part in ("--set", setting)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ENRICHER_")}
        environment["JOBS_LOG"] = str(self._log)
        log = self.folder / f"{name}.log"
        self.workers[name] = self.options.start(arguments, environment, self.folder, log)
        return self.workers[name]  # type: ignore[no-any-return]

    def cut(self, name: str, number: signal.Signals) -> None:
        """Kill or freeze a worker."""
        process = self.workers[name]
        self.cuts.append((process.pid, time.time_ns() // 1000))
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(PATIENCE)

    def fault_ended(self) -> None:
        """Note that from now on nothing stands in the way."""
        self.ends_us.append(time.time_ns() // 1000)

    async def load(self, fault: Awaitable[None]) -> None:
        """Send jobs until the fault is over, and a little longer."""
        ended = asyncio.Event()
        sending = asyncio.create_task(self._send(ended))
        try:
            await asyncio.sleep(2)
            await fault
            await asyncio.sleep(2)
        finally:
            ended.set()
            await sending

    async def _send(self, ended: asyncio.Event) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            payload = msgspec.json.encode([[number, round(self.random.uniform(0.05, 0.6), 3)], {}])
            task = "thread_parent" if number % 4 == 0 else "parent"
            request = Request(id=f"job-{number}", task=task, queue="default", payload=payload)
            while request.id not in self.accepted:
                try:
                    await self.store.ask(Enqueue((request,)))
                    self.accepted[request.id] = number
                except StoreUnavailable:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(1 / self.options.rate)

    async def settled(self) -> dict[str, Any]:
        """What was found once all has ended, or nothing has moved for some leases."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < 8 * self.options.lease + self.options.still:
            found = await self._found()
            if not found["lost"]:
                await asyncio.sleep(2 * self.options.lease)  # what would happen twice has had its chance
                return await self._found()
            if self._log.stat().st_size != size:
                size, since = self._log.stat().st_size, time.monotonic()
            await asyncio.sleep(0.5)
        return await self._found()

    async def _found(self) -> dict[str, Any]:
        lines = [
            Line(word, id_, int(pid), int(us), int(number))
            for word, id_, pid, us, number in map(str.split, self._log.read_text().splitlines())
        ]
        records = [await self.store.ask(Find(id_)) for id_ in self.accepted]
        states = {record.id: record.state for record in records if record is not None}
        begins = sorted(line.us for line in lines if line.word == "begin")
        waits = [min((us - end for us in begins if us >= end), default=None) for end in self.ends_us]
        recovery = None if None in waits or not waits else round(max(waits) / 1e6, 2)
        return judged(self.accepted, states, lines, self.cuts) | {
            "faults": len(self.ends_us),
            "recovery_s": recovery,
        }

    def _end_workers(self) -> None:
        for process in self.workers.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


async def killed(stage: JobStage, plan: Plan) -> None:
    """Kill -9 of one of two workers at random moments; it is started again."""
    for _ in range(plan.kills):
        await asyncio.sleep(stage.random.uniform(0.05, plan.life))
        name = stage.random.choice(WORKERS)
        await asyncio.to_thread(stage.cut, name, signal.SIGKILL)
        stage.start_worker(name)
        stage.fault_ended()


async def frozen(stage: JobStage, plan: Plan) -> None:
    """A worker stands still for two leases and goes on."""
    for number in range(max(1, plan.times // 10)):
        await asyncio.sleep(stage.random.uniform(0.5, plan.life))
        name = WORKERS[number % 2]
        stage.cut(name, signal.SIGSTOP)
        await asyncio.sleep(2 * stage.options.lease)
        stage.workers[name].send_signal(signal.SIGCONT)
        stage.fault_ended()


async def away(stage: JobStage, plan: Plan) -> None:
    """Redis cannot be reached."""
    stage.proxy.refuse = True
    stage.proxy.cut()
    await asyncio.sleep(plan.frozen)
    stage.proxy.heal()
    stage.fault_ended()


async def restarted(stage: JobStage, plan: Plan) -> None:
    """Kill -9 of Redis, which comes back with its data."""
    for _ in range(max(2, plan.times // 4)):
        await asyncio.sleep(stage.random.uniform(0.5, 1.5))
        stage.redis.kill()
        await asyncio.to_thread(stage.redis.start)
        stage.fault_ended()


SCENARIOS: dict[str, Callable[[JobStage, Plan], Awaitable[None]]] = {
    f"jobs_{fault.__name__}": fault for fault in (killed, frozen, away, restarted)
}


async def played(name: str, plan: Plan, options: StageOptions, folder: Path) -> dict[str, Any]:
    """The row of one scenario."""
    async with JobStage(folder, msgspec.structs.replace(options, rate=min(options.rate, 20))) as stage:
        await stage.load(SCENARIOS[name](stage, plan))
        row = {"scenario": name, **await stage.settled()}
    named = ("lost", "at_once", "twice", "steps_again")
    broken = [f"{row[each]} {each}" for each in named if row[each]]
    if row["recovery_s"] is None:
        broken.append("nothing began after a fault")
    return row | {"broken": ", ".join(broken)}
