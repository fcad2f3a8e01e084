"""A contestant to be flooded: enricher or a peer's processes, on a Redis and a null MongoDB of its own."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import psutil
import redis

from benchmarks.measure import cpu_seconds, publish_all, rss_bytes
from benchmarks.peers.catalogue import BROKER_DATABASE, Peer
from benchmarks.peers.watch import LOOK_EVERY, Seen, Watch
from benchmarks.servers import REPOSITORY, null_mongo, process, redis_server, worker
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message

PATIENCE = 60.0  # seconds until it must have subscribed
QUIET = 10.0  # seconds without anything new until the rest counts as lost


class Round(msgspec.Struct, frozen=True):
    """One flood: CPU microseconds of all processes per message, messages a second, wanted and done."""

    us: float
    messages_s: float
    wanted: Seen
    done: Seen

    @property
    def lost(self) -> int:
        """Messages that became no document, and publications that are missing."""
        documents = max(0, self.wanted.documents - self.done.documents)
        return documents + max(0, self.wanted.published - self.done.published)


class Contestant:
    """Something running that has subscribed; ``pids`` without the children that it may have.

    ``queues`` are as `Peer.queues` has them.
    """

    def __init__(
        self, redis_url: str, watch: Watch, pids: Sequence[int], queues: Sequence[str] = ()
    ) -> None:
        self._redis_url = redis_url
        self._watch = watch
        self._pids = pids
        self._queues = queues

    def flood(self, messages: Sequence[Message]) -> Round:
        """Publish all as fast as Redis takes it, and wait until all was seen or nothing comes any more, and
        until nothing is queued.

        RuntimeError if it did nothing at all, TimeoutError if what is queued stays there.
        """
        wanted = expected(messages)
        before, cpu, began = self._watch.seen(), self.cpu_seconds(), time.perf_counter()
        publish_all(self._redis_url, messages)
        after, ended = self._watch.until(before + wanted, QUIET)
        if self._queues and (waited := emptied(self._redis_url, self._queues, QUIET)) is not None:
            ended = waited
        used, done = self.cpu_seconds() - cpu, after - before
        if not done.documents:
            raise RuntimeError(f"nothing came of {len(messages)} messages")
        return Round(
            used / done.documents * 1e6, done.documents / max(ended - began, 1e-6), wanted, done
        )

    def cpu_seconds(self) -> float:
        """User and system seconds of all its processes so far."""
        return sum(cpu_seconds(pid, children=True) for pid in self._pids)

    def processes(self) -> int:
        """How many there are."""
        return sum(1 + len(psutil.Process(pid).children(recursive=True)) for pid in self._pids)

    def rss_mb(self) -> float:
        """Resident megabytes of all of them; pages that they share count for each."""
        return round(sum(rss_bytes(pid, children=True) for pid in self._pids) / 1e6, 1)


def expected(messages: Sequence[Message]) -> Seen:
    """What these leave behind: a document each, and a publication per tick and chain."""
    quotes = sum(topic == OPTION_QUOTE for topic, _ in messages)
    return Seen(len(messages), len(messages) - quotes)


def emptied(redis_url: str, queues: Sequence[str], quiet: float) -> float | None:
    """When the queues had become empty (`time.perf_counter`); None if they were from the start.

    TimeoutError if none of it has moved for ``quiet`` seconds.
    """
    server, _, _ = redis_url.rpartition("/")
    moment: float | None = None
    with redis.Redis.from_url(f"{server}/{BROKER_DATABASE}") as client:
        least, since = None, time.perf_counter()
        while waiting := sum(client.llen(queue) for queue in queues) + client.hlen("unacked"):
            moment = time.perf_counter()
            if least is None or waiting < least:
                least, since = waiting, moment
            elif moment - since > quiet:
                raise TimeoutError(f"{waiting} tasks are still queued or not acknowledged")
            time.sleep(LOOK_EVERY)
    return moment


@contextmanager
def own_worker() -> Iterator[Contestant]:
    """Ours, with its defaults."""
    with (
        redis_server() as cache,
        null_mongo() as store,
        worker(cache.url, store.url, "market.analytics=false") as one,
        Watch(cache.url, store.url) as watch,
    ):
        subscribed(cache.url)
        yield Contestant(cache.url, watch, [one.pid])


@contextmanager
def framework(peer: Peer, folder: Path) -> Iterator[Contestant]:
    """A peer; what goes wrong carries the last lines of its processes."""
    with (
        redis_server() as cache,
        null_mongo(peer.kept) as store,
        Watch(cache.url, store.url) as watch,
        started(peer, folder, PEER_REDIS_URL=cache.url, PEER_MONGO_URL=store.url) as pids,
    ):
        subscribed(cache.url)
        yield Contestant(cache.url, watch, pids, peer.queues)


def subscribed(redis_url: str) -> None:
    """Return when somebody listens to each of the three channels; TimeoutError if nobody does."""
    deadline = time.monotonic() + PATIENCE
    with redis.Redis.from_url(redis_url) as client:
        while True:
            numbers = dict(client.pubsub_numsub(UNDERLYING, OPTION_QUOTE, OPTION_CHAIN))
            if all(numbers.values()):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody subscribed within {PATIENCE:g} s: {numbers}")
            time.sleep(0.05)


def surrounded(peer: Peer, folder: Path, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The start of a command that is to run in the peer's environment, with these variables."""
    place = peer.python(folder).parent
    given = (f"{name}={value}" for name, value in variables.items())
    return ("/usr/bin/env", *given, f"PYTHONPATH={REPOSITORY}", f"PATH={place}:/usr/bin:/bin")


@contextmanager
def started(peer: Peer, folder: Path, **variables: str) -> Iterator[list[int]]:
    """Its processes, with these variables in their environment; what goes wrong carries what they said."""
    place = peer.python(folder).parent
    environment = surrounded(peer, folder, variables)
    pids: list[int] = []
    with ExitStack() as stack:
        stack.callback(_end, family := [])
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enricher-bench-")))
        for number, (program, *arguments) in enumerate(peer.commands):
            logged = ("/bin/sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh")
            command = (*environment, *logged, str(logs / f"{number}"), str(place / program), *arguments)
            pids.append(stack.enter_context(process(*command)).pid)
        try:
            yield pids
        except Exception as error:
            for log in sorted(logs.iterdir()):
                error.add_note(f"{peer.name} said last:\n{log.read_text(errors='replace')[-2000:]}")
            raise
        finally:
            for pid in pids:
                if psutil.pid_exists(pid):
                    family += psutil.Process(pid).children(recursive=True)


def _end(family: list[psutil.Process]) -> None:
    """Kill what outlived its parent."""
    for one in family:
        if one.is_running():
            one.kill()


def versions(peer: Peer, folder: Path) -> dict[str, str]:
    """What is installed in the peer's environment, and its Python."""
    program = (
        "import sys, platform; from importlib.metadata import version;"
        "print('\\n'.join([*map(version, sys.argv[1:]), platform.python_version()]))"
    )
    command = [str(peer.python(folder)), "-c", program, *peer.shown]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return dict(zip((*peer.shown, "Python"), lines, strict=True))
