"""What becomes of a job after a run, as arithmetic.

    >>> judge(definition, 1, ValueError("no such user"), draw=0.5)
    TryAgain(delay=0.5)
"""

from __future__ import annotations

import msgspec

from enricher.engine.retry import Backoff
from enricher.jobs.definition import Definition, retry_delay
from enricher.jobs.errors import BadArguments, BadResult, Cancel, Retry


class TryAgain(msgspec.Struct, frozen=True):
    """Run the job again in ``delay`` seconds."""

    delay: float


class Fail(msgspec.Struct, frozen=True):
    """The job has failed for good."""


class Drop(msgspec.Struct, frozen=True):
    """The job is cancelled; ``why`` is its own reason."""

    why: str


Verdict = TryAgain | Fail | Drop

# A class that nobody here knows may be known to the next deploy: 20 minutes, then the job has failed.
UNKNOWN = Backoff(base=10.0, factor=2.0, max_delay=300.0, jitter="full")
UNKNOWN_RETRIES = 8


class UnknownTask(LookupError):
    """No class of this name is registered in the worker that was given the job."""


def judge(definition: Definition, attempt: int, error: BaseException, draw: float | None = None) -> Verdict:
    """What follows from ``error`` in attempt number ``attempt`` (from 1); ``draw`` is in [0, 1)."""
    if isinstance(error, Cancel):
        return Drop(error.why)
    if isinstance(error, (BadArguments, BadResult, *definition.discard_on)):
        return Fail()
    asked = isinstance(error, Retry)
    if attempt > definition.max_retries or not (asked or isinstance(error, definition.retry_on)):
        return Fail()
    if isinstance(error, Retry) and error.in_seconds is not None:
        return TryAgain(error.in_seconds)
    return TryAgain(retry_delay(definition, attempt, draw))


def judge_unknown(attempt: int, draw: float | None = None) -> Verdict:
    """What follows where no class is known: later, for a worker of the next deploy."""
    return Fail() if attempt > UNKNOWN_RETRIES else TryAgain(UNKNOWN.delay(attempt, draw))
