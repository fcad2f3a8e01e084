"""``enricher jobs tail``: what begins and ends, as it does."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import anyio
import click
import msgspec

from enricher.cli.options import SettingsOptions, for_option, json_option, settings_options
from enricher.cli.output import say
from enricher.job_store import Find, JobRecord
from enricher.jobs import results
from enricher.jobs.cli.opening import Jobs, settings_of, with_jobs
from enricher.jobs.cli.tables import terminal
from enricher.jobs.cli.texts import as_json, error_line, line, short, short_id
from enricher.jobs.selection import JobFilter, arguments, class_name

_WORDS = {
    "STARTED": ("began", "cyan"),
    "RETRY": ("failed", "yellow"),
    "SUCCESS": ("succeeded", "green"),
    "FAILURE": ("failed", "red"),
    "REVOKED": ("cancelled", "bright_black"),
}
_MOST_A_SECOND = 1000


@click.command("tail")
@click.option(
    "--class", "cls", default="", metavar="NAME", help="Only of this class, or pattern such as 'Import*'."
)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only of this queue.")
@click.option(
    "--status",
    multiple=True,
    type=click.Choice(list(_WORDS), case_sensitive=False),
    help="Only what comes to this status.",
)
@for_option
@json_option
@settings_options
def tail(
    options: SettingsOptions,
    cls: str,
    queues: tuple[str, ...],
    status: tuple[str, ...],
    seconds: float | None,
    json: bool,
) -> None:
    """Follow the jobs that begin and end, until Ctrl-C.

    It listens to what results are published; each job is asked for once. Of more than a thousand a second
    some are left out, which is said.
    """
    wanted = JobFilter(cls=cls, queues=queues)

    async def follow(jobs: Jobs) -> None:
        with anyio.move_on_after(seconds):
            await _follow(jobs, wanted, {each.upper() for each in status} or set(_WORDS), json)

    with_jobs(settings_of(options), follow)


async def _follow(jobs: Jobs, wanted: JobFilter, statuses: set[str], json: bool) -> None:
    second, shown, left_out = 0, 0, 0
    async with jobs.store.results.pubsub() as channel:
        await channel.psubscribe(f"{results.KEY}*")
        if not json:
            say("following the jobs that begin and end; Ctrl-C ends it")
        while True:
            message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
            now = int(time.monotonic())
            if now != second:
                if left_out:
                    say(f"{left_out:,} left out")
                second, shown, left_out = now, 0, 0
            if message is None or message["type"] != "pmessage":
                continue
            outcome = _outcome(message["data"])
            if outcome is None or outcome.status not in statuses:
                continue
            if shown >= _MOST_A_SECOND:
                left_out += 1
                continue
            shown += 1
            job = await jobs.ask(Find(outcome.task_id))
            if job is not None and wanted.matches(job):
                click.echo(as_json(job, status=outcome.status) if json else _line(job, outcome))


def _outcome(data: Any) -> results.Outcome | None:
    try:
        return msgspec.json.decode(data, type=results.Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # somebody else's


def _line(job: JobRecord, outcome: results.Outcome) -> str:
    word, colour = _WORDS[outcome.status]
    said = line(arguments(job.payload))
    parts = [
        f"{datetime.now().astimezone():%H:%M:%S}",
        click.style(f"{word:<9}", fg=colour),
        f"{job.queue:<8}  {class_name(job.task)}({_cut(said, 60)})",
    ]
    if outcome.status == "STARTED":
        parts.append(f"attempt {job.attempt}" if job.attempt > 1 else "")
    elif outcome.status == "RETRY":
        parts.append(f"{_cut(error_line(job), 100)}; again in {short(job.due_ms - time.time() * 1000)}")
    elif outcome.status == "FAILURE":
        parts.append(_cut(error_line(job), 100))
    if outcome.status in ("SUCCESS", "FAILURE") and job.started_ms and job.finished_ms:
        parts.append(f"in {short(job.finished_ms - job.started_ms)}")
    # Commands take a part of an id; programs are given all of it.
    id_ = short_id(job.id) if terminal() else job.id
    return "  ".join([*filter(None, parts), click.style(id_, dim=True)])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
