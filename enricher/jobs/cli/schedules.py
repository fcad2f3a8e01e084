"""``enricher schedules``: which jobs recur, when they ran and when they will; run one now."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec
from rich.text import Text

from enricher.cli import logs
from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.output import say
from enricher.cli.tables import Cell, Sheet
from enricher.config import Settings
from enricher.config.types import did_you_mean
from enricher.job_store import Enqueue
from enricher.jobs.cli import tables
from enricher.jobs.cli.opening import Jobs, settings_of, with_jobs
from enricher.jobs.cli.texts import clock, line, short, utc
from enricher.jobs.plan import registry_of
from enricher.jobs.registry import WorkerRegistry
from enricher.jobs.scheduler import ScheduledTask, Standing, scheduled_tasks, standing
from enricher.jobs.schedules import ON_TIME_MS
from enricher.jobs.selection import class_name
from enricher.jobs.settings import JobSettings
from enricher.schedule_store import FindSchedules

_HEAD = ("class", "schedule", "zone", "queue", "last", "next")


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  enricher schedules
  enricher schedules --json | jq -r '.[] | select(.last_at == null) | .class'
  enricher schedules run NightlyReport
""",
)
@click.option("--json", "json", is_flag=True, help="One JSON array.")
@settings_options
@click.pass_context
def command(context: click.Context, options: SettingsOptions, json: bool) -> None:
    """Show the classes of jobs that have a schedule, when they ran last, and when they will run next.

    A schedule begins when a process with the role all or scheduler (jobs.roles) sees it for the first time,
    and begins anew when it has changed. A next time that has passed means that no such process runs.
    """
    if context.invoked_subcommand is None:
        settings = settings_of(options)
        registry = _registry(settings)
        with_jobs(settings, lambda jobs: _show(jobs, registry, json))


async def _show(jobs: Jobs, registry: WorkerRegistry, json: bool) -> None:
    tasks = _tasks(jobs.settings, registry)
    times = await jobs.ask(FindSchedules(tuple(task.task for task in tasks)))
    rows = [standing(task, times, jobs.section.misfire) for task in tasks]
    if json:
        click.echo(msgspec.json.encode([_plain(each) for each in rows]).decode())
    elif tables.terminal():
        sheet = Sheet("", *_HEAD, drop=("queue", "zone"))
        for each in rows:
            sheet.add_row(*_cells(each, times.now_ms))
        tables.show(sheet)
        _advise(rows, times.now_ms, registry)
    else:
        tables.columns(_HEAD, [_texts(each) for each in rows])


def _plain(each: Standing) -> dict[str, object]:
    return {
        "class": each.task,
        "schedule": each.rule,
        "zone": each.zone,
        "queue": each.queue,
        "last_at": utc(each.last_ms),
        "next_at": None if each.paused else utc(each.next_ms),
        "paused": each.paused,
    }


def _texts(each: Standing) -> list[str]:
    shown = {**_plain(each), **({"next_at": "paused"} if each.paused else {})}
    del shown["paused"]
    return [str(cell or "") for cell in shown.values()]


def _cells(each: Standing, now_ms: int) -> list[Cell]:
    late = each.next_ms + ON_TIME_MS < now_ms and not each.paused
    when = Text(f"{short(now_ms - each.next_ms)} ago", style="red") if late else clock(each.next_ms, now_ms)
    last = clock(each.last_ms, now_ms) if each.last_ms else Text("never", style="bright_black")
    if each.paused:
        when = Text("paused", style="yellow")
    return [line(each.task), each.rule, each.zone, each.queue, last, when or "never"]


def _advise(rows: Sequence[Standing], now_ms: int, registry: WorkerRegistry) -> None:
    if any(each.is_late(now_ms) for each in rows):
        say("\nNobody enqueues what is due. Start a scheduler: enricher run --roles scheduler")
    for definition in registry.definitions.values():
        problem = definition.schedule_error or definition.schedule_warning
        if problem:
            say(problem)
    if not rows:
        say("No class of jobs.packages has a schedule. Give one: cron_schedule = '0 2 * * *', or every = 30")


@command.command("run")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@settings_options
def run(options: SettingsOptions, names: Sequence[str]) -> None:
    """Enqueue a job of each of these classes now, with the arguments of its schedule.

    The schedule goes on as it was.
    """
    settings = settings_of(options)
    known = _tasks(settings, _registry(settings))
    tasks = [_named(name, known) for name in names]

    async def work(jobs: Jobs) -> None:
        made = tuple(task.request_now() for task in tasks)
        ids = await jobs.ask(Enqueue(made))
        for request, id_ in zip(made, ids, strict=True):
            click.echo(id_)
            if id_ != request.id:
                say(f"not new: job {id_} is as this one and has not ended")

    with_jobs(settings, work)


def _named(name: str, tasks: Sequence[ScheduledTask]) -> ScheduledTask:
    """The task of this name, or of a class of this name. Raises click.UsageError."""
    found = [task for task in tasks if name in (task.task, class_name(task.task))]
    if len(found) == 1:
        return found[0]
    if found:
        raise click.UsageError(f"several classes are called {name}: {', '.join(task.task for task in found)}")
    near = did_you_mean(name, [each for task in tasks for each in (task.task, class_name(task.task))])
    raise click.UsageError(f"no class {name!r} with a schedule in jobs.packages{near}")


def _registry(settings: Settings) -> WorkerRegistry:
    logs.configure_aside(settings)
    return registry_of(settings.section(JobSettings))


def _tasks(settings: Settings, registry: WorkerRegistry) -> list[ScheduledTask]:
    section = settings.section(JobSettings)
    return scheduled_tasks(registry.definitions.values(), settings.feed.timezone, section.max_payload)
