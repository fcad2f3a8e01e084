"""Figures of jobs: how queues stand, and how runs of each task ended, as Celery's exporters call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress

from enricher.engine.stats import Histogram
from enricher.job_store import End, JobStore, Queues, StoreUnavailable
from enricher.metrics import Metric

_STATES = {"succeeded": "success", "retrying": "retry", "failed": "failure", "cancelled": "revoked"}


class Ended:
    """How runs of this process ended, by task; of all ``tasks`` the counters are there from the start."""

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        self._counts = Counter({(task, status): 0 for task in tasks for status in _STATES.values()})
        self._took: dict[str, Histogram] = {}

    def note(self, task: str, end: End, seconds: float) -> None:
        """A run of a known task has ended."""
        status = _STATES.get(end.state)
        if status is not None:
            self._counts[task, status] += 1
            self._took.setdefault(task, Histogram()).record(int(seconds * 1e6))

    def metrics(self) -> Iterable[Metric]:
        """Counters and durations by task."""
        yield Metric(
            name="celery_tasks",
            help="Runs of tasks that ended, by task.",
            kind="counter",
            samples=[({"task_name": task, "status": s}, n) for (task, s), n in sorted(self._counts.items())],
        )
        yield Metric(
            name="celery_task_duration_seconds",
            help="How long runs of tasks took, by task.",
            kind="histogram",
            samples=[({"task_name": task}, took) for task, took in sorted(self._took.items())],
        )


async def metrics_of(ended: Ended, store: JobStore, queues: Sequence[str]) -> Iterable[Metric]:
    """All of them; those of the queues only while their server answers."""
    found = list(ended.metrics())
    with suppress(StoreUnavailable):
        found += await of_queues(store, queues)
    return found


async def of_queues(store: JobStore, queues: Sequence[str]) -> Iterable[Metric]:
    """How queues stand. Raises `StoreUnavailable`."""
    figures = await store.ask(Queues(tuple(queues)))
    states = ("waiting", "running", "scheduled", "retrying")
    return (
        Metric(
            name="enricher_queue_jobs",
            help="Jobs of a queue by state.",
            kind="gauge",
            samples=[
                ({"queue": each.name, "state": state}, float(getattr(each, state)))
                for each in figures
                for state in states
            ],
        ),
        Metric(
            name="enricher_queue_oldest_seconds",
            help="For how long the first waiting job has waited.",
            kind="gauge",
            samples=[({"queue": each.name}, each.oldest_ms / 1000) for each in figures],
        ),
        Metric(
            name="enricher_queue_paused",
            help="1 while a queue is paused.",
            kind="gauge",
            samples=[({"queue": each.name}, float(each.paused)) for each in figures],
        ),
    )
