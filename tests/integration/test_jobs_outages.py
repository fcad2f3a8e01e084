"""Workers of jobs whose Redis is away for longer than a lease, is emptied, or loses its results' server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from enricher.adapters.redis.jobs.client import blocking_store
from enricher.job_store import Cancel, JobQueueSettings, Pause, Result, StoreUnavailable
from tests.integration.jobs import JobWorkers, job_workers
from tests.integration.test_jobs_crashes import enqueue, until
from tests.servers import RedisProcess

LEASE = 3.0


@pytest.fixture
def workers(own_redis: RedisProcess, redis_url: str, tmp_path: Path) -> Iterator[JobWorkers]:
    """Two, whose jobs are kept in a Redis of the test's own; what they do is written down elsewhere."""
    settings = {"jobs.url": own_redis.url, "jobs.lease": LEASE, "redis.socket_timeout": 1}
    with job_workers(redis_url, tmp_path, settings) as found:
        found.store.close()
        found.store = blocking_store(JobQueueSettings(url=own_redis.url, prefix="jobs", timeout=1.0))
        for name in ("a", "b"):
            found.start(name)
        yield found


def frozen(server: RedisProcess) -> None:
    server.pause()
    time.sleep(2.5 * LEASE)
    server.resume()


def crashed(server: RedisProcess) -> None:
    server.call("SAVE")
    server.kill()
    time.sleep(2.5 * LEASE)
    server.start()


def ended(workers: JobWorkers, ids: list[str]) -> bool:
    return all(workers.record(id_).state == "succeeded" for id_ in ids)


@pytest.mark.parametrize("outage", [frozen, crashed])
def test_an_outage_longer_than_the_lease_begins_no_job_twice(
    workers: JobWorkers, own_redis: RedisProcess, outage: Callable[[RedisProcess], None]
) -> None:
    """Some end while nobody can write it down, some go on until it is over."""
    seconds = {"short": 1.0, "long": 3 * LEASE}
    kinds = ("Wait", "Hold", "HoldProcess")
    jobs = {f"{kind}-{length}": enqueue(workers, kind, f"{kind}-{length}", seconds[length])
            for kind in kinds for length in seconds}  # fmt: skip
    until(lambda: all(workers.written(f"begun:{name}") for name in jobs), "all to begin")
    outage(own_redis)
    until(lambda: ended(workers, list(jobs.values())), "all to end")
    assert {name: len(workers.written(f"begun:{name}")) for name in jobs} == dict.fromkeys(jobs, 1)
    assert {workers.record(id_).lost for id_ in jobs.values()} == {0}


def test_a_call_fails_in_time_while_redis_is_away_and_keeps_nothing(
    workers: JobWorkers, own_redis: RedisProcess
) -> None:
    own_redis.kill()
    with pytest.raises(StoreUnavailable, match="the jobs' Redis"):
        enqueue(workers, "Wait", "nothing", 0.0, id_="nothing")
    own_redis.start()
    until(lambda: ended(workers, [enqueue(workers, "Wait", "after", 0.0, id_="after")]), "the next one")
    assert workers.written("begun:nothing") == []


def test_workers_go_on_with_a_redis_that_was_emptied_and_say_what_is_lost(
    workers: JobWorkers, own_redis: RedisProcess
) -> None:
    id_ = enqueue(workers, "Wait", "lost", 5 * LEASE)
    until(lambda: workers.written("begun:lost"), "its begin")
    own_redis.flush()
    until(lambda: ended(workers, [enqueue(workers, "Wait", "new", 0.0, id_="new")]), "the next one")
    until(lambda: "running_job_is_gone" in workers.log("a") + workers.log("b"), "what is lost")
    lines = (workers.log("a") + workers.log("b")).splitlines()
    (line,) = (each for each in lines if "running_job_is_gone" in each)
    assert id_ in line


def test_jobs_wait_for_their_results_server_and_none_runs_again(redis_url: str, tmp_path: Path) -> None:
    with RedisProcess(tmp_path / "results") as results:
        places = JobQueueSettings(url=redis_url, results_url=results.url, prefix="jobs", timeout=1.0)
        settings = {"jobs.results_url": results.url, "redis.socket_timeout": 1}
        with job_workers(redis_url, tmp_path, settings) as workers:
            workers.start("a")
            workers.store.close()
            workers.store = blocking_store(places)
            results.kill()
            ids = [enqueue(workers, "Wait", f"w{number}", 0.1) for number in range(4)]
            until(lambda: all(workers.written(f"ended:w{number}") for number in range(4)), "their ends")
            assert {workers.record(id_).state for id_ in ids} == {"running"}
            results.start()
            until(lambda: ended(workers, ids), "their results")
            assert all(b"SUCCESS" in (workers.store.ask(Result(id_)) or b"") for id_ in ids)
            assert [len(workers.written(f"begun:w{number}")) for number in range(4)] == [1] * 4
            assert redis.Redis.from_url(redis_url).keys("celery-task-meta-*") == []
            workers.store.ask(Pause("default"))
            waits = enqueue(workers, "Wait", "waits", 0.0)
            assert workers.store.ask(Cancel(waits, b'{"status":"REVOKED"}')) == "waiting"
            assert workers.store.ask(Result(waits)) == b'{"status":"REVOKED"}'
