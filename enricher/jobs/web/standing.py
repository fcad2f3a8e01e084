"""How queues, schedules and workers stand, and what is done with them."""

from __future__ import annotations

from typing import Any

import msgspec

from enricher.job_admin import ListWorkers, Order, Rate, TellWorker, WorkerRecord, served
from enricher.job_store import Enqueue, Pause
from enricher.jobs.runs import JobRun
from enricher.jobs.scheduler import ScheduledTask, scheduled_tasks, standing
from enricher.jobs.selection import EVERY
from enricher.jobs.web.listed import JobRow, row_of
from enricher.jobs.web.reading import Reading
from enricher.runs import Runs
from enricher.schedule_store import FindSchedules, PauseSchedule
from enricher.web.requests import Refusal
from enricher.web.views import Asked, Done

_MOST_RUNNING = 1000
_NO_RATE = Rate(0.0, 0.0)


class QueueRow(msgspec.Struct, frozen=True):
    """How a queue stands; ``oldest`` is for how many seconds the first waiting job has waited.

    ``done`` and ``failed`` are jobs a minute, in the last minute; ``workers`` is how many serve it.
    """

    name: str
    waiting: int
    running: int
    scheduled: int
    retrying: int
    oldest: float | None
    paused: bool
    done: float
    failed: float
    workers: int


class QueueList(msgspec.Struct, frozen=True):
    """All queues, in their order, and the newest run over many jobs."""

    queues: list[QueueRow]
    run: JobRun | None


class ScheduleRow(msgspec.Struct, frozen=True):
    """A class with a schedule: when it ran last and will run next (seconds since 1970).

    ``late`` says that what was due has not been enqueued: no scheduler runs. While it is ``paused`` what is
    due passes without a job.
    """

    task: str
    rule: str
    zone: str
    queue: str
    last: float | None
    next: float | None
    late: bool
    paused: bool


class ScheduleList(msgspec.Struct, frozen=True):
    """All schedules of the classes that this process knows; ``problems`` are of classes that have none."""

    schedules: list[ScheduleRow]
    problems: list[str]


class WorkerRow(msgspec.Struct, frozen=True):
    """A worker: what it says of itself, when it was last heard of, and what it runs.

    ``cpu`` is the share of one core, ``memory`` bytes, both as of when it was heard; ``silent`` is one of
    which nothing is heard any more: another begins its jobs again. ``told`` is ``quiet`` (begin nothing new),
    ``stop`` (and end), or "".
    """

    name: str
    host: str
    pid: int | None
    queues: list[str]
    slots: int | None
    started: float | None
    heard: float | None
    cpu: float | None
    memory: int | None
    classes: int
    running: list[JobRow]
    silent: bool
    told: str


class WorkerList(msgspec.Struct, frozen=True):
    """All workers that are there, and such as have gone silent with jobs."""

    workers: list[WorkerRow]


class Standings:
    """Answers about queues, schedules and workers."""

    def __init__(self, reading: Reading, runs: Runs[JobRun]) -> None:
        self._reading = reading
        self._runs = runs

    # -- queues ------------------------------------------------------------------------------------

    async def queues(self, _: Asked[Any]) -> QueueList:
        figures, finished = (await self._reading.counts())[1:]
        there = await self._reading.ask(ListWorkers())
        workers = served(there)
        rows = []
        for each in figures:
            rate = finished.rates.get(each.name, _NO_RATE)
            row = QueueRow(
                name=each.name,
                waiting=each.waiting,
                running=each.running,
                scheduled=each.scheduled,
                retrying=each.retrying,
                oldest=each.oldest_ms / 1000 if each.waiting else None,
                paused=each.paused,
                done=round(rate.ended * 60, 1),
                failed=round(rate.failed * 60, 1),
                workers=workers.get(each.name, 0),
            )
            rows.append(row)
        return QueueList(rows, await self._runs.now())

    async def pause(self, asked: Asked[Any]) -> Done:
        name = await self._reading.queue(asked.path["name"])
        news = await self._reading.ask(Pause(name))
        return Done(f"{name} is paused" if news else f"{name} was paused already")

    async def resume(self, asked: Asked[Any]) -> Done:
        name = await self._reading.queue(asked.path["name"])
        news = await self._reading.ask(Pause(name, paused=False))
        return Done(f"{name} goes on" if news else f"{name} was not paused")

    # -- schedules ---------------------------------------------------------------------------------

    async def schedules(self, _: Asked[Any]) -> ScheduleList:
        tasks = self._tasks()
        times = await self._reading.ask(FindSchedules(tuple(task.task for task in tasks)))
        rows = []
        for task in tasks:
            each = standing(task, times, self._reading.section.misfire)
            last, following = (ms / 1000 if ms else None for ms in (each.last_ms, each.next_ms))
            late = each.is_late(times.now_ms)
            row = (each.task, each.rule, each.zone, each.queue, last, following, late, each.paused)
            rows.append(ScheduleRow(*row))
        definitions = self._reading.registry.definitions.values()
        problems = [text for each in definitions if (text := each.schedule_error or each.schedule_warning)]
        return ScheduleList(rows, problems)

    async def run_now(self, asked: Asked[Any]) -> Done:
        made = self._task(asked).request_now()
        (id_,) = await self._reading.ask(Enqueue((made,)))
        new = id_ == made.id
        return Done(f"enqueued {id_}" if new else f"not new: job {id_} has not ended", int(new))

    async def pause_schedule(self, asked: Asked[Any]) -> Done:
        name = self._task(asked).task
        news = await self._reading.ask(PauseSchedule(name))
        return Done(f"{name} is paused" if news else f"{name} was paused already")

    async def resume_schedule(self, asked: Asked[Any]) -> Done:
        name = self._task(asked).task
        news = await self._reading.ask(PauseSchedule(name, paused=False))
        return Done(f"{name} goes on" if news else f"{name} was not paused")

    def _task(self, asked: Asked[Any]) -> ScheduledTask:
        name = asked.path["task"]
        found = next((task for task in self._tasks() if task.task == name), None)
        if found is None:
            raise Refusal(404, f"no class {name!r:.100} with a schedule is known here")
        return found

    def _tasks(self) -> list[ScheduledTask]:
        reading = self._reading
        definitions = reading.registry.definitions.values()
        return scheduled_tasks(definitions, reading.zone, reading.section.max_payload)

    # -- workers -----------------------------------------------------------------------------------

    async def workers(self, _: Asked[Any]) -> WorkerList:
        reading = self._reading
        there = await reading.ask(ListWorkers())
        found = await reading.find(
            EVERY, "running", limit=_MOST_RUNNING, most=_MOST_RUNNING, names=await reading.queues()
        )
        running: dict[str, list[JobRow]] = {}
        for job in found.jobs:
            running.setdefault(job.worker, []).append(row_of(job))
        rows = [_worker(each, running.pop(each.name, [])) for each in there]
        rows += [_worker(WorkerRecord(name, 0, b"{}"), jobs) for name, jobs in running.items()]
        return WorkerList(rows)

    async def quiet(self, asked: Asked[Any]) -> Done:
        return await self._tell(asked, "quiet", "begins no more jobs")

    async def go_on(self, asked: Asked[Any]) -> Done:
        return await self._tell(asked, "", "begins jobs again")

    async def stop(self, asked: Asked[Any]) -> Done:
        return await self._tell(asked, "stop", "ends when its jobs have, or after jobs.drain")

    async def _tell(self, asked: Asked[Any], word: Order, what: str) -> Done:
        name = asked.path["name"]
        if not await self._reading.ask(TellWorker(name, word)):
            raise Refusal(404, f"there is no worker {name!r:.100}")
        return Done(f"{name} {what}")


def _worker(worker: WorkerRecord, running: list[JobRow]) -> WorkerRow:
    said = worker.said
    started, queues, tasks = said.get("started_ms"), said.get("queues"), said.get("tasks")
    return WorkerRow(
        name=worker.name,
        host=str(said.get("host", "")),
        pid=_number(said.get("pid")),
        queues=[str(each) for each in queues] if isinstance(queues, list | dict) else [],
        slots=_number(said.get("concurrency")),
        started=started / 1000 if isinstance(started, int | float) else None,
        heard=worker.heard_ms / 1000 if worker.heard_ms else None,
        cpu=cpu if isinstance(cpu := said.get("cpu"), int | float) else None,
        memory=_number(said.get("memory")),
        classes=len(tasks) if isinstance(tasks, list) else 0,
        running=running,
        silent=not worker.heard_ms,
        told=worker.told,
    )


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None
