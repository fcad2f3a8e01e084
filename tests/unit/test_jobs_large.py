"""What is too large for one write of Redis ends the job that made it, and holds up no other."""

from __future__ import annotations

import msgspec
import pytest

from enricher.adapters.redis.jobs.sink import _pages
from enricher.errors import BadMessage
from enricher.job_store import End, Run
from enricher.jobs import results


def end(size: int) -> End:
    counts = {"attempt": 1, "number": 1, "enqueued_ms": 0, "started_ms": 0}
    run = Run(id="i", task="t", queue="q", payload=b"", entry="1-1", **counts)
    return End(run=run, state="succeeded", result=b"x" * size)


def test_a_result_larger_than_redis_takes_is_refused() -> None:
    with pytest.raises(BadMessage, match=r"at most 67,108,864 bytes.*got 70,000,\d+ bytes"):
        results.success("id", "x" * 70_000_000)


def test_arguments_of_an_exception_are_kept_unless_they_are_long() -> None:
    short = msgspec.json.decode(results.failure("id", ValueError("x", 1)))
    assert short["result"]["exc_message"] == ["x", 1]
    (said,) = msgspec.json.decode(results.failure("id", ValueError("x" * 1_000_000)))["result"]["exc_message"]
    assert 1000 < len(said) < 100_000


@pytest.mark.parametrize(
    ("sizes", "pages"),
    [
        ([], [0]),
        ([1] * 250, [100, 100, 50]),
        ([20_000_000] * 3, [1, 1, 1]),
        ([10_000_000, 10_000_000, 1], [2, 1]),
    ],
)
def test_ends_are_written_in_parts_of_bounded_size(sizes: list[int], pages: list[int]) -> None:
    ends = [(at, end(size)) for at, size in enumerate(sizes)]
    found = list(_pages(ends))
    assert [len(page) for page in found] == pages
    assert [each for page in found for each in page] == ends
