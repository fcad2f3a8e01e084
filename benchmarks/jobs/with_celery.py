"""Celery, prefork: results kept, acknowledged after the job; beat is a process of its own."""

from __future__ import annotations

from datetime import UTC, datetime

from celery import Celery, group
from celery.schedules import crontab

from benchmarks.jobs.work import LOG, REDIS_URL, RESULT_TTL, cron, late, noop

app = Celery(broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    result_expires=RESULT_TTL,
    broker_connection_retry_on_startup=True,
    beat_schedule={"cron": {"task": "cron", "schedule": crontab()}},
    beat_schedule_filename=f"{LOG}.beat",
)
for name, function in {"process": noop, "late": late, "cron": cron}.items():
    app.task(name=name)(function)


class Client:
    """As `benchmarks.jobs.client.Client`."""

    async def one(self, job: str, *arguments: object) -> None:
        app.tasks[job].delay(*arguments)

    async def many(self, job: str, rows: list[tuple[object, ...]]) -> None:
        group(app.tasks[job].s(*row) for row in rows).delay()

    async def at(self, job: str, due_us: int) -> None:
        app.tasks[job].apply_async((due_us,), eta=datetime.fromtimestamp(due_us / 1e6, UTC))
