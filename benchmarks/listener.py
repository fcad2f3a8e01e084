"""Measures from outside: ``python -m benchmarks.listener REDIS_URL CHANNEL ...``.

A process that does nothing but subscribe to the channels and count, for each message that arrives, the time
since the message's own ``timestamp``: with `benchmarks.sender` that is the moment it was due. Prints
``ready``; answers each line ``report`` with JSON (``{channel: Latencies.plain()}``) and begins anew.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from benchmarks.measure import Latencies
from benchmarks.wire import Wire, pack

_TIMESTAMP = re.compile(rb'"timestamp":"([^"]+)"')
_STARTED = datetime(1970, 1, 1, tzinfo=UTC)


def main(url: str, *channels: str) -> None:
    """Listen until the standard input ends."""
    found: defaultdict[str, Latencies] = defaultdict(Latencies)
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
                    for _kind, channel, body in replies:
                        found[channel.decode()].record(now - stamp_us(body))
                elif question := os.read(0, 4096):
                    for _ in range(question.count(b"report\n")):
                        print(json.dumps({name: one.plain() for name, one in found.items()}), flush=True)
                        found.clear()
                else:
                    return


def stamp_us(body: bytes) -> int:
    """The first ``timestamp`` in a JSON text, in microseconds since 1970; a chain's legs carry its own."""
    text = _TIMESTAMP.search(body)
    if text is None:
        raise ValueError(f"no timestamp in {body[:200]!r}")
    return (datetime.fromisoformat(text[1].decode()) - _STARTED) // timedelta(microseconds=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
