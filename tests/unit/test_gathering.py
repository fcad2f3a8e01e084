"""When a commit waits for company, and when it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as some

from enricher.engine.gathering import Gathering

GATHER, ENOUGH = 0.003, 50


def commits(arrivals: Sequence[float], gather: float = GATHER) -> list[tuple[float, float, int]]:
    """Of each commit when its first write came, when it began, and how many writes it took.

    It takes no time.
    """
    gathering, found, at = Gathering(gather, ENOUGH), list[tuple[float, float, int]](), 0
    while at < len(arrivals):
        came = arrivals[at]
        began = came + gathering.begin(arrivals[at:].count(came), came)
        writes = sum(1 for arrival in arrivals[at:] if arrival <= began)
        found.append((came, began, writes))
        at += writes
    return found


@pytest.mark.parametrize("rate", [1, 50, 300])
def test_what_comes_seldom_is_committed_alone_and_at_once(rate: float) -> None:
    arrivals = [number / rate for number in range(100)]
    assert commits(arrivals) == [(came, came, 1) for came in arrivals]


@pytest.mark.parametrize("rate", [1_000, 4_000])
def test_what_comes_often_shares_commits(rate: float) -> None:
    found = commits([number / rate for number in range(rate)])
    later = [writes for _, _, writes in found[30:-1]]
    assert min(later) >= GATHER * rate - 1
    assert len(found) < 1.2 / GATHER


def test_after_a_pause_the_first_does_not_wait_and_company_is_soon_expected_again() -> None:
    first = [number / 1_000 for number in range(500)]
    second = [10 + moment for moment in first]
    found = commits([*first, *second])
    after = [(came, began, writes) for came, began, writes in found if came >= 10]
    assert after[0] == (10, 10, 1)
    assert len(after) < 0.5 / GATHER * 1.2


def test_with_nothing_to_gather_for_nobody_waits() -> None:
    arrivals = [number / 4_000 for number in range(100)]
    assert all(came == began for came, began, _ in commits(arrivals, gather=0))


def test_what_fills_a_commit_does_not_wait() -> None:
    arrivals = [number // ENOUGH * GATHER / 2 for number in range(20 * ENOUGH)]
    assert all(came == began for came, began, _ in commits(arrivals))


@given(some.lists(some.floats(0, 0.02, allow_subnormal=False), max_size=200))
def test_no_wait_is_longer_than_asked_for_and_nothing_lone_waits(gaps: list[float]) -> None:
    arrivals = [sum(gaps[:number]) for number in range(len(gaps))]
    before = float("-inf")
    for came, began, writes in commits(arrivals):
        assert 0 <= began - came <= GATHER
        if came - before > 2 * GATHER:
            assert began == came
        before = arrivals[arrivals.index(came) + writes - 1]
