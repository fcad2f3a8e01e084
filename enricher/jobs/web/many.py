"""The same done with all jobs that match, in the background, and how far that is."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from msgspec import Meta

from enricher.jobs.runs import VERBS, JobRun, Verb, now_us
from enricher.jobs.selection import JobFilter
from enricher.jobs.web.listed import JobParts
from enricher.jobs.web.reading import Reading
from enricher.runs import Runs, RunUnderWay
from enricher.web.requests import Refusal
from enricher.web.views import Asked, Done

_CLEARED = 2000.0
"""Jobs a second."""
_PAST = {"retry": "retried", "cancel": "cancelled", "delete": "deleted", "clear": "cancelled"}


class ManyJobs(JobParts, frozen=True, kw_only=True):
    """``verb`` done with all of them, ``rate`` a second."""

    verb: Verb
    rate: Annotated[float, Meta(gt=0, le=10_000)] = 100.0


class Many:
    """Begins, shows and stops the run over many jobs."""

    def __init__(self, reading: Reading, runs: Runs[JobRun]) -> None:
        self._reading = reading
        self._runs = runs

    async def run(self, _: Asked[Any]) -> JobRun | None:
        return await self._runs.now()

    async def begin(self, asked: Asked[ManyJobs]) -> Done:
        order = asked.parameters
        possible = [verb for verb in VERBS[order.state] if verb != "clear"]
        if order.verb not in possible:
            raise Refusal(422, f"verb: expected {' or '.join(possible)} for {order.state} jobs")
        all_that_wait = order.verb == "cancel" and order.state == "waiting" and order.wanted.is_open
        await self._begin("clear" if all_that_wait else order.verb, order.wanted, order.rate, asked.who)
        return Done(f"All {order.state} jobs that match are {_PAST[order.verb]}, {order.rate:g} a second")

    async def clear(self, asked: Asked[Any]) -> Done:
        name = await self._reading.queue(asked.path["name"])
        await self._begin("clear", JobFilter(states=("waiting",), queues=(name,)), _CLEARED, asked.who)
        return Done(f"The jobs that wait in {name} are cancelled")

    async def stop(self, asked: Asked[Any]) -> Done:
        run = await self._runs.stop(asked.who)
        return Done("no run is under way" if run is None else f"stopped with {run.left:,} left")

    async def _begin(self, verb: Verb, wanted: JobFilter, rate: float, who: str) -> None:
        began, id_ = await now_us(self._reading), secrets.token_hex(8)
        run = JobRun(id=id_, rate=rate, who=who, began_us=began, verb=verb, wanted=wanted)
        try:
            await self._runs.begin(run)
        except RunUnderWay as error:
            raise Refusal(409, str(error)) from error
