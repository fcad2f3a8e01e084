"""What background jobs add to an enricher: a route for each queue, their source and sink, the scheduler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from enricher.dead_letters.sink import DeadLetterSink
from enricher.engine.retry import NO_RETRY
from enricher.engine.router import Context, Route, Slots
from enricher.errors import BadMessage
from enricher.job_store import RUNS, JobStore, Run
from enricher.jobs import client
from enricher.jobs.about import About
from enricher.jobs.checks import probe
from enricher.jobs.dead_letters import FailedJobs
from enricher.jobs.health_check import HealthCheckWorker
from enricher.jobs.metrics import Ended, metrics_of
from enricher.jobs.processes import JobProcesses
from enricher.jobs.registry import WorkerRegistry
from enricher.jobs.runner import JobRunner
from enricher.jobs.runs import JobRun, jobs_left
from enricher.jobs.scheduler import Scheduler, scheduled_tasks
from enricher.jobs.settings import JobSettings
from enricher.jobs.shares import Shares
from enricher.jobs.threads import JobThreads
from enricher.jobs.worker import imported_workers
from enricher.log import log
from enricher.runs import Runs
from enricher.system import Host, Plan

if TYPE_CHECKING:
    from enricher.web.views import Action, View

_NO_CLASS = (
    "no class of jobs is known here, so that no job can run: name the packages that have yours in "
    "jobs.packages, such as 'app.jobs'"
)

_read_run = msgspec.json.Decoder(Run).decode


def plan(jobs: JobSettings, host: Host) -> Plan:
    """Routes ``jobs:{queue}`` with slots of their own, fed by the store of jobs. Connects to nothing."""
    settings = host.settings
    registry = registry_of(jobs)
    queues = host.job_queues(jobs.queue_settings(settings.redis.url, settings.redis.socket_timeout))
    processes = JobProcesses(
        jobs.concurrency, settings=jobs.for_clients(settings.redis.url), max_payload=jobs.max_payload
    )
    runner = JobRunner(
        registry.find,
        JobThreads(jobs.concurrency),
        processes,
        client.of_engine(settings, queues.store),
        ended := Ended(registry.definitions),
        time_limit=jobs.time_limit,
        result_ttl=jobs.result_ttl,
    )
    slots = Slots("jobs", jobs.concurrency)
    routes = [
        Route(
            topic=f"{jobs.prefix}:{queue}",
            handler=runner,
            decode=read_run,
            sinks=(RUNS,),
            retry=NO_RETRY,
            name=f"{jobs.prefix}:{queue}",
            intake="none",
            slots=slots,
            slow_handler=jobs.time_limit,
            drain_deadline=jobs.drain,
        )
        for queue in jobs.queues
    ]
    about = About(jobs, registry.definitions, host.clock() // 1000)
    runs = Runs(queues.runs(JobRun), jobs_left(queues.store), "jobs")
    services: dict[str, Callable[[], Awaitable[None]]] = {
        "job_processes": partial(_serve, processes),
        "job_runs": runs.run,
    }
    if jobs.schedules:
        services["job_schedules"] = _scheduler(jobs, host, registry, queues.store).run
    failed = DeadLetterSink(FailedJobs(queues.store, jobs.prefix))
    source = queues.source(runner, Shares(jobs.queues), description=about, end=host.stop)
    return Plan(
        routes=routes if jobs.works else (),
        sinks=[queues.sink],
        services=services,
        dead_letters=dict.fromkeys((route.topic for route in routes), failed),
        sources=[source] if jobs.works else (),
        notes=[f"Jobs: {len(registry.definitions):,} classes; enricher queues shows how their queues stand."],
        problems=lambda: registry.problems,
        warnings=lambda: registry.warnings,
        views=partial(_views, jobs, registry, queues.store, settings.feed.timezone, runs),
        metrics=partial(metrics_of, ended, queues.store, jobs.queue_names),
        probe=partial(
            probe, queues.store, jobs.queue_names if jobs.works else (), registry.definitions.values()
        ),
    )


def registry_of(jobs: JobSettings) -> WorkerRegistry:
    """The classes of jobs of these settings."""
    registry = WorkerRegistry.initialize(*jobs.packages) if jobs.packages else WorkerRegistry()
    if jobs.health_url:
        registry.register(HealthCheckWorker)
    if not jobs.packages and all(each is HealthCheckWorker for each in imported_workers()):
        registry.warnings.append(_NO_CLASS)
        log.warning("configuration_warning", reason=_NO_CLASS)
    return registry


def _views(
    jobs: JobSettings, registry: WorkerRegistry, store: JobStore, zone: str, runs: Runs[JobRun]
) -> list[View | Action]:
    from enricher.jobs.web.views import views  # extra web, which need not be there

    return views(jobs, registry, store, zone, runs)


async def _serve(processes: JobProcesses) -> None:
    with client.serving():
        await processes.serve()


def _scheduler(jobs: JobSettings, host: Host, registry: WorkerRegistry, store: JobStore) -> Scheduler:
    tasks = scheduled_tasks(registry.definitions.values(), host.settings.feed.timezone, jobs.max_payload)
    # A class that could not be imported has not been removed.
    whole = () if registry.problems else (*jobs.packages, "enricher.jobs")
    return Scheduler(store, tasks, misfire=jobs.misfire, packages=whole)


def read_run(body: bytes, _: Context) -> Run:
    """The run in a delivery's body. Raises `BadMessage`."""
    try:
        return _read_run(body)
    except msgspec.DecodeError as error:
        raise BadMessage("$", "a run of a job", str(error)) from error
