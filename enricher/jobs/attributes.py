"""The attributes of a class of jobs, each read and checked."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from enricher.errors import ConfigError
from enricher.job_store import RESERVED, queue_problem
from enricher.jobs.payload import Arguments
from enricher.jobs.schedules import SHORTEST

Isolation = Literal["thread", "process"]
UniqueUntil = Literal["until_started", "until_finished"]

QUEUE_EXPECTED = f"the name of a queue: letters, digits, _, . and -, and none of {', '.join(RESERVED)}"

_RATE = re.compile(r"([1-9]\d*)/([1-9]\d*)?([smhd])")
_MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Rate(msgspec.Struct, frozen=True):
    """At most ``most`` starts in ``per_ms`` milliseconds."""

    most: int
    per_ms: int


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


def misspelt(cls: type[Any], base: type[Any]) -> Iterator[str]:
    """What is wrong with attributes of ``cls`` whose names are nearly those of ``base``."""
    known = list(base.__annotations__)
    for name, value in vars(cls).items():
        # Lists and the like are a class's own: `queues` is no slip of `queue`.
        if name in known or name.startswith("_") or not isinstance(value, int | float | str):
            continue
        for near in difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            yield f"{cls.__name__}.{name} = {value!r} says nothing to jobs; did you mean {near}?"


class Attributes:
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and value < 1e12
