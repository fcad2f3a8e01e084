"""Where faults happen: durable servers, worker processes, a sender and a reader of all that comes of it.

    async with Stage(folder, StageOptions(seed=7)) as stage:
        await stage.start_worker("one")
        await stage.load(fault(stage))
        found = await stage.settled()

The servers keep their data over kills. The workers are ``enricher run``, as an operator starts them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import orjson
import pymongo
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.faults_ledger import (
    BRIDGE,
    COLLECTIONS,
    ENRICHED,
    STREAM,
    Found,
    Heard,
    Sent,
    body_us,
)
from enricher.connections import redis_client
from enricher.embedded.binaries import bound_to_this_process
from enricher.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING
from enricher.feed.synthetic import SyntheticMarket
from tests.servers import FaultyProxy, MongoProcess, RedisProcess

REPOSITORY = Path(__file__).resolve().parent.parent
SERVICE = "faults"
INTAKE = f"enricher:intake:{SERVICE}"
EFFECTS = f"enricher:effects:{SERVICE}"
PRODUCTS = {STREAM: ("S1", "S2"), BRIDGE: ("B1", "B2")}
# Nine ticks and a few of the others: what is told on channels tells more.
CYCLE = (*(UNDERLYING,) * 7, OPTION_QUOTE, OPTION_QUOTE, *(UNDERLYING,) * 9, OPTION_QUOTE, OPTION_CHAIN)
DATABASE = "faults"
PATIENCE = 60.0
HANGS = 90.0  # seconds without any change after which what still waits is given up
_OURS = ("ENRICHER_", "REDIS_", "MONGO_", "CELERY_", "SERVICE_NAME")


class StageOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` messages a second by each intake; ``lease`` of a worker's entries (seconds).

    ``proxied`` puts a proxy between the workers and each server. ``disorder`` sends every other message
    again, and all of them shuffled. ``overrides`` are further settings of the workers. What was found is
    complete when nothing has changed for ``still`` seconds.
    """

    seed: int = 7
    rate: float = 100.0
    lease: float = 3.0
    proxied: bool = False
    disorder: bool = False
    overrides: tuple[str, ...] = ()
    still: float = 6.0


class Stage:
    """See the module. ``ends_us`` are the moments at which faults ended."""

    def __init__(self, folder: Path, options: StageOptions) -> None:
        self.folder = folder
        self.options = options
        self.random = random.Random(options.seed)
        self.redis = RedisProcess(folder / "redis", extra=("--appendfsync", "always"))
        self.mongo = MongoProcess(folder / "mongo")
        self.proxies: dict[str, FaultyProxy] = {}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.sent: list[Sent] = []
        self.ends_us: list[int] = []
        self.notes: list[str] = []
        self.found = Found()
        self._markets = {
            intake: SyntheticMarket(products, strikes=5, seed=options.seed)
            for intake, products in PRODUCTS.items()
        }
        self._last_us = 0
        self._recorded: dict[int, list[Heard]] = {}
        self._last_entry = {INTAKE: "-", EFFECTS: "-"}
        self._exit = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            for server in (self.redis, self.mongo):
                undo.callback(server.kill)
                await asyncio.to_thread(server.start)
            if self.options.proxied:
                for name, port in (("redis", self.redis.port), ("mongo", self.mongo.port)):
                    self.proxies[name] = await undo.enter_async_context(FaultyProxy(port))
            self.client = redis_client(self.redis.url, socket_timeout=30)
            undo.push_async_callback(self.client.aclose)
            undo.callback(self._end_workers)
            undo.push_async_callback(self._end_tasks)
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tail())]
            self._exit = undo.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit.aclose()

    # -- workers -----------------------------------------------------------------------------------

    async def start_worker(self, name: str, *, ready: bool = True) -> None:
        """Start a worker under this name; with ``ready``, return when it is subscribed."""
        redis_url, mongo_url = self.redis.url, self.mongo.url(DATABASE)
        if self.proxies:
            redis_url = self.proxies["redis"].redis_url()
            mongo_url = self.proxies["mongo"].mongo_url(DATABASE)
        settings = (
            *(f"redis.url={redis_url}", f"mongo.url={mongo_url}"),
            *(f"service.name={SERVICE}", f"service.instance={name}"),
            "streams.intake=" + ",".join(f"{channel}=stream" for channel in COLLECTIONS),
            *(f"streams.lease={self.options.lease}", "streams.block=0.5", "streams.keep=86400"),
            f"streams.record_effects={EFFECTS}",
            *self.options.overrides,
        )
        command = [sys.executable, "-m", "enricher", "run", "--log-level", "warning"]
        command += [part for setting in settings for part in ("--set", setting)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.workers[name] = subprocess.Popen(  # noqa: ASYNC220  the start itself takes a millisecond
                bound_to_this_process(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,  # without a config.toml or .env of somebody's
                env={**environment, "PYTHONPATH": str(REPOSITORY)},
            )
        if ready:
            await self.subscribed(len(self.workers))

    async def subscribed(self, workers: int) -> None:
        """Return when so many workers hear the feed."""
        limit = time.monotonic() + PATIENCE
        while (await self.client.pubsub_numsub(UNDERLYING))[0][1] != workers:
            for name, process in self.workers.items():
                if process.poll() is not None:
                    raise RuntimeError(f"worker {name} ended with {process.returncode}: {self.log(name)}")
            if time.monotonic() > limit:
                raise TimeoutError(f"no {workers} workers after {PATIENCE:g} s")
            await asyncio.sleep(0.02)

    def log(self, name: str) -> str:
        """The end of what a worker has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    async def end_worker(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End a worker by a signal and wait for it; the exit code."""
        process = self.workers.pop(name)
        process.send_signal(number)
        return await asyncio.to_thread(process.wait, PATIENCE)

    def fault_ended(self) -> None:
        """Note that from now on nothing stands in the way."""
        self.ends_us.append(now_us())

    # -- load --------------------------------------------------------------------------------------

    async def load(self, fault: Coroutine[Any, Any, None], before: float = 1.0, after: float = 2.0) -> None:
        """Send by both intakes, let the fault happen after ``before`` seconds, send ``after`` more."""
        ended = asyncio.Event()
        senders = [asyncio.create_task(self._send(intake, ended)) for intake in PRODUCTS]
        try:
            await asyncio.sleep(before)
            await fault
            await asyncio.sleep(after)
        finally:
            ended.set()
            await asyncio.gather(*senders)

    async def send(self, intake: str, messages: list[Sent]) -> None:
        """Send messages in order, again and again until the server has answered each."""
        left = messages
        while left:
            with suppress(RedisError, OSError):
                async with self.client.pipeline(transaction=False) as pipeline:
                    for one in left:
                        if intake == STREAM:
                            pipeline.xadd(INTAKE, {"topic": one.channel, "at": now_us(), "body": one.body})
                        else:
                            pipeline.publish(one.channel, one.body)
                    replies = await pipeline.execute(raise_on_error=False)
                answered = list(zip(left, replies, strict=True))
                left = [one for one, reply in answered if isinstance(reply, Exception)]
                if intake == STREAM:  # also what is evicted before anybody has read it
                    self.found.appended |= {one.us for one, reply in answered if isinstance(reply, bytes)}
            if left:
                await asyncio.sleep(0.05)

    async def _send(self, intake: str, ended: asyncio.Event) -> None:
        pause = 0.2 if self.options.disorder else 0.02
        due, at = 0.0, 0
        while not ended.is_set():
            due += self.options.rate * pause
            made = []
            while at < due:
                made.append(self._made(intake, at))
                at += 1
            self.sent += made
            if self.options.disorder:
                recent = [one for one in self.sent[-200:] if one.intake == intake]
                made += self.random.sample(recent, len(recent) // 4)
                self.random.shuffle(made)
            await self.send(intake, made)
            await asyncio.sleep(pause)

    def _made(self, intake: str, number: int) -> Sent:
        market, products = self._markets[intake], PRODUCTS[intake]
        self._last_us = max(now_us(), self._last_us + 1)
        channel = CYCLE[number // len(products) % len(CYCLE)]
        make = {UNDERLYING: market.tick, OPTION_QUOTE: market.quote, OPTION_CHAIN: market.chain}[channel]
        message = make(products[number % len(products)], self._last_us)
        return Sent(self._last_us, intake, channel, message, orjson.dumps(message))

    async def bridged(self) -> None:
        """Return when all that a bridge has heard is in the intake: bridges keep the order.

        It is asked by a message of its own, published until it is there.
        """
        last = self._made(BRIDGE, 0)
        self.sent.append(last)
        limit = time.monotonic() + PATIENCE
        while last.us not in self.found.appended:
            if time.monotonic() > limit:
                raise TimeoutError(f"nothing published is appended after {PATIENCE:g} s")
            await self.send(BRIDGE, [last])
            await asyncio.sleep(0.2)

    # -- what comes of it --------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear all that is published, over any number of connections."""
        while True:
            client = redis_client(self.redis.url, socket_timeout=None)
            with suppress(RedisError, OSError):
                async with client.pubsub() as listener:
                    await listener.subscribe(*ENRICHED.values())
                    async for reply in listener.listen():
                        if reply["type"] == "message":
                            message = json.loads(reply["data"])
                            heard = Heard(now_us(), message)
                            self.found.published.setdefault(body_us(reply["data"]), []).append(heard)
            await client.aclose()
            await asyncio.sleep(0.02)

    async def _tail(self) -> None:
        """Read all that is appended to the intake and recorded, for a flush may take it away."""
        client = redis_client(self.redis.url, socket_timeout=30)
        try:
            while True:
                with suppress(RedisError, OSError):
                    await self._read_streams(client)
                await asyncio.sleep(0.1)
        finally:
            await client.aclose()

    async def _read_streams(self, client: Redis) -> None:
        for stream in (INTAKE, EFFECTS):
            while entries := await client.xrange(stream, self._last_entry[stream], count=1000):
                self._note(stream, entries)

    async def flush(self) -> None:
        """FLUSHALL, with a last look at both streams in the same transaction."""
        async with self.client.pipeline(transaction=True) as pipeline:
            pipeline.xrange(INTAKE)
            pipeline.xrange(EFFECTS)
            pipeline.flushall()
            intake, effects, _ = await pipeline.execute()
        self._note(INTAKE, intake)
        self._note(EFFECTS, effects)

    def _note(self, stream: str, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Take entries, in order, into the accounts; those known already are left out."""
        for id_, fields in entries:
            if self._last_entry[stream] != "-" and _id(id_) <= _id(self._last_entry[stream][1:].encode()):
                continue
            self._last_entry[stream] = f"({id_.decode()}"
            if stream == INTAKE:
                self.found.appended.add(body_us(fields[b"body"]))
            elif fields[b"channel"].decode() in ENRICHED.values():
                heard = Heard(_id(id_)[0] * 1000, json.loads(fields[b"message"]))
                self._recorded.setdefault(body_us(fields[b"message"]), []).append(heard)

    async def settled(self) -> Found:
        """All that was found, once everything appended is, or nothing has changed for ``still`` seconds and
        no entry waits (or it does so for ever).

        A second more goes by at the end, for what should not come.
        """
        await self.bridged()
        seen, since = (-1, -1, -1), time.monotonic()
        documents: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.mongo.url(DATABASE))
        try:
            while True:
                await self._read_streams(self.client)
                stored = await asyncio.to_thread(_stored, documents)
                told = sum(one.channel in ENRICHED for one in self.sent if one.us in self.found.appended)
                now = (len(self.found.appended), stored, len(self._recorded))
                if stored >= now[0] and now[2] >= told and seen == now:
                    break
                if seen != now:
                    seen, since = now, time.monotonic()
                quiet = time.monotonic() - since
                if quiet > HANGS or (quiet > self.options.still and not await self._waiting()):
                    break
                await asyncio.sleep(0.25)
            await asyncio.sleep(1.0)
            await self._read_streams(self.client)
            self.found.documents = await asyncio.to_thread(_documents, documents)
        finally:
            documents.close()
        # A subscriber may have been away, a record may have been flushed: each alone may know too little.
        for us, recorded in self._recorded.items():
            if len(recorded) > len(self.found.published.get(us, ())):
                self.found.published[us] = recorded
        self.found.dead = await self.client.llen("dlq:enrichment")
        for product in (name for names in PRODUCTS.values() for name in names):
            cached = await self.client.mget(f"ohlc:{product}:15m", f"latest:underlying:{product}")
            window, latest = (None if text is None else json.loads(text) for text in cached)
            self.found.windows[product] = (window, latest)
        return self.found

    async def _waiting(self) -> bool:
        """Whether entries of the intake are not yet acknowledged."""
        try:
            (group,) = await self.client.xinfo_groups(INTAKE)
        except (RedisError, ValueError):
            return False
        return bool(group["pending"] or group["lag"])

    async def left(self) -> str:
        """What the intake's groups still have to do, for a reader who wonders what went wrong."""
        groups = []
        for stream in (INTAKE, f"{INTAKE}:{SERVICE}:again"):
            with suppress(RedisError):
                groups += [{"stream": stream, **found} for found in await self.client.xinfo_groups(stream)]
                groups += await self.client.xinfo_consumers(stream, SERVICE)
        return f"{groups}"

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_workers(self) -> None:
        for process in self.workers.values():
            process.kill()
            process.wait()


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def _id(text: bytes) -> tuple[int, int]:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def _stored(client: pymongo.MongoClient[dict[str, Any]]) -> int:
    database = client[DATABASE]
    return sum(database[name].count_documents({}) for name in COLLECTIONS.values())


def _documents(client: pymongo.MongoClient[dict[str, Any]]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for name in COLLECTIONS.values():
        for document in client[DATABASE][name].find():
            found.setdefault(document["event_us"], []).append(document)
    return found
