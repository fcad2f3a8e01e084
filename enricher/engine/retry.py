"""When to try again, as arithmetic.

    >>> RetryPolicy(max_retries=3, base=5, factor=2, jitter="none").decide(1, OSError())
    Retry(delay=5.0)
"""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from enricher.errors import BadMessage, ConfigError


class Retry(msgspec.Struct, frozen=True):
    """Try again in ``delay`` seconds."""

    delay: float


class GiveUp(msgspec.Struct, frozen=True):
    """Do not try again; ``why`` says it for people."""

    why: str


Decision = Retry | GiveUp


class Backoff(msgspec.Struct, frozen=True):
    """Exponential delays in seconds: base, base*factor, base*factor^2 ... never above ``max_delay``.

    ``jitter="full"`` draws uniformly from 0 to that value, which keeps many callers from
    returning in step (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
    """

    base: float = 5.0
    factor: float = 2.0
    max_delay: float = 600.0
    jitter: Literal["none", "full"] = "full"

    def delay(self, attempt: int, draw: float | None = None) -> float:
        """Seconds to wait after failed attempt number ``attempt`` (from 1). ``draw`` is in [0, 1)."""
        # The exponent is bounded so that an outage of days cannot overflow a float.
        ceiling = min(self.max_delay, self.base * self.factor ** min(attempt - 1, 64))
        if self.jitter == "none":
            return float(ceiling)
        return ceiling * (random.random() if draw is None else draw)


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how a failed handler is tried again, and for which exceptions.

    ``base``, ``factor``, ``max_delay`` (seconds) and ``jitter`` are those of `Backoff`. A `BadMessage` is
    never retried: the same input fails the same way. Raises `ConfigError` for values that mean nothing.
    """

    max_retries: int = 3
    base: float = 5.0
    factor: float = 2.0
    max_delay: float = 600.0
    jitter: Literal["none", "full"] = "full"
    exceptions: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        kinds = self.exceptions if isinstance(self.exceptions, tuple) else (None,)
        for key, right, expected in (
            ("max_retries", self.max_retries >= 0, "a whole number, 0 for no retry"),
            ("base", self.base >= 0, "seconds"),
            ("factor", self.factor >= 1, "a number of 1 or more"),
            ("max_delay", self.max_delay >= 0, "seconds"),
            ("jitter", self.jitter in ("none", "full"), "'none' or 'full'"),
            ("exceptions", all(isinstance(kind, type) for kind in kinds), "a tuple of exception classes"),
        ):
            if not right:
                raise ConfigError("retry policy", key, getattr(self, key), expected)

    def decide(self, attempt: int, error: BaseException, draw: float | None = None) -> Decision:
        """What to do after attempt number ``attempt`` (from 1) failed with ``error``."""
        if isinstance(error, BadMessage):
            return GiveUp("the message itself is bad")
        if not isinstance(error, self.exceptions):
            return GiveUp(f"{type(error).__name__} is not retried")
        if attempt > self.max_retries:
            return GiveUp(f"failed {attempt} times")
        backoff = Backoff(self.base, self.factor, self.max_delay, self.jitter)
        return Retry(backoff.delay(attempt, draw))


NO_RETRY = RetryPolicy(max_retries=0)
"""For pure handlers: the same input fails the same way."""

IO_RETRY = RetryPolicy()
"""For handlers with I/O: three retries, 5 s, doubled, full jitter, at most 10 minutes."""
