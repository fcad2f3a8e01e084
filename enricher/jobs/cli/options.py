"""The options of the commands of jobs: which jobs are meant, what is done with them; and those of ``run``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import click

from enricher.cli import bulk
from enricher.cli.options import Command, gathered, typed
from enricher.clock import wall_clock
from enricher.config.loader import NOTHING
from enricher.dead_letters.filters import parse_moment
from enricher.jobs.selection import STATES, JobFilter

_moment = typed(lambda text: parse_moment(text, wall_clock(), local=True) // 1000)

_FILTERS = (
    click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in this state."),
    click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only of this queue."),
    click.option(
        "--class", "cls", default="", metavar="NAME", help="Only of this class, or pattern such as 'Import*'."
    ),
    click.option(
        "--args", default="", metavar="TEXT", help="Only with this text in the arguments (any case)."
    ),
    click.option("--error", default="", metavar="TEXT", help="Only with this text in the error (any case)."),
    click.option(
        "--since",
        "since_ms",
        type=_moment,
        metavar="WHEN",
        help="Only that ended, began, are due or were enqueued since then: ISO 8601, or 2h for 2 hours ago.",
    ),
    click.option("--until", "until_ms", type=_moment, metavar="WHEN", help="The same, until then."),
)
filters = gathered("wanted", JobFilter, *_FILTERS)
meant_option = bulk.meant_option("jobs", JobFilter, *_FILTERS)
manner_option = bulk.manner_option(
    "jobs", click.option("--quiet", "-q", is_flag=True, help="Print no line per job.")
)


def run_options(command: Command) -> Command:
    """Gives ``run`` the options of jobs; what was given is added to ``given``."""

    @click.option(
        "--queues",
        metavar="NAMES",
        help="Jobs: the queues, the most urgent first (critical,default), or with weights"
        " (critical=5,default=3) [default: jobs.queues].",
    )
    @click.option(
        "--concurrency",
        type=click.IntRange(min=1, max=1000),
        help="Jobs: how many run at once [default: jobs.concurrency].",
    )
    @click.option(
        "--roles",
        type=click.Choice(["all", "worker", "scheduler"]),
        help="Jobs: run them, enqueue what is due by a schedule, or both [default: jobs.roles].",
    )
    @functools.wraps(command)
    def with_jobs(*args: Any, given: Mapping[str, str] = NOTHING, **kwargs: Any) -> Any:
        values = {name: kwargs.pop(name) for name in ("queues", "concurrency", "roles")}
        mine = {f"jobs.{name}": str(value) for name, value in values.items() if value is not None}
        return command(*args, given={**given, **mine}, **kwargs)

    return with_jobs
