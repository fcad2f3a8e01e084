"""Part `floor`: the same work in the tightest loop that the same libraries allow, and our multiple of it.

The loop is one process and one task: hiredis reads the subscription off the bare connection, then
`benchmarks.least` decodes, folds and encodes what has gathered (500 messages at most), motor sends one insert
command per collection, and one script, packed by hiredis, claims, caches and publishes. It survives nothing:
no outage, no refused document, no restart. Run as a process, ``python -m benchmarks.floor REDIS_URL
MONGO_URL [analytics]``, it answers like `benchmarks.worker`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hiredis
import psutil
import uvloop
from motor.motor_asyncio import AsyncIOMotorClient
from redis.asyncio import Redis

from benchmarks.least import Least
from benchmarks.measure import cpu_seconds, publish_all, settled
from benchmarks.parts import Options
from benchmarks.report import Report, median, spread
from benchmarks.servers import Worker, module, null_mongo, process, redis_server, worker
from benchmarks.worker import asked
from benchmarks.workloads import workload
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message

BATCH = 500
BATCH_BYTES = 4 * 1024 * 1024
DATABASE = "deltastream"
SCRIPT = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
CHANNELS = (UNDERLYING, OPTION_QUOTE, OPTION_CHAIN)
ENRICHED = ("enriched:underlying", "enriched:option_chain")


class Inbox(asyncio.Protocol):
    """A subscription read by hiredis off the bare connection; ``messages`` gathers what was said."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.confirmed = 0
        self._reader = hiredis.Reader()
        self._names = {name.encode(): name for name in CHANNELS}
        self._arrived: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        """Subscribe."""
        transport.write(_packed("SUBSCRIBE", *CHANNELS))

    def data_received(self, data: bytes) -> None:
        """Take every whole message out of what came."""
        self._reader.feed(data)
        gets, names, messages = self._reader.gets, self._names, self.messages
        while (reply := gets()) is not False:
            if reply[0] == b"message":
                messages.append((names[reply[1]], reply[2]))
            else:
                self.confirmed += 1
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def wait(self) -> None:
        """Return when something more has come."""
        self._arrived = asyncio.get_running_loop().create_future()
        await self._arrived

    async def take(self) -> list[Message]:
        """What has gathered, at most a batch."""
        while not self.messages:
            await self.wait()
        batch = self.messages[:BATCH]
        while len(batch) > 1 and sum([len(body) for _, body in batch]) > BATCH_BYTES:
            batch = batch[: len(batch) // 2]
        del self.messages[: len(batch)]
        return batch


class Landing:
    """Where the loop's batches go: a database and a Redis."""

    def __init__(self, redis_url: str, mongo_url: str) -> None:
        self._redis = Redis.from_url(redis_url, protocol=2)
        self._mongo: Any = AsyncIOMotorClient(mongo_url)
        self._database = self._mongo[DATABASE]
        self._sha = b""

    async def open(self) -> None:
        """Load the script and keep a connection for it."""
        self._sha = (await self._redis.script_load(SCRIPT)).encode()
        pool: Any = self._redis.connection_pool
        self.connection: Any = await pool.get_connection()
        await self._database.command("ping")

    async def insert(self, documents: dict[str, list[dict[str, Any]]]) -> None:
        """One unordered insert per collection. It is the command that `insert_many` sends after it has looked
        at each document, which costs as much again as encoding a tick."""
        for collection, found in documents.items():
            reply = await self._database.command(
                {"insert": collection, "documents": found, "ordered": False}
            )
            refused = [e for e in reply.get("writeErrors", ()) if e["code"] != 11000]
            if refused:
                raise RuntimeError(f"{collection}: {refused[0]}")

    def pack(self, least: Least, keys: list[Any], members: list[Any]) -> bytes:
        """The script call of a batch, as it goes over the wire."""
        counts = (least.claimed, len(keys) // 4, len(members) // 4)
        return _packed("EVALSHA", self._sha, 0, *counts, *ENRICHED, *least.claims, *keys, *members)

    async def send(self, packed: bytes) -> int:
        """How many claims of the batch somebody else had."""
        await self.connection.send_packed_command([packed])
        return int(await self.connection.read_response())


def _packed(*words: Any) -> bytes:
    return bytes(hiredis.pack_command(words))


async def connect(redis_url: str) -> Inbox:
    """A subscription that is confirmed."""
    where = urlsplit(redis_url)
    address = (where.hostname or "localhost", where.port or 6379)
    _, inbox = await asyncio.get_running_loop().create_connection(Inbox, *address)
    while inbox.confirmed < len(CHANNELS):
        await inbox.wait()
    return inbox


async def main(redis_url: str, mongo_url: str, *analytics: str) -> None:
    """Serve until killed."""
    inbox, landing = await connect(redis_url), Landing(redis_url, mongo_url)
    least = Least(analytics=bool(analytics))
    await landing.open()
    counts = {"processed": 0, "duplicate": 0, "dead": 0}
    answering = asyncio.create_task(answer(counts))
    print("ready", flush=True)
    while not answering.done():
        batch = await inbox.take()
        now_us, bad = time.time_ns() // 1000, least.bad
        least.enrich(least.decode(batch, now_us), now_us)
        await landing.insert(least.documents)
        claimed = await landing.send(landing.pack(least, *least.settle()))
        counts["dead"] += least.bad - bad
        counts["duplicate"] += claimed
        counts["processed"] += len(batch) - claimed - (least.bad - bad)
    await answering


async def answer(counts: dict[str, int]) -> None:
    """Say a line of figures to each line of the standard input."""
    questions = asked()
    while True:
        await questions.get()
        rss = psutil.Process().memory_info().rss
        figures = {"topics": {"all": counts}, "cpu_s": time.process_time(), "rss": rss}
        print(json.dumps(figures), flush=True)


@contextmanager
def tight_loop(redis_url: str, mongo_url: str, *analytics: str) -> Iterator[Worker]:
    """The loop as a process that is ready."""
    command = module("benchmarks.floor", redis_url, mongo_url, *analytics)
    with process(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        if child.stdout.readline() != b"ready\n":
            raise RuntimeError("the loop did not start")
        yield Worker(child)


# -- the part ------------------------------------------------------------------------------------------

# kind, whether chains are analysed, messages a round
FULL = (
    ("ticks", False, 10_000),
    ("quotes", False, 10_000),
    ("chains", False, 1_000),
    ("chains", True, 1_000),
    ("mix", False, 10_000),
    ("mix", True, 10_000),
)
PRODUCTS = 8


def compared(rounds: Sequence[Sequence[Message]], *, analytics: bool) -> tuple[list[float], list[float]]:
    """CPU microseconds per message of the loop and of a worker, round by round; the first is not counted.

    Each has servers of its own, and they take turns, so that both see the machine in the same mood.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        both = []
        told = ("analytics",) if analytics else ()
        for start, options in ((tight_loop, told), (worker, (f"market.analytics={analytics}".lower(),))):
            redis, mongo = enter(redis_server()), enter(null_mongo())
            both.append((redis.url, enter(start(redis.url, mongo.url, *options))))
        costs: tuple[list[float], list[float]] = ([], [])
        sent = 0
        for number, messages in enumerate(rounds):
            sent += len(messages)
            for cost, (redis_url, watched) in zip(costs, both, strict=True):
                before = cpu_seconds(watched.pid)
                publish_all(redis_url, messages)
                now = settled(watched.figures, sent)
                used = cpu_seconds(watched.pid) - before
                if number:
                    cost.append(used / len(messages) * 1e6)
                if any(topic.get("dead", 0) for topic in now["topics"].values()):
                    raise RuntimeError(f"messages were refused: {now['topics']}")
    return costs


def measured(kind: str, count: int, rounds: int, *, analytics: bool) -> dict[str, Any]:
    """One row: floor, ours and the multiple, which is the median of the rounds' own multiples."""
    market = workload(kind, count * (rounds + 1), PRODUCTS)
    sent = [market[at : at + count] for at in range(0, len(market), count)]
    floor, ours = compared(sent, analytics=analytics)
    multiples = [mine / least for mine, least in zip(ours, floor, strict=True)]
    return {
        "workload": f"{kind}, with analytics" if analytics else kind,
        "messages": count,
        "floor_us": median(floor),
        "floor_spread": spread(floor),
        "ours_us": median(ours),
        "ours_spread": spread(ours),
        "multiple": median(multiples, 2),
        "multiple_spread": spread(multiples, 2),
    }


def run(options: Options) -> list[Report]:
    """A row per workload; ``floor.only`` takes those of one kind."""
    columns = ["workload", "messages", "floor_us", "floor_spread", "ours_us", "ours_spread"]
    report = Report(
        "floor",
        "CPU per message beside the tightest loop with the same libraries",
        [*columns, "multiple", "multiple_spread"],
    )
    only = options.settings.get("floor.only")
    for kind, analytics, count in FULL:
        if only in (None, kind):
            size = count // 10 if options.quick else count
            report.rows.append(measured(kind, size, options.rounds, analytics=analytics))
    report.notes.append("us: user + system time per message, median; both run in turn in the same minutes")
    report.notes.append("the loop has the same formulas, and no bars, build-ups, walls or other expiries")
    return [report]


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
