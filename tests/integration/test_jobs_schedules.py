"""Schedules on a real server: an occurrence is enqueued once, whoever is killed, cut off or deployed anew."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from enricher import Enricher, load
from enricher.adapters.redis.jobs.client import job_store
from enricher.job_store import JobStore, Request
from enricher.jobs.definition import define
from enricher.jobs.scheduler import ScheduledTask, Scheduler, scheduled_tasks
from enricher.jobs.schedules import Cron, Interval, Misfire, Schedule, occurrences
from enricher.jobs.settings import JobSettings
from tests.integration.commands import eventually
from tests.integration.forks import Forked
from tests.integration.jobs import job_workers
from tests.rig import until
from tests.servers import FaultyProxy, RedisProcess
from tests.timed_jobs import Nightly, Tick

TASK = "shop.jobs.Report"
OFTEN = Interval(0.1)


def scheduled(schedule: Schedule, task: str = TASK, module: str = "shop.jobs") -> ScheduledTask:
    def request(due_ms: int) -> Request:
        return Request(id=f"{task}@{due_ms}", task=task, queue="default", payload=b"[[],{}]")

    return ScheduledTask(task=task, module=module, schedule=schedule, request=request)


def store_at(url: str) -> JobStore:
    return job_store(JobSettings().queue_settings(url, 1.0))


def schedule_process(url: str, tasks: Mapping[str, float], clock_s: float) -> None:
    """A process that enqueues what is due until it is killed, on a machine whose clock is wrong."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + clock_s
    time.time_ns = lambda: right_ns() + int(clock_s * 1e9)
    every = [scheduled(Interval(seconds), task) for task, seconds in tasks.items()]

    async def work() -> None:
        store = store_at(url)
        await Scheduler(store, every, misfire="all").run()

    asyncio.run(work())


class Kept:
    """What the server has of schedules and their jobs."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url, protocol=2, decode_responses=True)

    def hash(self, task: str = TASK) -> list[str] | None:
        """Since, ran, module and rule."""
        found: Any = self.client.hget("jobs:schedules", task)
        return found.split(" ", 3) if found else None

    def ran(self, task: str = TASK) -> int:
        """The last occurrence that was run, 0 for none."""
        return int((self.hash(task) or ["0", "0"])[1])

    def ran_after(self, moment: int, task: str = TASK) -> bool:
        return self.ran(task) > moment

    def begin(self, ms_ago: int, schedule: Schedule, task: str = TASK, module: str = "shop.jobs") -> int:
        """Let a schedule be one that has run so long ago for the last time."""
        since = self.now() - ms_ago
        rule = f"{schedule.expression} {schedule.zone}"
        self.client.hset("jobs:schedules", task, f"{since} {since} {module} {rule}")
        return since

    def now(self) -> int:
        seconds, microseconds = self.client.time()  # type: ignore[misc]
        return int(seconds) * 1000 + int(microseconds) // 1000

    def enqueued(self, task: str = TASK) -> list[int]:
        """The occurrences that became jobs, in the order of their queue."""
        entries: Any = self.client.xrange("jobs:default")
        jobs = [fields["id"].split("@") for _, fields in entries]
        return [int(due) for name, due in jobs if name == task]


@pytest.fixture
def kept(redis_url: str) -> Iterator[Kept]:
    found = Kept(redis_url)
    yield found
    found.client.close()


@asynccontextmanager
async def scheduler(
    url: str, *tasks: ScheduledTask, misfire: Misfire = "one", packages: tuple[str, ...] = ()
) -> AsyncIterator[None]:
    store = store_at(url)
    run = Scheduler(store, tasks, misfire=misfire, packages=packages).run
    try:
        # As the engine does: one call of `Task.cancel` may be lost in `asyncio.wait_for` (Python 3.11).
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            yield
            group.cancel_scope.cancel()
    finally:
        await store.close()


def test_three_processes_that_are_killed_and_frozen_again_and_again_run_thousands_of_occurrences_once_each(
    redis_url: str, kept: Kept
) -> None:
    drawn = random.Random(7)
    tasks = {TASK: 0.1, "shop.jobs.Other": 0.2, "shop.jobs.Third": 0.5}
    since = {task: kept.begin(400_000, Interval(every), task) for task, every in tasks.items()}
    clocks = (-10.0, 0.0, 10.0)
    processes = [Forked(schedule_process, redis_url, tasks, clock) for clock in clocks]
    try:
        for _ in range(15):
            killed, frozen = drawn.sample(range(3), 2)
            processes[frozen].send_signal(signal.SIGSTOP)
            time.sleep(drawn.random() * 0.15)
            processes[killed].kill()
            processes[killed].wait()
            processes[killed] = Forked(schedule_process, redis_url, tasks, clocks[killed])
            processes[frozen].send_signal(signal.SIGCONT)
        now = kept.now()
        eventually(lambda: all(kept.ran_after(now, task) for task in tasks), "all of them to go on")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for task, every in tasks.items():
        assert kept.enqueued(task) == occurrences(Interval(every), since[task], kept.ran(task))
    assert len(kept.enqueued()) > 4000


async def test_a_lost_reply_doubles_no_occurrence_and_an_outage_loses_none(
    own_redis: RedisProcess,
) -> None:
    kept = Kept(own_redis.url)
    async with FaultyProxy(own_redis.port) as proxy:
        since = kept.begin(1000, OFTEN)
        async with scheduler(proxy.redis_url(), scheduled(OFTEN), misfire="all"):
            for _ in range(3):
                lost = proxy.lost_replies
                proxy.lose_next_reply(lambda request: b"shop.jobs.Report@" in request)
                await until(lambda lost=lost: proxy.lost_replies > lost, "a lost reply")
                now = kept.now()
                await until(lambda now=now: kept.ran_after(now), "the next occurrence")
            proxy.refuse = True
            proxy.cut()
            begun = kept.now()
            await until(lambda: kept.now() > begun + 1000)
            assert not kept.ran_after(begun)
            proxy.heal()
            healed = kept.now()
            await until(lambda: kept.ran_after(healed), "an occurrence after the outage")
        assert kept.enqueued() == occurrences(OFTEN, since, kept.ran())


@pytest.mark.parametrize(("misfire", "number"), [("one", 1), ("skip", 0), ("all", 250)])
async def test_what_was_missed_is_run_as_the_policy_says(
    redis_url: str, kept: Kept, misfire: Misfire, number: int
) -> None:
    # The last one was half an hour ago, so that none is on time.
    hourly = Cron(f"{(kept.now() // 60_000 + 30) % 60} * * * *")
    since = kept.begin(250 * 3_600_000, hourly)
    async with scheduler(redis_url, scheduled(hourly), scheduled(OFTEN, "shop.jobs.Marker"), misfire=misfire):
        await until(lambda: kept.enqueued("shop.jobs.Marker") and len(kept.enqueued()) >= number)
    every = occurrences(hourly, since, kept.now())
    assert kept.enqueued() == (every[-number:] if number else [])


async def test_a_new_schedule_and_one_whose_rule_has_changed_begin_now(redis_url: str, kept: Kept) -> None:
    begun = kept.now()
    kept.begin(3_600_000, Interval(0.3))
    tasks = [scheduled(OFTEN), scheduled(OFTEN, "shop.jobs.New")]
    async with scheduler(redis_url, *tasks, misfire="all"):
        await until(lambda: kept.ran_after(begun) and kept.enqueued("shop.jobs.New"))
    assert kept.enqueued()[0] > begun
    assert kept.enqueued("shop.jobs.New")[0] > begun
    assert (kept.hash() or [])[2:] == ["shop.jobs", "every 0.1 s UTC"]


async def test_a_removed_schedule_stops_and_is_forgotten_and_those_of_other_packages_stay(
    redis_url: str, kept: Kept
) -> None:
    kept.begin(3_600_000, OFTEN)
    kept.begin(3_600_000, OFTEN, "renamed", module="shop.jobs.more")
    kept.begin(3_600_000, OFTEN, "shopping.Elsewhere", module="shopping")
    async with scheduler(redis_url, scheduled(OFTEN, "shop.jobs.New"), misfire="all", packages=("shop",)):
        await until(lambda: kept.enqueued("shop.jobs.New"))
    assert sorted(kept.client.hkeys("jobs:schedules")) == ["shop.jobs.New", "shopping.Elsewhere"]
    assert kept.enqueued() == kept.enqueued("renamed") == kept.enqueued("shopping.Elsewhere") == []


async def test_a_process_of_the_deploy_before_runs_its_own_rule_and_no_moment_twice(
    redis_url: str, kept: Kept
) -> None:
    async with scheduler(redis_url, scheduled(Interval(0.1)), misfire="all"):
        await until(kept.ran)
        async with scheduler(redis_url, scheduled(Interval(0.2)), misfire="all"):
            begun = kept.now()
            await until(lambda: kept.ran_after(begun + 1000))
    ran = kept.enqueued()
    assert ran == sorted(set(ran))
    assert (kept.hash() or [])[3] == "every 0.2 s UTC"


async def test_a_server_that_has_lost_everything_is_told_of_the_schedules_again(
    redis_url: str, kept: Kept
) -> None:
    async with scheduler(redis_url, scheduled(OFTEN), misfire="all"):
        await until(kept.ran)
        kept.client.flushall()
        emptied = kept.now()
        await until(lambda: kept.ran_after(emptied))
        assert min(kept.enqueued()) >= emptied - 100


async def test_a_schedule_that_is_not_due_for_long_costs_no_question(redis_url: str, kept: Kept) -> None:
    def questions() -> int:
        stats: Any = kept.client.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])

    async with scheduler(redis_url, scheduled(Interval(1e8)), scheduled(OFTEN, "shop.jobs.Marker")):
        await until(lambda: kept.enqueued("shop.jobs.Marker"))
        before = questions()
        await until(lambda: len(kept.enqueued("shop.jobs.Marker")) >= 4)
        # Two for an occurrence, and one now and then that came a moment early.
        assert questions() - before < 6 * len(kept.enqueued("shop.jobs.Marker"))


async def test_a_process_schedules_what_the_classes_say_and_one_without_the_role_does_not(
    redis_url: str, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENRICHER_REDIS__URL", redis_url)

    def process(roles: str) -> Enricher:
        given = {"redis.url": redis_url, "market.enabled": False, "jobs.packages": "tests.timed_jobs"}
        return Enricher(load(overrides={**given, "jobs.roles": roles, "jobs.poll": 0.1}))

    async with process("worker") as enricher:
        await enricher.wait_ready()
        assert not kept.client.exists("jobs:schedules")
    async with process("scheduler") as enricher:
        await enricher.wait_ready()
        await until(lambda: kept.client.xlen("jobs:default") > 2)
        assert not kept.client.exists("ticks")
        async with process("worker"):
            await until(lambda: kept.client.llen("ticks") > 2)
    assert kept.client.lrange("ticks", 0, 1) == ["every 0.1 s"] * 2
    assert (kept.hash("tests.timed_jobs.Nightly") or [])[2:] == ["tests.timed_jobs", "0 2 * * * Asia/Kolkata"]
    assert kept.client.hlen("jobs:schedules") == 2


def test_workers_that_are_killed_run_every_occurrence_to_its_end(
    redis_url: str, kept: Kept, tmp_path: Path
) -> None:
    tick, _ = scheduled_tasks([define(Tick), define(Nightly)], "UTC")
    since = kept.begin(3000, tick.schedule, tick.task, "tests.timed_jobs")
    more = {"jobs.packages": "tests.timed_jobs", "jobs.misfire": "all", "jobs.lease": 1.0}
    with job_workers(redis_url, tmp_path, more) as workers:
        for name in "abc":
            workers.start(name)
        for name in "abc":
            eventually(lambda now=kept.now(): kept.ran_after(now, tick.task), "an occurrence")  # noqa: B008
            workers.kill(name)
            workers.start(name)
        now = kept.now()
        eventually(lambda: kept.ran_after(now, tick.task), "an occurrence after all kills")
        every = {tick.request(at).id for at in occurrences(tick.schedule, since, now)}
        eventually(lambda: every <= set(kept.client.zrange("jobs:finished:succeeded", 0, -1)), "their ends")
        ended = set(kept.client.zrange("jobs:finished:succeeded", 0, -1))
    assert ended <= {tick.request(at).id for at in occurrences(tick.schedule, since, kept.now())}
    assert not kept.client.exists("jobs:finished:failed")
