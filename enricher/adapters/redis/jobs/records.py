"""Jobs as their hashes say, and what scripts are told about those that are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from enricher.adapters.redis.jobs.wires import Part
from enricher.job_store import Failure, JobError, JobQueueSettings, JobRecord, LogLine

_STEP = "step:"
_failures = msgspec.json.Decoder(Failure).decode_lines
_log = msgspec.json.Decoder(LogLine).decode_lines


def record_of(id_: str, flat: Sequence[bytes] | Mapping[bytes, bytes]) -> JobRecord | None:
    """A job as its hash says; None if there is none."""
    pairs = flat.items() if isinstance(flat, Mapping) else zip(flat[::2], flat[1::2], strict=True)
    fields = {name.decode(): value for name, value in pairs if value is not None}
    if "state" not in fields:
        return None

    def text(name: str) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    def number(name: str) -> int:
        return int(float(fields.get(name, b"0")))

    state: Any = text("state")
    kept = fields.get("error")
    error = None if kept is None else msgspec.json.decode(kept, type=JobError)
    # Cancelled while it ran: that run is an attempt as well.
    in_a_run = state == "cancelled" and error is not None and error.type == "JobCancelled"
    return JobRecord(
        id=id_,
        task=text("task"),
        queue=text("queue"),
        state=state,
        payload=fields.get("payload", b"[[],{}]"),
        attempt=number("failures") + (in_a_run or state in ("running", "succeeded", "failed")),
        lost=number("lost"),
        enqueued_ms=number("enqueued"),
        due_ms=number("due"),
        started_ms=number("started"),
        finished_ms=number("finished"),
        worker=text("worker"),
        error=error,
        progress=fields.get("progress", b""),
        parent=text("parent"),
        cancelling="cancelling" in fields,
        unique=text("unique"),
        limits=tuple(line.split(" ", 3)[3] for line in text("limits").splitlines()),
        failures=tuple(_failures(fields.get("earlier", b""))),
        log=tuple(_log(fields.get("log", b""))),
        steps={
            name.removeprefix(_STEP): value for name, value in fields.items() if name.startswith(_STEP)
        },
    )


def end_settings(settings: JobQueueSettings) -> list[Part]:
    """The first arguments of ``job_end.lua``."""
    here = not settings.results_url or settings.results_url == settings.url
    return [settings.keep_count, int(settings.keep_for * 1000), "1" if here else ""]
