"""The peers: what each needs installed and which processes it is."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

FOLDER = Path(os.environ.get("ENRICHER_PEERS", "~/.cache/enricher-peers")).expanduser()
"""Where the peers' environments are; outside the repository."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One framework with its program.

    ``commands`` are started in this order, one process each (which may have children), in a virtual
    environment of the peer's own with ``requirements``: their demands on redis-py exclude one another.
    ``shown`` are the packages whose versions are reported.
    """

    name: str
    requirements: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    shown: tuple[str, ...]

    def python(self, folder: Path) -> Path:
        """The interpreter of its environment in ``folder``."""
        return folder / self.name / "bin" / "python"

    def installed(self, folder: Path) -> bool:
        """Whether the environment was finished."""
        return (folder / self.name / "finished").exists() and self.python(folder).exists()


def _celery_worker(number: int) -> tuple[str, ...]:
    name = ("--hostname", f"market-{number}@%h", "--queues", f"market-{number}")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR")
    program = ("celery", "--app", "benchmarks.peers.with_celery", "worker")
    return (*program, *name, *quiet, "--pool", "prefork", "--concurrency", "1", "-O", "fair")


PEERS = (
    Peer(
        name="celery",
        requirements=("celery[redis]==5.7.0",),
        commands=(
            _celery_worker(0),
            _celery_worker(1),
            ("python", "-m", "benchmarks.peers.with_celery"),
        ),
        shown=("celery", "kombu", "redis"),
    ),
    Peer(
        name="faststream",
        requirements=("faststream[redis,cli]==0.7.8",),
        commands=(
            ("faststream", "run", "benchmarks.peers.with_faststream:app", "--log-level", "error"),
        ),
        shown=("faststream", "redis"),
    ),
    Peer(
        name="taskiq",
        requirements=("taskiq==0.13.0", "taskiq-redis==1.2.4"),
        commands=(
            (
                *("taskiq", "worker", "benchmarks.peers.with_taskiq:broker", "--workers", "1"),
                *("--no-parse", "--ack-type", "when_executed", "--log-level", "ERROR"),
            ),
        ),
        shown=("taskiq", "taskiq-redis", "redis"),
    ),
    Peer(
        name="saq",
        requirements=("saq[redis,hiredis]==0.26.4",),
        commands=(("saq", "benchmarks.peers.with_saq.settings", "--quiet"),),
        shown=("saq", "redis"),
    ),
    Peer(
        name="arq",
        requirements=("arq==0.28.0",),
        commands=(
            (
                *("arq", "benchmarks.peers.with_arq.WorkerSettings"),
                *("--custom-log-dict", "benchmarks.peers.with_arq.LOGGING"),
            ),
        ),
        shown=("arq", "redis"),
    ),
    Peer(
        name="streaq",
        requirements=("streaq==7.2.0", "redis[hiredis]>=8"),
        commands=(("streaq", "run", "benchmarks.peers.with_streaq:worker"),),
        shown=("streaq", "coredis", "redis"),
    ),
)
"""All of them. The versions are exact, so that figures of two machines speak of the same programs."""
