"""Free slots are divided among queues by priority or by weight, and an idle queue gathers no claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import WrongSetting
from enricher.jobs.shares import Shares

WEIGHTS = {"critical": 5, "default": 3, "low": 1}


def fetch(shares: Shares, waiting: Counter[str], want: int) -> Counter[str]:
    """What a server that holds ``waiting`` gives for ``want`` free slots."""
    asked = shares.take(want)
    assert sum(count for _, count in asked) == want
    came: Counter[str] = Counter()
    for name, count in asked:
        came[name] = min(count, waiting[name])
    for name, _ in asked:
        came[name] += min(want - came.total(), waiting[name] - came[name])
    waiting.subtract(came)
    shares.served(came)
    return came


def start(shares: Shares, waiting: Counter[str], wants: list[int]) -> Counter[str]:
    started: Counter[str] = Counter()
    for want in wants:
        started += fetch(shares, waiting, want)
    return started


def plenty(*names: str) -> Counter[str]:
    return Counter(dict.fromkeys(names, 1_000_000))


def test_with_strict_priority_all_slots_go_to_the_first_queue_and_the_rest_follow_in_order() -> None:
    shares = Shares(["critical", "default", "low"])
    assert shares.take(8) == [("critical", 8), ("default", 0), ("low", 0)]
    shares.served({"critical": 2, "default": 6})
    assert shares.take(3) == [("critical", 3), ("default", 0), ("low", 0)]


def test_a_critical_job_is_the_next_to_start_before_500_low_ones() -> None:
    shares, waiting = Shares(["critical", "low"]), Counter(low=500)
    assert fetch(shares, waiting, 8) == Counter(low=8)
    waiting["critical"] += 1
    assert fetch(shares, waiting, 1) == Counter(critical=1)


def test_weighted_queues_take_turns_and_none_has_its_whole_share_in_a_row() -> None:
    shares, waiting = Shares(WEIGHTS), plenty(*WEIGHTS)
    row = [next(iter(+fetch(shares, waiting, 1))) for _ in range(18)]
    assert row[:9].count("critical") == row[9:].count("critical") == 5
    assert row[:9].count("default") == row[9:].count("default") == 3
    assert all(row[at : at + 4] != ["critical"] * 4 for at in range(15))


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 20), min_size=2),
    st.lists(st.integers(1, 32), min_size=5, max_size=30),
)
def test_every_share_is_what_its_weight_says_to_the_job(weights: dict[str, int], wants: list[int]) -> None:
    started = start(Shares(weights), plenty(*weights), wants)
    for name in weights:
        for other in weights:
            # Each queue's clock is at most one step of a queue before any other's.
            ahead = started[name] / weights[name] - started[other] / weights[other]
            assert ahead <= 1 / weights[name] + 1e-9


def test_over_a_while_shares_are_within_five_percent() -> None:
    started = start(Shares(WEIGHTS), plenty(*WEIGHTS), [1, 8, 3, 2] * 50)
    for name, weight in WEIGHTS.items():
        assert started[name] / started.total() == pytest.approx(weight / 9, rel=0.05)


def test_an_empty_queue_gives_its_share_to_the_others() -> None:
    started = start(Shares(WEIGHTS), plenty("default", "low"), [8] * 100)
    assert started["critical"] == 0
    assert started.total() == 800
    assert started["default"] / started["low"] == pytest.approx(3, rel=0.05)


@given(st.integers(1, 500), st.sampled_from([1, 2, 8]))
def test_a_queue_that_was_idle_comes_back_with_its_share_and_no_more(idle: int, want: int) -> None:
    shares = Shares(WEIGHTS)
    waiting = plenty("critical", "low")
    start(shares, waiting, [want] * idle)
    waiting["default"] = 1_000_000
    started = start(shares, waiting, [want] * 90)
    assert started["default"] / started.total() == pytest.approx(3 / 9, rel=0.05)


ROUNDS = st.tuples(st.dictionaries(st.sampled_from(list(WEIGHTS)), st.integers(0, 12)), st.integers(1, 9))


@given(st.lists(ROUNDS))
def test_no_slot_stays_free_while_a_queue_has_jobs(rounds: list[tuple[Mapping[str, int], int]]) -> None:
    shares, waiting = Shares(WEIGHTS), Counter[str]()
    for added, want in rounds:
        waiting.update(added)
        there = waiting.total()
        assert fetch(shares, waiting, want).total() == min(want, there)


def test_a_weight_below_one_and_no_queue_at_all_are_wrong_settings() -> None:
    with pytest.raises(WrongSetting, match=r"jobs\.queues\.low = 0: expected a weight of at least 1"):
        Shares({"critical": 5, "low": 0})
    with pytest.raises(WrongSetting, match="at least one queue"):
        Shares([])
