"""The options of the commands of jobs: which jobs are meant, what is done with them; and those of ``run``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from enricher.cli.options import Command, gathered
from enricher.clock import wall_clock
from enricher.config.loader import NOTHING
from enricher.jobs.cli.selection import EVERY, STATES, JobFilter, parse_moment


def typed(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """The type of an option: what ``parse`` makes of its text, with the text of its ValueError."""

    def convert(value: Any) -> Any:
        try:
            return parse(value) if isinstance(value, str) else value
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


_moment = typed(lambda text: parse_moment(text, wall_clock() // 1000))

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


@dataclass(frozen=True, slots=True)
class Meant:
    """Which jobs: those of ``names``, else all that ``wanted`` lets through."""

    names: tuple[str, ...]
    wanted: JobFilter


def _meant(*, names: tuple[str, ...], every: bool, **wanted: Any) -> Meant:
    meant = Meant(names, JobFilter(**wanted))
    if names and meant.wanted != EVERY:
        raise click.UsageError("give ids or filters, not both")
    if not names and meant.wanted == EVERY and not every:
        raise click.UsageError("say which jobs: their ids, filters, or --all")
    return meant


meant_option = gathered(
    "meant",
    _meant,
    click.argument("names", nargs=-1, metavar="[ID]..."),
    *_FILTERS,
    click.option("--all", "every", is_flag=True, help="All of them, without a filter."),
)


@dataclass(frozen=True, slots=True)
class Manner:
    """How many jobs are acted on: at most ``limit``, ``rate`` a second; without ``asks`` nobody is asked."""

    rate: float | None = None
    limit: int | None = None
    dry_run: bool = False
    asks: bool = True
    quiet: bool = False
    json: bool = False


def _manner(*, yes: bool, **others: Any) -> Manner:
    return Manner(asks=not yes, **others)


json_option = click.option("--json", "json", is_flag=True, help="One JSON object a line.")
manner_option = gathered(
    "manner",
    _manner,
    click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most this many a second."),
    click.option("--limit", type=click.IntRange(min=1), help="At most this many."),
    click.option("--dry-run", is_flag=True, help="Show which jobs are meant, and change nothing."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    click.option("--quiet", "-q", is_flag=True, help="Print no line per job."),
    json_option,
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
