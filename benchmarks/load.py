"""A load at a fixed rate and the latency it meets, each measured by a process of its own.

    with listener(redis.url) as heard, sender(redis.url, "mix", rate=1000, seconds=10) as sending:
        sent = sending.go()
        latencies = heard.report()

The sender is an open loop: each message carries as its timestamp the moment at which it is due, not the one
at which it was sent, and nothing that happens moves the schedule. What is late goes out as soon as it can,
and whoever measures from the timestamp sees the wait. The listener does nothing but subscribe and count, for
each message that arrives, the time since that timestamp.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from benchmarks.measure import Latencies, schedule
from benchmarks.servers import line, module, process
from benchmarks.wire import Wire, pack
from benchmarks.workloads import workload

ENRICHED = ("enriched:underlying", "enriched:option_chain")
LEAD_US = 200_000  # from `go` to the first message, for packing, and as much again per 20,000 messages
AT_ONCE = 500

_TIMESTAMP = re.compile(rb'"timestamp":"([^"]+)"')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sent(msgspec.Struct, frozen=True):
    """What a sender did: messages, seconds from the first one due to the last one answered, and how late
    they went out (the summary of a `Latencies`)."""

    sent: int
    seconds: float
    late: dict[str, Any]


class Sender:
    """A publisher that has its messages ready."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def go(self) -> Sent:
        """Send all, the first a fraction of a second from now; what was done."""
        tell(self._child, "go")
        return msgspec.json.decode(line(self._child, "the sender"), type=Sent)


class Listener:
    """A subscriber that counts latencies from the messages' own timestamps."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def report(self) -> Latencies:
        """What came since the last report."""
        tell(self._child, "report")
        return Latencies(json.loads(line(self._child, "the listener")))


@contextmanager
def sender(
    redis_url: str, kind: str, *, rate: float, seconds: float, products: int = 8, seed: int = 7
) -> Iterator[Sender]:
    """A sender whose messages are made: ``rate`` a second for ``seconds``."""
    with _process("send", redis_url, kind, *map(str, (rate, seconds, products, seed))) as child:
        yield Sender(child)


@contextmanager
def listener(redis_url: str, *channels: str) -> Iterator[Listener]:
    """A subscriber to ``channels`` (default: both enriched ones)."""
    with _process("listen", redis_url, *(channels or ENRICHED)) as child:
        yield Listener(child)


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = module("benchmarks.load", *arguments)
    with process(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if (answer := line(child, arguments[0])) != "ready":
            raise RuntimeError(f"{arguments[0]} said {answer!r} instead of ready")
        yield child


def tell(child: subprocess.Popen[bytes], word: str) -> None:
    """Send a line to a process."""
    assert child.stdin is not None
    child.stdin.write(word.encode() + b"\n")
    child.stdin.flush()


# -- in the processes ----------------------------------------------------------------------------------


def send(url: str, kind: str, rate: float, seconds: float, products: int, seed: int) -> None:
    """Make everything, wait for ``go``, send, tell."""
    count = max(1, round(rate * seconds))
    workload(kind, count, products, seed=seed)  # made now, stamped once the start is known
    with Wire(url) as wire:
        print("ready", flush=True)
        if sys.stdin.readline().strip() != "go":
            return
        start = time.time_ns() // 1000 + LEAD_US + count * LEAD_US // 20_000
        messages = workload(kind, count, products, seed=seed, start_us=start, step_us=1e6 / rate)
        packed = [pack(("PUBLISH", topic, body)) for topic, body in messages]
        late, _ = send_packed(wire, packed, schedule(rate, count, start))
        took = time.time_ns() / 1e9 - start / 1e6
    print(json.dumps({"sent": count, "seconds": took, "late": late.summary()}), flush=True)


def send_packed(wire: Wire, packed: Sequence[bytes], due: Sequence[int]) -> tuple[Latencies, list[Any]]:
    """Send each command when it is due (microseconds since 1970): how late each was, and all replies."""
    late, at, replies = Latencies(), 0, list[Any]()
    while len(replies) < len(due):
        now, end = time.time_ns() // 1000, at
        while end < len(due) and due[end] <= now and end - at < AT_ONCE:
            late.record(now - due[end])
            end += 1
        if end > at:
            wire.send(b"".join(packed[at:end]))
        elif at < len(due):
            time.sleep((due[at] - now) / 1e6)
        at = end
        replies += wire.replies(wait=at == len(due))
    return late, replies


def listen(url: str, *channels: str) -> None:
    """Print ``ready``; answer each line ``report`` with what came since, until the standard input ends."""
    heard: list[int] = []
    with Wire(url) as wire, selectors.DefaultSelector() as both:
        wire.send(pack(("SUBSCRIBE", *channels)))
        subscribed = 0
        while subscribed < len(channels):
            subscribed += len(wire.replies(wait=True))
        both.register(wire.socket, selectors.EVENT_READ, "redis")
        both.register(0, selectors.EVENT_READ, "questions")
        print("ready", flush=True)
        while True:
            for key, _ in both.select():
                if key.data == "redis":
                    replies = wire.replies(wait=True)
                    now = time.time_ns() // 1000
                    heard += [now - stamp_us(body) for _kind, _channel, body in replies]
                elif os.read(0, 4096):
                    print(json.dumps(heard), flush=True)
                    heard.clear()
                else:
                    return


def stamp_us(body: bytes) -> int:
    """The first ``timestamp`` in a JSON text, in microseconds since 1970; a chain's legs carry its own."""
    text = _TIMESTAMP.search(body)
    if text is None:
        raise ValueError(f"no timestamp in {body[:200]!r}")
    return (datetime.fromisoformat(text[1].decode()) - _EPOCH) // timedelta(microseconds=1)


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        listen(*sys.argv[2:])
    else:
        _, _, at_url, of_kind, at_rate, for_seconds, of_products, with_seed = sys.argv
        send(at_url, of_kind, float(at_rate), float(for_seconds), int(of_products), int(with_seed))
