"""The accounts of events under faults: whatever is missing, there too often or wrongly refused is found."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.events.faults_stage import Refused, judged, p99, wrongly

EVENT = {"status": "SUCCESS", "revision": 10}
NAMED = ("lost", "twice", "unindexed")


def found(event: Any = EVENT, told: int = 1, version: int = 9) -> dict[str, int]:
    row = judged({"a"}, {} if event is None else {"a": event}, {"a": told}, {"a": version})
    return {name: row[name] for name in NAMED if row[name]}


@pytest.mark.parametrize(
    ("made", "broken"),
    [
        ({}, {}),
        ({"event": None}, {"lost": 1}),
        ({"event": {**EVENT, "status": "STARTED"}}, {"lost": 1}),
        ({"told": 0}, {"lost": 1}),
        ({"told": 2}, {"twice": 1}),
        ({"version": 0}, {"unindexed": 1}),
        ({"version": 7}, {"unindexed": 1}),
    ],
)
def test_what_is_missing_or_there_too_often_is_counted(made: Any, broken: dict[str, int]) -> None:
    assert found(**made) == broken


WAITED, AT_ONCE = Refused("one", 503, "5", 5.1), Refused("one", 503, "5", 0.0)


@pytest.mark.parametrize(
    ("refused", "number"),
    [
        ([WAITED, AT_ONCE, AT_ONCE], 0),
        ([AT_ONCE, WAITED], 1),
        ([WAITED, Refused("two", 503, "5", 0.0)], 1),
        ([Refused("one", 503, None, 5.1)], 1),
        ([Refused("one", 500, "5", 5.1)], 1),
    ],
)
def test_a_worker_refuses_after_its_patience_and_says_when_to_come_again(
    refused: list[Refused], number: int
) -> None:
    assert wrongly(refused, may=True, accept_timeout=5) == number
    assert wrongly(refused, may=False, accept_timeout=0) == len(refused)


def test_a_stopping_worker_refuses_at_once() -> None:
    assert wrongly([AT_ONCE], may=True, accept_timeout=0) == 0


def test_the_percentile_is_one_of_the_figures() -> None:
    assert p99([0.001] * 98 + [0.5, 9.0]) == 500
    assert p99([]) is None
