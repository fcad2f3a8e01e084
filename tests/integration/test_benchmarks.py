"""`python -m benchmarks` as a process of its own, on servers it starts itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from benchmarks import streams
from benchmarks.formulas import run
from benchmarks.latency import lone_tick
from benchmarks.load import listener, sender, stamp_us
from benchmarks.measure import null_counts, publish_all, settled
from benchmarks.overload import MARK_US, Point, published
from benchmarks.parts import Options
from benchmarks.report import Calibration, Report, Surroundings, Watch, write_json
from benchmarks.restart import flood, leave, one_start
from benchmarks.servers import null_mongo, process, redis_server, worker
from benchmarks.soak import sampled
from benchmarks.workloads import workload
from tests.integration.commands import ran


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return ran("-m", "benchmarks", *arguments)


def test_a_quick_run_prints_its_table_and_writes_the_same_as_json(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    done = benchmarks("cpu", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_bytes())
    (report,) = written["reports"]
    assert [row["workload"] for row in report["rows"]] == ["ticks", "mix", "mix, no analytics"]
    for row in report["rows"]:
        assert row["lost"] == 0
        assert 1 < row["us"] < 100_000
        assert row["per_s"] > 10
        assert 20 < row["rss_mb"] < 1000
        assert str(row["workload"]).split(",")[0] in done.stdout
    assert all(one["bson_us"] > 0 for one in written["calibration"])
    assert [around["part"] for around in written["surroundings"]] == ["cpu"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("speed",), "no part 'speed'; known parts: cpu"),
        (("cpu", "--set", "fast"), "'fast' is not PART.NAME=VALUE"),
        (("restart", "--set", "restart.tick=5"), "restart has no setting 'tick'; it has: messages, flood"),
        (("walk", "--set", "walk.rate=5"), "walk has no setting 'rate'; it has: none"),
        (("cpu", "--rounds", "0"), "--rounds"),
    ],
)
def test_wrong_usage_is_answered_with_what_would_be_right(arguments: tuple[str, ...], words: str) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_the_null_server_is_sent_every_document_and_nothing_stays_running() -> None:
    with redis_server() as redis, null_mongo() as mongo, worker(redis.url, mongo.url) as ours:
        pids = [redis.pid, mongo.pid, ours.pid]
        publish_all(redis.url, workload("mix", 288))
        figures = settled(ours.figures, 288)
        documents = null_counts(mongo.url)["documents"]
        assert {name: documents[name] for name in ("underlying_ticks", "option_quotes", "option_chains")} == {
            "underlying_ticks": 40,
            "option_quotes": 240,
            "option_chains": 8,
        }
        assert figures["cpu_s"] > 0
        assert figures["rss"] > 10_000_000
        assert settled(ours.figures, 288)["topics"] == figures["topics"]
        lone = lone_tick(redis.url, mongo.url, Options(quick=True, rounds=1))
        assert lone["ticks"] == 5
        assert lone["bare_p50_ms"] > 0
        assert lone["multiple"] > 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_latency_is_counted_for_every_tick_from_the_moment_it_was_due() -> None:
    with (
        redis_server() as redis,
        null_mongo() as mongo,
        worker(redis.url, mongo.url) as ours,
        listener(redis.url) as heard,
        sender(redis.url, "ticks", rate=200, seconds=0.5, products=2) as sending,
    ):
        told = sending.go()
        settled(ours.figures, told.sent)
        found = heard.report()
        while found.total < told.sent:
            found.extend(heard.report())
        assert told.sent == found.total == 100
        assert 0 < found.summary()["p50_ms"] < 60_000
        assert told.late["count"] == 100
        assert heard.report().total == 0


def test_a_child_is_ended_when_the_block_fails() -> None:
    endless = (sys.executable, "-c", "import time; time.sleep(60)")
    with pytest.raises(ZeroDivisionError), process(*endless) as child:
        _ = 1 / 0
    assert child.returncode is not None


def test_the_file_has_everything_a_reader_needs_to_compare(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    report = Report("cpu", "per message", ["us"], [{"us": 1.0, "rounds_us": [1.0]}])
    speed, around = Calibration("2026-01-01T00:00:00+00:00", 1.0, 30.0), Surroundings("cpu", 1.0, 0.0, 0.0)
    write_json(file, [report], [speed], [around])
    written = json.loads(file.read_bytes())
    assert written["machine"]["cores"] >= 1
    assert written["versions"]["enricher"] != "absent"
    assert written["calibration"] == [msgspec.to_builtins(speed)]
    assert written["surroundings"] == [msgspec.to_builtins(around)]
    assert written["reports"][0]["rows"] == report.rows
    assert list(tmp_path.iterdir()) == [file]


def test_no_message_lies_in_the_future_and_no_two_share_a_time() -> None:
    stamps = [stamp_us(body) for _, body in workload("ticks", 50, 2)]
    last = stamp_us(workload("ticks", 1, 1)[0][1])
    assert stamps == sorted(set(stamps))
    assert stamps[-1] <= last


def test_a_watch_says_how_long_it_watched_and_how_busy_others_were() -> None:
    watch = Watch()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    around = watch.surroundings("cpu")
    assert around.part == "cpu"
    assert around.seconds < 600
    assert around.others_pct is None or 0 <= around.others_pct <= 100


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, object]]]:
    return {report.name: report.rows for report in run(Options(quick=True, rounds=1))}


def test_every_formula_has_a_time_and_a_ratio(rows: dict[str, list[dict[str, object]]]) -> None:
    assert list(rows) == ["options", "curves", "chain"]
    for row in (row for table in rows.values() for row in table):
        assert isinstance(row["us"], float), row
        assert isinstance(row["scaled"], float), row
        assert row["us"] > 0 < row["scaled"], row


def test_a_chain_is_timed_by_subject(rows: dict[str, list[dict[str, object]]]) -> None:
    names = {row["formula"] for row in rows["chain"]}
    assert {"implied volatilities", "smile and its measures", "zero gamma", "everything"} <= names


def test_a_table_that_there_is_not_is_called_by_its_name() -> None:
    with pytest.raises(ValueError, match="must be one of options, curves, chain, not 'all'"):
        run(Options(settings={"formulas.only": "all"}))


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


def test_the_cost_of_a_mail_counts_every_mail() -> None:
    row = streams.flood(50, 1, hook="nothing")
    assert row["lost"] == 0
    assert row["us"] > row["scaled"] > 1


def test_the_delay_of_a_mail_goes_from_its_append_to_its_acknowledgement() -> None:
    row = streams.delay("null", 100, 0.5, 1)
    assert row["mails"] == 50
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert row["mean_ms"] > 0


def test_the_ways_of_intake_are_given_the_same_ticks() -> None:
    rows = streams.intake("flood", 200, 0, 1, ("pub/sub", "stream"))
    assert [(row["intake"], row["lost"]) for row in rows] == [("pub/sub", 0), ("stream", 0)]
    assert rows[0]["times"] == 1.0
