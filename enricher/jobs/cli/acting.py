"""``retry``, ``cancel`` and ``delete``: one job after the other, paced, with a line for each."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import NamedTuple

import click
import msgspec

from enricher.cli.bulk import Manner, Meant, Outcome, ask, paced
from enricher.cli.output import EverySecond, listed, say
from enricher.config import Settings
from enricher.job_store import JobRecord, State
from enricher.jobs.cli.opening import Jobs, with_jobs
from enricher.jobs.cli.texts import COLOURS
from enricher.jobs.deeds import Deed
from enricher.jobs.selection import JobFilter, class_name

SHOWN = 20


class Brief(NamedTuple):
    """What is kept of each of many jobs until its turn comes."""

    id: str
    state: State
    queue: str
    task: str


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that is done with jobs: to those in ``states`` unless others are asked for."""

    name: str
    past: str
    states: tuple[State, ...]
    act: Callable[[Jobs, str], Awaitable[Deed]]
    asks_always: bool = False


@dataclass(slots=True)
class Tally:
    """How far it is: outcomes by label, and how many were as wanted."""

    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


def perform(settings: Settings, verb: Verb, meant: Meant[JobFilter], manner: Manner) -> bool:
    """Find the jobs that are meant, ask, and act on them; whether all was done."""
    found: list[Brief] = []
    tally, complete = Tally(), False

    async def find(jobs: Jobs) -> None:
        nonlocal complete
        async for job in _meant(jobs, verb, meant):
            found.append(Brief(job.id, job.state, intern(job.queue), intern(job.task)))
            if len(found) == manner.limit:
                break
        complete = True

    async def work(jobs: Jobs) -> None:
        seconds = EverySecond()
        try:
            async for job in paced(found, manner.rate):
                outcome = Outcome(*await verb.act(jobs, job.id))
                tally.done += outcome.done
                tally.outcomes[outcome.label] += 1
                if not manner.quiet:
                    _say_outcome(job, outcome, json=manner.json)
                if (rate := seconds.rate(tally.outcomes.total())) is not None:
                    say(f"{tally.outcomes.total():,} of {len(found):,}, {rate:,.0f}/s")
        finally:
            if len(found) > 1:
                say(f"{tally.done:,} of {len(found):,} jobs: {listed(tally.outcomes)}")

    with_jobs(settings, find)
    if not complete:
        return True  # a signal came first
    if manner.dry_run:
        _show_meant(found, verb, manner)
        return True
    if not found:
        say(
            f"no job to {verb.name}" + (f" among those {' or '.join(verb.states)}" if not meant.names else "")
        )
        return not meant.names
    if manner.asks and (len(found) > 1 or verb.asks_always):
        jobs = "this job" if len(found) == 1 else f"these {len(found):,} jobs"
        ask(f"{verb.name.capitalize()} {jobs}?", _kinds(found), always=verb.asks_always)
    with_jobs(settings, work)
    return tally.done == len(found)


async def _meant(jobs: Jobs, verb: Verb, meant: Meant[JobFilter]) -> AsyncIterator[JobRecord]:
    if meant.names:
        for name in dict.fromkeys(meant.names):
            yield await jobs.get(name)
        return
    states = meant.wanted.states or verb.states
    async for job in jobs.matching(meant.wanted, states):
        yield job


def _show_meant(found: Sequence[Brief], verb: Verb, manner: Manner) -> None:
    most = SHOWN if sys.stdout.isatty() else len(found)
    if not manner.quiet:
        for job in found[:most]:
            _say_outcome(job, Outcome(f"would be {verb.past}", done=True), json=manner.json)
        if len(found) > most:
            click.echo(f"... and {len(found) - most:,} more")
    for kind in _kinds(found):
        say(kind)
    say(f"{len(found):,} jobs are meant; nothing was changed")


def _kinds(found: Sequence[Brief]) -> Iterator[str]:
    kinds = Counter((job.state, job.queue, job.task) for job in found)
    for (state, queue, task), number in kinds.most_common(SHOWN):
        yield f"{number:>9,}  {state:<9}  {queue}  {task}"


def _say_outcome(job: Brief, outcome: Outcome, *, json: bool) -> None:
    if json:
        said = {"id": job.id, "class": job.task, "queue": job.queue, "was": job.state}
        click.echo(msgspec.json.encode({**said, "done": outcome.done, "outcome": outcome.label}).decode())
        return
    state = click.style(f"{job.state:<9}", fg=COLOURS[job.state])
    click.echo(f"{job.id}  {state}  {class_name(job.task)}  {outcome}")
