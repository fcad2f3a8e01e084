"""What jobs raise: at the call, inside a job, and when somebody asks for a result.

    EnricherError
    |-- BadArguments        arguments that do not fit `perform`, or are no JSON: path, what was expected
    |-- BadResult           what `perform` returned is no JSON
    |-- StoreUnavailable    the store of jobs does not answer
    |-- JobFailed           a job has failed, with an exception that is not known here
    |-- JobCancelled        a job was cancelled: there is no result
    |-- WrongPlace          a call that can only wait for ever where it was made; names its twin
    |-- RunLost             the run is another worker's by now
    |-- ProcessDied         the process of a job has ended by itself
    `-- MemoryLimitExceeded the process of a job was killed, for it took too much memory

    Retry, Cancel           raised by `perform` itself: try again later, give up
    SoftTimeLimitExceeded   raised in `perform` when its soft limit has passed
    TimeLimitExceeded       how a run ends that has exceeded its hard limit
    Cancelled               raised in a sync `perform` that was cancelled; no Exception

After ``get(timeout)`` without a result the built-in TimeoutError is raised.
"""

from __future__ import annotations

from enricher.errors import BadMessage, EnricherError
from enricher.job_store import StoreUnavailable

__all__ = [
    "BadArguments",
    "BadResult",
    "Cancel",
    "Cancelled",
    "JobCancelled",
    "JobFailed",
    "MemoryLimitExceeded",
    "ProcessDied",
    "Retry",
    "RunLost",
    "SoftTimeLimitExceeded",
    "StoreUnavailable",
    "TimeLimitExceeded",
    "WrongPlace",
]


class BadArguments(BadMessage, TypeError):
    """Arguments that do not fit `perform`, or that JSON cannot carry; ``path`` names the wrong one.

    ``$.args[0]`` is the first positional argument, ``$.kwargs.data.x`` a key of the argument ``data``.
    """


class BadResult(BadMessage, TypeError):
    """What `perform` has returned cannot be JSON. The job has failed: to run it again would not help."""


class JobFailed(EnricherError):
    """A job has failed with an exception of ``type`` in ``module``, whose text is ``message``.

    ``traceback`` is that of the worker. It is raised itself where the exception's class is not imported, and
    is the ``__cause__`` where it is.
    """

    def __init__(self, id: str, type: str, message: str, module: str = "", traceback: str = "") -> None:  # noqa: A002
        self.id = id
        self.type = type
        self.message = message
        self.module = module
        self.traceback = traceback
        name = f"{module}.{type}" if module and module != "builtins" else type
        super().__init__(f"job {id} failed: {name}: {message}" + (f"\n\n{traceback}" if traceback else ""))


class JobCancelled(EnricherError):
    """The job with ``id`` was cancelled; ``why`` is what was given as the reason."""

    def __init__(self, id: str, why: str = "") -> None:  # noqa: A002
        self.id = id
        self.why = why
        super().__init__(f"job {id} was cancelled" + (f": {why}" if why else ""))


class WrongPlace(EnricherError, RuntimeError):
    """A call that would stop the loop, or wait for ever, where it was made; its text names the right one."""


class Retry(Exception):
    """Raise it in `perform` to be tried again in ``in_seconds`` (None: as the class's backoff says).

    It counts as an attempt: after ``max_retries`` the job fails.
    """

    def __init__(self, why: str = "", *, in_seconds: float | None = None) -> None:
        if in_seconds is not None and not 0 <= in_seconds < float("inf"):
            raise ValueError(f"in_seconds = {in_seconds!r}: expected seconds, 0 or more")
        self.why = why
        self.in_seconds = in_seconds
        super().__init__(why or "it asks to be tried again")


class Cancel(Exception):
    """Raise it in `perform` to end the job as cancelled, with the reason; it is not tried again."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        super().__init__(why)


class SoftTimeLimitExceeded(TimeoutError):
    """Raised in `perform` when its soft time limit (of ``seconds``, where they are known) has passed.

    Clean up, and end.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        super().__init__(*(() if seconds is None else (seconds,)))

    def __str__(self) -> str:
        return _exceeded("soft time limit", self.seconds)


class TimeLimitExceeded(TimeoutError):
    """A run has exceeded its hard time limit of ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(seconds)

    def __str__(self) -> str:
        return _exceeded("time limit", self.seconds)


class Cancelled(BaseException):
    """Raised in a sync `perform` that was cancelled, or is past its hard limit: clean up, and let it out.

    It is no Exception, as asyncio's own is none, so that ``except Exception`` does not hold it up.
    """


class RunLost(EnricherError):
    """A run that goes on though its job is another worker's: it was silent for longer than its lease."""


class ProcessDied(EnricherError):
    """The process of a job has ended by itself: killed by a signal, or by ``os._exit``."""


class MemoryLimitExceeded(EnricherError, MemoryError):
    """The process of a job was killed, for it held more than its class's ``max_memory``."""


def _exceeded(what: str, seconds: float | None) -> str:
    return f"{what} exceeded" if seconds is None else f"{what} of {seconds:g} s exceeded"
