"""Results as they are stored: the JSON objects that Celery's AsyncResult reads, under the same keys.

    {"task_id": "..", "status": "SUCCESS", "result": 5, "traceback": null, "children": [], "date_done": ".."}

After a failure, before a retry and after a cancel ``result`` is ``{exc_type, exc_message, exc_module}``, with
the exception's arguments as ``exc_message``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import msgspec

from enricher.errors import BadMessage
from enricher.job_store import JobError
from enricher.jobs.errors import BadResult, Cancel, JobCancelled, JobFailed, Retry
from enricher.texts import as_text, text_of, trace_of
from enricher.tracebacks import from_foreign_code

KEY = "celery-task-meta-"
"""What the key of a result begins with; the job's id follows. Its channel is called the same."""

LARGEST = 64 * 1024 * 1024
"""Bytes of a result: far more would be more than Redis takes, and hold up the results of others."""

_LONG = 64 * 1024  # bytes of an exception's arguments

ENDED = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
_REVOKED_TYPE, _REVOKED_MODULE = "TaskRevokedError", "celery.exceptions"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A stored result."""

    task_id: str
    status: str = "PENDING"
    result: Any = None
    traceback: str | None = None
    children: list[Any] | None = []
    date_done: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Outcome).decode


def started(id: str, worker: str) -> bytes:  # noqa: A002
    """The job runs on ``worker``."""
    return _encode(Outcome(task_id=id, status="STARTED", result={"hostname": worker}))


def success(id: str, value: Any, *, children: Iterable[str] = (), now: datetime | None = None) -> bytes:  # noqa: A002
    """The job has returned ``value``, and enqueued ``children``.

    Raises `BadResult` for a value that cannot be JSON, or is larger than `LARGEST`. NaN and infinity become
    null.
    """
    kept = [[[child, None], None] for child in children]
    try:
        encoded = _encode(
            Outcome(task_id=id, status="SUCCESS", result=value, children=kept, date_done=_date(now))
        )
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        expected = "a result that JSON knows: text, numbers, lists, objects, dates, dataclasses"
        raise BadResult("$.result", expected, f"{type(value).__name__}: {text_of(error)}") from error
    if len(encoded) > LARGEST:
        expected = f"a result of at most {LARGEST:,} bytes of JSON; keep what is larger elsewhere"
        raise BadResult("$.result", expected, f"{len(encoded):,} bytes")
    return encoded


def failure(id: str, error: BaseException | JobError, *, now: datetime | None = None) -> bytes:  # noqa: A002
    """The job has failed for good."""
    return _failed(id, "FAILURE", error, now)


def retry(id: str, error: BaseException | JobError, *, now: datetime | None = None) -> bytes:  # noqa: A002
    """The job has failed and will be tried again."""
    return _failed(id, "RETRY", error, now)


def revoked(id: str, why: str = "", *, now: datetime | None = None) -> bytes:  # noqa: A002
    """The job was cancelled."""
    message = _exception(_REVOKED_TYPE, [why or "revoked"], _REVOKED_MODULE)
    return _encode(Outcome(task_id=id, status="REVOKED", result=message, date_done=_date(now)))


def job_error(error: BaseException, id: str = "") -> JobError:  # noqa: A002
    """The exception as data; what job ``id`` raised in another process, as it was there."""
    there = error if isinstance(error, JobFailed) else error.__cause__
    if id and isinstance(there, JobFailed) and there.id == id:
        return JobError(there.type, there.message, there.module, there.traceback)
    kind = type(error)
    return JobError(
        type=kind.__qualname__,
        message=as_text(text_of(error)),
        module=kind.__module__,
        traceback=as_text(trace_of(from_foreign_code(error))),
    )


def read(id: str, data: bytes | None) -> Outcome:  # noqa: A002
    """A stored result, also one that Celery has written; None is a job that nobody knows."""
    if data is None:
        return Outcome(task_id=id)
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(f"{KEY}{id}", "a result of a job", text_of(error)) from error


def children(outcome: Outcome | None) -> list[str]:
    """The ids of the jobs that a job has enqueued, as its result says."""
    found = []
    for each in (outcome and outcome.children) or ():
        while isinstance(each, list) and each:
            each = each[0]
        if isinstance(each, str):
            found.append(each)
    return found


def value_of(outcome: Outcome) -> Any:
    """What the job returned, or the exception for its failure; None while there is neither.

    An exception is made only of a class that is imported here already; else it is a `JobFailed`. So it is
    for `Retry` and `Cancel`: raised in a job that waits for another, they would speak of that one.
    """
    if outcome.status == "SUCCESS":
        return outcome.result
    if outcome.status not in ("FAILURE", "RETRY", "REVOKED"):
        return None
    said = outcome.result if isinstance(outcome.result, dict) else {}
    kind, module = str(said.get("exc_type", "Exception")), str(said.get("exc_module") or "")
    message = said.get("exc_message", "")
    args = message if isinstance(message, list) else [message]
    if outcome.status == "REVOKED":
        why = str(args[0]) if args and args[0] != "revoked" else ""
        return JobCancelled(outcome.task_id, why)
    shown = ", ".join(map(str, args))
    failed = JobFailed(outcome.task_id, kind, shown, module, outcome.traceback or "")
    known = imported_exception(module, kind)
    if known is None or issubclass(known, Retry | Cancel):
        return failed
    try:
        error = known(*args)
    except Exception:  # noqa: BLE001  a class that cannot be made of its own arguments
        return failed
    if not isinstance(error, known):
        return failed
    error.__cause__ = failed
    return error


def imported_exception(module: str, name: str) -> type[Exception] | None:
    """The class, if its module is imported and it is an exception; nothing is imported."""
    found: Any = sys.modules.get(module)
    if not isinstance(found, ModuleType):
        return None
    for part in name.split("."):
        found = vars(found).get(part)  # which runs nobody's code, as `getattr` may
        if not isinstance(found, type):
            return None
    return found if issubclass(found, Exception) else None


def _failed(id: str, status: str, error: BaseException | JobError, now: datetime | None) -> bytes:  # noqa: A002
    args: list[Any]
    if isinstance(error, JobError):
        said, args = error, [error.message]
    else:
        said = job_error(error, id)
        elsewhere = isinstance(error, JobFailed) and said.type != type(error).__qualname__
        args = [said.message] if elsewhere else _arguments(error)
        if len(_encode(args)) > _LONG:
            args = [said.message]
    return _encode(
        Outcome(
            task_id=id,
            status=status,
            result=_exception(said.type, args, said.module),
            traceback=said.traceback or None,
            date_done=_date(now),
        )
    )


def _arguments(error: BaseException) -> list[Any]:
    """The exception's arguments; those that JSON does not know as text."""
    kept: list[Any] = []
    for each in error.args:
        try:
            same = msgspec.json.decode(msgspec.json.encode(each)) == each
        except Exception:  # noqa: BLE001  it may be anything
            same = False
        kept.append(each if same else as_text(_shown(each)))
    return kept


def _shown(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  it is somebody's own class
        return object.__repr__(value)


def _exception(kind: str, args: list[Any], module: str) -> dict[str, Any]:
    return {"exc_type": kind, "exc_message": args, "exc_module": module}


def _date(now: datetime | None) -> str:
    return (now or datetime.now(UTC)).isoformat()
