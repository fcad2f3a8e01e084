"""What ``enricher check`` says of background jobs: classes that are wrong, queues that nobody serves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from enricher.config.types import did_you_mean
from enricher.job_admin import ListQueues, ListWorkers
from enricher.job_store import JobStore, QueueFigures, Queues
from enricher.jobs.definition import Definition


def queue_warnings(definitions: Iterable[Definition], served: Collection[str]) -> list[str]:
    """A sentence for each queue that classes name and nobody serves."""
    classes: dict[str, list[str]] = {}
    for definition in definitions:
        if definition.queue not in served:
            classes.setdefault(definition.queue, []).append(definition.task)
    return [
        f"nobody serves queue {queue!r}, to which jobs of {', '.join(tasks)} go; expected one of "
        f"{', '.join(served) or '(none is served)'}{did_you_mean(queue, served)}"
        for queue, tasks in classes.items()
    ]


def left_alone(figures: Iterable[QueueFigures], served: Collection[str]) -> list[str]:
    """A sentence for each queue in which jobs wait for nobody."""
    waiting = {queue.name: queue.waiting + queue.scheduled + queue.retrying for queue in figures}
    return [
        f"{number:,} jobs wait in queue {name!r}, which nobody serves; name it in jobs.queues of a worker"
        for name, number in waiting.items()
        if number and name not in served
    ]


async def probe(store: JobStore, own: Collection[str], definitions: Iterable[Definition]) -> list[str]:
    """Warnings that take the store's answer: which queues are neither ``own`` nor another worker's.

    The store is closed afterwards; another question would open it again.
    """
    try:
        served = list(own)
        for worker in await store.ask(ListWorkers()):
            said = msgspec.json.decode(worker.description)
            queues = said.get("queues", ()) if isinstance(said, Mapping) else ()
            served += [queue for queue in queues if queue not in served]
        known = await store.ask(ListQueues())
        figures = await store.ask(Queues(tuple(known))) if known else []
    finally:
        await store.close()
    return [*queue_warnings(definitions, served), *left_alone(figures, served)]
