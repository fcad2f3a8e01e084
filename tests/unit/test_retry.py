"""Retrying is arithmetic: numbers in, a decision out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.engine.retry import IO_RETRY, NO_RETRY, Backoff, GiveUp, Retry, RetryPolicy
from enricher.errors import BadMessage, ConfigError, UnknownTopic


def test_without_jitter_the_delays_are_5_10_20_seconds_and_then_it_ends() -> None:
    policy = RetryPolicy(jitter="none")
    decisions = [policy.decide(attempt, OSError("away")) for attempt in (1, 2, 3, 4)]
    assert decisions == [Retry(5.0), Retry(10.0), Retry(20.0), GiveUp("failed 4 times")]


def test_pure_handlers_are_not_retried() -> None:
    assert isinstance(NO_RETRY.decide(1, ValueError("again the same")), GiveUp)


def test_handlers_with_io_get_three_retries_with_full_jitter() -> None:
    assert [IO_RETRY.decide(n, OSError(), draw=0.5) for n in (1, 2, 3)] == [Retry(2.5), Retry(5), Retry(10)]
    assert isinstance(IO_RETRY.decide(4, OSError(), draw=0.5), GiveUp)


@pytest.mark.parametrize("error", [BadMessage("$.price", "a number"), UnknownTopic("x", ("y",))])
def test_a_bad_message_is_never_retried(error: BadMessage) -> None:
    assert RetryPolicy(max_retries=9).decide(1, error) == GiveUp("the message itself is bad")


def test_only_the_named_exceptions_are_retried() -> None:
    policy = RetryPolicy(exceptions=(OSError,), jitter="none")
    assert policy.decide(1, ConnectionResetError()) == Retry(5.0)
    assert policy.decide(1, KeyError("x")) == GiveUp("KeyError is not retried")


def test_no_delay_exceeds_the_cap_and_none_overflows() -> None:
    assert Backoff(base=5, max_delay=600, jitter="none").delay(8) == 600.0
    assert Backoff(base=5, max_delay=600, jitter="none").delay(10_000_000) == 600.0


@given(
    attempt=st.integers(1, 10_000),
    base=st.floats(0.001, 100),
    factor=st.floats(1, 10),
    cap=st.floats(0.001, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_full_jitter_lies_between_zero_and_the_delay_without_jitter(
    attempt: int, base: float, factor: float, cap: float, draw: float
) -> None:
    ceiling = Backoff(base, factor, cap, "none").delay(attempt)
    assert 0 <= Backoff(base, factor, cap, "full").delay(attempt, draw) <= ceiling <= cap


def test_jitter_is_drawn_anew_each_time() -> None:
    assert len({Backoff().delay(5) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"base": -1},
        {"factor": 0.5},
        {"max_delay": -1},
        {"jitter": "fully"},
        {"exceptions": OSError},
        {"exceptions": [OSError]},
        {"exceptions": ("OSError",)},
    ],
)
def test_a_policy_that_means_nothing_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"retry policy: {next(iter(wrong))} = "):
        RetryPolicy(**wrong)
