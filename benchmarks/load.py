"""A load at a fixed rate and the latency it meets, each measured by a process of its own.

    with listener(redis.url) as heard, sender(redis.url, "mix", rate=1000, seconds=10) as sending:
        told = sending.go()
        latencies = heard.report()
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from benchmarks.measure import Latencies
from benchmarks.servers import line, module, process

ENRICHED = ("enriched:underlying", "enriched:option_chain")


class Sent(msgspec.Struct, frozen=True):
    """What a sender did: messages, seconds from the first one due to the last one answered, and how late
    they went out (the summary of a `Latencies`)."""

    sent: int
    seconds: float
    late: dict[str, Any]


class Sender:
    """An open-loop publisher that has its messages ready (`benchmarks.sender`)."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid

    def start(self) -> None:
        """Begin; the first message is due a fraction of a second later."""
        tell(self._child, "go")

    def wait(self) -> Sent:
        """What was done, once all is sent."""
        return msgspec.json.decode(line(self._child, "the sender"), type=Sent)

    def go(self) -> Sent:
        """`start` and `wait`."""
        self.start()
        return self.wait()


class Listener:
    """A subscriber that counts latencies from the messages' own timestamps (`benchmarks.listener`)."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid

    def by_channel(self) -> dict[str, Latencies]:
        """What came since the last report, by channel."""
        tell(self._child, "report")
        answer = json.loads(line(self._child, "the listener"))
        return {channel: Latencies.read(plain) for channel, plain in answer.items()}

    def report(self) -> Latencies:
        """What came since the last report, over all channels."""
        every = Latencies()
        for one in self.by_channel().values():
            every.extend(one)
        return every


@contextmanager
def sender(
    redis_url: str,
    kind: str,
    *,
    rate: float,
    seconds: float,
    products: int = 8,
    strikes: int = 21,
    seed: int = 7,
) -> Iterator[Sender]:
    """A sender whose messages are made: ``rate`` a second for ``seconds``."""
    numbers = map(str, (rate, seconds, products, strikes, seed))
    command = module("benchmarks.sender", redis_url, kind, *numbers)
    with process(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        ready(child, "the sender")
        yield Sender(child)


@contextmanager
def listener(redis_url: str, *channels: str) -> Iterator[Listener]:
    """A subscriber to ``channels`` (default: both enriched ones)."""
    command = module("benchmarks.listener", redis_url, *(channels or ENRICHED))
    with process(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        ready(child, "the listener")
        yield Listener(child)


def ready(child: subprocess.Popen[bytes], name: str) -> None:
    """Wait until the process says so."""
    if (said := line(child, name)) != "ready":
        raise RuntimeError(f"{name} said {said!r} instead of ready")


def tell(child: subprocess.Popen[bytes], word: str) -> None:
    """Send a line to a process."""
    assert child.stdin is not None
    child.stdin.write(word.encode() + b"\n")
    child.stdin.flush()
