"""Counters, histograms and the table of what is in flight."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from enricher.engine.stats import Histogram, Stats, upper_edge

DURATIONS = st.integers(0, 2**40 - 1)


@given(DURATIONS)
def test_a_quantile_is_at_most_a_quarter_above_what_was_recorded(us: int) -> None:
    histogram = Histogram()
    histogram.record(us)
    histogram.record(2**40)  # so that the overall maximum does not decide
    found = histogram.quantile(0.5)
    assert found is not None
    assert us <= found <= us * 1.25


@given(st.lists(DURATIONS, min_size=1, max_size=100), st.sampled_from([0.5, 0.9, 0.99, 0.999, 1.0]))
def test_quantiles_agree_with_sorting_within_a_bucket(values: list[int], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = next(v for i, v in enumerate(sorted(values), 1) if i >= q * len(values))
    found = histogram.quantile(q)
    assert found is not None
    assert exact <= found <= exact * 1.25


@given(st.lists(st.lists(st.integers(-10, 2**44), max_size=20), max_size=5))
def test_many_recorded_at_once_are_as_if_one_by_one(batches: list[list[int]]) -> None:
    together, single = Histogram(), Histogram()
    for batch in batches:
        together.record_all(batch)
        for us in batch:
            single.record(us)
    assert together.summary() == single.summary()
    assert together.counts == single.counts
    assert together.summary()["sum_us"] == sum(us for batch in batches for us in batch if us > 0)


def test_bucket_edges_rise_without_a_hole() -> None:
    edges = [upper_edge(index) for index in range(164)]
    assert edges[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15]
    assert edges == sorted(set(edges))


def test_an_empty_histogram_knows_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().summary() == {
        "count": 0, "p50_ms": None, "p99_ms": None, "p999_ms": None, "max_ms": 0.0, "sum_us": 0,
    }  # fmt: skip


def test_a_clock_that_was_set_back_counts_as_zero() -> None:
    histogram = Histogram()
    histogram.record(-5_000_000)
    assert (histogram.quantile(1.0), histogram.max, histogram.sum) == (0.0, 0, 0)
    histogram.record_all([7, -5_000_000, 5])
    assert (histogram.total, histogram.sum) == (4, 12)


def test_a_duration_beyond_all_buckets_is_kept_in_the_last() -> None:
    histogram = Histogram()
    histogram.record(2**60)
    assert (histogram.total, histogram.counts[-1]) == (1, 1)


def test_since_gives_what_was_recorded_after_the_copy() -> None:
    histogram = Histogram()
    histogram.record(1)
    earlier = histogram.copy()
    histogram.record(1000)
    late = histogram.since(earlier)
    assert (late.total, late.quantile(0.5)) == (1, 1000.0)
    assert (late.sum, histogram.sum) == (1000, 1001)
    assert histogram.since(None) is histogram


def test_counters_are_kept_per_topic_and_added_up() -> None:
    stats = Stats()
    stats.count("a", "processed")
    stats.count("b", "processed", 2)
    assert stats.total("processed") == 3
    assert stats.topic("b").counts["processed"] == 2


def test_the_table_lists_the_oldest_first_and_only_while_it_lasts() -> None:
    table = Stats().in_flight
    late = table.begin("late", None, 1, 20, "handler")
    early = table.begin("early", "k", 2, 10, "handler")
    assert [row["topic"] for row in table.rows()] == ["early", "late"]
    assert table.rows(limit=1)[0] == {
        "topic": "early", "key": "k", "attempt": 2, "since_us": 10, "stage": "handler",
    }  # fmt: skip
    table.end(early)
    assert len(table) == 1
    table.end(late)
    assert len(table) == 0


@given(st.lists(st.integers(-5, 2**44)), st.lists(st.integers(-5, 2**44)))
def test_durations_recorded_together_count_as_they_do_one_by_one(some: list[int], more: list[int]) -> None:
    together, apart = Histogram(), Histogram()
    for durations in (some, more):
        together.record_all(durations)
        for duration in durations:
            apart.record(duration)
    assert (together.counts, together.total, together.max) == (apart.counts, apart.total, apart.max)


def test_a_snapshot_is_plain_json() -> None:
    stats = Stats()
    stats.count("a", "received")
    stats.topic("a").handling.record(7)
    stats.counters["live_failures"] += 1
    taken = json.loads(json.dumps(stats.snapshot()))
    assert taken["topics"]["a"]["received"] == 1
    assert taken["topics"]["a"]["handling"]["count"] == 1
    assert taken["counters"] == {"live_failures": 1}
    assert set(taken["latency"]) == {"commit", "event", "durable", "visible"}
