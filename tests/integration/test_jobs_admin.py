"""What people ask of the jobs in Redis: each job is on one page; a retry, a delete, a clear are whole."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers, lists, sampled_from

from enricher.adapters.redis.jobs.calls import RENEW
from enricher.adapters.redis.jobs.client import blocking_store
from enricher.job_admin import (
    JOB_ID,
    ClearQueue,
    DeleteJob,
    Finished,
    ListJobs,
    ListWorkers,
    RetryJob,
    RetryRefused,
)
from enricher.job_store import (
    Cancel,
    End,
    Find,
    JobError,
    JobRecord,
    Limit,
    Queues,
    Result,
    State,
    StoreStep,
    Unique,
)
from tests.integration.test_jobs_store import Jobs


@pytest.fixture
def jobs(any_redis_url: str) -> Jobs:
    return Jobs(any_redis_url)


def listed(jobs: Jobs, state: State, queue: str = "default", count: int = 3) -> list[JobRecord]:
    return [record for page in pages(jobs, state, queue, count) for record in page]


def pages(jobs: Jobs, state: State, queue: str, count: int) -> Iterator[list[JobRecord]]:
    after = ""
    for _ in range(100):
        page = jobs.store.ask(ListJobs(state, queue, after, count))
        yield page.jobs
        after = page.after
        if not after:
            return
    raise AssertionError("there is no last page")


def ids(records: list[JobRecord]) -> list[str]:
    return [record.id for record in records]


def failed(jobs: Jobs, **more: object) -> str:
    jobs.enqueue(**more)
    (run,) = jobs.fetch()
    error = JobError("ValueError", "no such user", traceback="Traceback ...")
    jobs.end(End(run=run, state="failed", error=error, result=b'{"status":"FAILURE"}'))
    return run.id


def test_every_job_is_on_one_page_whatever_its_state(jobs: Jobs) -> None:
    waiting = [jobs.enqueue() for _ in range(8)]
    scheduled = [jobs.enqueue(delay_ms=60_000) for _ in range(5)]
    running = ids_of_runs = [run.id for run in jobs.fetch(free=5)]
    jobs.client.zadd("jobs:default:delayed", dict.fromkeys(scheduled, 99_999_999_999_999))
    assert ids_of_runs == waiting[:5]
    assert ids(listed(jobs, "running")) == running
    assert ids(listed(jobs, "waiting")) == waiting[5:]
    # All of one moment, more than are on a page.
    assert sorted(ids(listed(jobs, "scheduled", count=2))) == sorted(scheduled)
    assert listed(jobs, "retrying") == listed(jobs, "waiting", "low") == []


def test_a_queue_that_no_worker_has_seen_yet_is_listed_and_cleared(jobs: Jobs) -> None:
    id_ = jobs.enqueue(queue="fresh")
    assert ids(listed(jobs, "waiting", "fresh")) == [id_]
    assert listed(jobs, "running", "fresh") == listed(jobs, "running", "never") == []
    assert jobs.store.ask(ClearQueue("fresh")).jobs == [id_]
    assert listed(jobs, "waiting", "fresh") == []


def test_finished_jobs_come_newest_first_also_while_they_go(jobs: Jobs) -> None:
    made = [failed(jobs) for _ in range(7)]
    jobs.client.zadd("jobs:finished:failed", {id_: 1000 + i // 3 for i, id_ in enumerate(made)})
    seen = []
    for page in pages(jobs, "failed", "", 2):
        seen += ids(page)
        for record in page:
            assert jobs.store.ask(RetryJob(record.id)) == "failed"
    assert sorted(seen) == sorted(made)
    assert seen[0] == made[-1]
    assert len(listed(jobs, "waiting")) == 7


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scores=lists(integers(1, 4), max_size=25),
    gone=lists(integers(0, 24)),
    count=integers(1, 6),
    state=sampled_from(["failed", "scheduled"]),
)
def test_what_stays_is_listed_once_whatever_goes_between_two_pages(
    jobs: Jobs, scores: list[int], gone: list[int], count: int, state: State
) -> None:
    jobs.client.flushdb()
    key = "jobs:finished:failed" if state == "failed" else "jobs:default:delayed"
    for i, score in enumerate(scores):
        jobs.client.hset(f"jobs:job:j{i}", mapping={"state": state, "queue": "default", "task": "t"})
        jobs.client.zadd(key, {f"j{i}": score})
    seen: list[str] = []
    going = [f"j{i}" for i in gone]
    for page in pages(jobs, state, "default", count):
        seen += ids(page)
        jobs.client.zrem(key, *going[: len(seen)], "nobody")
    assert len(seen) == len(set(seen))
    assert {f"j{i}" for i in range(len(scores))} - set(going) <= set(seen)


def test_a_page_is_full_by_bytes_too(jobs: Jobs) -> None:
    made = [jobs.enqueue(payload=b"x" * 600_000) for _ in range(5)]
    found = list(pages(jobs, "waiting", "default", 100))
    assert [len(page) for page in found] == [2, 2, 1]
    assert [id_ for page in found for id_ in ids(page)] == made


def test_what_a_limit_holds_back_waits_and_is_listed_and_counted(jobs: Jobs) -> None:
    made = [jobs.enqueue(limits=(Limit("k", most=1),)) for _ in range(3)]
    (run,) = jobs.fetch()
    assert ids(listed(jobs, "waiting", count=1)) == made[1:]
    assert jobs.store.ask(Queues(("default",)))[0].waiting == 2
    jobs.store.ask(Cancel(made[1]))
    assert jobs.store.ask(DeleteJob(made[2])) == "waiting"
    assert jobs.store.ask(Queues(("default",)))[0].waiting == 0
    jobs.end(End(run=run, state="succeeded"))
    assert jobs.fetch() == []


def test_a_rate_holds_a_job_back_and_it_still_waits(jobs: Jobs) -> None:
    made = [jobs.enqueue(limits=(Limit("k", rate=1, per_ms=60_000),)) for _ in range(2)]
    jobs.fetch()
    assert ids(listed(jobs, "waiting")) == made[1:]
    (figures,) = jobs.store.ask(Queues(("default",)))
    assert (figures.waiting, figures.running, figures.scheduled) == (1, 1, 0)


def test_another_try_begins_anew_and_keeps_what_steps_have_done(jobs: Jobs) -> None:
    jobs.enqueue()
    (run,) = jobs.fetch()
    jobs.store.ask(StoreStep(run, "charge", b'"paid"'))
    jobs.end(End(run=run, state="retrying", error=JobError("ValueError", "one")))
    jobs.client.zadd("jobs:default:delayed", {run.id: 1})
    (again,) = jobs.fetch()
    jobs.end(End(run=again, state="failed", result=b"{}", error=JobError("ValueError", "two")))
    assert jobs.client.ttl(f"jobs:job:{run.id}") > 0
    assert jobs.store.ask(RetryJob(run.id)) == "failed"
    assert jobs.client.ttl(f"jobs:job:{run.id}") == -1
    assert jobs.store.ask(Result(run.id)) is None
    (fresh,) = jobs.fetch()
    assert (fresh.id, fresh.attempt) == (run.id, 1)
    record = jobs.store.ask(Find(run.id))
    assert record is not None
    assert record.steps == {"charge": b'"paid"'}
    # The worker that was taken for dead ends its run: nobody listens.
    assert jobs.end(End(run=again, state="succeeded")) == [b"="]
    assert jobs.end(End(run=fresh, state="succeeded")) == [b""]
    assert jobs.store.ask(RetryJob(run.id)) == "succeeded"
    assert jobs.state(run.id) == "succeeded"


def test_a_delayed_job_is_due_at_once_and_another_try_of_what_runs_does_nothing(jobs: Jobs) -> None:
    id_ = jobs.enqueue(delay_ms=60_000)
    assert jobs.store.ask(RetryJob(id_)) == "scheduled"
    (run,) = jobs.fetch()
    assert run.id == id_
    assert jobs.store.ask(RetryJob(id_)) == "running"
    assert jobs.fetch() == []
    assert jobs.store.ask(RetryJob("nobody")) is None


def test_another_try_of_a_unique_job_takes_its_key_again_or_says_who_has_it(jobs: Jobs) -> None:
    unique = Unique("k")
    first = failed(jobs, unique=unique)
    second = jobs.enqueue(unique=unique)
    assert jobs.store.ask(RetryJob(first)) == RetryRefused(second)
    assert jobs.state(first) == "failed"
    jobs.store.ask(Cancel(second))
    assert jobs.store.ask(RetryJob(first)) == "failed"
    assert jobs.enqueue(unique=unique) == first


def test_a_deleted_job_is_gone_and_its_entry_begins_nothing(jobs: Jobs) -> None:
    waiting, late, done = jobs.enqueue(), jobs.enqueue(delay_ms=60_000, unique=Unique("k")), ""
    assert jobs.store.ask(DeleteJob(waiting)) == "waiting"
    assert jobs.store.ask(DeleteJob(late)) == "scheduled"
    assert jobs.fetch() == []
    done = failed(jobs)
    assert jobs.store.ask(DeleteJob(done)) == "failed"
    jobs.enqueue()
    (run,) = jobs.fetch()
    assert jobs.store.ask(DeleteJob(run.id)) == "running"
    assert jobs.state(run.id) == "running"
    assert jobs.store.ask(DeleteJob(done)) is None
    jobs.end(End(run=run, state="succeeded"))
    left = {key.decode() for key in jobs.client.scan_iter()}
    assert left <= {f"jobs:{name}" for name in ("critical", "default", "low", "queues")} | {
        f"jobs:job:{run.id}",
        "jobs:finished:succeeded",
        f"celery-task-meta-{run.id}",
    }


def test_a_queue_is_cleared_page_by_page_and_its_lag_stays_known(jobs: Jobs) -> None:
    running = jobs.enqueue()
    jobs.fetch(free=1)
    odd = jobs.enqueue(id='say "hi"')
    waiting = [odd, *(jobs.enqueue(unique=Unique(f"k{i}")) for i in range(4))]
    late = jobs.enqueue(delay_ms=60_000)
    result = f'{{"status":"REVOKED","task_id":"{JOB_ID}"}}'.encode()
    cleared = [jobs.store.ask(ClearQueue("default", result, 2)) for _ in range(4)]
    assert [(each.entries, len(each.jobs)) for each in cleared] == [(2, 2), (2, 2), (1, 1), (0, 0)]
    assert {jobs.state(id_) for id_ in waiting} == {"cancelled"}
    assert (jobs.state(running), jobs.state(late)) == ("running", "scheduled")
    assert jobs.store.ask(Result(odd)) == b'{"status":"REVOKED","task_id":"say \\"hi\\""}'
    (group,) = jobs.client.xinfo_groups("jobs:default")
    assert (group["lag"], group["pending"]) == (0, 1)
    assert jobs.client.xlen("jobs:default") == 1
    fresh = jobs.enqueue(unique=Unique("k0"))
    assert [run.id for run in jobs.fetch()] == [fresh]
    assert jobs.store.ask(RetryJob(odd)) == "cancelled"
    assert [run.id for run in jobs.fetch()] == [odd]


def test_how_fast_jobs_come_to_an_end_is_known_by_queue(jobs: Jobs) -> None:
    for _ in range(3):
        failed(jobs)
    jobs.enqueue(queue="low")
    (run,) = jobs.fetch()
    jobs.end(End(run=run, state="succeeded"))
    figures = jobs.store.ask(Finished())
    assert figures.kept == {"succeeded": 1, "failed": 3, "cancelled": 0}
    assert figures.rates["default"].ended == figures.rates["default"].failed == pytest.approx(3 / 60)
    assert (figures.rates["low"].ended, figures.rates["low"].failed) == (pytest.approx(1 / 60), 0)
    # With fewer looked at, the time that they took counts.
    assert jobs.store.ask(Finished(sample=1)).rates["default"].failed > 0


def test_workers_are_known_while_they_renew_their_leases(jobs: Jobs) -> None:
    jobs._run(RENEW, "host-1", b'{"pid":1}', 60)
    jobs._run(RENEW, "host-2", b"{}", 60)
    jobs.client.delete("jobs:worker:host-2")
    (worker,) = jobs.store.ask(ListWorkers())
    assert (worker.name, worker.description) == ("host-1", b'{"pid":1}')
    assert worker.heard_ms > 1e12


def test_a_job_that_was_found_says_all_that_is_stored(jobs: Jobs) -> None:
    id_ = failed(jobs, unique=Unique("k"), limits=(Limit("a b", most=2), Limit("c", rate=1, per_ms=1)))
    record = jobs.store.ask(Find(id_))
    assert record is not None
    assert (record.unique, record.limits, record.attempt) == ("k", ("a b", "c"), 1)
    assert record.error == JobError("ValueError", "no such user", traceback="Traceback ...")


def test_results_on_another_server_follow_what_is_done_by_hand(jobs: Jobs) -> None:
    apart = msgspec.structs.replace(jobs.settings, results_url=f"{jobs.settings.url[:-1]}2")
    store = blocking_store(apart)
    waiting = jobs.enqueue()
    result = f'{{"status":"REVOKED","task_id":"{JOB_ID}"}}'.encode()
    assert store.ask(ClearQueue("default", result)).jobs == [waiting]
    assert store.ask(Result(waiting)) == result.replace(JOB_ID.encode(), waiting.encode())
    assert store.ask(RetryJob(waiting)) == "cancelled"
    assert store.ask(Result(waiting)) is None
    jobs.fetch()
    done = failed(jobs)
    elsewhere = redis.Redis.from_url(apart.results_url)
    elsewhere.set(f"celery-task-meta-{done}", b"{}")
    assert store.ask(DeleteJob(done)) == "failed"
    assert store.ask(Result(done)) is None
    store.close()


def test_many_cancelled_jobs_hold_up_nobody(jobs: Jobs) -> None:
    for _ in range(1100):
        jobs.store.ask(Cancel(jobs.enqueue()))
    last = jobs.enqueue()
    assert jobs.fetch() == []
    assert jobs.due_ms == 0
    assert [run.id for run in jobs.fetch()] == [last]
