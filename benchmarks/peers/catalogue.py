"""The peers: what each needs installed and which processes it is."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

FOLDER = Path(os.environ.get("ENRICHER_PEERS", "~/.cache/enricher-peers")).expanduser()
"""Where the peers' environments are; outside the repository."""

BROKER_DATABASE = 1
"""The number of the Redis database that holds Celery's queues."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One framework with its program.

    ``commands`` are started in this order, one process each (which may have children), in a virtual
    environment of the peer's own with ``requirements``: their demands on redis-py exclude one another.
    ``shown`` are the packages whose versions are reported. ``home`` names the environment where it shares
    that of another peer. ``queues``, for those that go on after the last document and publication, are lists
    in the broker's database that are empty once all is done, as is the hash ``unacked``. ``kept`` documents
    of each product can be read back from the null MongoDB.
    """

    name: str
    requirements: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    shown: tuple[str, ...]
    home: str = ""
    queues: tuple[str, ...] = ()
    kept: int = 0

    def place(self, folder: Path) -> Path:
        """Its environment in ``folder``."""
        return folder / (self.home or self.name)

    def python(self, folder: Path) -> Path:
        """The interpreter of its environment."""
        return self.place(folder) / "bin" / "python"

    def installed(self, folder: Path) -> bool:
        """Whether the environment was finished."""
        return (self.place(folder) / "finished").exists() and self.python(folder).exists()


def _lean_worker(number: int) -> tuple[str, ...]:
    name = ("--hostname", f"market-{number}@%h", "--queues", f"market-{number}")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR")
    program = ("celery", "--app", "benchmarks.peers.with_celery_lean", "worker")
    return (*program, *name, *quiet, "--pool", "prefork", "--concurrency", "1", "-O", "fair")


CELERY = ("celery[redis]==5.7.0",)
READ_BACK = 100
"""Of each product: a MongoDB sends 101 documents with the first reply, and more only when asked again."""

PEERS = (
    Peer(
        name="celery",
        requirements=CELERY,
        commands=(
            (
                *("celery", "--app", "benchmarks.peers.with_celery", "worker"),
                *("--concurrency", "4", "--loglevel", "ERROR"),
            ),
            ("python", "-m", "benchmarks.peers.with_celery"),
        ),
        shown=("celery", "kombu", "redis"),
        queues=("celery",),
        kept=READ_BACK,
    ),
    Peer(
        name="celery-lean",
        requirements=CELERY,
        commands=(
            _lean_worker(0),
            _lean_worker(1),
            ("python", "-m", "benchmarks.peers.with_celery_lean"),
        ),
        shown=("celery", "kombu", "redis"),
        home="celery",
        queues=("market-0", "market-1"),
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
