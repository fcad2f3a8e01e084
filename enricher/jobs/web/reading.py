"""The jobs as the screens read them: pages of those that match, within bounds, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from enricher.errors import SinkUnavailable
from enricher.job_admin import Finished, FinishedFigures, ListJobs, ListQueues
from enricher.job_store import (
    FINISHED,
    Call,
    Find,
    JobRecord,
    JobStore,
    QueueFigures,
    Queues,
    State,
    StoreUnavailable,
)
from enricher.jobs.registry import WorkerRegistry
from enricher.jobs.selection import JobFilter
from enricher.jobs.settings import JobSettings
from enricher.web.requests import Refusal

T = TypeVar("T")

_AT_ONCE = 200
_SEPARATOR = "|"


class Found(msgspec.Struct, frozen=True):
    """Jobs; ``after`` is where the next begin ("": there are none), ``looked_at`` how many were looked at."""

    jobs: list[JobRecord]
    after: str
    looked_at: int


class Reading:
    """The ``store`` of jobs with the settings and classes of this process; ``zone`` is the service's."""

    def __init__(self, section: JobSettings, registry: WorkerRegistry, store: JobStore, zone: str) -> None:
        self.section = section
        self.registry = registry
        self.store = store
        self.zone = zone

    async def ask(self, call: Call[T]) -> T:
        """As `JobStore.ask`. Raises `SinkUnavailable`."""
        try:
            return await self.store.ask(call)
        except StoreUnavailable as error:
            raise SinkUnavailable("the server of the jobs", str(error)) from error

    async def queues(self) -> list[str]:
        """The queues of the settings, then all others that jobs were enqueued to."""
        return list(dict.fromkeys([*self.section.queue_names, *await self.ask(ListQueues())]))

    async def queue(self, name: str) -> str:
        """The name of a queue that there is. Raises `Refusal` (404)."""
        if name not in await self.queues():
            raise Refusal(404, f"there is no queue {name!r:.60}")
        return name

    async def job(self, id: str) -> JobRecord:  # noqa: A002
        """The job of this id. Raises `Refusal` (404)."""
        found = await self.ask(Find(id))
        if found is None:
            raise Refusal(404, "there is no such job: it was deleted, or finished jobs are not kept so long")
        return found

    async def counts(self) -> tuple[Mapping[State, int], list[QueueFigures], FinishedFigures]:
        """How many jobs there are of each state, how the queues stand, and how fast jobs end."""
        figures = await self.ask(Queues(tuple(await self.queues())))
        finished = await self.ask(Finished())
        counts: dict[State, int] = {
            "running": sum(each.running for each in figures),
            "retrying": sum(each.retrying for each in figures),
            "waiting": sum(each.waiting for each in figures),
            "scheduled": sum(each.scheduled for each in figures),
            **{state: finished.kept.get(state, 0) for state in FINISHED},
        }
        return counts, figures, finished

    async def find(
        self, wanted: JobFilter, state: State, *, after: str = "", limit: int, most: int, names: Sequence[str]
    ) -> Found:
        """Up to ``limit`` jobs of a state that are ``wanted``, of the queues ``names``.

        At most about ``most`` are looked at. Raises `Refusal` (422) for an ``after`` that is none.
        """
        queues = [""] if state in FINISHED else list(names)
        queue, separator, place = after.partition(_SEPARATOR)
        if after and (not separator or queue not in queues):
            raise Refusal(422, "'after' was expected as an earlier answer had it in 'next'")
        at = queues.index(queue) if after else 0
        found: list[JobRecord] = []
        looked_at = 0
        while at < len(queues) and len(found) < limit and looked_at < most:
            room = limit - len(found)
            count = room if wanted.is_open else _AT_ONCE
            page = await self.ask(ListJobs(state, queues[at], place, count))
            matching = [number for number, job in enumerate(page.jobs) if wanted.matches(job)]
            if len(matching) > room:
                # Where the next page begins is known of whole pages alone.
                count = matching[room - 1] + 1
                page = await self.ask(ListJobs(state, queues[at], place, count))
            found += filter(wanted.matches, page.jobs)
            place = page.after
            looked_at += count if place else len(page.jobs)
            at += not place
        more = at < len(queues)
        return Found(found, f"{queues[at]}{_SEPARATOR}{place}" if more else "", looked_at)
