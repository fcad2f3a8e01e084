"""``enricher queues``: how the queues stand; pause, resume and clear them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click
import msgspec
from rich.text import Text

from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.output import EverySecond, say
from enricher.cli.tables import Cell, Sheet
from enricher.job_admin import Finished, FinishedFigures, ListWorkers, Rate, served
from enricher.job_store import Pause, QueueFigures, Queues
from enricher.jobs import deeds
from enricher.jobs.cli import tables
from enricher.jobs.cli.opening import Jobs, settings_of, with_jobs
from enricher.jobs.cli.texts import short

_NUMBERS = ("waiting", "running", "scheduled", "retrying", "oldest", "done/min", "failed/min", "workers")
_NONE = Rate(0.0, 0.0)


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  enricher queues
  enricher queues --json | jq -r '.[] | select(.waiting > 100) | .name'
  enricher queues pause low
  enricher queues clear low --yes

\b
Instead of redis-cli LLEN critical:  enricher queues --json
""",
)
@click.option("--json", "json", is_flag=True, help="One JSON array.")
@settings_options
@click.pass_context
def command(context: click.Context, options: SettingsOptions, json: bool) -> None:
    """Show how the queues stand: waiting, running and delayed jobs, how fast they end, who serves them.

    `oldest` is for how long the first waiting job has waited; `done/min` and `failed/min` are of the last
    minute. Of more than a thousand delayed jobs in a queue those due first are told apart; all others count
    as scheduled.
    """
    if context.invoked_subcommand is None:
        with_jobs(settings_of(options), lambda jobs: _show(jobs, json))


async def _show(jobs: Jobs, json: bool) -> None:
    names = await jobs.queues()
    figures = await jobs.ask(Queues(tuple(names)))
    finished = await jobs.ask(Finished())
    there = await jobs.ask(ListWorkers())
    workers = served(there)
    if json:
        rows = [_plain(each, finished.rates.get(each.name, _NONE), workers) for each in figures]
        click.echo(msgspec.json.encode(rows).decode())
    elif tables.terminal():
        tables.show(_sheet(figures, finished, workers))
        _advise(figures, workers)
    else:
        rows = [_plain(each, finished.rates.get(each.name, _NONE), workers) for each in figures]
        tables.columns(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows])


def _plain(queue: QueueFigures, rate: Rate, workers: Mapping[str, int]) -> dict[str, object]:
    return {
        "name": queue.name,
        "waiting": queue.waiting,
        "running": queue.running,
        "scheduled": queue.scheduled,
        "retrying": queue.retrying,
        "oldest_seconds": queue.oldest_ms / 1000,
        "paused": queue.paused,
        "done_per_second": round(rate.ended, 4),
        "failed_per_second": round(rate.failed, 4),
        "workers": workers.get(queue.name, 0),
    }


def _cells(queue: QueueFigures, rate: Rate, workers: Mapping[str, int]) -> list[Cell]:
    serving = workers.get(queue.name, 0)
    return [
        Text(f"{queue.name} (paused)", style="yellow") if queue.paused else queue.name,
        *(f"{number:,}" for number in (queue.waiting, queue.running, queue.scheduled, queue.retrying)),
        short(queue.oldest_ms) if queue.oldest_ms else "-",
        _per_minute(rate.ended),
        Text(_per_minute(rate.failed), style="red" if rate.failed else ""),
        Text(str(serving), style="red" if queue.waiting and not serving else ""),
    ]


def _per_minute(rate: float) -> str:
    return f"{rate * 60:,.0f}" if rate * 60 >= 10 or not rate else f"{rate * 60:.1f}"


def _sheet(figures: Sequence[QueueFigures], finished: FinishedFigures, workers: Mapping[str, int]) -> Sheet:
    made = Sheet("", "queue", *_NUMBERS, numbers=_NUMBERS, drop=("workers", "failed/min", "retrying"))
    for each in figures:
        made.add_row(*_cells(each, finished.rates.get(each.name, _NONE), workers))
    return made


def _advise(figures: Sequence[QueueFigures], workers: Mapping[str, int]) -> None:
    alone = [each.name for each in figures if each.waiting and not workers.get(each.name) and not each.paused]
    if alone:
        say(f"\nNobody serves {', '.join(alone)}. Start a worker: enricher run --queues {','.join(alone)}")
    paused = [each.name for each in figures if each.paused]
    if paused:
        say(f"\nPaused: {', '.join(paused)}. Let it go on: enricher queues resume {' '.join(paused)}")


@command.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@settings_options
def pause(options: SettingsOptions, names: Sequence[str]) -> None:
    """Begin no more jobs of queues.

    Those that run go on, and new ones may be enqueued. It holds for all workers, until `resume`.
    """
    with_jobs(settings_of(options), lambda jobs: _set_paused(jobs, names, paused=True))


@command.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@settings_options
def resume(options: SettingsOptions, names: Sequence[str]) -> None:
    """Begin jobs of paused queues again."""
    with_jobs(settings_of(options), lambda jobs: _set_paused(jobs, names, paused=False))


async def _set_paused(jobs: Jobs, names: Sequence[str], *, paused: bool) -> None:
    await _check(jobs, names)
    for name in names:
        news = await jobs.ask(Pause(name, paused))
        state = "paused" if paused else "resumed"
        click.echo(
            f"{name}: {state}" if news else f"{name}: it was {state if paused else 'not paused'} already"
        )


async def _check(jobs: Jobs, names: Sequence[str]) -> None:
    """Raise click.UsageError for a queue that nobody has heard of."""
    known = await jobs.queues()
    for name in names:
        if name not in known:
            raise click.UsageError(f"there is no queue {name!r}; there are {', '.join(known)}")


@command.command("clear")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@settings_options
def clear(options: SettingsOptions, names: Sequence[str], yes: bool) -> None:
    """Cancel all jobs that wait in queues.

    Those that run or are delayed stay. The newest of them (jobs.keep_finished) can be retried: jobs retry
    --state cancelled --queue NAME.
    """
    settings = settings_of(options)
    waiting: dict[str, int] = {}

    async def count(jobs: Jobs) -> None:
        await _check(jobs, names)
        waiting.update({each.name: each.waiting for each in await jobs.ask(Queues(tuple(names)))})

    async def work(jobs: Jobs) -> None:
        for name in names:
            done, seconds = 0, EverySecond()
            async for done in deeds.clear(jobs, name, waiting[name]):
                if seconds.rate(done) is not None:
                    say(f"{name}: {done:,} of {waiting[name]:,}")
            click.echo(f"{name}: {done:,} jobs cancelled")

    with_jobs(settings, count)
    if not waiting:
        return  # a signal came first
    if not any(waiting.values()):
        say(f"nothing waits in {', '.join(names)}")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on: give --yes")
        click.confirm(f"Cancel {sum(waiting.values()):,} jobs of {', '.join(names)}?", abort=True)
    with_jobs(settings, work)
