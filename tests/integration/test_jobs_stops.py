"""What a stop does to jobs under way: none fails by it, and none begins elsewhere while it still runs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from enricher.job_store import Find
from enricher.jobs import close, connect
from enricher.jobs.client import current
from tests.integration.jobs import job_workers
from tests.integration.test_jobs_crashes import enqueue
from tests.integration.test_jobs_crashes import until as until_now
from tests.integration.test_jobs_running import worker
from tests.jobs_app.orders import _CLIENTS, Hold, book
from tests.rig import until
from tests.servers import RedisProcess


async def test_a_thread_that_outlives_a_stop_keeps_its_job_until_it_has_ended(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENRICHER_REDIS__URL", redis_url)
    _CLIENTS.clear()
    async with worker(redis_url, jobs__drain=0.2, jobs__lease=2.0, service__drain_deadline=0.2):
        handle = await Hold.enqueue("outlives", 5.0)
        await until(lambda: book().llen("begun:outlives"), "its begin")
    # The engine has ended, its host goes on.
    async with worker(redis_url, jobs__lease=2.0):
        await until(lambda: book().llen("begun:outlives") == 2, "another begin")
        begun, ended = book().lindex("begun:outlives", 1), book().lindex("ended:outlives", 0)
        assert ended is not None, "begun beside the thread"
        assert float(ended.split()[1]) <= float(begun.split()[1])
        assert await handle.wait(60) == "outlives"
    connect(redis_url)
    record = current().blocking().ask(Find(handle.id))
    await close()
    assert record is not None
    assert (record.attempt, record.lost) == (1, 0)


def test_a_stop_hands_back_what_it_can_end_and_fails_nothing(redis_url: str, tmp_path: Path) -> None:
    settings = {"jobs.drain": 0.3, "service.drain_deadline": 0.3}
    with job_workers(redis_url, tmp_path, settings) as workers:
        process = workers.start("a")
        jobs = {name: enqueue(workers, name, name, 4.0) for name in ("Wait", "Hold", "HoldProcess")}
        until_now(lambda: all(workers.written(f"begun:{name}") for name in jobs), "all to begin")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        states = {name: workers.record(id_).state for name, id_ in jobs.items()}
        # The thread has ended with its process, which could not say so any more.
        assert states == {"Wait": "waiting", "HoldProcess": "waiting", "Hold": "running"}
        workers.start("b")
        until_now(
            lambda: all(workers.record(id_).state == "succeeded" for id_ in jobs.values()), "all to end"
        )
        assert [len(workers.written(f"begun:{name}")) for name in jobs] == [2, 2, 2]
        assert [len(workers.written(f"ended:{name}")) for name in jobs] == [1, 1, 1]


def test_a_stop_while_redis_is_away_ends_in_time_and_loses_no_job(tmp_path: Path) -> None:
    with RedisProcess(tmp_path / "own") as server:
        settings = {"jobs.drain": 0.3, "service.drain_deadline": 0.3, "redis.socket_timeout": 1}
        with job_workers(server.url, tmp_path, settings) as workers:
            process = workers.start("a")
            jobs = [enqueue(workers, name, name, 3.0) for name in ("Wait", "Hold")]
            until_now(lambda: all(map(workers.written, ("begun:Wait", "begun:Hold"))), "both to begin")
            server.pause()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            server.resume()
            workers.start("b")
            until_now(lambda: all(workers.record(id_).state == "succeeded" for id_ in jobs), "both to end")
