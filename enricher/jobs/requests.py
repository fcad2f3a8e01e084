"""From a call with arguments and options to a `Request`, which the store keeps."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from enricher.errors import ConfigError
from enricher.job_store import Limit, Request, Unique
from enricher.jobs.attributes import QUEUE_EXPECTED, UniqueUntil, check_unique, is_queue
from enricher.jobs.definition import Definition
from enricher.jobs.payload import MAX_PAYLOAD, plain_payload, split
from enricher.trace_context import traceparent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
_LONGEST_ID = 200
_LONGEST_KEY = 64
_FAR = 1e11  # seconds: three thousand years

# Defaults of parameters may be anything; as part of a key each needs no more than a text of its own.
_sorted_json = msgspec.json.Encoder(order="sorted", enc_hook=repr).encode


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to the enqueueing and not to the job.

    ``delay`` in seconds, or ``at`` a time (naive: local time); ``unique`` as in the class, which it overrides
    (False: not unique); ``id`` is the job's, ``queue`` another than its class's. Raises `ConfigError`.
    """

    delay: float | timedelta | None = None
    at: datetime | None = None
    unique: UniqueUntil | float | bool | None = None
    id: str | None = None
    queue: str | None = None

    def __post_init__(self) -> None:
        for key, right, expected in (
            ("delay", self.delay is None or _is_delay(self.delay), "a number of seconds, or a timedelta"),
            ("at", self.at is None or isinstance(self.at, datetime), "a datetime"),
            ("at", self.at is None or self.delay is None, "a time without a delay: one of them"),
            ("id", self.id is None or _is_id(self.id), "ASCII text without blanks, of up to 200 characters"),
            ("queue", self.queue is None or is_queue(self.queue), QUEUE_EXPECTED),
        ):
            if not right:
                raise ConfigError("options", key, getattr(self, key), expected)
        check_unique("options", self.unique)


NO_OPTIONS = Options()


def request(
    definition: Definition,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Options = NO_OPTIONS,
    *,
    max_payload: int = MAX_PAYLOAD,
    parent: str = "",
    at: str = "$",
) -> Request:
    """The job that a call of this class's `perform` is, checked. Raises `BadArguments`, `ConfigError`.

    ``at`` is where paths of wrong arguments begin.
    """
    payload = definition.arguments.encode(args, kwargs, max_payload, at)
    at_ms, delay_ms = due(options)
    unique: Unique | None = None
    limits: tuple[Limit, ...] = ()
    if definition.unique is not None or options.unique is not None:
        unique = _unique(definition, payload, options)
    if definition.max_concurrency is not None or definition.rate is not None:
        limits = _limits(definition, payload)
    return Request(
        id=options.id or new_id(),
        task=definition.task,
        queue=options.queue or definition.queue,
        payload=payload,
        at_ms=at_ms,
        delay_ms=delay_ms,
        trace=traceparent(),
        unique=unique,
        limits=limits,
        parent=parent,
    )


def request_by_name(
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Options = NO_OPTIONS,
    *,
    max_payload: int = MAX_PAYLOAD,
) -> Request:
    """A job of a class that is not known here: it goes to queue ``default`` unless ``options`` name another.

    Raises `BadArguments` for what is no JSON; whether it fits `perform` shows when it runs.
    """
    if not isinstance(task, str) or task.split() != [task]:
        raise ConfigError("send", "task", task, "the name of a task: text without blanks")
    if options.unique:
        expected = "None: what is unique is said by the class, which is not imported here"
        raise ConfigError("options", "unique", options.unique, expected)
    at_ms, delay_ms = due(options)
    return Request(
        id=options.id or new_id(),
        task=task,
        queue=options.queue or "default",
        payload=plain_payload(args, kwargs, max_payload),
        at_ms=at_ms,
        delay_ms=delay_ms,
        trace=traceparent(),
    )


def new_id() -> str:
    """An id that nobody else makes: a random UUID of version 4, as Celery's."""
    # As `uuid.uuid4` makes them, in a third of its time.
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def due(options: Options) -> tuple[int | None, int]:
    """``at_ms`` and ``delay_ms`` of a request. Raises `ConfigError` for a time that no clock shows."""
    if options.at is not None:
        return moment_ms(options.at), 0
    if options.delay is None:
        return None, 0
    delay = options.delay.total_seconds() if isinstance(options.delay, timedelta) else options.delay
    return None, max(0, round(delay * 1000))


def moment_ms(when: datetime) -> int:
    """Milliseconds since 1970, UTC. A naive time is local; of an hour that comes twice ``fold`` says which.

    Raises `ConfigError` for a local time that no clock shows, for it was set forward over it.
    """
    if when.tzinfo is None:
        aware = when.astimezone()
        if aware.astimezone(UTC).astimezone().replace(tzinfo=None, fold=0) != when.replace(fold=0):
            later = max(when.replace(fold=fold).astimezone() for fold in (0, 1))
            right = f"a time that local clocks show, such as {later:%H:%M}: they are set forward past this"
            raise ConfigError("perform_at", "when", when.isoformat(sep=" "), right)
        when = aware
    return (when - _EPOCH) // _MILLISECOND


def _unique(definition: Definition, payload: bytes, options: Options) -> Unique | None:
    until = definition.unique if options.unique is None else check_unique("options", options.unique)
    if until is None:
        return None
    args, kwargs = split(payload)
    values = definition.arguments.by_name(args, kwargs)
    if definition.unique_args is not None:
        values = {name: values.get(name) for name in definition.unique_args}
    key = f"{definition.task}:{_digest(values)}"
    if until == "until_started":
        return Unique(key, "started")
    if until == "until_finished":
        return Unique(key, "finished")
    return Unique(key, "time", max(1, round(float(until) * 1000)))


def _limits(definition: Definition, payload: bytes) -> tuple[Limit, ...]:
    key = definition.task
    if definition.limit_key is not None:
        args, kwargs = split(payload)
        value = definition.arguments.by_name(args, kwargs).get(definition.limit_key)
        key = f"{key}:{_short(value)}"
    rate = definition.rate
    return (
        Limit(
            key,
            most=definition.max_concurrency or 0,
            rate=0 if rate is None else rate.most,
            per_ms=0 if rate is None else rate.per_ms,
        ),
    )


def _short(value: Any) -> str:
    """A text that stands for the value: itself if it is short, else a digest."""
    if isinstance(value, int | str) and len(text := str(value)) <= _LONGEST_KEY and text.isprintable():
        return text
    return _digest(value)


def _digest(value: Any) -> str:
    return hashlib.blake2b(_sorted_json(value), digest_size=16).hexdigest()


def _is_delay(value: Any) -> bool:
    if isinstance(value, timedelta):
        return value.total_seconds() < _FAR
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value < _FAR
    )


def _is_id(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID:
        return False
    return value.isascii() and value.isprintable() and " " not in value
