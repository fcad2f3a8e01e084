"""Jobs with a schedule."""

from __future__ import annotations

from enricher.jobs import Worker
from tests.jobs_app.orders import book


class Tick(Worker):
    """Says in Redis that it ran."""

    every = 0.1
    cron_args = {"text": "every 0.1 s"}

    @classmethod
    def perform(cls, text: str) -> None:
        book().rpush("ticks", text)


class Nightly(Worker):
    """Runs at two in the night in Kolkata."""

    cron_schedule = "0 2 * * *"
    cron_timezone = "Asia/Kolkata"

    @classmethod
    def perform(cls) -> None:
        raise AssertionError("it is not night")


class Unscheduled(Worker):
    """Has a schedule, but nobody says with what."""

    every = 0.1

    @classmethod
    def perform(cls, customer: int) -> None:
        raise AssertionError("it was not asked for")
