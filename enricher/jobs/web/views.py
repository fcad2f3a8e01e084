"""The views and actions of jobs: what is answered where, and the screens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from enricher.job_store import JobStore
from enricher.jobs.registry import WorkerRegistry
from enricher.jobs.runs import JobRun
from enricher.jobs.settings import JobSettings
from enricher.jobs.web import flower
from enricher.jobs.web.detail import JobDetails
from enricher.jobs.web.enqueuing import Enqueuing, NewJob, OfForm
from enricher.jobs.web.listed import JobLists, JobQuery, Picked
from enricher.jobs.web.many import Many, ManyJobs
from enricher.jobs.web.reading import Reading
from enricher.jobs.web.standing import Standings
from enricher.runs import Runs
from enricher.web.views import Action, Asked, View

_HERE = "enricher.jobs.web:"
_MENU = "Jobs"


def views(
    section: JobSettings, registry: WorkerRegistry, store: JobStore, zone: str, runs: Runs[JobRun]
) -> list[View | Action]:
    """The views and actions; those of the same beginning with the longer path first."""
    reading = Reading(section, registry, store, zone)
    many = Many(reading, runs)
    lists, details = JobLists(reading, runs), JobDetails(reading)
    enqueuing, standings = Enqueuing(reading), Standings(reading, runs)

    def screen(path: str, answer: Callable[[Asked[Any]], Awaitable[Any]], summary: str, **more: Any) -> View:
        return View(path, answer, summary, template=f"{_HERE}{more.pop('file')}.html", **more)

    return [
        screen(
            "jobs",
            lists.listed,
            "Jobs of a state, filtered, and how many there are of each.",
            query=JobQuery,
            file="jobs",
            menu=_MENU,
        ),
        screen("queues", standings.queues, "How the queues stand.", file="queues", menu="Queues"),
        screen(
            "schedules",
            standings.schedules,
            "Classes that recur: when they ran and when they will.",
            file="schedules",
            menu="Schedules",
        ),
        screen("workers", standings.workers, "Who runs jobs, and what.", file="workers", menu="Workers"),
        screen(
            "enqueue",
            enqueuing.form,
            "The classes that can be enqueued.",
            query=OfForm,
            file="enqueue",
            within=_MENU,
        ),
        View("bulk", many.run, "The newest run over many jobs, with its counters."),
        screen("jobs/{id:path}", details.job, "All of a job.", file="job", within=_MENU),
        Action("enqueue", enqueuing.enqueue, "Enqueue a job by the name of its class.", NewJob),
        Action("jobs/retry", lists.retry, "Let these jobs wait for a worker now.", Picked),
        Action("jobs/cancel", lists.cancel, "Cancel these jobs.", Picked),
        Action("jobs/delete", lists.delete, "Remove these jobs with their results.", Picked),
        Action("bulk", many.begin, "Do the same with all jobs that match, at a pace.", ManyJobs),
        Action("bulk/stop", many.stop, "Stop the run over many jobs."),
        Action("jobs/{id:path}/retry", details.retry, "Let a job wait for a worker now."),
        Action("jobs/{id:path}/cancel", details.cancel, "Cancel a job; one that runs is told to stop."),
        Action("jobs/{id:path}/delete", details.delete, "Remove a job with its result."),
        Action("queues/{name}/pause", standings.pause, "Begin no more jobs of a queue."),
        Action("queues/{name}/resume", standings.resume, "Begin jobs of a queue again."),
        Action("queues/{name}/clear", many.clear, "Cancel all jobs that wait in a queue."),
        Action("schedules/{task}/run", standings.run_now, "Enqueue a job of a schedule now."),
        Action("schedules/{task}/pause", standings.pause_schedule, "Let what is due pass without a job."),
        Action("schedules/{task}/resume", standings.resume_schedule, "Run a schedule again, from now on."),
        Action("workers/{name:path}/quiet", standings.quiet, "Let a worker begin no more jobs."),
        Action("workers/{name:path}/resume", standings.go_on, "Let a worker begin jobs again."),
        Action(
            "workers/{name:path}/stop",
            standings.stop,
            "End a worker as a signal does: its jobs get jobs.drain, all else that it does ends as well.",
        ),
        *flower.views(reading, enqueuing),
    ]


