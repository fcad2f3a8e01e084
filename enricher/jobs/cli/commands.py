"""``enricher jobs``: list, show, enqueue, retry, cancel, delete and tail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import click
import msgspec

from enricher.cli.bulk import Manner, Meant
from enricher.cli.main import FAILED, OK
from enricher.cli.options import SettingsOptions, json_option, settings_options
from enricher.cli.output import say
from enricher.job_admin import Finished, FinishedFigures, ListWorkers
from enricher.job_store import FINISHED, JobRecord, Queues, Result, State
from enricher.jobs import deeds, results
from enricher.jobs.cli import acting, tables
from enricher.jobs.cli.enqueuing import enqueue
from enricher.jobs.cli.opening import Jobs, settings_of, with_jobs
from enricher.jobs.cli.options import filters, manner_option, meant_option
from enricher.jobs.cli.tailing import tail
from enricher.jobs.cli.texts import as_json, details, error_fields
from enricher.jobs.selection import STATES, JobFilter

EXAMPLES = """\b
Examples:
  enricher jobs list
  enricher jobs list --state failed --class 'Import*' --since 2h
  enricher jobs show 3f2a9c71
  enricher jobs enqueue app.jobs.ImportWorker 7 '{"kind": "csv"}'
  enricher jobs retry --state failed --error Timeout --dry-run
  enricher jobs retry --state failed --error Timeout --rate 50
  enricher jobs retry --state scheduled --class ReportWorker
  enricher jobs cancel --queue low --args '"tenant":"acme"'
  enricher jobs delete --state cancelled --until 7d --yes
  enricher jobs tail --class ImportWorker

\b
ID is a job's id, or the first characters of it. Filters are combined.
See also: enricher queues, enricher workers, enricher schedules.
"""
_PER_STATE, _OF_ONE = 10, 50


@click.group(epilog=EXAMPLES)
def command() -> None:
    """List, show, enqueue, retry, cancel and delete background jobs."""


@command.command("list")
@filters
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most this many of each state [default: {_PER_STATE}; {_OF_ONE} of a single one].",
)
@json_option
@settings_options
def list_jobs(options: SettingsOptions, wanted: JobFilter, limit: int | None, json: bool) -> None:
    """List jobs by state.

    First what runs, is retried, waits and is scheduled; then what has ended, the newest first.
    """
    states = wanted.states or STATES
    most = limit or (_OF_ONE if len(states) == 1 else _PER_STATE)

    async def show(jobs: Jobs) -> None:
        figures = await jobs.ask(Finished())
        found: dict[State, list[JobRecord]] = {}
        for state in states:
            found[state] = []
            async for job in jobs.matching(wanted, [state]):
                found[state].append(job)
                if len(found[state]) == most:
                    break
        if json:
            for job in (job for of in found.values() for job in of):
                click.echo(as_json(job))
            return
        if not tables.terminal():
            tables.columns(tables.TSV, [tables.row(job) for of in found.values() for job in of])
            return
        totals = await _totals(jobs, wanted, figures) if wanted.is_open else {}
        _show_sheets(found, totals, figures.now_ms, most)
        if not any(found.values()):
            await _say_nothing(jobs, wanted)

    with_jobs(settings_of(options), show)


async def _totals(jobs: Jobs, wanted: JobFilter, figures: FinishedFigures) -> Mapping[State, int]:
    queues = await jobs.ask(Queues(tuple(await jobs.queues(wanted.queues))))
    delayed: dict[State, int] = {
        "running": sum(queue.running for queue in queues),
        "waiting": sum(queue.waiting for queue in queues),
        "scheduled": sum(queue.scheduled for queue in queues),
        "retrying": sum(queue.retrying for queue in queues),
    }
    return delayed if wanted.queues else {**delayed, **figures.kept}


def _show_sheets(
    found: Mapping[State, Sequence[JobRecord]], totals: Mapping[State, int], now_ms: int, most: int
) -> None:
    console = tables.console()
    first = True
    for state, jobs in found.items():
        if not jobs:
            continue
        total = totals.get(state)
        number = f"{len(jobs):,}"
        if total is None and len(jobs) == most:
            number = f"the first {number}"
        elif total is not None and total > len(jobs):
            number = f"{number} of {total:,}"
        if not first:
            console.print()
        first = False
        console.print(tables.sheet(state, jobs, now_ms, console.width, f"{state}: {number}"))


async def _say_nothing(jobs: Jobs, wanted: JobFilter) -> None:
    if wanted != JobFilter():
        say("No such jobs. Without filters, enricher jobs list shows all there are.")
        return
    say("No jobs yet. Enqueue one: SomeWorker.perform_async(...) in a program, or here:")
    say("  enricher jobs enqueue app.jobs.SomeWorker ARGUMENTS")
    if not await jobs.ask(ListWorkers()):
        say("No worker runs. Start one: enricher run --set jobs.packages=app.jobs --queues default")


@command.command("show")
@click.argument("job", metavar="ID")
@json_option
@settings_options
def show_job(options: SettingsOptions, job: str, json: bool) -> None:
    """Show all of a job.

    Its arguments, times, attempts, worker, progress, the steps that are done, its children and its parent,
    the result or the errors with their tracebacks, and the last lines that it has logged.
    """

    async def show(jobs: Jobs) -> None:
        found = await jobs.get(job)
        found = await jobs.get(found.id)  # of a page some is left out
        stored = await jobs.ask(Result(found.id))
        outcome = None if stored is None else results.read(found.id, stored)
        if json:
            steps = {name: msgspec.Raw(said) for name, said in found.steps.items()}
            failures = [
                {"at": each.at, "attempt": each.attempt, **error_fields(each.error)}
                for each in found.earlier
            ]
            children = results.children(outcome)
            more = {"unique": found.unique or None, "limits": found.limits, "steps": steps}
            result = None if outcome is None or outcome.status != "SUCCESS" else outcome.result
            said = {"children": children, "result": result, "failures": failures, "log": found.log}
            click.echo(as_json(found, **more, **said))
            return
        now_ms = (await jobs.ask(Finished(1))).now_ms
        for line in details(found, outcome, now_ms):
            click.echo(line)

    with_jobs(settings_of(options), show)


def _act(options: SettingsOptions, verb: acting.Verb, meant: Meant[JobFilter], manner: Manner) -> None:
    done = acting.perform(settings_of(options), verb, meant, manner)
    click.get_current_context().exit(OK if done else FAILED)


@command.command("retry")
@meant_option
@manner_option
@settings_options
def retry(options: SettingsOptions, meant: Meant[JobFilter], manner: Manner) -> None:
    """Let failed jobs wait for a worker again.

    Delayed ones are due now. Filters mean failed jobs; with --state also cancelled, retrying and scheduled
    ones. The job keeps its id and what its steps have stored; its attempts begin anew. One that is unique
    takes its lock again, or it is said which job has it. The exit code is 1 if any could not be retried.
    """
    _act(options, acting.Verb("retry", "retried", ("failed",), deeds.retry), meant, manner)


@command.command("cancel")
@meant_option
@click.option("--reason", default="", metavar="TEXT", help="What whoever waits for the result is told.")
@manner_option
@settings_options
def cancel(options: SettingsOptions, meant: Meant[JobFilter], manner: Manner, reason: str) -> None:
    """Cancel jobs that have not ended.

    Those that run are told to stop. Filters mean jobs that wait, are scheduled, are retried or run. They can
    be retried by hand. The exit code is 1 if any could not be cancelled.
    """
    states: tuple[State, ...] = ("waiting", "scheduled", "retrying", "running")
    act = partial(deeds.cancel, reason=reason)
    _act(options, acting.Verb("cancel", "cancelled", states, act), meant, manner)


@command.command("delete")
@meant_option
@manner_option
@settings_options
def delete(options: SettingsOptions, meant: Meant[JobFilter], manner: Manner) -> None:
    """Remove jobs for good, with their results.

    Filters mean jobs that have ended; with --state also such as wait or are delayed. The exit code is 1 if
    any could not be removed.
    """
    _act(options, acting.Verb("delete", "deleted", FINISHED, deeds.delete, asks_always=True), meant, manner)


command.add_command(enqueue)
command.add_command(tail)
