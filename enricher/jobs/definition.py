"""What a class of jobs says about itself, checked: `define` makes a `Definition` of it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Literal

import msgspec

from enricher.config.types import zone_problem
from enricher.engine.retry import Backoff
from enricher.errors import ConfigError
from enricher.jobs.attributes import Attributes, Isolation, Rate, UniqueUntil
from enricher.jobs.errors import BadArguments
from enricher.jobs.payload import Arguments
from enricher.jobs.schedules import cron_problem


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A class of jobs: its task's name, `perform`, and what is to be done around it.

    Times are seconds; of ``time_limit``, ``soft_time_limit`` and ``result_ttl`` None is what the settings
    say. ``cron_args`` are args and kwargs of a scheduled job. ``schedule_error`` says what is wrong with the
    schedule, ``schedule_warning`` why a right one is not followed: with either the class has none.
    """

    task: str
    cls: type[Any]
    perform: Callable[..., Any]
    arguments: Arguments
    kind: Literal["async", "sync"]
    queue: str = "default"
    max_retries: int = 3
    retry_backoff: bool | float = True
    retry_backoff_max: float = 600.0
    retry_delay: float = 180.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    discard_on: tuple[type[BaseException], ...] = ()
    time_limit: float | None = None
    soft_time_limit: float | None = None
    result_ttl: int | None = None
    max_memory: int | None = None
    isolation: Isolation = "thread"
    cron_schedule: str | None = None
    cron_timezone: str | None = None
    cron_args: tuple[tuple[Any, ...], Mapping[str, Any]] = ((), {})
    every: float | None = None
    schedule_error: str = ""
    schedule_warning: str = ""
    unique: UniqueUntil | float | None = None
    unique_args: tuple[str, ...] | None = None
    max_concurrency: int | None = None
    rate: Rate | None = None
    limit_key: str | None = None

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.cls.__name__

    @property
    def signature(self) -> inspect.Signature:
        """What `perform` takes."""
        return self.arguments.signature

    @property
    def scheduled(self) -> bool:
        """Whether it has a schedule that can be followed."""
        has = self.cron_schedule is not None or self.every is not None
        return has and not self.schedule_error and not self.schedule_warning


def retry_delay(definition: Definition, attempt: int, draw: float | None = None) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 1); ``draw`` is in [0, 1).

    With ``retry_backoff`` a number drawn from 0 to 1, 2, 4 ... seconds (or to that many times its value, if
    it is a number), never above ``retry_backoff_max``; without it ``retry_delay``.
    """
    if definition.retry_backoff is False:
        return definition.retry_delay
    base = float(definition.retry_backoff)
    return Backoff(base=base, factor=2.0, max_delay=definition.retry_backoff_max).delay(attempt, draw)


def define(cls: type[Any]) -> Definition:
    """What ``cls`` says, checked. Raises `ConfigError` with the class, the value and what would be right."""
    said = Attributes(cls)
    perform, kind = said.perform()
    arguments = Arguments(perform)
    process = said.isolation(kind)
    cron, every = said.one_schedule()
    cron_args = said.cron_args()
    error, warning = _schedule_problems(cls, cron, every, arguments, cron_args, said.get("cron_timezone"))
    return Definition(
        task=task_name(cls),
        cls=cls,
        perform=perform,
        arguments=arguments,
        kind=kind,
        queue=said.queue(),
        max_retries=said.count("max_retries"),
        retry_backoff=said.backoff(),
        retry_backoff_max=said.seconds("retry_backoff_max"),
        retry_delay=said.seconds("retry_delay"),
        retry_on=said.exceptions("retry_on"),
        discard_on=said.exceptions("discard_on"),
        time_limit=said.optional_seconds("time_limit"),
        soft_time_limit=said.soft_limit(),
        result_ttl=said.optional_count("result_ttl", "a whole number of seconds, 1 or more"),
        max_memory=said.memory(process),
        isolation=process,
        cron_schedule=cron,
        cron_timezone=said.get("cron_timezone"),
        cron_args=cron_args,
        every=every,
        schedule_error=error,
        schedule_warning=warning,
        unique=said.unique(),
        unique_args=said.unique_args(arguments),
        max_concurrency=said.optional_count("max_concurrency", "a whole number, 1 or more"),
        rate=said.rate(),
        limit_key=said.limit_key(arguments),
    )


def task_name(cls: type[Any]) -> str:
    """The name of the class's task: its own ``name``, else ``{module}.{Class}``.

    A module that runs as the program is called as others would import it. Raises `ConfigError`.
    """
    own = vars(cls).get("name")  # a name is not inherited: two classes would have the same
    if own is None:
        return f"{module_name(cls)}.{cls.__qualname__}"
    if isinstance(own, str) and own and own.isprintable() and not any(map(str.isspace, own)):
        return own
    raise ConfigError(f"{cls.__module__}.{cls.__qualname__}", "name", own, "text without blanks, or None")


def module_name(cls: type[Any]) -> str:
    """The module by which other processes import the class, also where it is the program that runs."""
    if cls.__module__ != "__main__":
        return cls.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return PurePath(file).stem if file else "__main__"


def _schedule_problems(
    cls: type[Any],
    cron: Any,
    every: float | None,
    arguments: Arguments,
    cron_args: tuple[tuple[Any, ...], Mapping[str, Any]],
    zone: Any,
) -> tuple[str, str]:
    """What is wrong with the schedule, and what keeps a right one from being followed; "" for nothing."""
    if cron is None and every is None:
        return "", ""
    problem = None if cron is None else cron_problem(cron)
    if problem is not None:
        return f"{cls.__name__}: cron_schedule = {cron!r}: {problem}", ""
    problem = None if zone is None else zone_problem(str(zone))
    if problem is not None:
        return f"{cls.__name__}: cron_timezone = {zone!r}: expected {problem}", ""
    try:
        arguments.encode(*cron_args)
    except BadArguments as error:
        return "", f"{cls.__name__} is not scheduled: give cron_args what perform needs: {error}"
    return "", ""
