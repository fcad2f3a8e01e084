"""What a worker and its child processes tell each other: JSON objects, each behind its length.

The length is four bytes, the most significant first.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import msgspec

from enricher.job_store import JobError, Request, Run

RunKey: TypeAlias = tuple[str, int]
"""The id of a job and the number of the run."""

HEAD = struct.Struct("!I")

CONNECTION_ENDED = 70
"""The status of a child whose job has ended the connection."""


class Frame(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """One message."""


class Hello(Frame, frozen=True):
    """To a child, once: where modules are found, its log's level, the settings by which it enqueues jobs."""

    path: list[str]
    log_level: int
    settings: dict[str, Any] = {}


class Begin(Frame, frozen=True, kw_only=True):
    """To a child: run a job of that class in that module. Limits are in seconds and bytes."""

    module: str
    name: str
    run: Run
    time_limit: float | None = None
    max_payload: int


class Throw(Frame, frozen=True):
    """To a child: raise `Cancelled` in this run, or `SoftTimeLimitExceeded`, if it still runs."""

    run: RunKey
    cancel: bool


class Answer(Frame, frozen=True):
    """To a child: what the store said to its `Step`."""

    found: bytes | None = None
    stored: bool = False


class Wrote(Frame, frozen=True):
    """To a child: the next `Report` may come; ``lost`` if the run is another worker's."""

    lost: bool = False


class Step(Frame, frozen=True):
    """From a child: the outcome of a step to store, or the name of one to find; it waits for the `Answer`."""

    name: str
    outcome: bytes | None = None


class Report(Frame, frozen=True):
    """From a child: how far its job is (JSON)."""

    progress: bytes


class Say(Frame, frozen=True):
    """From a child: a line for the log."""

    message: str
    fields: dict[str, Any]


class Done(Frame, frozen=True):
    """From a child: what `perform` returned, the jobs to enqueue, the last progress."""

    result: msgspec.Raw
    children: list[Request] = []
    progress: bytes | None = None


class Raised(Frame, frozen=True, kw_only=True):
    """From a child: what `perform` raised; its ``args`` and ``state`` as far as they are JSON."""

    error: JobError
    cancelled: bool = False
    args: list[Any] | None = None
    state: dict[str, Any] = {}
    progress: bytes | None = None


ToChild: TypeAlias = Hello | Begin | Throw | Answer | Wrote
FromChild: TypeAlias = Step | Report | Say | Done | Raised

to_child = msgspec.json.Decoder(ToChild).decode
from_child = msgspec.json.Decoder(FromChild).decode

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def packed(frame: Frame) -> bytes:
    """The bytes of a message."""
    body = _encode(frame)
    return HEAD.pack(len(body)) + body
