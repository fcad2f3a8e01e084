"""Jobs whose workers are killed, frozen and started again: none is lost, each ends once."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from enricher.job_store import Enqueue, Request
from tests.integration.jobs import JobWorkers, job_workers
from tests.rig import PATIENCE

APP = "tests.jobs_app.orders"


def until(condition: object, what: str, seconds: float = 2 * PATIENCE) -> None:
    limit = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, f"waited in vain for {what}"
        time.sleep(0.02)


def enqueue(workers: JobWorkers, name: str, *args: object, queue: str = "default", id_: str = "") -> str:
    payload = json.dumps([args, {}]).encode()
    request = Request(
        id=id_ or f"{name}-{random.getrandbits(64):x}", task=f"{APP}.{name}", queue=queue, payload=payload
    )
    (found,) = workers.store.ask(Enqueue((request,)))
    return found


@pytest.fixture
def workers(redis_url: str, tmp_path: Path) -> Iterator[JobWorkers]:
    with job_workers(redis_url, tmp_path) as found:
        yield found


@contextmanager
def ends_of(url: str) -> Iterator[Counter[tuple[str, str]]]:
    """How often each job was published as ended, by id and status."""
    ends: Counter[tuple[str, str]] = Counter()
    client = redis.Redis.from_url(url)
    channel = client.pubsub(ignore_subscribe_messages=True)
    def note(message: dict[str, bytes]) -> None:
        result = json.loads(message["data"])
        if result["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
            ends[result["task_id"], result["status"]] += 1

    channel.psubscribe(**{"celery-task-meta-*": note})
    thread = channel.run_in_thread(sleep_time=0.1, daemon=True)
    try:
        yield ends
    finally:
        thread.stop()
        thread.join(60)
        client.close()


def crashes(workers: JobWorkers, orders: int, kills: int, seed: int) -> None:
    """The law: whatever is killed or frozen, each accepted order and its receipt end once, in success."""
    draw = random.Random(seed)
    with ends_of(workers.url) as ends:
        for name in ("a", "b"):
            workers.start(name)
        ids = []
        for number in range(orders):
            kind = "Order" if number % 2 else "ThreadOrder"
            ids.append(enqueue(workers, kind, number, draw.uniform(0.01, 0.3), id_=f"order-{number}"))
        # The first lives are long enough to begin something.
        until(lambda: ends, "the first end")
        for _ in range(kills):
            name = draw.choice(("a", "b"))
            if draw.random() < 0.3:
                workers.processes[name].send_signal(signal.SIGSTOP)
                time.sleep(2.2)
                workers.processes[name].send_signal(signal.SIGCONT)
            else:
                workers.kill(name)
                workers.start(name)
            time.sleep(draw.uniform(0.2, 0.8))
        until(lambda: len(ends) >= 2 * orders, f"{2 * orders} ends")
        until(lambda: all(workers.record(id_).state == "succeeded" for id_ in ids), "all to be filed")
        time.sleep(2.5)  # what would end a second time has had its chance
    assert len(ends) == 2 * orders
    assert set(ends.values()) == {1}
    assert {status for _, status in ends} == {"SUCCESS"}
    assert workers.written("charged-twice") == []


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_and_freezes_lose_nothing_and_double_nothing(workers: JobWorkers, seed: int) -> None:
    crashes(workers, orders=80, kills=6, seed=seed)


def test_what_kills_its_worker_is_set_aside_and_its_neighbours_are_not(workers: JobWorkers) -> None:
    neighbours = [enqueue(workers, "Wait", f"n{number}", 0.3) for number in range(6)]
    killer = enqueue(workers, "Die")
    ended = threading.Event()

    def keep_alive() -> None:
        while not ended.wait(0.05):
            if workers.processes["a"].poll() is not None:
                workers.start("a")

    workers.start("a")
    keeper = threading.Thread(target=keep_alive)
    keeper.start()
    try:
        until(lambda: workers.record(killer).state == "failed", "the killer to be set aside")
        until(lambda: all(workers.record(id_).state == "succeeded" for id_ in neighbours), "the neighbours")
    finally:
        ended.set()
        keeper.join()
    error = workers.record(killer).error
    assert error is not None
    assert "its worker ended 3 times while it ran" in error.message


def test_short_jobs_are_not_held_up_by_lost_ones(workers: JobWorkers) -> None:
    lost = [enqueue(workers, "Hold", f"long{number}", 3.0) for number in range(8)]
    workers.start("a")
    until(lambda: all(workers.written(f"begun:long{number}") for number in range(8)), "eight to begin")
    workers.kill("a")
    short = [enqueue(workers, "Wait", f"short{number}", 0.01) for number in range(40)]
    workers.start("b")
    until(lambda: all(workers.record(id_).state == "succeeded" for id_ in short), "the short ones")
    # None of the lost ones has had the time to end again.
    assert not any(workers.record(id_).state == "succeeded" for id_ in lost)
    until(lambda: all(workers.record(id_).state == "succeeded" for id_ in lost), "the lost ones")


def test_a_job_that_blocks_the_loop_for_three_leases_is_begun_once(workers: JobWorkers) -> None:
    workers.start("a")
    workers.start("b")
    id_ = enqueue(workers, "HoldLoop", "blocks", 3.2)
    until(lambda: workers.record(id_).state == "succeeded", "its end")
    assert len(workers.written("begun:blocks")) == 1


def test_two_workers_share_waiting_jobs_about_evenly(workers: JobWorkers) -> None:
    for name in ("a", "b"):
        workers.start(name)
    until(lambda: workers.client.zcard("jobs:workers") == 2, "both to be there")
    ids = [enqueue(workers, "Wait", "shared", 0.2) for _ in range(80)]
    until(lambda: all(workers.record(id_).state == "succeeded" for id_ in ids), "all of them")
    by_process = Counter(line.split()[0] for line in workers.written("ended:shared"))
    assert sum(by_process.values()) == 80
    assert max(by_process.values()) <= 45


def test_a_stop_never_runs_a_job_twice_at_once(workers: JobWorkers) -> None:
    workers.start("a", {"jobs.drain": 0.5, "service.drain_deadline": 0.5})
    thread, waits = enqueue(workers, "Hold", "thread", 4.0), enqueue(workers, "Wait", "waits", 4.0)
    until(lambda: workers.written("begun:thread") and workers.written("begun:waits"), "both to begin")
    workers.processes["a"].send_signal(signal.SIGTERM)
    workers.start("b")
    until(lambda: workers.record(waits).state == "succeeded", "the one that was handed back")
    until(lambda: workers.record(thread).state == "succeeded", "the thread's")
    assert workers.record(waits).attempt <= 1
    for name in ("thread", "waits"):
        spans = [float(line.split()[1]) for line in workers.written(f"begun:{name}")]
        assert len(spans) == 2, name
    # The first process had ended, and its threads with it, before the second run began.
    assert workers.processes["a"].wait(30) in (0, 3)
