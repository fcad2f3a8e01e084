"""The contestants: what each needs installed, which processes it is, and how to count what it has done."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.jobs.work import AT_ONCE
from benchmarks.peers.catalogue import CELERY, PEERS, Peer

HERE = Path(sys.prefix)
_REQUIREMENTS = {peer.name: peer.requirements for peer in PEERS}


class Contestant(Peer, frozen=True, kw_only=True):
    """A framework that runs jobs.

    ``kinds`` are pairs: a kind of its jobs, and that of ours to compare it with. ``finished`` is what Redis
    is asked, in Lua, for the number of jobs whose result is stored. ``delays`` and ``crons``: whether it has
    jobs for later and schedules.
    """

    program: str
    kinds: tuple[tuple[str, str], ...]
    finished: str
    delays: bool = True
    crons: bool = True


def _number(pattern: str) -> str:
    return f"return #redis.call('KEYS', '{pattern}')"


def _python(*words: str) -> tuple[str, ...]:
    return ("python", "-m", *words)


def _taskiq(name: str, kinds: tuple[tuple[str, str], ...], *extra: str) -> Contestant:
    program = "benchmarks.jobs.with_taskiq"
    quiet = ("--log-level", "ERROR")
    return Contestant(
        name=name,
        home="taskiq",
        requirements=_REQUIREMENTS["taskiq"],
        shown=("taskiq", "taskiq-redis", "redis"),
        program=program,
        commands=(
            (
                *("taskiq", "worker", f"{program}:broker", "--workers", "1", *quiet),
                *("--max-async-tasks", f"{AT_ONCE}", "--ack-type", "when_saved", *extra),
            ),
            (
                *("taskiq", "scheduler", f"{program}:scheduler", *quiet),
                *("--update-interval", "1", "--skip-first-run"),
            ),
        ),
        kinds=kinds,
        finished=_number("result:*"),
    )


BARE = Contestant(
    name="bare",
    home=HERE.name,
    requirements=(),
    shown=("redis",),
    program="benchmarks.jobs.with_bare",
    commands=(_python("benchmarks.jobs.with_bare"),),
    kinds=(("async", "async"),),
    finished="return tonumber(redis.call('GET', 'finished') or 0)",
    delays=False,
    crons=False,
)

OURS = Contestant(
    name="enricher",
    home=HERE.name,
    requirements=(),
    shown=("enricher", "redis"),
    program="benchmarks.jobs.with_enricher",
    commands=(
        (
            *_python("enricher", "run", "--queues", "default", "--concurrency", f"{AT_ONCE}"),
            *("--log-level", "warning", "--set", "jobs.packages=benchmarks.jobs.with_enricher"),
        ),
    ),
    kinds=(("async", "async"), ("thread", "thread"), ("process", "process")),
    # STARTED is a result too; a job's entry goes with its end.
    finished=_number("celery-task-meta-*") + " - redis.call('XLEN', 'jobs:default')",
)

OTHERS = (
    Contestant(
        name="celery",
        requirements=CELERY,
        shown=("celery", "kombu", "redis"),
        program="benchmarks.jobs.with_celery",
        commands=(
            (
                *("celery", "--app", "benchmarks.jobs.with_celery", "worker", "--loglevel", "ERROR"),
                *("--pool", "prefork", "--concurrency", f"{AT_ONCE}"),
            ),
            ("celery", "--app", "benchmarks.jobs.with_celery", "beat", "--loglevel", "ERROR"),
        ),
        kinds=(("process", "async"), ("process", "thread"), ("process", "process")),
        finished=_number("celery-task-meta-*"),
    ),
    _taskiq("taskiq", (("async", "async"), ("thread", "thread")), "--max-threadpool-threads", f"{AT_ONCE}"),
    _taskiq(
        "taskiq-processes",
        (("process", "process"),),
        *("--use-process-pool", "--max-process-pool-processes", f"{AT_ONCE}"),
    ),
    Contestant(
        name="saq",
        requirements=_REQUIREMENTS["saq"],
        shown=("saq", "redis"),
        program="benchmarks.jobs.with_saq",
        commands=(("saq", "benchmarks.jobs.with_saq.settings", "--quiet"),),
        kinds=(("async", "async"), ("thread", "thread")),
        # A job's record is there from the start.
        finished=_number("saq:job:default:*") + " - redis.call('ZCARD', 'saq:default:incomplete')",
    ),
    Contestant(
        name="arq",
        requirements=_REQUIREMENTS["arq"],
        shown=("arq", "redis"),
        program="benchmarks.jobs.with_arq",
        commands=(
            (
                *("arq", "benchmarks.jobs.with_arq.WorkerSettings"),
                *("--custom-log-dict", "benchmarks.jobs.with_arq.LOGGING"),
            ),
        ),
        kinds=(("async", "async"),),
        finished=_number("arq:result:*"),
    ),
    Contestant(
        name="streaq",
        requirements=_REQUIREMENTS["streaq"],
        shown=("streaq", "coredis", "redis"),
        program="benchmarks.jobs.with_streaq",
        commands=(("streaq", "run", "benchmarks.jobs.with_streaq:worker"),),
        kinds=(("async", "async"), ("thread", "thread")),
        finished=_number("streaq:default:task:results:*"),
    ),
    Contestant(
        name="dramatiq",
        requirements=("dramatiq[redis]==2.2.1",),
        shown=("dramatiq", "redis"),
        program="benchmarks.jobs.with_dramatiq",
        commands=(
            ("dramatiq", "benchmarks.jobs.with_dramatiq", "--processes", "1", "--threads", f"{AT_ONCE}"),
        ),
        kinds=(("thread", "thread"),),
        finished=_number("dramatiq-results:*"),
        crons=False,
    ),
)
"""All peers."""
