"""What is done to the keys of jobs by hand, by cut replies and by slow workers: no job is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from enricher.adapters.redis.jobs.calls import FETCH, RENEW, TAKE_OVER
from enricher.adapters.redis.jobs.restore import restore
from enricher.job_admin import DeleteJob
from enricher.job_store import Cancel, End, Enqueue, Limit, Run, StoreUnavailable, Unique
from tests.integration.test_jobs_store import QUEUES, Jobs
from tests.servers import RedisProcess

ONE = (Limit("one", most=1),)


@pytest.fixture
def jobs(any_redis_url: str) -> Iterator[Jobs]:
    found = Jobs(any_redis_url)
    yield found
    found.client.close()
    found.store.close()


def ids(runs: list[Run]) -> list[str]:
    return [run.id for run in runs]


def success(run: Run, **more: Any) -> End:
    return End(run=run, state="succeeded", result=b'{"status":"SUCCESS"}', **more)


def renew(jobs: Jobs, worker: str, *runs: Run) -> list[list[int]]:
    parts = [part for run in runs for part in (run.queue, run.id, run.number)]
    *places, order = jobs._run(RENEW, worker, "{}", 60, *parts)
    assert order == b""
    return places


def found_again(jobs: Jobs, worker: str, *runs: Run, reconnected: bool, idle_ms: int = 0) -> int:
    mine = [part for run in runs for part in (run.id, run.number)]
    parts = (idle_ms, 3, worker, "1" if reconnected else "", len(runs), *mine, *QUEUES)
    return int(jobs._run(TAKE_OVER, *parts)[0])


# -- limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [Cancel, DeleteJob])
def test_whoever_waits_goes_on_when_the_one_that_was_let_in_is_taken_away(jobs: Jobs, call: Any) -> None:
    first, second, third = (jobs.enqueue(limits=ONE) for _ in range(3))
    (run,) = jobs.fetch()
    assert run.id == first
    jobs.end(success(run))
    assert jobs.store.ask(call(second)) == "waiting"
    assert ids(jobs.fetch()) == [third]


def test_whoever_waits_goes_on_when_those_before_are_gone(jobs: Jobs) -> None:
    first, second, third = (jobs.enqueue(limits=ONE) for _ in range(3))
    (run,) = jobs.fetch()
    jobs.client.delete(f"jobs:job:{second}")
    jobs.end(success(run))
    assert ids(jobs.fetch()) == [third]
    assert run.id == first


def test_a_place_of_a_job_that_is_gone_is_free(jobs: Jobs) -> None:
    first = jobs.enqueue(limits=ONE)
    assert ids(jobs.fetch()) == [first]
    jobs.client.delete(f"jobs:job:{first}")
    second = jobs.enqueue(limits=ONE)
    assert ids(jobs.fetch()) == [second]


def test_a_killed_holder_keeps_its_place_until_its_job_has_ended(jobs: Jobs) -> None:
    first, second = jobs.enqueue(limits=ONE), jobs.enqueue(limits=ONE)
    assert ids(jobs.fetch("dead")) == [first]
    assert jobs.take_over() == (1, [])
    (again,) = jobs.fetch("alive")
    assert again.id == first
    jobs.end(success(again))
    assert ids(jobs.fetch("alive")) == [second]


def test_a_rate_gives_turns_in_the_order_of_the_jobs(jobs: Jobs) -> None:
    limits = (Limit("often", rate=50, per_ms=1000),)
    asked = [jobs.enqueue(limits=limits) for _ in range(70)]
    begun = ids(jobs.fetch(free=100))
    assert begun == asked[: len(begun)]
    assert 50 <= len(begun) < 70
    dues = [jobs.client.zscore("jobs:default:delayed", id_) for id_ in asked[len(begun) :]]
    assert dues == sorted(set(dues)), "each has a turn of its own"
    late = jobs.enqueue(limits=limits)
    while len(begun) < 71:
        begun += ids(jobs.fetch(free=100))
    assert begun == [*asked, late]


def test_no_span_of_a_rate_has_more_starts_than_it_says(jobs: Jobs) -> None:
    limits = (Limit("often", rate=10, per_ms=500),)
    for _ in range(35):
        jobs.enqueue(limits=limits)
    begun: list[Run] = []
    while len(begun) < 35:
        begun += jobs.fetch(free=100)
    starts = [run.started_ms for run in begun]
    assert all(later - first >= 500 for first, later in zip(starts, starts[10:], strict=False))


def test_turns_that_all_were_missed_are_no_burst(jobs: Jobs) -> None:
    limits = (Limit("often", rate=2, per_ms=60_000),)
    asked = [jobs.enqueue(limits=limits) for _ in range(6)]
    assert len(jobs.fetch()) == 2
    for id_ in asked:  # nobody was there for an hour
        jobs.client.zadd("jobs:default:delayed", {id_: 1}, xx=True)
    assert jobs.fetch() == []


def test_values_of_arguments_cannot_make_a_limit_another_ones_key(jobs: Jobs) -> None:
    for key in ("a", "a:rate", "a:waiting", "rate:a"):
        limits = (Limit(key, most=1, rate=5, per_ms=60_000),)
        for _ in range(2):
            jobs.enqueue(limits=limits)
    assert len(jobs.fetch()) == 4


def test_a_killed_holder_keeps_its_unique_key_until_its_job_has_ended(jobs: Jobs) -> None:
    unique = Unique("key")
    first = jobs.enqueue(unique=unique)
    jobs.fetch("dead")
    jobs.take_over()
    assert jobs.enqueue(unique=unique) == first
    (again,) = jobs.fetch("alive")
    assert jobs.enqueue(unique=unique) == first
    jobs.end(End(run=again, state="failed"))
    second = jobs.enqueue(unique=unique)
    assert second != first
    jobs.client.delete(f"jobs:job:{second}")  # a lock whose job is gone holds nothing
    third = jobs.enqueue(unique=unique)
    assert third not in (first, second)
    jobs.store.ask(Cancel(third, b"{}"))
    assert jobs.enqueue(unique=unique) not in (first, second, third)


# -- leases -----------------------------------------------------------------------------------------


def test_a_worker_keeps_its_own_runs_however_late_it_renews(jobs: Jobs) -> None:
    jobs.enqueue()
    (run,) = jobs.fetch("slow")
    jobs.client.zadd("jobs:workers", {"slow": 1e15})
    assert found_again(jobs, "slow", run, reconnected=False) == 0
    assert jobs.fetch("other") == []


def test_nobody_is_taken_for_dead_by_a_worker_that_was_silent_itself(jobs: Jobs) -> None:
    jobs.enqueue()
    (run,) = jobs.fetch("one")
    assert found_again(jobs, "two", reconnected=False) == -1
    jobs.client.zadd("jobs:workers", {"one": 1, "two": 1e15})
    renew(jobs, "one", run)  # far too late: the others may not have had the time to
    assert found_again(jobs, "two", reconnected=False) == -1
    jobs.client.delete("jobs:late")
    assert found_again(jobs, "two", reconnected=False) == 1


def test_a_run_that_its_worker_was_never_told_of_begins_at_once_and_blames_nobody(jobs: Jobs) -> None:
    jobs.enqueue()
    (cut_off,) = jobs.fetch("worker")
    assert found_again(jobs, "worker", reconnected=True, idle_ms=60_000) == 1
    (again,) = jobs.fetch("worker")
    assert (again.id, again.number, again.lost) == (cut_off.id, 2, 0)


def test_a_worker_that_was_silent_takes_back_what_nobody_has_begun(jobs: Jobs) -> None:
    jobs.enqueue()
    (run,) = jobs.fetch("frozen")
    assert jobs.take_over() == (1, [])
    assert renew(jobs, "frozen", run) == [[], [], []]
    assert jobs.fetch("other") == []
    assert jobs.end(success(run)) == [b""]


def test_a_worker_hears_of_runs_that_began_elsewhere_and_of_jobs_that_are_gone(jobs: Jobs) -> None:
    jobs.enqueue()
    jobs.enqueue()
    elsewhere, gone = jobs.fetch("frozen")
    jobs.take_over()
    jobs.client.delete(f"jobs:job:{gone.id}")
    assert len(jobs.fetch("other")) == 1
    assert renew(jobs, "frozen", elsewhere, gone) == [[0], [1], []]
    assert jobs.end(success(elsewhere), success(gone)) == [b"=", b"-"]


def test_what_a_script_that_was_cut_off_had_read_waits_again(jobs: Jobs) -> None:
    id_ = jobs.enqueue()
    jobs.client.xreadgroup("workers", "cut-off", {"jobs:default": ">"})
    assert jobs.take_over() == (0, [])
    assert ids(jobs.fetch()) == [id_]
    assert jobs.client.xlen("jobs:default") == 1


def test_a_job_that_is_cancelled_too_late_for_its_run_is_not_delayed(jobs: Jobs) -> None:
    id_ = jobs.enqueue()
    (run,) = jobs.fetch()
    assert jobs.store.ask(Cancel(id_, b"{}")) == "running"
    jobs.end(End(run=run, state="retrying", delay_ms=3_600_000))
    (again,) = jobs.fetch()
    assert again.cancelling


# -- keys -------------------------------------------------------------------------------------------


def test_a_group_that_was_destroyed_costs_no_job_and_begins_none_twice(jobs: Jobs) -> None:
    running, waiting = jobs.enqueue(), jobs.enqueue()
    (run,) = jobs.fetch("alive", free=1)
    assert run.id == running
    jobs.client.xgroup_destroy("jobs:default", "workers")
    jobs.client.xgroup_create("jobs:default", "workers", "0")
    assert ids(jobs.fetch("other")) == [waiting]
    assert renew(jobs, "alive", run) == [[], [], []]
    pending = jobs.client.xpending_range("jobs:default", "workers", "-", "+", 10)
    assert [each["consumer"] for each in pending] == [b"alive", b"other"]
    assert jobs.end(success(run)) == [b""]


async def test_a_queue_that_was_deleted_gets_its_jobs_again(jobs: Jobs, any_redis_url: str) -> None:
    alive, dead = jobs.enqueue(), jobs.enqueue()
    held = jobs.fetch("alive", free=1)
    assert ids(held) == [alive]
    assert ids(jobs.fetch("dead", free=1)) == [dead]
    waiting, elsewhere, later = jobs.enqueue(), jobs.enqueue(queue="low"), jobs.enqueue(delay_ms=60_000)
    cancelled = jobs.enqueue()
    jobs.store.ask(Cancel(cancelled, b"{}"))
    renew(jobs, "alive", *held)
    jobs.client.delete("jobs:default", "jobs:default:delayed")
    new = jobs.enqueue()
    jobs.client.xgroup_create("jobs:default", "workers", "0")
    client = Redis.from_url(any_redis_url)
    assert await restore(client, jobs.settings, "default") == 2
    await client.aclose()
    assert jobs.state(alive) == "running"
    assert renew(jobs, "alive", *held) == [[], [], []]
    assert sorted(ids(jobs.fetch("other"))) == sorted([dead, waiting, elsewhere, new])
    assert jobs.client.zscore("jobs:default:delayed", later)
    assert jobs.end(success(held[0])) == [b""]
    assert jobs.client.xlen("jobs:default") == 3


def test_an_id_with_quotes_has_a_result_that_can_be_read(jobs: Jobs) -> None:
    jobs.store.ask(Enqueue((jobs.request(id='say-"\\hello"'),)))
    jobs.fetch()
    result = jobs.client.get('celery-task-meta-say-"\\hello"')
    assert b'"task_id":"say-\\"\\\\hello\\""' in result


def test_a_job_whose_hash_was_damaged_holds_up_nobody(jobs: Jobs) -> None:
    damaged, numbers, whole = jobs.enqueue(), jobs.enqueue(), jobs.enqueue()
    jobs.client.hdel(f"jobs:job:{damaged}", "task")
    jobs.client.hset(f"jobs:job:{numbers}", mapping={"run": "x", "failures": "y", "enqueued": "z"})
    assert ids(jobs.fetch()) == [numbers, whole]


# -- whom to blame ----------------------------------------------------------------------------------


def dies_with(jobs: Jobs, worker: str, id_: str) -> list[Run]:
    """A worker begins the job beside nothing else, and goes silent; what is set aside for it."""
    for member in jobs.client.zrange("jobs:lost", 0, -1):
        jobs.client.zadd("jobs:lost", {member: 1})
    assert ids(jobs.fetch(worker)) == [id_]
    return jobs.take_over()[1]


def test_a_job_is_not_blamed_where_workers_go_silent_without_it(jobs: Jobs) -> None:
    unlucky = jobs.enqueue()
    assert not dies_with(jobs, "w0", unlucky)
    time.sleep(0.002)  # what comes is later, by the server's clock
    for number in (1, 2):  # somebody kills workers
        other = jobs.enqueue(queue="low")
        shares = ("low", 8)
        jobs._run(FETCH, f"other-{number}", 8, 0, "", 60, *shares)
        assert jobs.take_over() == (1, [])
        jobs.store.ask(Cancel(other, b"{}"))
        jobs.client.zrem("jobs:lost", *[m for m in jobs.client.zrange("jobs:lost", 0, -1) if b"low" in m])
    for number in range(1, 5):
        assert not dies_with(jobs, f"w{number}", unlucky)
    assert [run.id for run in dies_with(jobs, "w5", unlucky)] == [unlucky]


def test_a_job_is_not_blamed_where_another_was_suspected_in_vain(jobs: Jobs) -> None:
    first = jobs.enqueue(queue="critical")
    for number in range(2):
        assert not dies_with(jobs, f"w{number}", first)
    unlucky = jobs.enqueue()
    assert ids(fetched(jobs, "w2")) == [first, unlucky]
    assert jobs.take_over() == (2, [])
    time.sleep(0.002)  # what comes is later, by the server's clock
    (lost,) = (each for each in jobs.client.zrange("jobs:lost", 0, -1) if first.encode() in each)
    jobs.client.zadd("jobs:lost", {lost: 1})
    (run,) = jobs.fetch("w3", again=1)
    assert run.id == first
    jobs.end(success(run))
    for number in range(4, 8):
        assert not dies_with(jobs, f"w{number}", unlucky)


def fetched(jobs: Jobs, worker: str) -> list[Run]:
    for member in jobs.client.zrange("jobs:lost", 0, -1):
        jobs.client.zadd("jobs:lost", {member: 1})
    return jobs.fetch(worker)


# -- keys of another kind ---------------------------------------------------------------------------


def test_a_key_of_another_kind_in_place_of_a_job_holds_up_no_other(jobs: Jobs) -> None:
    odd, other = jobs.enqueue(), jobs.enqueue()
    runs = jobs.fetch("worker")
    jobs.client.delete(f"jobs:job:{odd}")
    jobs.client.set(f"jobs:job:{odd}", "what")
    assert renew(jobs, "worker", *runs) == [[], [0], []]
    assert jobs.end(*map(success, runs)) == [b"-", b""]
    assert jobs.take_over() == (0, [])
    assert jobs.state(other) == "succeeded"


def test_the_end_of_a_run_is_whole_though_it_cannot_be_listed(jobs: Jobs) -> None:
    id_ = jobs.enqueue()
    (run,) = jobs.fetch()
    jobs.client.set("jobs:finished:succeeded", "what")
    assert jobs.end(success(run, children=(jobs.request(id="child"),))) == [b""]
    assert (jobs.state(id_), jobs.state("child")) == ("succeeded", "waiting")
    assert jobs.client.get(f"celery-task-meta-{id_}") == b'{"status":"SUCCESS"}'


def test_the_end_of_a_run_whose_child_cannot_be_kept_is_written_later(jobs: Jobs) -> None:
    id_ = jobs.enqueue()
    (run,) = jobs.fetch()
    end = success(run, children=(jobs.request(id="one"), jobs.request(id="two", queue="odd")))
    jobs.client.set("jobs:odd", "what")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        jobs.end(end)
    assert jobs.state(id_) == "running"
    jobs.client.delete("jobs:odd")
    assert jobs.end(end) == [b""]
    assert (jobs.state("one"), jobs.state("two")) == ("waiting", "waiting")
    assert ids(jobs.fetch()) == ["one"]


def test_leases_are_renewed_while_memory_is_full(own_redis: RedisProcess) -> None:
    jobs = Jobs(own_redis.url)
    id_ = jobs.enqueue()
    (run,) = jobs.fetch("worker")
    jobs.client.config_set("maxmemory-policy", "noeviction")
    jobs.client.config_set("maxmemory", "1mb")
    with pytest.raises(StoreUnavailable, match="maxmemory"):
        jobs.enqueue()
    assert renew(jobs, "worker", run) == [[], [], []]
    assert jobs.end(success(run)) == [b""]
    assert jobs.state(id_) == "succeeded"
