"""``enricher workers``: who runs jobs, of which queues, and what runs now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import click
import msgspec

from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.output import say
from enricher.cli.tables import Sheet
from enricher.job_admin import Finished, ListWorkers, WorkerRecord
from enricher.job_store import JobRecord
from enricher.jobs.cli import tables
from enricher.jobs.cli.opening import Jobs, settings_of, with_jobs
from enricher.jobs.cli.texts import line, short, utc
from enricher.jobs.selection import EVERY, class_name

_SHOWN = 6


@click.command(
    epilog="""\b
Examples:
  enricher workers
  enricher workers --json | jq '.[].running'

\b
Instead of celery inspect active, stats, registered:  enricher workers --json
"""
)
@click.option("--json", "json", is_flag=True, help="One JSON array, with the classes that each knows.")
@settings_options
def command(options: SettingsOptions, json: bool) -> None:
    """Show who runs jobs: queues, slots, since when, and what runs now.

    A worker that has not been heard of for three leases (jobs.lease) is no longer shown; its jobs are begun
    again by others after one.
    """

    async def show(jobs: Jobs) -> None:
        workers = await jobs.ask(ListWorkers())
        now_ms = (await jobs.ask(Finished(1))).now_ms
        running: dict[str, list[JobRecord]] = defaultdict(list)
        async for job in jobs.matching(EVERY, ["running"]):
            running[job.worker].append(job)
        if json:
            rows = [_plain(worker, running[worker.name]) for worker in workers]
            click.echo(msgspec.json.encode(rows).decode())
            return
        cells = [_cells(worker, running[worker.name], now_ms) for worker in workers]
        if not tables.terminal():
            tables.columns(_HEAD, cells)
        elif cells:
            numbers = ("slots", "up", "heard")
            sheet = Sheet("", *_HEAD, numbers=numbers, drop=("heard", "up"), wraps=("queues", "running now"))
            for row in cells:
                sheet.add_row(*row)
            tables.show(sheet)
        silent = {name: found for name, found in running.items() if name not in {w.name for w in workers}}
        for name, found in silent.items():
            say(f"{name} has gone silent with {len(found):,} jobs; another worker begins them again")
        if not workers:
            say("No worker runs. Start one: enricher run --set jobs.packages=app.jobs --queues default")

    with_jobs(settings_of(options), show)


_HEAD = ("worker", "queues", "slots", "up", "heard", "running now")


def _cells(worker: WorkerRecord, running: Sequence[JobRecord], now_ms: int) -> list[str]:
    about = worker.said
    kinds = Counter(class_name(job.task) for job in running)
    shown = [name if number == 1 else f"{name} x{number}" for name, number in kinds.most_common(_SHOWN)]
    started = about.get("started_ms")
    return [
        line(worker.name),
        ", ".join(map(str, about.get("queues", ()))),
        f"{len(running)}/{about.get('concurrency', '?')}",
        short(now_ms - started) if isinstance(started, int | float) else "",
        f"{short(now_ms - worker.heard_ms)} ago",
        line(", ".join([*shown, *(["..."] if len(kinds) > _SHOWN else [])])) or "-",
    ]


def _plain(worker: WorkerRecord, running: Sequence[JobRecord]) -> dict[str, object]:
    now = [
        {"id": job.id, "class": job.task, "queue": job.queue, "started_at": utc(job.started_ms)}
        for job in running
    ]
    return {"name": worker.name, **worker.said, "heard_at": utc(worker.heard_ms), "running": now}
