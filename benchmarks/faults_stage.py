"""Where faults happen: durable servers, worker processes, a sender and a reader of all that comes of it.

    async with Stage(folder, StageOptions(seed=7)) as stage:
        await stage.start_worker("one")
        await stage.load(fault(stage))
        found = await stage.settled()

The servers keep their data over kills. The workers are ``enricher run``, as an operator starts them.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
import orjson
import pymongo
from redis.exceptions import RedisError

from benchmarks.faults_ledger import (
    BRIDGE,
    COLLECTIONS,
    STREAM,
    Found,
    Sent,
)
from benchmarks.faults_witness import DATABASE, EFFECTS, INTAKE, SERVICE, Witness, now_us
from enricher.adapters.redis.client import redis_client
from enricher.embedded.binaries import bound_to_this_process
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING
from enricher.market.feed.synthetic import SyntheticMarket
from tests.servers import LOOPBACK, FaultyProxy, MongoProcess, RedisProcess

REPOSITORY = Path(__file__).resolve().parent.parent
PRODUCTS = {STREAM: ("S1", "S2"), BRIDGE: ("B1", "B2")}
# Nine ticks and a few of the others: what is told on channels tells more.
CYCLE = (*(UNDERLYING,) * 7, OPTION_QUOTE, OPTION_QUOTE, *(UNDERLYING,) * 9, OPTION_QUOTE, OPTION_CHAIN)
PATIENCE = 60.0
DURABLE = ("--appendfsync", "always", "--repl-diskless-sync-delay", "0")
EVERYTHING = ("on", ">secret", "~*", "&*", "+@all")
_OURS = ("ENRICHER_", "REDIS_", "MONGO_", "CELERY_", "SERVICE_NAME")


class Process(Protocol):
    """A worker's process, as `subprocess.Popen` is one."""

    @property
    def returncode(self) -> int | None:
        """The exit code; None while it runs."""

    def poll(self) -> int | None:
        """As `returncode`, found out now."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """SIGKILL."""


def started(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """``python -m enricher`` with these arguments, from ``folder``, appending to ``log``."""
    paths = filter(None, (environment.get("PYTHONPATH"), str(REPOSITORY)))
    with log.open("ab") as file:
        return subprocess.Popen(
            bound_to_this_process([sys.executable, "-m", "enricher", *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=folder,
            env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        )


class StageOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` messages a second by each intake; ``lease`` of a worker's entries (seconds).

    ``proxied`` puts a proxy between the workers and each server; ``replicated`` does so too, and Redis gets
    a replica to fail over to. ``ruled`` gives the workers a user of their own. ``clocked`` gives them a clock
    that can be set. ``disorder`` sends every other message again, and all of them shuffled.
    ``overrides`` are further settings of the workers. What was found is complete when nothing has changed for
    ``still`` seconds. ``start`` makes a worker's process.
    """

    seed: int = 7
    rate: float = 100.0
    lease: float = 30.0
    proxied: bool = False
    replicated: bool = False
    ruled: bool = False
    clocked: bool = False
    disorder: bool = False
    overrides: tuple[str, ...] = ()
    still: float = 6.0
    start: Callable[[Sequence[str], Mapping[str, str], Path, Path], Process] = started


# What a worker whose clock can be set runs before anything else.
CLOCK = """
import mmap, pathlib, time

_file = open(pathlib.Path(__file__).with_name("offset"), "r+b")
_offset, _ns = mmap.mmap(_file.fileno(), 8), time.time_ns
time.time_ns = lambda: _ns() + int.from_bytes(_offset[:8], "little", signed=True)
time.time = lambda: time.time_ns() / 1e9
"""


class Stage:
    """See the module. ``ends_us`` are the moments at which faults ended."""

    def __init__(self, folder: Path, options: StageOptions) -> None:
        self.folder = folder
        self.options = options
        self.random = random.Random(options.seed)
        self.redis = RedisProcess(folder / "redis", extra=DURABLE)
        self.replica = RedisProcess(folder / "replica", extra=DURABLE)
        self.mongo = MongoProcess(folder / "mongo")
        self.proxies: dict[str, FaultyProxy] = {}
        self.workers: dict[str, Process] = {}
        self.sent: list[Sent] = []
        self.ends_us: list[int] = []
        self.notes: list[str] = []
        self._markets = {
            intake: SyntheticMarket(products, strikes=5, seed=options.seed)
            for intake, products in PRODUCTS.items()
        }
        self._last_us = 0
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            for server in (self.redis, self.mongo):
                undo.callback(server.kill)
                await asyncio.to_thread(server.start)
            if self.options.proxied or self.options.replicated:
                for name, port in (("redis", self.redis.port), ("mongo", self.mongo.port)):
                    self.proxies[name] = await undo.enter_async_context(FaultyProxy(port))
            redis_url = self.redis.url
            if self.options.replicated:
                undo.callback(self.replica.kill)
                await asyncio.to_thread(self.replica.start)
                self.replica.call("REPLICAOF", LOOPBACK, str(self.redis.port))
                await self._says(self.replica, b"master_link_status:up")
                redis_url = self.proxies["redis"].redis_url()
            self.client = redis_client(redis_url, socket_timeout=30)
            undo.push_async_callback(self.client.aclose)
            if self.options.ruled:
                await self.may(*EVERYTHING)
            undo.callback(self._end_workers)
            self.witness = Witness(redis_url, self.mongo.url(DATABASE), self.client)
            undo.push_async_callback(self.witness.stop)
            self.witness.start()
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
        if self.options.ruled:
            redis_url = redis_url.replace("//", "//app:secret@")
        settings = (
            *(f"redis.url={redis_url}", f"mongo.url={mongo_url}"),
            *(f"service.name={SERVICE}", f"service.instance={name}"),
            "streams.intake=" + ",".join(f"{channel}=stream" for channel in COLLECTIONS),
            *(f"streams.lease={self.options.lease}", "streams.block=0.5", "streams.retention=86400"),
            f"streams.record_effects={EFFECTS}",
            *self.options.overrides,
        )
        arguments = ["run", "--log-level", "warning"]
        arguments += [part for setting in settings for part in ("--set", setting)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        log = self.folder / f"{name}.log"
        start = self.options.start
        if self.options.clocked:
            self.set_clock(0)
            environment["PYTHONPATH"] = str(self.folder / "clock")
            start = started
        # In the folder there is no config.toml or .env of somebody's.
        self.workers[name] = start(arguments, environment, self.folder, log)
        if ready:
            await self.subscribed(len(self.workers))

    def set_clock(self, seconds: float) -> None:
        """Set the clocks of workers that may be set to be so many seconds ahead of the machine's."""
        place = self.folder / "clock"
        if not place.exists():
            place.mkdir()
            (place / "offset").write_bytes(bytes(8))
            (place / "sitecustomize.py").write_text(CLOCK)
        with (place / "offset").open("r+b") as file:
            file.write(int(seconds * 1e9).to_bytes(8, "little", signed=True))

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
        code = await asyncio.to_thread(process.wait, PATIENCE)
        # Else its subscription might be taken for that of whoever is started next.
        await self.subscribed(len(self.workers))
        return code

    async def fail_over(self, *, cut: bool) -> None:
        """The replica takes over, and the address leads to it. Connections to the old primary stay, unless
        they are ``cut``; those who send know of it."""
        old, new = self.redis, self.replica
        old.call("FAILOVER", "TO", LOOPBACK, str(new.port))
        await self._says(new, b"role:master")
        await self._says(old, b"role:slave")
        self.redis, self.replica = new, old
        self.proxies["redis"].target_port = new.port
        await self.client.connection_pool.disconnect()
        if cut:
            self.proxies["redis"].cut()
        await self._says(old, b"master_link_status:up")

    async def _says(self, server: RedisProcess, words: bytes) -> None:
        limit = time.monotonic() + PATIENCE
        while words not in await asyncio.to_thread(server.call, "INFO", "replication"):
            if time.monotonic() > limit:
                raise TimeoutError(f"no {words.decode()} after {PATIENCE:g} s")
            await asyncio.sleep(0.02)

    async def may(self, *rules: str) -> None:
        """Change what the workers' user may do, by rules of ACL SETUSER."""
        await self.client.execute_command("ACL", "SETUSER", "app", *rules)  # type: ignore[no-untyped-call]

    async def documents_fail(self, code: int) -> None:
        """The document server answers every write with this error; 0 ends it."""
        failing: dict[str, Any] = {"mode": "alwaysOn" if code else "off"}
        failing["data"] = {"failCommands": ["insert", "update"], "errorCode": code}
        with pymongo.MongoClient[dict[str, Any]](self.mongo.url()) as client:
            await asyncio.to_thread(client.admin.command, {"configureFailPoint": "failCommand", **failing})

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
                    done = {one.us for one, reply in answered if isinstance(reply, bytes)}
                    self.witness.found.appended |= done
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
        while last.us not in self.witness.found.appended:
            if time.monotonic() > limit:
                raise TimeoutError(f"nothing published is appended after {PATIENCE:g} s")
            await self.send(BRIDGE, [last])
            await asyncio.sleep(0.2)

    async def settled(self) -> Found:
        """All that was found, once everything is where it belongs, or nothing moves any more."""
        await self.bridged()
        return await self.witness.settled(self.sent, self.options.still)

    def _end_workers(self) -> None:
        for process in self.workers.values():
            process.kill()
            process.wait()
