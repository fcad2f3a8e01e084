"""Background jobs: a class with `perform`, run by a worker, kept in Redis until it has ended.

    class ImportWorker(Worker):
        @classmethod
        def perform(cls, user_id: int) -> int: ...

    ImportWorker.perform_async(7).get(timeout=60)

`enricher.jobs.testing` runs jobs in tests, without Redis.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.jobs.client import close, connect
    from enricher.jobs.context import Job, job
    from enricher.jobs.errors import (
        BadArguments,
        BadResult,
        Cancel,
        Cancelled,
        JobCancelled,
        JobFailed,
        MemoryLimitExceeded,
        ProcessDied,
        Retry,
        RunLost,
        SoftTimeLimitExceeded,
        StoreUnavailable,
        TimeLimitExceeded,
        WrongPlace,
    )
    from enricher.jobs.handle import AsyncResult, Handle
    from enricher.jobs.health_check import HealthCheckWorker
    from enricher.jobs.registry import WorkerRegistry
    from enricher.jobs.worker import Worker, enqueue, send
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.jobs.client": "close connect",
            "enricher.jobs.context": "Job job",
            "enricher.jobs.errors": (
                "BadArguments BadResult Cancel Cancelled JobCancelled JobFailed MemoryLimitExceeded "
                "ProcessDied Retry RunLost SoftTimeLimitExceeded StoreUnavailable TimeLimitExceeded "
                "WrongPlace"
            ),
            "enricher.jobs.handle": "AsyncResult Handle",
            "enricher.jobs.health_check": "HealthCheckWorker",
            "enricher.jobs.registry": "WorkerRegistry",
            "enricher.jobs.worker": "Worker enqueue send",
        },
    )

__all__ = [
    "AsyncResult",
    "BadArguments",
    "BadResult",
    "Cancel",
    "Cancelled",
    "Handle",
    "HealthCheckWorker",
    "Job",
    "JobCancelled",
    "JobFailed",
    "MemoryLimitExceeded",
    "ProcessDied",
    "Retry",
    "RunLost",
    "SoftTimeLimitExceeded",
    "StoreUnavailable",
    "TimeLimitExceeded",
    "Worker",
    "WorkerRegistry",
    "WrongPlace",
    "close",
    "connect",
    "enqueue",
    "job",
    "send",
]
