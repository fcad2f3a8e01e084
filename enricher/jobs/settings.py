"""The ``jobs`` section: where background jobs wait, who runs them, and for how long they may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from enricher.config import ByteSize, Count, PositiveSeconds, Section, Text, WholeSeconds
from enricher.config.types import OptionalRedisUrl
from enricher.job_store import JobQueueSettings


class JobSettings(Section, frozen=True, kw_only=True):
    """The settings of background jobs.

    The jobs are on with ``enabled`` or with any ``packages``, which are searched for classes of workers.
    Queues are in order of priority. An empty ``url`` is redis.url, an empty ``results_url`` is ``url``. Times
    are seconds: a worker that renews nothing for ``lease`` is taken for dead; running jobs get ``drain`` at a
    stop; results can be read for ``result_ttl``, finished jobs for ``keep_for``, and of each state at most
    ``keep_finished`` of them.
    """

    old_names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "CELERY_BROKER_URL": ("url", ""),
        "CELERY_RESULT_BACKEND": ("results_url", ""),
    }

    enabled: bool = False
    packages: tuple[Text, ...] = ()
    queues: Annotated[tuple[Text, ...], Meta(min_length=1)] = ("critical", "default", "low")
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 8
    roles: Literal["all", "worker", "scheduler"] = "all"
    url: OptionalRedisUrl = ""
    results_url: OptionalRedisUrl = ""
    prefix: Text = "jobs"
    lease: PositiveSeconds = 60.0
    drain: PositiveSeconds = 30.0
    max_block: PositiveSeconds = 60.0
    poll: PositiveSeconds = 1.0
    time_limit: PositiveSeconds = 1800.0
    max_deliveries: Count = 3
    max_payload: ByteSize = 1_048_576
    result_ttl: WholeSeconds = 3600
    keep_finished: Count = 10_000
    keep_for: PositiveSeconds = 604_800.0
    misfire: Literal["one", "skip", "all"] = "one"
    health_url: str = ""

    def is_on(self) -> bool:
        return self.enabled or bool(self.packages)

    def queue_settings(self, redis_url: str, timeout: float) -> JobQueueSettings:
        """What the store takes of these, with the URL of the service's own Redis as the default."""
        return JobQueueSettings(
            url=self.url or redis_url,
            results_url=self.results_url,
            prefix=self.prefix,
            queues=self.queues,
            concurrency=self.concurrency,
            lease=self.lease,
            poll=self.poll,
            max_block=self.max_block,
            max_deliveries=self.max_deliveries,
            keep_count=self.keep_finished,
            keep_for=self.keep_for,
            result_ttl=self.result_ttl,
            timeout=timeout,
        )
