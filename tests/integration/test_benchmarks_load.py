"""The benchmarks of overload, soak and restart on real servers, as small as they go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.overload import MARK_US, Point, published
from benchmarks.restart import flood, leave, one_start
from benchmarks.servers import null_mongo, redis_server, worker
from benchmarks.soak import sampled
from benchmarks.workloads import workload


@pytest.mark.parametrize("policy", ["drop_oldest", "conflate"])
def test_every_message_of_an_overload_is_accounted_for(policy: str) -> None:
    # What no machine does in half a second, into a pool that holds next to nothing.
    point = Point(policy, 10.0, 20_000, 0.3)
    made = workload("mix", 6000, start_us=MARK_US, step_us=0)
    with redis_server() as redis, null_mongo() as mongo:
        row = published(point, made, redis, mongo, 100)
    assert row["balanced"], row
    assert row["processed"] > 0
    assert row["dropped"] + row["conflated"] > 0
    if policy == "conflate":
        assert row["conflated"] > 0


def test_a_soak_samples_memory_cpu_and_latency_of_each_interval() -> None:
    with (
        redis_server() as redis,
        null_mongo() as mongo,
        worker(redis.url, mongo.url, "stats.interval=0.5") as ours,
    ):
        rows, sent = asyncio.run(sampled(redis.url, ours, 0.04, 200, 0.6))
    assert sent.total == 480
    assert len(rows) >= 2
    assert all(row["rss_mb"] > 10 and row["us"] > 0 and row["p99_ms"] > 0 for row in rows[1:])


def test_a_restart_says_how_much_it_restores_and_new_products_do_not_wait_behind_a_flood(
    tmp_path: Path,
) -> None:
    leave(tmp_path, 300)
    row = one_start(tmp_path, "a mix", 300)
    assert row["restoring"] == 8
    assert 0 < row["servers_s"] < row["ready_s"]
    found = flood(tmp_path, 1000)
    assert found["first_ones"] == 100
    assert found["first_place"] <= found["median_place"] <= found["last_place"] <= 1000
