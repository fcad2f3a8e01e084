"""How a call travels: what every file of calls is written with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from enricher.adapters.redis.scripts import Script
from enricher.job_store import Request

Part = str | bytes | int | float


class Wire(NamedTuple):
    """What is sent: a command, or a script with its prefix and arguments; and how its reply is read.

    ``elsewhere`` says what a server that has the results alone is told after an answer: commands.
    """

    arguments: Sequence[Part]
    read: Callable[[Any], Any]
    script: Script | None = None
    elsewhere: Callable[[Any], Sequence[Sequence[Part]]] | None = None


def result_key(id_: str) -> str:
    """The key and the channel of a job's result."""
    return f"celery-task-meta-{id_}"


def request_parts(request: Request) -> list[Part]:
    """The eleven arguments of a request, see ``enqueue`` in ``jobs.lua``."""
    due = ""
    if request.at_ms is not None:
        due = f"at {request.at_ms}"
    elif request.delay_ms:
        due = f"in {request.delay_ms}"
    unique = request.unique
    limits = "".join(f"{limit.most} {limit.rate} {limit.per_ms} {limit.key}\n" for limit in request.limits)
    return [
        *(request.id, request.task, request.queue, request.payload, due),
        *(("", "", 0) if unique is None else (unique.key, unique.until, unique.ttl_ms)),
        *(limits, request.parent, request.trace),
    ]
