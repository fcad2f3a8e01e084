"""How a job looks in words: its times, its arguments, all of it on a page, a line of JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from enricher.cli.output import visible
from enricher.config import redact_text
from enricher.job_store import FINISHED, JobError, JobRecord
from enricher.jobs.results import Outcome, children
from enricher.jobs.selection import arguments

COLOURS: Mapping[str, str] = {
    "running": "cyan",
    "retrying": "yellow",
    "waiting": "blue",
    "scheduled": "magenta",
    "failed": "red",
    "cancelled": "bright_black",
    "succeeded": "green",
}
_LONGEST = 20_000
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def line(text: str) -> str:
    """The text on one line, without orders to the terminal and without passwords of URLs."""
    return " ".join(visible(redact_text(text)).split())


def short_id(id_: str) -> str:
    """The part of an id that people need, and that commands take; an id of somebody's own is whole."""
    return id_[:8] if _UUID.fullmatch(id_) else id_


def short(milliseconds: float) -> str:
    """A while in few letters: 250 ms, 12 s, 4 min, 3 h, 2 d."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{max(milliseconds, 0):.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def clock(ms: int, now_ms: int) -> str:
    """A moment on the local clock, without the date if it is today's."""
    if not ms:
        return ""
    at, now = (datetime.fromtimestamp(each / 1000).astimezone() for each in (ms, now_ms))
    if at.date() == now.date():
        return f"{at:%H:%M:%S}"
    return f"{at:%b %d %H:%M}" if at.year == now.year else f"{at:%Y-%m-%d}"


def local(ms: int) -> str:
    """A moment in the local zone, whole."""
    return f"{datetime.fromtimestamp(ms / 1000).astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3] + (
        f"{datetime.fromtimestamp(ms / 1000).astimezone(): %Z}"
    )


def utc(ms: int) -> str | None:
    """A moment as JSON has it; None for none."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds") if ms else None


def error_line(job: JobRecord) -> str:
    """Type and text of its last error, on one line."""
    if job.error is None:
        return ""
    kind, text = job.error.type, line(job.error.message)
    return f"{kind}: {text}" if text else kind


def progress(data: bytes) -> str:
    """How far a job is, for people: ``30/100 loading``; JSON that is something else as it is."""
    if not data:
        return ""
    try:
        said = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line(data.decode("utf-8", "replace"))
    if not isinstance(said, dict):
        return line(data.decode())
    done, total, note = said.get("done"), said.get("total"), said.get("note") or ""
    share = "" if done is None else f"{done:g}/{total:g}" if total else f"{done:g}"
    return line(f"{share} {note}".strip())


def as_json(job: JobRecord, **more: Any) -> str:
    """The job as one line of JSON."""
    try:
        args, kwargs = msgspec.json.decode(job.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        args, kwargs = None, None
    said = {
        "id": job.id,
        "state": job.state,
        "class": job.task,
        "queue": job.queue,
        "args": args,
        "kwargs": kwargs,
        "attempt": job.attempt,
        "lost": job.lost,
        "enqueued_at": utc(job.enqueued_ms),
        "due_at": utc(job.due_ms),
        "started_at": utc(job.started_ms),
        "finished_at": utc(job.finished_ms),
        "worker": job.worker or None,
        "parent": job.parent or None,
        "cancelling": job.cancelling,
        "progress": msgspec.Raw(job.progress) if job.progress else None,
        "error": None if job.error is None else error_fields(job.error),
    }
    return msgspec.json.encode({**said, **more}).decode()


def error_fields(error: JobError) -> dict[str, str]:
    """An error as JSON shows it, without passwords."""
    return {
        "type": error.type,
        "message": redact_text(error.message),
        "module": error.module,
        "traceback": redact_text(error.traceback),
    }


def details(job: JobRecord, outcome: Outcome | None, now_ms: int) -> Iterator[str]:
    """The job on a page, line by line. ``outcome`` is its stored result, if there is one."""

    def when(ms: int) -> str:
        ahead = f"in {short(ms - now_ms)}" if ms > now_ms else f"{short(now_ms - ms)} ago"
        return f"{local(ms)}  ({ahead})"

    yield f"{'id':<11} {job.id}"
    yield f"{'class':<11} {line(job.task)}"
    yield f"{'queue':<11} {job.queue}"
    yield f"{'state':<11} {job.state}{', being cancelled' if job.cancelling and not job.finished_ms else ''}"
    times = [("enqueued", job.enqueued_ms), ("due", job.due_ms), ("started", job.started_ms)]
    if job.state not in ("scheduled", "retrying"):
        times.remove(("due", job.due_ms))
    for name, ms in [*times, ("ended", job.finished_ms)]:
        if ms:
            yield f"{name:<11} {when(ms)}"
    if job.finished_ms and job.started_ms:
        yield f"{'took':<11} {short(job.finished_ms - job.started_ms)}"
    yield f"{'attempts':<11} {job.attempt}" + (f", and {job.lost} lost with a worker" if job.lost else "")
    for name, text in (
        ("worker", job.worker),
        ("progress", progress(job.progress)),
        ("unique", job.unique),
        ("limits", ", ".join(job.limits)),
        ("parent", job.parent),
        ("children", ", ".join(children(outcome))),
    ):
        if text:
            yield f"{name:<11} {line(text)}"
    yield ""
    yield f"arguments ({len(job.payload):,} bytes)"
    yield f"  {visible(_cut(arguments(job.payload)))}"
    if job.steps:
        yield ""
        yield "steps that are done"
        for name, said in job.steps.items():
            yield f"  {line(name)}  {line(_cut(said.decode('utf-8', 'replace')))}"
    if outcome is not None and outcome.status == "SUCCESS":
        yield ""
        yield "result"
        yield f"  {visible(_cut(msgspec.json.encode(outcome.result).decode()))}"
    elif job.state == "succeeded":
        yield ""
        yield "result  (no longer kept: jobs.result_ttl)"
    if job.error is not None and job.error.type == "JobCancelled":
        if job.error.message:
            yield ""
            yield f"cancelled: {line(job.error.message)}"
    elif job.error is not None:
        yield ""
        yield f"{'error' if job.state in FINISHED else 'last error'}  {error_line(job)}"
        if "Traceback" in job.error.traceback:  # else it says the same again
            for each in visible(redact_text(_cut(job.error.traceback))).rstrip().splitlines():
                yield f"  {each}"


    for failure in job.earlier:
        yield ""
        yield f"attempt {failure.attempt} failed at {local(failure.at)}: {line(_cut(str(failure.error)))}"
        for each in visible(redact_text(_cut(failure.error.traceback))).rstrip().splitlines():
            yield f"  {each}"
    if job.log:
        yield ""
        yield "log"
        for entry in job.log:
            fields = " ".join(f"{name}={value}" for name, value in entry.fields.items())
            yield f"  {local(entry.at)}  {line(f'{entry.text} {fields}'.strip())}"


def _cut(text: str) -> str:
    return (
        text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters; --json has all)"
    )
