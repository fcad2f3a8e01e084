"""The ``jobs`` section: where background jobs wait, who runs them, and for how long they may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from enricher.config import ByteSize, Count, PositiveSeconds, Section, Text, WholeSeconds
from enricher.config.types import optional_redis_url_problem
from enricher.job_store import JobQueueSettings, queue_problem
from enricher.redaction import parse

_OF_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


def job_server_problem(url: str) -> str | None:
    """None for the address of a Redis that jobs can be kept in, or for "", else what would be right."""
    address = parse(url)
    if address is not None and address.scheme and address.scheme not in _OF_REDIS:
        # The value itself is not shown: it may hold a password.
        return (
            "a URL such as redis://localhost:6379/1, for jobs and their results are kept in Redis, and "
            f"nothing is kept in {address.scheme}://; or empty for the Redis of redis.url"
        )
    return optional_redis_url_problem(url)


def http_url_problem(url: str) -> str | None:
    """None for an address of the web, or for "", else what would be right."""
    address = parse(url) if url else None
    if url and (address is None or address.scheme not in ("http", "https") or not address.hosts):
        return "a URL such as http://localhost:8000/health, or empty"
    return None


JobServer = Annotated[str, Meta(extra={"check": job_server_problem, "secret": True, "server": "redis"})]
HttpUrl = Annotated[str, Meta(extra={"check": http_url_problem, "secret": True})]
QueueName = Annotated[str, Meta(min_length=1, extra={"check": queue_problem})]
Weight = Annotated[int, Meta(ge=1, le=1000)]


class JobSettings(Section, frozen=True, kw_only=True):
    """The settings of background jobs.

    The jobs are on with ``enabled``, or where that is not said, with any ``packages``; these are searched for
    classes of workers. ``queues`` are in order of priority, or a table of weights. An empty ``url`` is
    redis.url, an empty ``results_url`` is ``url``. Times are seconds: a worker that renews nothing for
    ``lease`` is taken for dead; running jobs get ``drain`` at a stop; results can be read for ``result_ttl``,
    finished jobs for ``keep_for``, and of each state at most ``keep_finished`` of them. The names by which
    Celery's environment calls the servers count while the jobs are on.
    """

    provides: ClassVar[Mapping[str, str]] = {"redis.url": "url"}
    old_names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "CELERY_BROKER_URL": ("url", ""),
        "CELERY_RESULT_BACKEND": ("results_url", ""),
    }

    enabled: bool | None = None
    packages: tuple[Text, ...] = ()
    queues: (
        Annotated[tuple[QueueName, ...], Meta(min_length=1)]
        | Annotated[Mapping[QueueName, Weight], Meta(min_length=1)]
    ) = ("critical", "default", "low")
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 8
    roles: Literal["all", "worker", "scheduler"] = "all"
    url: JobServer = ""
    results_url: JobServer = ""
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
    health_url: HttpUrl = ""

    def is_on(self) -> bool:
        return bool(self.packages) if self.enabled is None else self.enabled

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues in their order."""
        return tuple(self.queues)

    @property
    def works(self) -> bool:
        """Whether this process runs jobs."""
        return self.roles != "scheduler"

    @property
    def schedules(self) -> bool:
        """Whether this process enqueues what is due by a schedule."""
        return self.roles != "worker"

    def validate(self) -> Iterable[tuple[str, str]]:
        if len(set(self.queues)) < len(self.queues):
            yield "queues", "each queue once"
        if self.lease < 1:
            yield "lease", "at least 1 s, or a busy worker loses the jobs it runs"
        if self.poll > self.lease:
            yield "poll", f"at most jobs.lease, which is {self.lease:g} s"
        if self.max_block < self.lease / 3:
            yield "max_block", f"at least a third of jobs.lease, which is {self.lease:g} s"

    def for_clients(self, redis_url: str) -> dict[str, Any]:
        """The settings by their full names that a process needs to enqueue jobs as this one does."""
        return {
            "jobs.url": self.url or redis_url,
            "jobs.results_url": self.results_url,
            "jobs.prefix": self.prefix,
            "jobs.max_payload": self.max_payload,
        }

    def queue_settings(self, redis_url: str, timeout: float) -> JobQueueSettings:
        """What the store takes of these, with the URL of the service's own Redis as the default."""
        return JobQueueSettings(
            url=self.url or redis_url,
            results_url=self.results_url,
            prefix=self.prefix,
            queues=self.queue_names,
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
