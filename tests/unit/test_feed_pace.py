"""Publishing keeps to its schedule, on a clock of the test's own."""

from __future__ import annotations

import itertools
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from enricher.market.feed.channels import Message
from enricher.market.feed.publish import MAX_BATCH, Published, publish_at_rate, replay
from enricher.market.feed.recording import Recorded

T = TypeVar("T")


def run(steps: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never really waits: no event loop is needed."""
    with pytest.raises(StopIteration) as ended:
        steps.send(None)
    result: T = ended.value.value
    return result


class Bench:
    """A clock that moves by sleeping and publishing only, and a log of what was published when."""

    def __init__(self, cost: float = 0.0) -> None:
        self.now = 100.0
        self.cost = cost
        self.log: list[tuple[float, Message]] = []
        self.batches: list[int] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.now += seconds

    async def publish(self, batch: Sequence[Message]) -> None:
        self.log += [(round(self.now - 100.0, 6), message) for message in batch]
        self.batches.append(len(batch))
        self.now += self.cost

    def at_rate(self, rate: float | None, **limits: float) -> Published:
        messages = ((f"c{i % 2}", str(i).encode()) for i in itertools.count())
        return run(
            publish_at_rate(
                messages,
                self.publish,
                rate=rate,
                clock=self.clock,
                sleep=self.sleep,
                **limits,  # type: ignore[arg-type]
            )
        )


def test_messages_go_out_at_equal_distances() -> None:
    bench = Bench()
    done = bench.at_rate(4.0, count=5)
    assert [when for when, _ in bench.log] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])
    assert [body for _, (_, body) in bench.log] == [b"0", b"1", b"2", b"3", b"4"]
    assert done.counts == {"c0": 3, "c1": 2}


def test_slow_publishing_does_not_lower_the_rate() -> None:
    bench = Bench(cost=0.05)
    done = bench.at_rate(1000.0, duration=10.0)
    assert done.total == 10_000
    assert done.rate == pytest.approx(1000.0, rel=0.02)
    assert max(bench.batches) <= MAX_BATCH


def test_a_schedule_that_cannot_be_held_says_how_far_it_fell_behind() -> None:
    bench = Bench(cost=1.0)
    done = bench.at_rate(1000.0, count=2000)
    assert done.behind > 500
    assert done.total == 2000
    assert Bench().at_rate(1000.0, count=100).behind == 0


def test_at_high_rates_messages_share_a_round_trip() -> None:
    bench = Bench()
    bench.at_rate(20_000.0, duration=1.0)
    assert len(bench.batches) < 1_000


@pytest.mark.parametrize(
    ("rate", "limits", "total"),
    [
        (10.0, {"duration": 2.0}, 20),
        (10.0, {"duration": 2.0, "count": 5}, 5),
        (10.0, {"duration": 2.0, "count": 50}, 20),
        (None, {"count": 777}, 777),
        (None, {"count": 0}, 0),
    ],
)
def test_whichever_limit_comes_first_ends_it(
    rate: float | None, limits: dict[str, float], total: int
) -> None:
    assert Bench().at_rate(rate, **limits).total == total


def test_without_a_rate_only_time_or_number_ends_it() -> None:
    bench = Bench(cost=0.1)
    done = bench.at_rate(None, duration=1.0)
    assert set(bench.batches) == {MAX_BATCH}
    assert done.seconds == pytest.approx(1.0, abs=0.11)


def test_the_end_of_the_messages_ends_it() -> None:
    bench = Bench()
    messages = [("c", b"1"), ("c", b"2")]
    done = run(publish_at_rate(messages, bench.publish, rate=5.0, clock=bench.clock, sleep=bench.sleep))
    assert done.total == 2


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Bench().at_rate(rate)


RECORDS = [Recorded(int(s * 1e6), "t", str(i).encode()) for i, s in enumerate([5, 6, 6, 5.5, 9])]


def replayed(speed: float | None, bench: Bench) -> list[float]:
    done = run(replay(RECORDS, bench.publish, speed, clock=bench.clock, sleep=bench.sleep))
    assert [body for _, (_, body) in bench.log] == [record.body for record in RECORDS]
    assert done.counts == {"t": 5}
    return [when for when, _ in bench.log]


def test_a_replay_keeps_the_recorded_distances_and_the_order() -> None:
    assert replayed(1.0, Bench()) == pytest.approx([0, 1, 1, 1, 4])


def test_a_replay_at_ten_times_the_speed_takes_a_tenth() -> None:
    assert replayed(10.0, Bench()) == pytest.approx([0, 0.1, 0.1, 0.1, 0.4])


def test_a_replay_at_full_speed_waits_for_nothing() -> None:
    bench = Bench()
    assert replayed(None, bench) == [0, 0, 0, 0, 0]
    assert bench.batches == [5]


def test_a_replay_makes_up_for_a_delay() -> None:
    assert replayed(1.0, Bench(cost=1.5)) == pytest.approx([0, 1.5, 1.5, 1.5, 4])


def test_a_replay_reports_its_progress_after_each_batch() -> None:
    bench, seen = Bench(), list[int]()
    run(
        replay(
            RECORDS * 100,
            bench.publish,
            None,
            clock=bench.clock,
            sleep=bench.sleep,
            progress=lambda done: seen.append(done.total),
        )
    )
    assert seen == [200, 400, 500]


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_that_is_no_speed_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        run(replay([], Bench().publish, speed))
