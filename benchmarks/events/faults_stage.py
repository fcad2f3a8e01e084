"""Where faults happen to events: durable servers, two workers, who posts, who sends ticks, who hears."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import pymongo
from redis.exceptions import RedisError

from benchmarks.faults_ledger import ENRICHED, body_us
from benchmarks.faults_stage import DURABLE, PATIENCE, Process, StageOptions
from benchmarks.faults_witness import HANGS, now_us
from enricher.adapters.redis.client import redis_client
from enricher.market.feed.channels import UNDERLYING
from enricher.market.feed.synthetic import SyntheticMarket
from tests.servers import LOOPBACK, MongoProcess, RedisProcess, SearchProcess, free_port

WORKERS = ("one", "two")
RECORD = "enricher:effects"
TICKS = 20.0

class Refused(msgspec.Struct, frozen=True):
    """An answer that was not 202: of which worker, and how many seconds it took."""

    worker: str
    status: int
    retry_after: str | None
    seconds: float


def wrongly(refused: Sequence[Refused], *, may: bool, accept_timeout: float) -> int:
    """How many should not have been; ``may``: whoever was posted to could not store them."""
    known: set[str] = set()
    found = 0
    for one in refused:
        # The first one that a worker refuses has waited; the others are told at once.
        early = accept_timeout > 0 and one.worker not in known and one.seconds < 0.9 * accept_timeout
        known.add(one.worker)
        found += not may or early or one.status != 503 or not (one.retry_after or "").isdecimal()
    return found


def judged(
    accepted: Collection[str],
    events: Mapping[str, Mapping[str, Any]],
    told: Mapping[str, int],
    versions: Mapping[str, int],
) -> dict[str, int]:
    """What is missing and what is there too often. ``told``: how often each success was published;
    ``versions``: of what the search server has."""
    done = {id_ for id_ in accepted if id_ in events and events[id_]["status"] == "SUCCESS"}
    return {
        "accepted": len(accepted),
        "lost": sum(id_ not in done or not told.get(id_) for id_ in accepted),
        "twice": sum(times > 1 for times in told.values()),
        # The document was indexed as the step before the one that says so.
        "unindexed": sum(versions.get(id_, 0) + 1 != events[id_]["revision"] for id_ in done),
    }


def p99(seconds: Sequence[float]) -> int | None:
    """In milliseconds."""
    return round(1000 * sorted(seconds)[ceil(0.99 * len(seconds)) - 1]) if seconds else None


class EventStage:
    """Durable servers, two workers, a client that posts, a feed of ticks, and who hears of it all."""

    def __init__(self, folder: Path, options: StageOptions) -> None:
        self.folder = folder
        self.options = options
        self.random = random.Random(options.seed)
        self.redis = RedisProcess(folder / "redis", extra=DURABLE)
        self.mongo = MongoProcess(folder / "mongo")
        self.search = SearchProcess(folder / "search")
        self.workers: dict[str, Process] = {}
        self.ports = {name: free_port() for name in WORKERS}
        self.accepted: set[str] = set()
        self.refused: list[Refused] = []
        self.posted = 0
        self.span_us = [0, 0]
        self.ends_us: list[int] = []
        self._ticks: list[tuple[int, float]] = []
        self._told: Counter[str] = Counter()
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            for server in (self.redis, self.mongo, self.search):
                undo.callback(server.kill)
                await asyncio.to_thread(server.start)
            self.client = redis_client(self.redis.url, socket_timeout=5)
            undo.push_async_callback(self.client.aclose)
            documents: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.mongo.url())
            undo.callback(documents.close)
            self.events = documents["faults"]["events"]
            self.http = await undo.enter_async_context(httpx.AsyncClient(timeout=30))
            undo.callback(self._end_workers)
            for name in WORKERS:
                await self.start_worker(name)
            self._exit = undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def start_worker(self, name: str) -> None:
        """Start a worker under this name; return when it accepts."""
        settings = (
            *(f"redis.url={self.redis.url}", f"mongo.url={self.mongo.url('faults')}"),
            *(f"search.url={self.search.url}", "search.timeout=5", f"service.instance={name}"),
            *(f"web.listen={LOOPBACK}:{self.ports[name]}", "events.packages=tests.event_app"),
            *(f"events.lease={self.options.lease}", "events.sweep_after=10"),
            f"streams.record_effects={RECORD}",
        )
        arguments = ["run", "--log-level", "warning"]
        arguments += [part for setting in settings for part in ("--set", setting)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ENRICHER_")}
        log = self.folder / f"{name}.log"
        process = self.options.start(arguments, environment, self.folder, log)
        self.workers[name] = process
        limit = time.monotonic() + PATIENCE
        while True:
            with suppress(httpx.TransportError):
                if (await self.http.get(f"{self._url(name)}?limit=1")).status_code == 200:
                    return
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"worker {name} does not accept: {self.log(name)}")
            await asyncio.sleep(0.1)

    def _url(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.ports[name]}/events"

    def fault_ended(self) -> None:
        """Note that from now on nothing stands in the way."""
        self.ends_us.append(now_us())

    # -- load --------------------------------------------------------------------------------------

    async def load(self, fault: Awaitable[None], before: float) -> None:
        """Post events and send ticks, let the fault happen after ``before`` seconds, send a little more."""
        ended = asyncio.Event()
        tasks = [asyncio.create_task(each(ended)) for each in (self._post_all, self._send, self._hear)]
        try:
            await asyncio.sleep(before)
            self.span_us[0] = now_us()
            await fault
            self.span_us[1] = now_us()
            # Some that come afterwards are accepted, however late that is noticed.
            enough, limit = len(self.accepted) + 2 * self.options.rate, time.monotonic() + PATIENCE
            while len(self.accepted) < enough and time.monotonic() < limit:
                await asyncio.sleep(0.1)
        finally:
            ended.set()
            await asyncio.gather(*tasks)

    async def _post_all(self, ended: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as posts:
            while not ended.is_set():
                self.posted += 1
                posts.create_task(self._post(self.posted))
                await asyncio.sleep(1 / self.options.rate)

    async def _post(self, number: int) -> None:
        """Post an event until some worker answers."""
        headers = {"Idempotency-Key": f"event-{number}"}
        body = {"text": f"sleep {self.random.uniform(0, 0.1):.3f}"}
        while True:
            name, began = self.random.choice(WORKERS), time.monotonic()
            try:
                answer = await self.http.post(self._url(name), json=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.2)
                continue
            if answer.status_code == 202:
                self.accepted.add(answer.json()["message"].split("`")[1])
            else:
                after = answer.headers.get("retry-after")
                self.refused.append(Refused(name, answer.status_code, after, time.monotonic() - began))
            return

    async def _send(self, ended: asyncio.Event) -> None:
        market = SyntheticMarket(("S1",), seed=self.options.seed)
        while not ended.is_set():
            with suppress(RedisError, OSError):
                await self.client.publish(UNDERLYING, json.dumps(market.tick("S1", now_us())))
            await asyncio.sleep(1 / TICKS)

    async def _hear(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            with suppress(RedisError, OSError):
                async with self.client.pubsub() as channel:
                    await channel.subscribe(ENRICHED[UNDERLYING])
                    while not ended.is_set():
                        heard = await channel.get_message(timeout=0.5)
                        if heard is not None and heard["type"] == "message":
                            us = body_us(heard["data"])
                            self._ticks.append((us, (now_us() - us) / 1e6))
            await asyncio.sleep(0.02)

    # -- what came of it ---------------------------------------------------------------------------

    async def settled(self) -> dict[str, Any]:
        """What was found once all has ended, or nothing has moved for a while."""
        seen, since = None, time.monotonic()
        while time.monotonic() - since < HANGS:
            found = await self._found()
            if not found["lost"] + found["unindexed"]:
                await asyncio.sleep(self.options.still)  # what would happen twice has had its chance
                return await self._found()
            if found != seen:
                seen, since = found, time.monotonic()
            await asyncio.sleep(1)
        return await self._found()

    async def _found(self) -> dict[str, Any]:
        events = {event["_id"]: event for event in await asyncio.to_thread(lambda: list(self.events.find()))}
        told: Counter[str] = Counter()
        for _, fields in await self.client.xrange(RECORD):
            if fields[b"channel"].startswith(b"celery-task-meta-"):
                result = json.loads(fields[b"message"])
                told[result["task_id"]] += result["status"] == "SUCCESS"
        versions = await asyncio.to_thread(self._versions)
        return judged(self.accepted, events, told, versions) | {
            "dead": await self.client.llen("dlq:enrichment"),
            "recovery_s": self._recovery(events.values()),
        }

    def _versions(self) -> dict[str, int]:
        self.search.ask("POST", "/events/_refresh")
        asked = {"size": 10_000, "version": True, "_source": False}
        found = self.search.ask("POST", "/events/_search", asked) or {"hits": {"hits": []}}
        return {hit["_id"]: hit["_version"] for hit in found["hits"]["hits"]}

    def _recovery(self, events: Collection[Mapping[str, Any]]) -> float | None:
        """The longest time from the end of a fault until an event that came after it had ended."""
        spans = []
        for end in self.ends_us:
            ends = [e["finished_at"] for e in events if e["finished_at"] and _us(e["created_at"]) >= end]
            if not ends:
                return None
            spans.append((_us(min(ends)) - end) / 1e6)
        return round(max(spans), 2) if spans else None

    def market_ms(self) -> str:
        """The 99th percentile of ticks before the fault and during it, in milliseconds."""
        begin, end = self.span_us
        before = p99([took for us, took in self._ticks if us < begin])
        during = p99([took for us, took in self._ticks if begin <= us < end])
        return f"{before} -> {during}"

    def log(self, name: str) -> str:
        """The end of what a worker has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def _end_workers(self) -> None:
        for process in self.workers.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def _us(at: datetime) -> int:
    """A date of MongoDB in microseconds since 1970."""
    return round(at.replace(tzinfo=UTC).timestamp() * 1e6)
