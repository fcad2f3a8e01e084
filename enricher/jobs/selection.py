"""Which jobs are meant: by class, queue, state, arguments, error and time."""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from enricher.job_store import JobRecord, State

STATES: tuple[State, ...] = (
    *("running", "retrying", "waiting", "scheduled"),
    *("failed", "cancelled", "succeeded"),
)
"""Every state a job may have, what needs a look first."""


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a job must be like; whatever is left at its default lets everything through.

    ``states`` and ``queues`` are names, ``cls`` the name of a task or of its class, or a glob pattern.
    ``args`` is a part of the arguments, ``error`` of the error's type or text, both in any case. ``since_ms``
    and ``until_ms`` (milliseconds since 1970 UTC, both inclusive) bound `moment`.
    """

    states: tuple[State, ...] = ()
    queues: tuple[str, ...] = ()
    cls: str = ""
    args: str = ""
    error: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    def matches(self, job: JobRecord) -> bool:
        if self.states and job.state not in self.states:
            return False
        if self.queues and job.queue not in self.queues:
            return False
        if self.cls and not any(fnmatchcase(name, self.cls) for name in (job.task, class_name(job.task))):
            return False
        if self.args:
            text = self.args.casefold()
            stored = job.payload.decode("utf-8", "replace").casefold()
            if text not in stored and text not in arguments(job.payload).casefold():
                return False
        if self.error:
            said = "" if job.error is None else str(job.error)
            if self.error.casefold() not in said.casefold():
                return False
        at = moment(job)
        return (self.since_ms is None or at >= self.since_ms) and (
            self.until_ms is None or at <= self.until_ms
        )

    @property
    def is_open(self) -> bool:
        """Whether it lets every job of its states and queues through."""
        return self == JobFilter(states=self.states, queues=self.queues)


EVERY = JobFilter()


def moment(job: JobRecord) -> int:
    """The time that counts for a job (ms): when it ended, began, is due, or was enqueued."""
    by_state = {
        "running": job.started_ms,
        "retrying": job.due_ms,
        "scheduled": job.due_ms,
        "waiting": job.enqueued_ms,
    }
    return by_state.get(job.state, job.finished_ms) or job.enqueued_ms


def class_name(task: str) -> str:
    """The last part of a task's name: ``ImportWorker`` of ``app.jobs.ImportWorker``."""
    return task.rpartition(".")[2]


def arguments(payload: bytes) -> str:
    """Arguments as in a call: ``7, "x", since="2026-01-01"``; what is none as it is."""
    try:
        args, kwargs = msgspec.json.decode(payload, type=tuple[list[msgspec.Raw], dict[str, msgspec.Raw]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload.decode("utf-8", "replace")
    shown = [_text(each) for each in args]
    return ", ".join([*shown, *(f"{name}={_text(each)}" for name, each in kwargs.items())])


def _text(value: msgspec.Raw) -> str:
    return bytes(value).decode("utf-8", "replace")


def parse_value(text: str) -> object:
    """An argument from the command line: JSON (``7``, ``'"7"'``), and what is no JSON is text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text
