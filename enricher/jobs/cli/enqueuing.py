"""``enricher jobs enqueue``: a job by the name of its class, with arguments from the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

from enricher.cli import logs
from enricher.cli.main import FAILED
from enricher.cli.options import SettingsOptions, duration_option, json_option, settings_options, typed
from enricher.cli.output import say
from enricher.clock import from_text
from enricher.config import Settings, redact_text
from enricher.config.types import did_you_mean
from enricher.job_store import Enqueue, Request
from enricher.jobs import results
from enricher.jobs.cli.opening import Jobs, settings_of, with_jobs
from enricher.jobs.cli.texts import short_id
from enricher.jobs.definition import Definition
from enricher.jobs.errors import BadArguments
from enricher.jobs.registry import WorkerRegistry
from enricher.jobs.requests import Options, request, request_by_name
from enricher.jobs.selection import class_name, parse_value
from enricher.jobs.settings import JobSettings


def _named_value(text: str | tuple[str, object]) -> tuple[str, object]:
    if isinstance(text, tuple):
        return text
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"expected NAME=VALUE, such as user_id=7, got {text!r}")
    return name, parse_value(value)


def _moment(text: str) -> datetime:
    try:
        return from_text(text)
    except ValueError:
        raise ValueError(f"expected a time such as 2026-12-01T09:00 (local), got {text!r}") from None


@click.command(
    "enqueue",
    epilog="""\b
Examples:
  enricher jobs enqueue app.jobs.ImportWorker 7 '{"kind": "csv"}'
  enricher jobs enqueue ImportWorker --arg user_id=7 --in 10m
  enricher jobs enqueue other.service.Task --queue low --at 2026-12-01T09:00
  enricher jobs enqueue ReportWorker --wait

A VALUE is JSON (7, true, '"7"', '[1, 2]'), and what is no JSON is text.
""",
)
@click.argument("task", metavar="CLASS")
@click.argument("values", nargs=-1, metavar="[VALUE]...")
@click.option(
    "--arg",
    "named",
    type=typed(_named_value),
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument by its name.",
)
@click.option("--queue", metavar="NAME", help="Another queue than the class's.")
@duration_option("--in", "delay", help="Not before this time has passed.")
@click.option("--at", type=typed(_moment), metavar="WHEN", help="Not before this time (ISO 8601).")
@click.option(
    "--id", "id_", metavar="ID", help="The id it is to have; a second one of this id is no other job."
)
@click.option("--wait", is_flag=True, help="Wait for the result and print it; exit code 1 if it fails.")
@duration_option("--timeout", default="60s", help="With --wait: for how long.")
@json_option
@settings_options
def enqueue(
    options: SettingsOptions,
    task: str,
    values: Sequence[str],
    named: Sequence[tuple[str, object]],
    wait: bool,
    timeout: float,
    json: bool,
    **given: Any,
) -> None:
    """Enqueue a job, and print its id or with --wait its result.

    CLASS is the name of a task, or of a class in jobs.packages. Arguments are checked against the class where
    it is found; else the job is enqueued by name.
    """
    settings = settings_of(options)
    section = settings.section(JobSettings)
    given["id"] = given.pop("id_")
    how = Options(**given)
    args, kwargs = [parse_value(value) for value in values], dict(named)
    definition = _class(settings, section, task, by_name=how.queue is not None)
    try:
        made = _request(definition, task, args, kwargs, how, section.max_payload)
    except BadArguments as error:
        raise click.UsageError(str(error)) from error
    failed = False

    async def work(jobs: Jobs) -> None:
        nonlocal failed
        (id_,) = await jobs.ask(Enqueue((made,)))
        if not wait:
            said = {"id": id_, "class": made.task, "queue": made.queue, "new": id_ == made.id}
            click.echo(msgspec.json.encode(said).decode() if json else id_)
            if id_ != made.id:
                say(f"not new: job {id_} holds the unique lock of this one")
            elif not json and sys.stdout.isatty():
                say(f"enqueued to {made.queue}; follow it: enricher jobs show {short_id(id_)}")
            return
        stored = await jobs.store.wait(id_, timeout)
        if stored is None:
            raise click.ClickException(f"job {id_} has not ended within {timeout:g} s; it goes on")
        outcome = results.read(id_, stored)
        failed = outcome.status != "SUCCESS"
        if json:
            click.echo(stored.decode())
        elif failed:
            click.echo(f"Error: job {id_}: {redact_text(str(results.value_of(outcome)))}", err=True)
        else:
            click.echo(msgspec.json.encode(outcome.result).decode())

    with_jobs(settings, work)
    if failed:
        click.get_current_context().exit(FAILED)


def _class(settings: Settings, section: JobSettings, task: str, *, by_name: bool) -> Definition | None:
    """The class of this name in the packages of the settings; None for one that is not known here.

    Raises click.UsageError where the packages have none of this name, or several.
    """
    if not section.packages:
        if not by_name:
            say("jobs.packages is not set: the arguments are not checked, and the queue is default")
        return None
    logs.configure_aside(settings)
    known = WorkerRegistry.initialize(*section.packages).definitions
    if task in known:
        return known[task]
    alike = [definition for name, definition in known.items() if class_name(name) == task]
    if len(alike) > 1:
        names = ", ".join(definition.task for definition in alike)
        raise click.UsageError(f"several classes are called {task}: {names}")
    if not alike and not by_name:
        near = did_you_mean(task, [*known, *map(class_name, known)])
        packages = ", ".join(section.packages)
        raise click.UsageError(
            f"no class {task!r} in {packages}{near}; with --queue it is enqueued all the same, by name"
        )
    return alike[0] if alike else None


def _request(
    definition: Definition | None,
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Options,
    max_payload: int,
) -> Request:
    if definition is None:
        return request_by_name(task, args, kwargs, options, max_payload=max_payload)
    # What a type annotation names, such as a date, came as the text that JSON has for it.
    return request(definition, args, kwargs, options, max_payload=max_payload)
