"""The jobs of the settings opened for work, and the jobs that are meant, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import click

from enricher.adapters.redis.jobs.client import AsyncStore
from enricher.cli.options import SettingsOptions
from enricher.cli.output import talking_to
from enricher.cli.signals import until_signal
from enricher.config import Settings
from enricher.job_admin import ListJobs, ListQueues
from enricher.job_store import FINISHED, Call, Find, JobRecord, State
from enricher.jobs.selection import EVERY, STATES, JobFilter
from enricher.jobs.settings import JobSettings

T = TypeVar("T")
_LEAST_OF_ID = 4


class Jobs:
    """What a command works with: the settings and the store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.section = settings.section(JobSettings)
        self.store = AsyncStore(
            self.section.queue_settings(settings.redis.url, settings.redis.socket_timeout)
        )

    async def ask(self, call: Call[T]) -> T:
        """As `JobStore.ask`."""
        return await self.store.ask(call)

    async def queues(self, wanted: Sequence[str] = ()) -> list[str]:
        """These queues, else those of the settings, then all others that jobs were enqueued to."""
        known = await self.ask(ListQueues())
        return list(wanted) or list(dict.fromkeys([*self.section.queue_names, *known]))

    async def matching(self, wanted: JobFilter, states: Sequence[State]) -> AsyncIterator[JobRecord]:
        """The jobs of these states that ``wanted`` lets through, each once, state by state."""
        queues = await self.queues(wanted.queues)
        seen = set[str]()
        for state in states:
            for queue in [""] if state in FINISHED else queues:
                async for job in self.pages(state, queue):
                    # While pages are turned a job may begin, end, or wait again.
                    if wanted.matches(job) and job.id not in seen:
                        seen.add(job.id)
                        yield job

    async def pages(self, state: State, queue: str = "") -> AsyncIterator[JobRecord]:
        """All jobs of a state, and of a queue where they are not finished."""
        after = ""
        while True:
            page = await self.ask(ListJobs(state, queue, after))
            for job in page.jobs:
                yield job
            after = page.after
            if not after:
                return

    async def get(self, name: str) -> JobRecord:
        """The job of this id, or whose id begins so.

        Raises click.UsageError where there is none, or several.
        """
        found = await self.ask(Find(name))
        if found is not None:
            return found
        if len(name) < _LEAST_OF_ID:
            raise click.UsageError(
                f"there is no job {name}; of an id give at least the first {_LEAST_OF_ID} characters"
            )
        alike = [job async for job in self.matching(EVERY, STATES) if job.id.startswith(name)]
        if len(alike) > 1:
            raise click.UsageError(
                f"several jobs begin with {name}: {', '.join(job.id for job in alike[:5])}"
            )
        if not alike:
            raise click.UsageError(
                f"there is no job {name}; finished ones are kept for jobs.keep_for, the newest "
                f"{self.section.keep_finished:,} of each state"
            )
        return alike[0]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Jobs]:
    """The jobs of these settings. Nothing is connected before the first question."""
    jobs = Jobs(settings)
    try:
        yield jobs
    finally:
        await jobs.store.close()


def settings_of(options: SettingsOptions) -> Settings:
    """The settings of whoever asks about jobs: the old names of the servers count."""
    return options.load({"jobs.enabled": True})


def with_jobs(settings: Settings, work: Callable[[Jobs], Awaitable[None]]) -> None:
    """Run ``work`` on the jobs, until a signal. Errors of Redis become those that name the server."""

    async def main() -> None:
        async with opened(settings) as jobs:
            await work(jobs)

    with talking_to(settings.section(JobSettings).url or settings.redis.url):
        until_signal(main)
