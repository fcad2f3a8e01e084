"""Part `web`: what watching pages and scrapes cost the worker, and how long a page takes with much behind it.

Ten pages watch, or none, in turn, while a mix comes at a fixed rate. A scrape is compared with the CPU time
of 1,000 messages of that mix. Then jobs, dead letters and ticks are written straight to the servers, and
every screen that the dashboard links to is asked for, over HTTP on a connection that is kept.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qsl

import pymongo
import redis

from benchmarks.latency import all_heard
from benchmarks.load import listener, sender
from benchmarks.measure import counted, cpu_seconds, settled
from benchmarks.parts import Options
from benchmarks.report import Report, median, spread
from benchmarks.servers import Worker, document_server, null_mongo, redis_server, worker
from enricher.dead_letters.record import encode
from enricher.embedded.child import free_port
from enricher.engine.effects import DeadLetter

WATCHERS = 10
SCRAPES = 200
TRIES = 5
WORST_MS = 300


def run(options: Options) -> list[Report]:
    """CPU and latency with and without watchers, CPU of a scrape, time of every screen."""
    columns = ["watchers", "us", "us_spread", "p99_ms", "p99_spread"]
    watched = Report("watchers", "a mix while ten pages watch, or none, in turn", columns)
    scrapes = Report("scrape", "CPU of the worker for a GET /metrics", ["ms", "bytes", "share_pct"])
    scrapes.notes.append("share: of the CPU of 1,000 messages")
    pages = Report("pages", "every screen, the slowest of some tries", ["page", "ms", "cpu_ms", "kb"])
    pages.notes.append("cpu: of worker, Redis and documents together, whatever else the machine does")
    _engine(options, watched, scrapes)
    _screens(options, pages)
    pages.failed = any(row["cpu_ms"] > WORST_MS for row in pages.rows)
    return [watched, scrapes, pages]


def _engine(options: Options, watched: Report, scrapes: Report) -> None:
    rate, seconds = options.number("web.rate", 250), 1.5 if options.quick else 10
    port = free_port()
    us: dict[int, list[float]] = {0: [], WATCHERS: []}
    p99: dict[int, list[float]] = {0: [], WATCHERS: []}
    with (
        redis_server() as server,
        null_mongo() as sink,
        worker(server.url, sink.url, f"web.listen=127.0.0.1:{port}") as ours,
        listener(server.url) as heard,
    ):
        for number in range(options.rounds + 1):
            for watchers in (0, WATCHERS) if number % 2 else (WATCHERS, 0):
                with (
                    _watching(port, watchers),
                    sender(server.url, "mix", rate=rate, seconds=seconds, seed=number) as sending,
                ):
                    before, cpu = counted(ours.figures(), "received"), cpu_seconds(ours.pid)
                    sent = sending.go().sent
                    settled(ours.figures, before + sent)
                    used = cpu_seconds(ours.pid) - cpu
                    latencies = all_heard(heard)
                if number:  # the first warms up
                    us[watchers].append(used / sent * 1e6)
                    p99[watchers].append((latencies.quantile(0.99) or 0) / 1000)
        for watchers, found in us.items():
            late = p99[watchers]
            row = {"watchers": watchers, "us": median(found), "us_spread": spread(found)}
            watched.rows.append({**row, "p99_ms": median(late), "p99_spread": spread(late)})
        scrapes.rows.append(_scraped(ours, port, median(us[0]) or 1))


def _scraped(ours: Worker, port: int, us: float) -> dict[str, Any]:
    """CPU of a scrape, without what the worker takes when nothing is asked; ``us`` is that of a message."""
    time.sleep(1)
    began, cpu = time.monotonic(), cpu_seconds(ours.pid)
    time.sleep(2)
    idle = (cpu_seconds(ours.pid) - cpu) / (time.monotonic() - began)
    with _client(port) as client:
        began, cpu = time.monotonic(), cpu_seconds(ours.pid)
        size = max(len(_get(client, "/metrics")) for _ in range(SCRAPES))
        used = cpu_seconds(ours.pid) - cpu - idle * (time.monotonic() - began)
    ms = used / SCRAPES * 1000
    return {"ms": round(ms, 2), "bytes": size, "share_pct": round(ms / us * 100, 2)}


@contextmanager
def _watching(port: int, number: int) -> Iterator[None]:
    """So many pages that watch, and read what comes."""
    ended = threading.Event()
    with selectors.DefaultSelector() as all_of_them:
        for _ in range(number):
            one = socket.create_connection(("127.0.0.1", port))
            one.sendall(f"GET /ui/pulse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            all_of_them.register(one, selectors.EVENT_READ)

        def read() -> None:
            while not ended.is_set():
                for key, _ in all_of_them.select(0.1):
                    key.fileobj.recv(65_536)  # type: ignore[union-attr]

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for key in list(all_of_them.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]


@contextmanager
def _client(port: int) -> Iterator[HTTPConnection]:
    client = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield client
    finally:
        client.close()


def _get(client: HTTPConnection, path: str) -> bytes:
    client.request("GET", path)
    answer = client.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
    return body


# -- screens -------------------------------------------------------------------------------------------


def _screens(options: Options, report: Report) -> None:
    kept = 1_000 if options.quick else 100_000
    ticks = round(options.number("web.ticks", 10 * kept))
    port = free_port()
    on = ("jobs.enabled=true", "events.enabled=true", "mail.enabled=true")
    with (
        redis_server() as server,
        document_server() as documents,
        worker(server.url, documents.url, f"web.listen=127.0.0.1:{port}", *on) as ours,
        _client(port) as client,
    ):
        with sender(server.url, "mix", rate=100, seconds=10, products=2) as sending:
            settled(ours.figures, sending.go().sent)
        _fill(server.url, documents.url, kept, ticks)
        pids = (ours.pid, server.pid, documents.pid)
        report.rows += [_timed(client, path, pids) for path in _linked(client)]
    report.rows.sort(key=lambda row: -row["cpu_ms"])


_EXTRA = (
    "/ui/jobs?state=waiting&args=nowhere",
    "/ui/jobs?state=scheduled&class=Nowhere",
    "/ui/jobs?state=failed&error=nowhere",
    "/ui/dead-letters?error=nowhere",
    "/ui/dead-letters?since=1h&topic=market:*",
    "/scale",
    "/metrics",
)


def _linked(client: HTTPConnection) -> Iterator[str]:
    """The address of every screen that one of the others links to, one of each kind."""
    todo, kinds = ["/ui/overview", *_EXTRA], set[str]()
    for path in todo:
        place, _, query = path.partition("?")
        asked = {name: value for name, value in parse_qsl(query) if value}
        # One product, one job, one letter; of lists each state, and each filter.
        place = re.sub(r"(/ui/\w[\w-]*/)(\d/)?[^/]+", r"\1*", place)
        kind = f"{place} {sorted(asked)} {asked.get('state', '') if len(asked) == 1 else ''}"
        if kind in kinds:
            continue
        kinds.add(kind)
        yield path
        text = _get(client, path).decode()
        found = re.findall(r'href="([^"#]*)"', text)
        base = path.partition("?")[0]
        found = [(base + link if link.startswith("?") else link).replace("&amp;", "&") for link in found]
        todo += [link for link in found if link.startswith("/ui/") and "/static/" not in link]


def _timed(client: HTTPConnection, path: str, pids: Sequence[int]) -> dict[str, Any]:
    worst, cpu, size = 0.0, 0.0, 0
    for _ in range(TRIES):
        before, began = sum(map(cpu_seconds, pids)), time.perf_counter()
        size = len(_get(client, path))
        worst = max(worst, time.perf_counter() - began)
        cpu = max(cpu, sum(map(cpu_seconds, pids)) - before)
        time.sleep(0.2)
    times = {"ms": round(worst * 1000, 1), "cpu_ms": round(cpu * 1000, 1)}
    return {"page": path, **times, "kb": round(size / 1e3, 1)}


def _fill(redis_url: str, mongo_url: str, kept: int, ticks: int) -> None:
    """So many dead letters and jobs, and ticks, of the products that are known already."""
    now_us = time.time_ns() // 1000
    with redis.Redis.from_url(redis_url) as server:
        for numbers in _batches(kept):
            server.lpush("dlq:enrichment", *(_letter(number, now_us) for number in numbers))
        _fill_jobs(server, kept, now_us // 1000)
    with pymongo.MongoClient[dict[str, Any]](mongo_url, w=1, journal=False) as client:
        stored = client.get_default_database()["underlying_ticks"]
        plain = stored.find_one()
        assert plain is not None
        names = stored.distinct("product")
        for numbers in _batches(ticks):
            stored.insert_many([_tick(plain, names, number, now_us) for number in numbers], ordered=False)


def _batches(count: int, size: int = 1000) -> Iterator[range]:
    return (range(first, min(first + size, count)) for first in range(0, count, size))


def _letter(number: int, now_us: int) -> bytes:
    body = json.dumps({"product": f"P{number % 8}", "price": "?", "tick_id": number}).encode()
    at = now_us - 60_000_000 + number
    return encode(
        DeadLetter(
            task_id=f"{number:032x}",
            task_name="process_underlying_tick",
            topic="market:underlying",
            key=f"P{number % 8}",
            body=body,
            stage="decode",
            error="price: a number was expected",
            error_type="BadMessage",
            path="$.price",
            traceback="",
            attempts=1,
            first_us=at,
            last_us=at,
        )
    )


def _fill_jobs(server: redis.Redis, jobs: int, now_ms: int) -> None:
    """A third waits in a queue that nobody serves, a third is delayed, a third has failed."""
    prefix, queue = "jobs", "bulk"
    server.sadd(f"{prefix}:queues", queue)
    error = json.dumps({"type": "ValueError", "message": "it was the disk", "traceback": ""})
    for numbers in _batches(jobs):
        with server.pipeline(transaction=False) as pipe:
            for number in numbers:
                state, id_ = ("waiting", "scheduled", "failed")[number % 3], str(uuid.UUID(int=number))
                at = now_ms - jobs + number
                fields = {"state": state, "task": "app.Import", "queue": queue, "enqueued": at}
                fields["payload"] = f'[[{number}],{{"name":"number {number}"}}]'
                if state == "waiting":
                    pipe.xadd(f"{prefix}:{queue}", {"id": id_})
                elif state == "scheduled":
                    fields["due"] = at + 86_400_000
                    pipe.zadd(f"{prefix}:{queue}:delayed", {id_: fields["due"]})
                else:
                    fields |= {"started": at, "finished": at, "failures": 3, "error": error}
                    pipe.zadd(f"{prefix}:finished:failed", {id_: at})
                pipe.hset(f"{prefix}:job:{id_}", mapping=fields)
            pipe.execute()


def _tick(plain: dict[str, Any], names: Sequence[str], number: int, now_us: int) -> dict[str, Any]:
    """A stored tick of some seconds before: ten a second of all products."""
    event_us = now_us - 20_000_000 - number * 100_000
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=event_us)
    own = {"_id": f"fill:{number}", "product": names[number % len(names)], "tick_id": number}
    return {**plain, **own, "event_us": event_us, "timestamp": at, "processed_at": at}
