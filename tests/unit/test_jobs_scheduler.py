"""What the classes of jobs say becomes schedules, and what is due is decided without a server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest

from enricher.jobs.definition import define
from enricher.jobs.errors import BadArguments
from enricher.jobs.scheduler import MOST, Due, ScheduledTask, due, scheduled_tasks
from enricher.jobs.schedules import Cron, Interval, Misfire
from tests.timed_jobs import Nightly, Tick, Unscheduled

HOUR = 3_600_000


def tasks(zone: str = "UTC", max_payload: int = 1000) -> list[ScheduledTask]:
    return scheduled_tasks(map(define, (Tick, Nightly, Unscheduled)), zone, max_payload)


def test_a_class_with_a_schedule_is_a_task_with_the_arguments_of_its_schedule() -> None:
    tick, nightly = tasks()
    request = tick.request(1000)
    assert (request.task, request.queue) == ("tests.timed_jobs.Tick", "default")
    assert request.payload in (b'[[],{"text":"every 0.1 s"}]', b'[["every 0.1 s"],{}]')
    assert (nightly.kept.module, nightly.kept.expression) == ("tests.timed_jobs", "0 2 * * * Asia/Kolkata")


def test_an_occurrence_has_one_id_wherever_it_is_made_and_a_job_out_of_turn_another() -> None:
    ids = [[each.request(1000).id, each.request(2000).id] for each in (tasks()[0], tasks()[0], tasks()[1])]
    assert ids[0] == ids[1]
    assert len({id_ for pair in ids for id_ in pair}) == 4
    assert tasks()[0].request_now().id not in ids[0]
    assert tasks()[0].request_now().payload == tasks()[0].request(1000).payload


def test_a_cron_without_a_zone_is_read_in_that_of_the_service() -> None:
    class Early(Nightly):
        cron_timezone = None

    (task,) = scheduled_tasks([define(Early)], "Europe/Berlin")
    assert task.kept.expression == "0 2 * * * Europe/Berlin"
    assert next(task.schedule.after(0)) == 1 * HOUR


def test_arguments_that_no_job_may_have_are_refused_at_the_start() -> None:
    with pytest.raises(BadArguments):
        tasks(max_payload=10)


def test_a_schedule_is_looked_at_again_when_it_is_due_next() -> None:
    assert due(Cron("0 * * * *"), 5 * HOUR, 6 * HOUR + 7, "one") == Due([6 * HOUR], 7 * HOUR)
    assert due(Cron("0 * * * *"), 5 * HOUR, 6 * HOUR - 7, "one") == Due([], 6 * HOUR)


@pytest.mark.parametrize("misfire", ["one", "skip"])
def test_one_whose_time_has_been_set_back_waits_for_what_has_not_run(misfire: Misfire) -> None:
    assert due(Interval(3600), 9 * HOUR, 6 * HOUR + 7, misfire) == Due([], 10 * HOUR)


def test_what_is_too_much_at_once_is_taken_at_once_again() -> None:
    now = 300 * 1000
    found = due(Interval(1), 0, now, "all")
    assert found == Due(list(islice(Interval(1).after(0), MOST)), now)
    assert due(Interval(1), 250 * 1000, now, "all").again_ms == now + 1000


def test_a_schedule_without_another_occurrence_is_never_looked_at_again() -> None:
    class Once:
        expression, zone = "once", "UTC"

        def after(self, moment_ms: int) -> Iterator[int]:
            return iter([HOUR] if moment_ms < HOUR else [])

    assert due(Once(), 0, HOUR, "all") == Due([HOUR], None)
