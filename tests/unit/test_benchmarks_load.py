"""What the benchmarks of overload and soak compute with."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.load import send_packed
from benchmarks.overload import balanced
from benchmarks.soak import drift, judged

END_US = 1_790_000_000_000_000

COUNTS = {
    "received": 10,
    "processed": 6,
    "stored": 6,
    "duplicate": 1,
    "dropped": 1,
    "conflated": 1,
    "dead": 1,
    "lost": 0,
    "redis_lost": 0,
    "gaps": 0,
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"dropped": 0}, False),
        ({"stored": 5}, False),
        ({"redis_lost": 3}, False),
        ({"redis_lost": 3, "gaps": 1}, True),
        ({"redis_lost": -1, "gaps": 1}, False),
    ],
)
def test_a_count_that_does_not_add_up_or_a_loss_that_nobody_noticed_is_not_balanced(
    changed: dict[str, int], expected: bool
) -> None:
    assert balanced(COUNTS | changed) is expected


class Answering:
    """A connection that answers each command with one subscriber, all at once when they are waited for."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.unanswered = 0

    def send(self, packed: bytes) -> None:
        self.sent.append(packed)
        self.unanswered += packed.count(b".")

    def replies(self, *, wait: bool) -> list[int]:
        found = [1] * self.unanswered if wait else []
        self.unanswered -= len(found)
        return found


def test_what_is_overdue_is_sent_in_order_and_every_answer_is_waited_for() -> None:
    wire: Any = Answering()
    packed = [b"%d." % number for number in range(1200)]
    late, receivers = send_packed(wire, packed, [END_US - 1_000_000_000_000 + n for n in range(1200)])
    assert b"".join(wire.sent) == b"".join(packed)
    assert late.total == sum(receivers) == 1200


def test_drift_is_the_growth_in_ten_minutes_and_an_outlier_does_not_move_it() -> None:
    points = [(minute / 6, 100 + 0.2 * minute / 6) for minute in range(90)]
    expected = 100 * 2 / 101.5
    assert drift(points) == pytest.approx(expected, rel=0.01)
    points[40] = (points[40][0], 5000.0)
    assert drift(points) == pytest.approx(expected, rel=0.02)
    assert drift([(0.0, 7.0), (1.0, 7.0)]) == 0


def samples(minutes: float, rss_per_minute: float) -> list[dict[str, Any]]:
    rows = []
    for number in range(int(minutes * 6)):
        minute = number / 6
        rss = 80.0 + min(minute, 16) + max(0.0, minute - 16) * rss_per_minute
        rows.append({"minute": minute, "rss_mb": rss, "us": 200.0, "p50_ms": 3.0, "p99_ms": None})
    return rows


def test_memory_that_grows_while_the_windows_fill_is_steady_and_later_growth_is_not() -> None:
    assert not judged(samples(30, 0.0), 30).failed
    leaking = judged(samples(30, 0.5), 30)
    assert leaking.failed
    assert {row["figure"]: row["steady"] for row in leaking.rows} == {"rss": False, "us": True, "p50": True}


def test_a_short_run_is_no_verdict() -> None:
    report = judged(samples(2, 0.0), 2)
    assert not report.failed
    assert report.notes
