"""What a class of jobs says about itself, checked: `define` makes a `Definition` of it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Literal

import msgspec

from enricher.config.types import zone_problem
from enricher.engine.retry import Backoff
from enricher.errors import ConfigError
from enricher.job_store import RESERVED, queue_problem
from enricher.jobs.errors import BadArguments
from enricher.jobs.payload import Arguments
from enricher.jobs.schedules import SHORTEST, cron_problem

Isolation = Literal["thread", "process"]
UniqueUntil = Literal["until_started", "until_finished"]

_RATE = re.compile(r"([1-9]\d*)/([1-9]\d*)?([smhd])")
_MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Rate(msgspec.Struct, frozen=True):
    """At most ``most`` starts in ``per_ms`` milliseconds."""

    most: int
    per_ms: int


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
    said = _Said(cls)
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


def check_unique(source: str, value: Any) -> UniqueUntil | float | None:
    """A value of ``unique`` as it is kept. Raises `ConfigError`."""
    if value is None or value is False:
        return None
    if value is True:
        return "until_finished"
    if value in ("until_started", "until_finished") or (_is_number(value) and value > 0):
        return value  # type: ignore[no-any-return]
    raise ConfigError(source, "unique", value, "'until_started', 'until_finished' or a number of seconds")


def is_queue(value: Any) -> bool:
    """Whether it can be the name of a queue."""
    return queue_problem(value) is None


QUEUE_EXPECTED = f"the name of a queue: letters, digits, _, . and -, and none of {', '.join(RESERVED)}"


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and value < 1e12


class _Said:
    """Reads what a class says, attribute by attribute; each method raises `ConfigError` for a wrong one."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls
        self._source = f"{cls.__module__}.{cls.__qualname__}"

    def get(self, key: str) -> Any:
        return getattr(self._cls, key)

    def wrong(self, key: str, expected: str) -> ConfigError:
        return ConfigError(self._source, key, getattr(self._cls, key, None), expected)

    def perform(self) -> tuple[Callable[..., Any], Literal["async", "sync"]]:
        static = inspect.getattr_static(self._cls, "perform", None)
        if static is None:
            raise self.wrong("perform", "a class method or static method: what the job does")
        if not isinstance(static, classmethod | staticmethod):
            raise self.wrong(
                "perform", "a class method: put @classmethod above it, and cls first (no job has a self)"
            )
        perform = self._cls.perform
        if inspect.isgeneratorfunction(perform) or inspect.isasyncgenfunction(perform):
            raise self.wrong("perform", "a function that returns: this one has a yield")
        return perform, "async" if inspect.iscoroutinefunction(perform) else "sync"

    def queue(self) -> str:
        if not is_queue(self.get("queue")):
            raise self.wrong("queue", QUEUE_EXPECTED)
        return self.get("queue")  # type: ignore[no-any-return]

    def count(self, key: str) -> int:
        value = self.get(key)
        if not _is_number(value) or not isinstance(value, int) or value < 0:
            raise self.wrong(key, "a whole number, 0 or more")
        return value

    def optional_count(self, key: str, expected: str) -> int | None:
        value = self.get(key)
        if value is not None and (not _is_number(value) or not isinstance(value, int) or value < 1):
            raise self.wrong(key, expected)
        return value

    def seconds(self, key: str) -> float:
        value = self.get(key)
        if not _is_number(value) or value < 0:
            raise self.wrong(key, "a number of seconds, 0 or more")
        return float(value)

    def optional_seconds(self, key: str) -> float | None:
        value = self.get(key)
        if value is None:
            return None
        if not _is_number(value) or value <= 0:
            raise self.wrong(key, "a number of seconds above 0")
        return float(value)

    def backoff(self) -> bool | float:
        value = self.get("retry_backoff")
        if not isinstance(value, bool) and not (_is_number(value) and value > 0):
            raise self.wrong(
                "retry_backoff", "True (1, 2, 4 ... s), False (retry_delay) or the first delay in seconds"
            )
        return value  # type: ignore[no-any-return]

    def exceptions(self, key: str) -> tuple[type[BaseException], ...]:
        value = self.get(key)
        listed = tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)
        if not all(isinstance(each, type) and issubclass(each, BaseException) for each in listed):
            raise self.wrong(key, "an exception class, or a tuple of them")
        return listed

    def soft_limit(self) -> float | None:
        soft, hard = self.optional_seconds("soft_time_limit"), self.optional_seconds("time_limit")
        if soft is not None and hard is not None and soft >= hard:
            raise self.wrong("soft_time_limit", f"less than time_limit, which is {hard:g} s")
        return soft

    def isolation(self, kind: str) -> Isolation:
        value = self.get("isolation")
        if value not in ("thread", "process"):
            raise self.wrong("isolation", "'thread' or 'process'")
        if value == "process" and kind == "async":
            raise self.wrong(
                "isolation", "'thread', or a perform that is not async: an async one runs in the loop"
            )
        return value  # type: ignore[no-any-return]

    def memory(self, isolation: str) -> int | None:
        value = self.optional_count("max_memory", "a whole number of bytes, or None")
        if value is not None and isolation != "process":
            raise self.wrong(
                "max_memory", "None, or isolation = 'process': only a process has memory of its own"
            )
        return value

    def one_schedule(self) -> tuple[Any, float | None]:
        cron, every = self.get("cron_schedule"), self.optional_seconds("every")
        if cron is not None and every is not None:
            raise self.wrong("every", f"None, or no cron_schedule (it is {cron!r}): one of them")
        if every is not None and every < SHORTEST:
            raise self.wrong("every", f"{SHORTEST} s or more")
        return cron, every

    def cron_args(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        value = self.get("cron_args")
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return (), dict(value)
        if isinstance(value, tuple | list):
            return tuple(value), {}
        raise self.wrong("cron_args", "a mapping of perform's arguments by name, or a tuple of them")

    def unique(self) -> UniqueUntil | float | None:
        return check_unique(self._source, self.get("unique"))

    def unique_args(self, arguments: Arguments) -> tuple[str, ...] | None:
        value = self.get("unique_args")
        if value is None:
            return None
        names = (value,) if isinstance(value, str) else tuple(value)
        known = arguments.signature.parameters
        if not all(name in known for name in names):
            raise self.wrong(
                "unique_args", f"names of perform's arguments: {', '.join(known) or '(it has none)'}"
            )
        return names

    def rate(self) -> Rate | None:
        value = self.get("rate")
        if value is None:
            return None
        found = _RATE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise self.wrong("rate", "starts per time, such as '10/s', '100/m', '5/10s', '1000/h'")
        return Rate(int(found[1]), int(found[2] or 1) * _MILLISECONDS[found[3]])

    def limit_key(self, arguments: Arguments) -> str | None:
        value = self.get("limit_key")
        known = arguments.signature.parameters
        if value is not None and value not in known:
            raise self.wrong(
                "limit_key", f"the name of an argument of perform: {', '.join(known) or '(it has none)'}"
            )
        return value  # type: ignore[no-any-return]
