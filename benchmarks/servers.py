"""Servers and workers for a benchmark, each a process of its own on a free port, ended with the block.

    with redis_server() as redis, null_mongo() as mongo, worker(redis.url, mongo.url) as ours:
        ...  # ours.figures(), cpu_seconds(ours.pid)
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from enricher.embedded.binaries import (
    LOOPBACK,
    bound_to_this_process,
    mongo_arguments,
    mongo_command,
    redis_arguments,
    redis_binary,
)
from enricher.embedded.child import free_port, mongo_answers, redis_answers

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE = 30.0  # seconds a process may take to be ready
CLOSING = 10.0  # seconds it may take to end once it is told to
ATTEMPTS = 4
QUIET = ("--loglevel", "warning")


class Server(msgspec.Struct, frozen=True):
    """A running process: where it listens and who it is."""

    name: str
    pid: int
    port: int
    url: str


@contextmanager
def process(
    *command: str,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | None = None,
    closing: float = CLOSING,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is ended with the block, whatever happens in it, and that dies with this process.

    It is killed if it has not ended ``closing`` seconds after it was told to.
    """
    child = subprocess.Popen(
        bound_to_this_process(command), stdin=stdin, stdout=stdout, stderr=stderr, cwd=REPOSITORY
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(closing)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


@contextmanager
def redis_server(*extra: str, durable: bool = False) -> Iterator[Server]:
    """The bundled Valkey on loopback that writes nothing to disk; ``extra`` arguments come last.

    ``durable`` lets it write as `run --embedded` does.
    """
    kept = () if durable else ("--appendonly", "no")
    with tempfile.TemporaryDirectory(prefix="enricher-bench-") as folder:

        def command(port: int) -> Sequence[str]:
            return (str(redis_binary()), *redis_arguments(port, Path(folder)), *kept, *QUIET, *extra)

        with _on_free_port("redis", command, redis_answers, Path(folder) / "log") as (pid, port):
            yield Server("redis", pid, port, f"redis://{LOOPBACK}:{port}/0")


@contextmanager
def document_server(
    database: str = "deltastream", *, folder: Path | None = None, patience: float | None = None
) -> Iterator[Server]:
    """The embedded MongoDB-wire server as `run --embedded` starts it, with durable writes.

    Its data are in ``folder``, and stay there; without one it is empty and leaves nothing. It may take
    ``patience`` seconds to open what is there, and as many to close it.
    """
    with ExitStack() as stack:
        place = folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="enricher-bench-"))
        )

        def command(port: int) -> Sequence[str]:
            return (*mongo_command(), *mongo_arguments(port, place))

        started = _on_free_port("documents", command, mongo_answers, place / "log", patience)
        pid, port = stack.enter_context(started)
        url = f"mongodb://{LOOPBACK}:{port}/{database}?w=majority&journal=true"
        yield Server("documents", pid, port, url)


@contextmanager
def null_mongo(kept: int = 0) -> Iterator[Server]:
    """A server that takes documents, counts them and keeps nothing (`benchmarks.null_mongo`), or the newest
    ``kept`` of each product."""
    command = module("benchmarks.null_mongo", "0", str(kept))
    with process(*command, stdout=subprocess.PIPE) as child:
        port = int(line(child, "null_mongo"))
        yield Server("null_mongo", child.pid, port, f"mongodb://{LOOPBACK}:{port}")


class Worker:
    """A running worker (`benchmarks.worker`) that answers questions over its standard input and output."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.poll() is None

    def figures(self) -> dict[str, Any]:
        """What `Enricher.figures` says at this moment, with ``cpu_s`` (seconds of user and system time of
        the process) and ``rss`` (bytes)."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"figures\n")
        self._child.stdin.flush()
        answer: dict[str, Any] = json.loads(line(self._child, "the worker"))
        return answer


@contextmanager
def worker(redis_url: str, mongo_url: str, *options: str) -> Iterator[Worker]:
    """A worker that is ready; ``options`` are settings, ``section.key=value``."""
    command = module("benchmarks.worker", redis_url, mongo_url, *options)
    with process(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if line(child, "the worker") != "ready":
            raise RuntimeError("the worker said something else than that it is ready")
        yield Worker(child)


def line(child: subprocess.Popen[bytes], name: str) -> str:
    """The next line the process prints; RuntimeError, with its name, when it ended instead."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.endswith(b"\n"):
        raise RuntimeError(f"{name} ended with status {child.wait(10)} instead of answering")
    return line.decode().strip()


@contextmanager
def _on_free_port(
    name: str,
    command: Callable[[int], Sequence[str]],
    answers: Callable[..., Any],
    log: Path,
    patience: float | None = None,
) -> Iterator[tuple[int, int]]:
    # Somebody may take a free port before the server does: then another one is tried.
    for attempt in range(1, ATTEMPTS + 1):
        port = free_port()
        with (
            log.open("wb") as out,
            process(
                *command(port), stdout=out, stderr=subprocess.STDOUT, closing=patience or CLOSING
            ) as child,
        ):
            if _ready(child, port, answers, patience or PATIENCE):
                yield child.pid, port
                return
        if attempt < ATTEMPTS:
            time.sleep(0.1 * attempt)
    raise TimeoutError(f"{name} did not answer:\n{log.read_text(errors='replace')[-2000:]}")


def _ready(
    child: subprocess.Popen[bytes], port: int, answers: Callable[..., Any], patience: float
) -> bool:
    deadline = time.monotonic() + patience
    while child.poll() is None and time.monotonic() < deadline:
        if _run(answers(port, child.pid)):
            return True
        time.sleep(0.02)
    return False


def _run(question: Any) -> bool:
    # On a loop of its own, by hand: the caller may be inside a running one.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return bool(asyncio.run(question))
    with ThreadPoolExecutor(1) as pool:
        return bool(pool.submit(asyncio.run, question).result())
