"""The part of the benchmarks that runs jobs here and elsewhere: what it counts, and what it compares."""

from __future__ import annotations

import pytest

from benchmarks.jobs.catalogue import HERE, OTHERS, OURS
from benchmarks.jobs.compare import Pair, chosen
from benchmarks.jobs.contest import Cost, Flood, running


def flood(us: float, one_us: float = 1.0) -> Flood:
    return Flood(Cost(2 * one_us, one_us), Cost(1, 1), us, 1000)


def test_a_round_is_compared_with_ours_right_before_and_right_after() -> None:
    around = [(flood(50), flood(150)), (flood(100), flood(200))]
    pair = Pair(OTHERS[0], "process", "async", [flood(800), flood(600)], around)
    assert pair.row()["times_ours"] == 6.0
    assert pair.row()["us_per_job"] == 700.0
    pair = Pair(OTHERS[0], "process", "async", [flood(1, 30)], [(flood(1, 10), flood(1, 20))])
    assert pair.enqueue_row()["one_times_ours"] == 2.0


def test_an_unknown_peer_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"no peer 'sidekiq'; known peers: celery, .*dramatiq, none"):
        chosen("saq,sidekiq")
    assert chosen("") == list(OTHERS)
    assert chosen("none") == []


def test_a_flood_counts_what_was_run_and_a_late_start_is_noted() -> None:
    with running(OURS, HERE.parent) as ours:
        for kind, _ in OURS.kinds:
            before = ours.finished()
            found = ours.flood(kind, 50)
            assert ours.finished() == before + 50
            assert min(found.us, found.one.us, found.bulk.us, found.jobs_s) > 0
        assert ours.latencies("steady", 5, 50).total == 5
        assert ours.latencies("later", 5, 50).total == 5
