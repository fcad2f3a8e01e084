"""What schedules are kept in: calls of a `JobStore` that say what has run and enqueue what is due."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from enricher.job_store import Call, Request


class KeptSchedule(msgspec.Struct, frozen=True):
    """A schedule as the store knows it: the task's name and module, and the rule in words."""

    task: str
    module: str
    expression: str


class KeepSchedules(Call[None], frozen=True):
    """Know these schedules: new ones and those whose rule has changed begin now, the others go on.

    What is kept of other classes in ``packages`` (with their subpackages) is forgotten.
    """

    schedules: tuple[KeptSchedule, ...]
    packages: tuple[str, ...] = ()


class ScheduleTimes(msgspec.Struct, frozen=True):
    """Where schedules stand, in milliseconds since 1970 by the server's clock.

    ``now_ms`` is the server's time. Occurrences after ``since_ms`` {task} are still to be run; ``ran_ms``
    {task} is the last that was, 0 for none. A task that is not kept has neither. ``paused`` are tasks.
    """

    now_ms: int
    since_ms: Mapping[str, int]
    ran_ms: Mapping[str, int]
    paused: frozenset[str] = frozenset()


class FindSchedules(Call[ScheduleTimes], frozen=True):
    """Where the schedules of these tasks stand."""

    tasks: tuple[str, ...]


class PauseSchedule(Call[bool], frozen=True):
    """Let the occurrences of a task pass without a job, or with ``paused`` off run those from now on.

    Whether that was news.
    """

    task: str
    paused: bool = True


class Occurrence(msgspec.Struct, frozen=True):
    """An occurrence of the schedule of ``request.task``, and the job that it is."""

    due_ms: int
    request: Request


class RunOccurrences(Call[int], frozen=True):
    """Enqueue these occurrences, each at most once, whoever asks; how many were news.

    Those of one task are in order: one that is not later than the last that was run is none any more.
    """

    occurrences: tuple[Occurrence, ...]
