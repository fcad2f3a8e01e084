"""An open-loop publisher: ``python -m benchmarks.sender REDIS_URL KIND RATE SECONDS PRODUCTS STRIKES SEED``.

Everything is made before the first message is due, and each message carries as its timestamp the moment at
which it is due, not the one at which it was sent. Nothing that happens moves the schedule: what is late goes
out as soon as it can, and whoever measures from the timestamp sees the wait. Prints ``ready``, sends when
it is told ``go``, then prints what it did as JSON: ``sent``, ``seconds``, and ``late`` (how much later than
due messages went out: the part of a latency that is the sender's own).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from benchmarks.measure import Latencies, schedule
from benchmarks.wire import Wire, pack
from benchmarks.workloads import workload
from enricher.market.feed.channels import Message

LEAD_US = 200_000  # from `go` to the first message, for packing, and as much again per 20,000 messages


def main(
    url: str, kind: str, rate: float, seconds: float, products: int = 8, strikes: int = 21, seed: int = 7
) -> None:
    """Make, wait, send, tell."""
    count = max(1, round(rate * seconds))
    workload(kind, count, products, strikes, seed)  # made now, stamped once the start is known
    with Wire(url) as wire:
        print("ready", flush=True)
        if sys.stdin.readline().strip() != "go":
            return
        start = time.time_ns() // 1000 + LEAD_US + count * LEAD_US // 20_000
        due = schedule(rate, count, start)
        messages = workload(kind, count, products, strikes, seed, start_us=start, step_us=1e6 / rate)
        late = send(wire, messages, due)
        took = time.time_ns() / 1e9 - start / 1e6
    print(json.dumps({"sent": count, "seconds": took, "late": late.summary()}), flush=True)


def send(wire: Wire, messages: list[Message], due: list[int]) -> Latencies:
    """Send each message when it is due (microseconds since 1970); how late each one was."""
    return send_packed(wire, [pack(("PUBLISH", topic, body)) for topic, body in messages], due)


def send_packed(wire: Wire, packed: Sequence[bytes], due: Sequence[int]) -> Latencies:
    """Send each command when it is due and wait until all are answered; how late each one was."""
    late, at, answered = Latencies(), 0, 0
    while at < len(due):
        now = time.time_ns() // 1000
        if now < due[at]:
            time.sleep((due[at] - now) / 1e6)
            continue
        end = at + 1
        while end < len(due) and due[end] <= now:
            end += 1
        wire.send(b"".join(packed[at:end]))
        for moment in due[at:end]:
            late.record(now - moment)
        answered += len(wire.replies(wait=False))
        at = end
    while answered < len(due):
        answered += len(wire.replies(wait=True))
    return late


if __name__ == "__main__":
    _, given_url, given_kind, given_rate, given_seconds, *numbers = sys.argv
    main(given_url, given_kind, float(given_rate), float(given_seconds), *map(int, numbers))
