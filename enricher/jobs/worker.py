"""What a program subclasses: a class with `perform` is a kind of job.

    class ImportWorker(Worker):
        queue = "default"
        max_retries = 3

        @classmethod
        def perform(cls, user_id: int, data: dict) -> dict: ...

    job = ImportWorker.perform_async(7, data={"rows": 3})
    job.get(timeout=60)

What a class says is read and checked when it is first used, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar

from enricher.errors import ConfigError
from enricher.job_store import Enqueue, Request
from enricher.jobs import client
from enricher.jobs.attributes import UniqueUntil
from enricher.jobs.definition import Definition, define, task_name
from enricher.jobs.handle import Handle
from enricher.jobs.requests import NO_OPTIONS, Options, request, request_by_name

_AT_ONCE = 1000
_BYTES_AT_ONCE = 4 * 1_048_576
_KEPT = "__enricher_definition__"


class Worker:
    """The base of all classes of jobs. `perform` is a class or static method, async or not.

    name                 of the task; None: ``{module}.{Class}``. It is not inherited
    queue                where its jobs wait
    max_retries          further attempts after a failure
    retry_backoff        True: up to 1, 2, 4 ... s, drawn at random; a number: that many times as long;
                         False: always ``retry_delay``
    retry_backoff_max    the longest of these delays
    retry_on             exceptions after which it is tried again
    discard_on           exceptions after which it is not, even so
    time_limit           of one attempt; None: `jobs.time_limit`
    soft_time_limit      when `SoftTimeLimitExceeded` is raised in it
    result_ttl           for how long its result is kept; None: `jobs.result_ttl`
    isolation            of a `perform` that is not async: "thread" or "process"
    max_memory           of a process, in bytes
    cron_schedule        "minute hour day month day_of_week", in ``cron_timezone``
    every                seconds, in place of a cron
    cron_args            what `perform` is given by either: by name, or a tuple
    unique               "until_started", "until_finished" or a number of seconds: a second job with the
                         same arguments (of these, the ``unique_args``) is the first one
    max_concurrency      runs at once, in all workers together
    rate                 starts in a time, such as "100/m"
    limit_key            the argument for each value of which these two hold

    Times are seconds. Called directly `perform` is the plain function. The methods ``perform_*`` enqueue,
    from plain code; inside a loop they hold it for a round trip. Their twins ``enqueue*`` are awaited. All
    return a `Handle`, and raise `BadArguments` for arguments that do not fit `perform`, `ConfigError` for a
    wrong attribute or option, `StoreUnavailable` if Redis does not answer within a second.
    """

    name: ClassVar[str | None] = None
    queue: ClassVar[str] = "default"
    max_retries: ClassVar[int] = 3
    retry_backoff: ClassVar[bool | float] = True
    retry_backoff_max: ClassVar[float] = 600
    retry_delay: ClassVar[float] = 180
    retry_on: ClassVar[Any] = (Exception,)
    discard_on: ClassVar[Any] = ()
    time_limit: ClassVar[float | None] = None
    soft_time_limit: ClassVar[float | None] = None
    result_ttl: ClassVar[int | None] = None
    isolation: ClassVar[str] = "thread"
    max_memory: ClassVar[int | None] = None
    cron_schedule: ClassVar[str | None] = None
    cron_timezone: ClassVar[str | None] = None
    cron_args: ClassVar[Any] = ()
    every: ClassVar[float | None] = None
    unique: ClassVar[UniqueUntil | float | bool | None] = None
    unique_args: ClassVar[Any] = None
    max_concurrency: ClassVar[int | None] = None
    rate: ClassVar[str | None] = None
    limit_key: ClassVar[str | None] = None

    @classmethod
    def perform_async(cls, /, *args: Any, **kwargs: Any) -> Handle:
        """Enqueue a job that is due now."""
        return Enqueuer(cls).perform_async(*args, **kwargs)

    @classmethod
    def perform_at(cls, when: datetime, *args: Any, **kwargs: Any) -> Handle:
        """Enqueue a job that is due at ``when``; without a zone that is local time."""
        return cls.options(at=_moment(when)).perform_async(*args, **kwargs)

    @classmethod
    def perform_in(cls, delay_seconds: float | timedelta = 300, *args: Any, **kwargs: Any) -> Handle:
        """Enqueue a job that is due in so many seconds."""
        return cls.options(delay=delay_seconds).perform_async(*args, **kwargs)

    @classmethod
    def perform_bulk(cls, jobs: Iterable[Mapping[str, Any] | Sequence[Any]]) -> list[Handle]:
        """Enqueue a job for each mapping of arguments by name, or list of them, in that order.

        All are checked before the first is enqueued. Each 1,000, or 4 MiB, take one round trip; if one fails,
        those before it are enqueued.
        """
        return Enqueuer(cls).perform_bulk(jobs)

    @classmethod
    async def enqueue(cls, /, *args: Any, **kwargs: Any) -> Handle:
        """As `perform_async`, without holding the loop."""
        return await Enqueuer(cls).enqueue(*args, **kwargs)

    @classmethod
    async def enqueue_at(cls, when: datetime, *args: Any, **kwargs: Any) -> Handle:
        """As `perform_at`, without holding the loop."""
        return await cls.options(at=_moment(when)).enqueue(*args, **kwargs)

    @classmethod
    async def enqueue_in(cls, delay_seconds: float | timedelta = 300, *args: Any, **kwargs: Any) -> Handle:
        """As `perform_in`, without holding the loop."""
        return await cls.options(delay=delay_seconds).enqueue(*args, **kwargs)

    @classmethod
    async def enqueue_bulk(cls, jobs: Iterable[Mapping[str, Any] | Sequence[Any]]) -> list[Handle]:
        """As `perform_bulk`, without holding the loop."""
        return await Enqueuer(cls).enqueue_bulk(jobs)

    @classmethod
    def options(
        cls,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        unique: UniqueUntil | float | bool | None = None,
        id: str | None = None,  # noqa: A002
        queue: str | None = None,
    ) -> Enqueuer:
        """How the next job is enqueued: ``ImportWorker.options(delay=60, queue="low").perform_async(7)``."""
        return Enqueuer(cls, Options(delay=delay, at=at, unique=unique, id=id, queue=queue))


class Enqueuer:
    """Enqueues jobs of a class with options; see `Worker.options`."""

    __slots__ = ("_options", "_worker")

    def __init__(self, worker: type[Worker], options: Options = NO_OPTIONS) -> None:
        self._worker = worker
        self._options = options

    def perform_async(self, /, *args: Any, **kwargs: Any) -> Handle:
        """Enqueue a job; see `Worker.perform_async`."""
        stores = client.current()
        made = self.request(args, kwargs, stores.max_payload)
        return Handle(stores.blocking().ask(Enqueue((made,)))[0], stores)

    async def enqueue(self, /, *args: Any, **kwargs: Any) -> Handle:
        """Enqueue a job without holding the loop."""
        stores = client.current()
        made = self.request(args, kwargs, stores.max_payload)
        return Handle((await stores.in_loop().ask(Enqueue((made,))))[0], stores)

    def perform_bulk(self, jobs: Iterable[Mapping[str, Any] | Sequence[Any]]) -> list[Handle]:
        """Enqueue many; see `Worker.perform_bulk`."""
        stores = client.current()
        parts = _parts(self._requests(jobs, stores.max_payload))
        asked = (stores.blocking().ask(part) for part in parts)
        return [Handle(id, stores) for ids in asked for id in ids]  # noqa: A001

    async def enqueue_bulk(self, jobs: Iterable[Mapping[str, Any] | Sequence[Any]]) -> list[Handle]:
        """Enqueue many without holding the loop."""
        stores = client.current()
        parts = _parts(self._requests(jobs, stores.max_payload))
        asked = [await stores.in_loop().ask(part) for part in parts]
        return [Handle(id, stores) for ids in asked for id in ids]  # noqa: A001

    def request(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        max_payload: int,
        *,
        parent: str = "",
        at: str = "$",
    ) -> Request:
        """The job as it would be enqueued, checked."""
        return request(
            definition_of(self._worker),
            args,
            kwargs,
            self._options,
            max_payload=max_payload,
            parent=parent,
            at=at,
        )

    def _requests(self, jobs: Iterable[Mapping[str, Any] | Sequence[Any]], max_payload: int) -> list[Request]:
        if self._options.id is not None:
            raise ConfigError(
                "options", "id", self._options.id, "None: the jobs of a bulk cannot share an id"
            )
        made = []
        for place, each in enumerate(jobs):
            if isinstance(each, Mapping):
                args, kwargs = (), each
            elif isinstance(each, list | tuple):
                args, kwargs = tuple(each), {}
            else:
                right = "a mapping of arguments by name, or a list of them, for each job"
                raise ConfigError("perform_bulk", f"jobs[{place}]", each, right)
            made.append(self.request(args, kwargs, max_payload, at=f"$[{place}]"))
        return made


def send(task: str, /, *args: Any, **kwargs: Any) -> Handle:
    """Enqueue a job by the name of its task, from a program that may not have the class.

    Where the class is imported it is as its `Worker.perform_async`; else the job goes to queue ``default``.
    """
    stores = client.current()
    return Handle(
        stores.blocking().ask(Enqueue((_by_name(task, args, kwargs, stores.max_payload),)))[0], stores
    )


async def enqueue(task: str, /, *args: Any, **kwargs: Any) -> Handle:
    """As `send`, without holding the loop."""
    stores = client.current()
    made = _by_name(task, args, kwargs, stores.max_payload)
    return Handle((await stores.in_loop().ask(Enqueue((made,))))[0], stores)


def _by_name(task: str, args: Sequence[Any], kwargs: Mapping[str, Any], max_payload: int) -> Request:
    known = imported_worker(task)
    if known is None:
        return request_by_name(task, args, kwargs, max_payload=max_payload)
    return request(definition_of(known), args, kwargs, max_payload=max_payload)


def definition_of(worker: type[Any]) -> Definition:
    """What the class says, checked once. Raises `ConfigError`."""
    known = vars(worker).get(_KEPT)
    if known is None:
        known = define(worker)
        setattr(worker, _KEPT, known)
    return known  # type: ignore[no-any-return]


def imported_worker(task: str) -> type[Worker] | None:
    """The class of this task, if the process has imported it."""
    # The newest first: a module that was loaded anew has made its classes again.
    for worker in reversed(list(imported_workers())):
        with suppress(ConfigError):  # a wrong name is somebody else's
            if hasattr(worker, "perform") and task_name(worker) == task:
                return worker
    return None


def imported_workers() -> Iterator[type[Worker]]:
    """Every class of jobs that this process has imported, in the order of their definition."""
    left, seen = [Worker], {Worker}
    for base in left:
        for cls in base.__subclasses__():
            if cls not in seen:
                seen.add(cls)
                left.append(cls)
                yield cls


def _moment(when: datetime) -> datetime:
    if not isinstance(when, datetime):
        raise ConfigError(
            "perform_at", "when", when, "a datetime, such as datetime.now() + timedelta(hours=2)"
        )
    return when


def _parts(requests: Sequence[Request]) -> Iterator[Enqueue]:
    part, size = list[Request](), 0
    for each in requests:
        if part and (len(part) == _AT_ONCE or size + len(each.payload) > _BYTES_AT_ONCE):
            yield Enqueue(tuple(part))
            part, size = [], 0
        part.append(each)
        size += len(each.payload)
    if part:
        yield Enqueue(tuple(part))
