"""Part `streams`: what mails and stream intake cost, and how long a mail takes.

`mail` is CPU of the worker process per mail of 2 kB, parsed, checked for duplicates, stored and acknowledged.
`delay` goes from XADD, at a fixed rate, until the mail is stored and its entry acknowledged. `intake` is
the same ticks by pub/sub and over a stream, in turns within one run: appended by whoever sends
them, or by the worker's own bridge.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.load import send_packed
from benchmarks.mails import mails, packed, steady
from benchmarks.measure import Latencies, counted, cpu_seconds, finished, publish_all, schedule, settled
from benchmarks.parts import Options
from benchmarks.report import Report, calibrate, median, spread
from benchmarks.servers import Worker, document_server, null_mongo, redis_server, worker
from benchmarks.wire import Wire, pack
from benchmarks.workloads import workload
from enricher.market.feed.channels import UNDERLYING, Message

MAIL = ("mail.enabled=true", "market.enabled=false")
INTAKE = "enricher:intake:worker-enricher"
BY_STREAM = (f"streams.intake={UNDERLYING}=stream",)


def run(options: Options) -> list[Report]:
    """A table each; ``streams.only=NAME`` takes that one alone."""
    tables = {"mail": _mail, "delay": _delay, "intake": _intake}
    only = options.settings.get("streams.only")
    if only is not None and only not in tables:
        raise ValueError(f"streams.only must be one of {', '.join(tables)}, not {only!r}")
    return [make(options) for name, make in tables.items() if only in (None, name)]


# -- mail ----------------------------------------------------------------------------------------------


def _mail(options: Options) -> Report:
    columns = ["load", "hook", "mails", "us", "scaled", "us_spread", "per_s", "rss_mb", "lost"]
    report = Report("mail", "user and system time of the worker process per mail of 2 kB, null sink", columns)
    count = 300 if options.quick else 3000
    for hook in ("", "nothing"):
        report.rows.append({"load": "backlog", "hook": hook or "none", **flood(count, options.rounds, hook)})
    count = 100 if options.quick else 1000
    report.rows.append({"load": "100/s", "hook": "none", **flood(count, options.rounds, rate=100)})
    report.notes.append("scaled: us divided by what bson.encode of a tick takes (us) in the same run")
    return report


def flood(count: int, rounds: int, hook: str = "", rate: float = 0) -> dict[str, Any]:
    """Mails appended at once, or at a rate: medians over the rounds after one that is not counted."""
    us, scaled, per_s = [], [], []
    with (
        redis_server() as redis,
        null_mongo() as mongo,
        worker(redis.url, mongo.url, *_hooked(hook)) as ours,
        Wire(redis.url) as wire,
    ):
        for number in range(rounds + 1):
            commands = packed(mails(count, number * count))
            speed, cpu, began = calibrate().bson_us, cpu_seconds(ours.pid), time.perf_counter()
            if rate:
                steady(wire, commands, rate)
            else:
                send_packed(wire, commands, [0] * count)
            now = settled(ours.figures, count * (number + 1))
            took, used = time.perf_counter() - began, cpu_seconds(ours.pid) - cpu
            speed = (speed + calibrate().bson_us) / 2
            if number:
                us.append(used / count * 1e6)
                scaled.append(us[-1] / speed)
                per_s.append(count / took)
    return {
        "mails": count,
        "us": median(us),
        "scaled": median(scaled),
        "us_spread": spread(us),
        "per_s": round(median(per_s) or 0),
        "rss_mb": round(now["rss"] / 1e6, 1),
        "lost": finished(now) - counted(now, "processed"),
    }


def _hooked(hook: str) -> tuple[str, ...]:
    return (*MAIL, f"mail.handler=benchmarks.mails:{hook}") if hook else MAIL


# -- delay ---------------------------------------------------------------------------------------------


def _delay(options: Options) -> Report:
    columns = ["sink", "rate", "mails", "mean_ms", "p50_ms", "p99_ms", "max_ms", "worker_pct", "sink_pct"]
    report = Report("delay", "from XADD until the mail is stored and its entry acknowledged", columns)
    for name in ("null", "embedded"):
        report.rows.append({"sink": name, **delay(name, 100, 2 if options.quick else 15, options.rounds)})
    report.notes.append("found out by looking every 2 ms, which is part of each figure")
    return report


def delay(sink: str, rate: float, seconds: float, rounds: int) -> dict[str, Any]:
    """All rounds together, but for a short one that warms up."""
    made = null_mongo() if sink == "null" else document_server()
    every, mean = Latencies(), list[float]()
    used, took = [0.0, 0.0], 0.0
    with (
        redis_server(durable=sink == "embedded") as redis,
        made as documents,
        worker(redis.url, documents.url, *MAIL) as ours,
        Wire(redis.url) as wire,
    ):
        pids, number = (ours.pid, documents.pid), 0
        for turn in range(rounds + 1):
            count = round(rate * (seconds if turn else min(seconds, 2)))
            before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
            found = steady(wire, packed(mails(count, number)), rate)
            number += count
            if turn:
                for us in found:
                    every.record(us)
                mean.append(sum(found) / count / 1000)
                took += time.monotonic() - began
                used = [u + cpu_seconds(p) - b for u, p, b in zip(used, pids, before, strict=True)]
    shares = (round(seconds / took * 100, 1) for seconds in used)
    summary = {name: value for name, value in every.summary().items() if name != "count"}
    row = {"rate": rate, "mails": every.total, "mean_ms": median(mean, 2), **summary}
    return row | dict(zip(("worker_pct", "sink_pct"), shares, strict=True))


# -- intake --------------------------------------------------------------------------------------------

Feed = Callable[[str, Sequence[Message], float], None]


def _intake(options: Options) -> Report:
    columns = ["load", "intake", "ticks", "us", "times", "times_spread", "us_spread", "per_s", "lost"]
    about = "the same ticks by pub/sub and over a stream, CPU of the worker, null sink"
    report = Report("intake", about, columns)
    count = 1000 if options.quick else 10_000
    report.rows += intake("flood", count, 0, options.rounds)
    report.rows += intake("1,000/s", count, 1000, options.rounds)
    report.notes.append("times: us divided by that of pub/sub in the same round, median and spread")
    report.notes.append("stream: whoever sends appends the entries; bridged: the worker does, from pub/sub")
    return report


def intake(
    load: str, count: int, rate: float, rounds: int, names: Sequence[str] = ("pub/sub", "stream", "bridged")
) -> list[dict[str, Any]]:
    """A row per way, pub/sub among them; each round takes all of them in turn."""
    every: dict[str, tuple[Feed, tuple[str, ...]]] = {
        "pub/sub": (_published, ()),
        "stream": (_appended, BY_STREAM),
        "bridged": (_published, BY_STREAM),
    }
    ways = {name: every[name] for name in names}
    us: dict[str, list[float]] = {name: [] for name in ways}
    per_s: dict[str, list[float]] = {name: [] for name in ways}
    rows = []
    with ExitStack() as stack:
        running = {name: stack.enter_context(_serving(*settings)) for name, (_, settings) in ways.items()}
        market = workload("ticks", count * (rounds + 1))
        for number in range(rounds + 1):
            messages = market[number * count : (number + 1) * count]
            for name, (feed, _) in ways.items():
                url, ours = running[name]
                cpu, began = cpu_seconds(ours.pid), time.perf_counter()
                feed(url, messages, rate)
                settled(ours.figures, count * (number + 1))
                used, took = cpu_seconds(ours.pid) - cpu, time.perf_counter() - began
                if number:
                    us[name].append(used / count * 1e6)
                    per_s[name].append(count / took)
        for name, (_, ours) in running.items():
            now = ours.figures()
            times = [mine / theirs for mine, theirs in zip(us[name], us["pub/sub"], strict=True)]
            rows.append(
                {
                    "load": load,
                    "intake": name,
                    "ticks": count,
                    "us": median(us[name]),
                    "times": median(times, 2),
                    "times_spread": spread(times, 2),
                    "us_spread": spread(us[name]),
                    "per_s": round(median(per_s[name]) or 0),
                    "lost": finished(now) - counted(now, "processed"),
                }
            )
    return rows


@contextmanager
def _serving(*settings: str) -> Iterator[tuple[str, Worker]]:
    """A worker with a Redis and a sink of its own: the Redis' address, and the worker."""
    with redis_server() as redis, null_mongo() as mongo, worker(redis.url, mongo.url, *settings) as ours:
        yield redis.url, ours


def _published(url: str, messages: Sequence[Message], rate: float) -> None:
    if not rate:
        publish_all(url, messages)
        return
    _paced(url, [pack(("PUBLISH", topic, body)) for topic, body in messages], rate)


def _appended(url: str, messages: Sequence[Message], rate: float) -> None:
    packed = [pack(("XADD", INTAKE, "*", "topic", topic, "body", body)) for topic, body in messages]
    _paced(url, packed, rate)


def _paced(url: str, packed: Sequence[bytes], rate: float) -> None:
    now = time.time_ns() // 1000
    due = schedule(rate, len(packed), now) if rate else [now] * len(packed)
    with Wire(url) as wire:
        send_packed(wire, packed, due)
