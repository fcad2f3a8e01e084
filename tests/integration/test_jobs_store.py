"""The jobs in Redis: kept once, begun once, ended once, whatever dies in between."""

from __future__ import annotations

import uuid

import pytest
import redis

from enricher.adapters.redis.jobs.calls import END, FETCH, TAKE_OVER, end_parts, run_of
from enricher.adapters.redis.jobs.client import blocking_store
from enricher.adapters.redis.jobs.records import end_settings
from enricher.job_store import (
    Cancel,
    End,
    Enqueue,
    Find,
    JobQueueSettings,
    Limit,
    Pause,
    Queues,
    Request,
    Result,
    Run,
    Unique,
)

QUEUES = ("critical", "default", "low")


class Jobs:
    """A store, and workers that fetch by hand."""

    def __init__(self, url: str) -> None:
        self.settings = JobQueueSettings(url=url, prefix="jobs", queues=QUEUES, lease=60)
        self.store = blocking_store(self.settings)
        self.client = redis.Redis.from_url(url, protocol=2)
        for queue in QUEUES:
            self.client.xgroup_create(f"jobs:{queue}", "workers", "0", mkstream=True)

    def request(self, **more: object) -> Request:
        fields = {"id": uuid.uuid4().hex, "task": "a.Task", "queue": "default", "payload": b"[[1],{}]"}
        return Request(**{**fields, **more})  # type: ignore[arg-type]

    def enqueue(self, **more: object) -> str:
        (id_,) = self.store.ask(Enqueue((self.request(**more),)))
        return id_

    def fetch(self, worker: str = "one", free: int = 8, *, again: int = 4, alone: bool = True) -> list[Run]:
        shares = [part for queue in QUEUES for part in (queue, free if queue == QUEUES[0] else 0)]
        first = (worker, free, again, "1" if alone else "", 60)
        rows, self.due_ms, self.newest = self._run(FETCH, *first, *shares)
        return [run_of(row) for row in rows]

    def end(self, *ends: End) -> list[bytes]:
        parts = [part for end in ends for part in end_parts(end, shown=True)]
        return self._run(END, *end_settings(self.settings), *parts)  # type: ignore[no-any-return]

    def take_over(self, *, idle_ms: int = 0, deadly: int = 3) -> tuple[int, list[Run]]:
        found, poison = self._run(TAKE_OVER, idle_ms, deadly, "", "", 0, *QUEUES)
        return found, [run_of(row) for row in poison]

    def _run(self, script: object, *arguments: object) -> list:  # type: ignore[type-arg]
        return self.client.eval(script.text, 1, "jobs", *arguments)  # type: ignore[attr-defined,no-any-return]

    def state(self, id_: str) -> str | None:
        record = self.store.ask(Find(id_))
        return None if record is None else record.state


@pytest.fixture
def jobs(any_redis_url: str) -> Jobs:
    return Jobs(any_redis_url)


def test_a_job_is_begun_once_and_ended_once(jobs: Jobs) -> None:
    id_ = jobs.enqueue()
    assert jobs.state(id_) == "waiting"
    (run,) = jobs.fetch()
    assert (run.id, run.task, run.payload, run.attempt, run.number) == (id_, "a.Task", b"[[1],{}]", 1, 1)
    assert jobs.fetch("two") == []
    assert b"STARTED" in (jobs.store.ask(Result(id_)) or b"")
    child = jobs.request(id="child")
    end = End(run=run, state="succeeded", result=b'{"status":"SUCCESS"}', children=(child,))
    assert jobs.end(end, end) == [b"", b"="]
    assert jobs.state(id_) == "succeeded"
    assert jobs.store.ask(Result(id_)) == b'{"status":"SUCCESS"}'
    assert [run.id for run in jobs.fetch()] == ["child"]
    assert jobs.client.xlen("jobs:default") == 1


def test_the_same_request_again_is_the_same_job(jobs: Jobs) -> None:
    request = jobs.request()
    assert jobs.store.ask(Enqueue((request, request))) == [request.id, request.id]
    assert len(jobs.fetch()) == 1


def test_the_highest_queue_is_read_first_and_the_others_fill_what_is_left(jobs: Jobs) -> None:
    for queue, count in (("low", 5), ("default", 2), ("critical", 3)):
        for _ in range(count):
            jobs.enqueue(queue=queue)
    assert [run.queue for run in jobs.fetch(free=4)] == ["critical"] * 3 + ["default"]
    assert [run.queue for run in jobs.fetch(free=3)] == ["default", "low", "low"]


def test_a_delayed_job_waits_until_it_is_due(jobs: Jobs) -> None:
    id_ = jobs.enqueue(delay_ms=60_000)
    past = jobs.enqueue(at_ms=1000)
    assert [run.id for run in jobs.fetch()] == [past]
    assert 50_000 < jobs.due_ms <= 60_000
    jobs.client.zadd("jobs:default:delayed", {id_: 1})
    assert [run.id for run in jobs.fetch()] == [id_]


def test_a_retry_counts_an_attempt_and_a_job_handed_back_does_not(jobs: Jobs) -> None:
    jobs.enqueue()
    (run,) = jobs.fetch()
    jobs.end(End(run=run, state="waiting"))
    (run,) = jobs.fetch()
    assert (run.attempt, run.number) == (1, 3)
    jobs.end(End(run=run, state="retrying", delay_ms=0))
    (run,) = jobs.fetch()
    assert run.attempt == 2


def test_a_cancelled_job_is_not_begun(jobs: Jobs) -> None:
    waiting, scheduled = jobs.enqueue(), jobs.enqueue(delay_ms=10)
    assert jobs.store.ask(Cancel(waiting, b'{"status":"REVOKED"}')) == "waiting"
    assert jobs.store.ask(Cancel(scheduled)) == "scheduled"
    assert jobs.fetch() == []
    assert jobs.store.ask(Result(waiting)) == b'{"status":"REVOKED"}'
    assert jobs.state(scheduled) == "cancelled"
    assert jobs.store.ask(Cancel("unknown")) is None


def test_while_a_unique_job_waits_or_runs_its_id_is_the_answer(jobs: Jobs) -> None:
    first = jobs.enqueue(unique=Unique("k", "finished"))
    assert jobs.enqueue(unique=Unique("k", "finished")) == first
    (run,) = jobs.fetch()
    assert jobs.enqueue(unique=Unique("k", "finished")) == first
    jobs.end(End(run=run, state="succeeded"))
    assert jobs.enqueue(unique=Unique("k", "finished")) != first

    other = jobs.enqueue(unique=Unique("s", "started"))
    assert jobs.enqueue(unique=Unique("s", "started")) == other
    jobs.fetch()
    assert jobs.enqueue(unique=Unique("s", "started")) != other


def test_a_limit_holds_over_all_workers_and_whoever_waits_goes_on(jobs: Jobs) -> None:
    limits = (Limit("slow", most=2),)
    ids = [jobs.enqueue(limits=limits) for _ in range(4)]
    begun = jobs.fetch()
    assert [run.id for run in begun] == ids[:2]
    assert jobs.fetch("two") == []
    jobs.end(End(run=begun[0], state="succeeded"))
    assert [run.id for run in jobs.fetch("two")] == ids[2:3]


def test_a_rate_delays_what_is_too_much(jobs: Jobs) -> None:
    limits = (Limit("often", rate=3, per_ms=60_000),)
    for _ in range(5):
        jobs.enqueue(limits=limits)
    assert len(jobs.fetch()) == 3
    assert 40_000 < jobs.due_ms <= 60_000


def test_a_paused_queue_runs_nothing_and_loses_nothing(jobs: Jobs) -> None:
    jobs.enqueue()
    assert jobs.store.ask(Pause("default"))
    assert not jobs.store.ask(Pause("default"))
    assert jobs.fetch() == []
    (figures,) = jobs.store.ask(Queues(("default",)))
    assert (figures.waiting, figures.running, figures.paused) == (1, 0, True)
    jobs.store.ask(Pause("default", paused=False))
    assert len(jobs.fetch()) == 1


def test_jobs_of_a_silent_worker_begin_again_and_the_old_run_writes_nothing(jobs: Jobs) -> None:
    ids = {jobs.enqueue() for _ in range(3)}
    old = jobs.fetch("dead")
    assert jobs.take_over() == (3, [])
    new = jobs.fetch("alive", free=8, again=2)
    again = {run.id for run in new}
    assert (len(again), {run.lost for run in new}) == (2, {1})
    assert jobs.end(*(End(run=run, state="succeeded") for run in old if run.id in again)) == [b"="] * 2
    # A worker that was only slow ends what nobody has begun again.
    (rest,) = [run for run in old if run.id not in again]
    assert jobs.end(End(run=rest, state="succeeded")) == [b""]
    assert jobs.fetch("alive") == []
    assert {id_ for id_ in ids if jobs.state(id_) == "running"} == again


def test_what_took_workers_with_it_is_kept_apart_and_set_aside(jobs: Jobs) -> None:
    killer, innocent = jobs.enqueue(), jobs.enqueue()
    jobs.fetch("w0")
    jobs.take_over()
    assert len(jobs.fetch("w1")) == 2
    jobs.take_over(idle_ms=0)
    for number in range(2, 5):
        # They wait for some leases, the longer the more often; then only one of them runs at a time.
        for member in jobs.client.zrange("jobs:lost", 0, -1):
            jobs.client.zadd("jobs:lost", {member: 1 if innocent.encode() in member else 2})
        begun = jobs.fetch(f"w{number}")
        assert len(begun) == 1
        if begun[0].id == innocent:
            jobs.end(End(run=begun[0], state="succeeded"))
            begun = jobs.fetch(f"w{number}")
        found, poison = jobs.take_over()
        assert found == 1
    assert [run.id for run in poison] == [killer]
    assert jobs.end(End(run=poison[0], state="failed")) == [b""]
    assert (jobs.state(killer), jobs.state(innocent)) == ("failed", "succeeded")
