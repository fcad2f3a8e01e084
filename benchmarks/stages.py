"""Part `stages`: our cost per message stage by stage, beside what the tightest loop (part `floor`) pays.

The real parts run over the same messages in this process, one stage after the other, each over all messages
at once, so that measuring costs nothing per message: what one stage makes is kept for the next. CPU of the
process counts (all threads, the kernel's share included), not time; of several rounds the median. Servers are
processes of their own.

    receive      the subscription, from the socket to deliveries; all of it waits in the socket beforehand
    admit        admission and the queue of the lane
    decode       bytes to a validated event
    fold         whether it was folded before, the handler, and the fold: documents, JSON and claims included
    settle       what a turn says of the state as a whole: windows, surface, members, bars
    engine       lanes, turns, pipeline, writer: what is left of the engine's time
    release      counting and letting go of what is committed
    documents    BSON and the inserts
    arguments    script arguments and their packing
    replies      sending them and reading what the script answers
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Sequence
from statistics import median
from typing import Any

import uvloop

from benchmarks.floor import BATCH, Landing, connect
from benchmarks.least import Least
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.servers import null_mongo, redis_server
from benchmarks.still import NothingStored, Still
from benchmarks.stopwatch import (
    STAGES,
    Seconds,
    Stopwatch,
    patched,
    publish_without_a_turn,
    quiet,
    wall_clock,
)
from benchmarks.workloads import workload
from enricher.adapters.memory_source import MemoryDelivery
from enricher.adapters.mongo import MongoDocuments, mongo_client
from enricher.adapters.redis import sink as redis_sink
from enricher.adapters.redis.client import redis_client, sibling_client
from enricher.adapters.redis.pubsub import PubSubSource
from enricher.adapters.redis.raw_connection import pack
from enricher.adapters.redis.scripts import Script
from enricher.adapters.redis.sink import RedisLive
from enricher.config import PoolSettings
from enricher.engine.completion import Settling
from enricher.engine.ports import Delivery, Write
from enricher.engine.router import Context, Route
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message
from enricher.market.plan import market_routes
from enricher.systems import load

FULL = (("ticks", 5_000), ("quotes", 5_000), ("chains", 500), ("mix", 5_000))
QUICK = (("ticks", 500), ("quotes", 500), ("chains", 50), ("mix", 500))
CHANNELS = (UNDERLYING, OPTION_QUOTE, OPTION_CHAIN)

COMMIT = 0.01
"""Seconds that a commit takes in the engine's stage, about those of 500 documents."""

INSIDE = {"engine": ("decode", "fold", "settle", "release"), "replies": ("arguments",)}
"""Of ours: what was measured by itself and is contained in what was measured as this stage."""

Batches = list[Sequence[Write]]


# -- ours ----------------------------------------------------------------------------------------------


async def ours(
    first: Sequence[Message], counted: Sequence[Message], redis_url: str, mongo_url: str
) -> Seconds:
    """CPU seconds of each of our stages over ``counted``, after ``first`` has warmed everything up."""
    watch = Stopwatch()
    await _receive(watch, first, counted, redis_url)
    # What is subtracted from the engine's time is measured before and after it: the machine's mood changes.
    await _decode_and_fold(watch, first, counted)
    await _engine(watch, first, counted)
    await _decode_and_fold(watch, first, counted)
    for stage in ("decode", "fold"):
        watch.seconds[stage] /= 2
    # Once more, for what it gives to the sinks: keeping that takes memory, which takes time.
    batches: Batches = []
    await _engine(Stopwatch(), first, counted, batches)
    await _land(watch, batches, redis_url, mongo_url)
    for stage, parts in INSIDE.items():
        watch.seconds[stage] -= sum(watch.seconds[part] for part in parts)
    return watch.seconds


class _Counter:
    """An intake that keeps nothing and says when enough has come."""

    def __init__(self) -> None:
        self.left = 0
        self.enough = asyncio.Event()

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        before, self.left = self.left, self.left - len(deliveries)
        if self.left <= 0 < before:
            self.enough.set()


async def _receive(
    watch: Stopwatch, first: Sequence[Message], counted: Sequence[Message], redis_url: str
) -> None:
    client = redis_client(redis_url, socket_timeout=5.0)
    intake = _Counter()
    source = PubSubSource(
        lambda: sibling_client(client, protocol=2),
        client,
        channels=CHANNELS,
        instance="stages",
        clock=wall_clock,
        canary_interval=3600.0,
    )
    reading = asyncio.create_task(source.run(intake))
    while not source.connected:
        await asyncio.sleep(0.01)
    for messages in (first, counted):
        intake.left = len(messages)
        intake.enough.clear()
        publish_without_a_turn(redis_url, messages)
        before = time.process_time()
        await intake.enough.wait()
        watch.seconds["receive"] = time.process_time() - before
    await source.stop_intake()
    await reading
    await client.aclose()


async def _decode_and_fold(
    watch: Stopwatch, first: Sequence[Message], counted: Sequence[Message]
) -> None:
    routes = {route.topic: route for route in market_routes(load())}
    state_store: Any = next(iter(routes.values())).state_store
    states: dict[str, Any] = {}
    for messages in (first, counted):
        wanted = {}
        work: list[tuple[Route, Context]] = []
        for topic, body in messages:
            route, now_us = routes[topic], wall_clock()
            work.append((route, Context(topic, body, now_us, 1, {})))
            assert route.key is not None
            wanted[str(route.key(body))] = Delivery(topic, body, now_us)
        missing = {key: delivery for key, delivery in wanted.items() if key not in states}
        states |= await state_store.restore(NothingStored(), missing) if missing else {}
        gc.collect()
        began = time.process_time()
        events = [route.decode(context.body, context) for route, context in work]
        decoded = time.process_time()
        for (route, context), event in zip(work, events, strict=True):
            state = states[event.product]
            state_store.seen(state, event, context)
            change, _ = route.handler(state, event, context)
            state_store.fold(state, change)
        folded = time.process_time()
        for state in states.values():
            state_store.show(state, wall_clock())
    watch.seconds["decode"] += decoded - began
    watch.seconds["fold"] += folded - decoded


async def _engine(
    watch: Stopwatch,
    first: Sequence[Message],
    counted: Sequence[Message],
    batches: Batches | None = None,
) -> None:
    """Admission to commit on sinks that keep nothing; decoding to release count as ``engine``, too.

    ``batches`` gets what a sink was given.
    """
    with patched(Settling, "settle", lambda settle: _timed_method(watch, "release", settle)):
        still = Still(wall_clock, limits=PoolSettings())
    state_store: Any = still.routes[0].state_store
    state_store.show = watch.wrapped("settle", state_store.show)
    async with still.engine:
        await still.flood(first)
        watch.seconds |= {"release": 0.0, "settle": 0.0}
        # With servers behind the sinks, batches gather while the one before is under way.
        still.documents.pause = still.live.pause = COMMIT
        still.live.batches = batches
        done = asyncio.get_running_loop().create_future()
        left = len(counted)

        def settled(label: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        deliveries = [MemoryDelivery(topic, body, wall_clock(), settled) for topic, body in counted]
        gc.collect()
        with watch.stage("admit"):
            still.engine.pool.offer_all(deliveries)
        with watch.stage("engine"):
            await done


def _timed_method(watch: Stopwatch, stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments: watch.wrapped(stage, method)(self, *arguments)


async def _land(watch: Stopwatch, batches: Batches, redis_url: str, mongo_url: str) -> None:
    mongo = mongo_client(mongo_url, driver="motor", timeout=10.0)
    client = redis_client(redis_url, socket_timeout=10.0)
    with patched(redis_sink, "RawConnection", lambda _: _Echo):
        packing = RedisLive(client)
        await packing.open()
        await packing.commit(batches[0])
        gc.collect()
        with watch.stage("arguments"):
            for batch in batches:
                await packing.commit(batch)
        await packing.close()
    live = RedisLive(client)
    await live.open()
    documents = MongoDocuments(mongo, "deltastream")
    for sink, stage in ((live, "replies"), (documents, "documents")):
        await sink.commit([])
        await sink.commit(batches[0][:1])  # connects; done again below, which the sink takes
        with watch.stage(stage):
            for batch in batches:
                await sink.commit(batch)
    await live.close()
    await client.aclose()
    mongo.close()


class _Echo:
    """In the place of a connection: every write of every script call was landed."""

    def __init__(self, client: Any, *, timeout: float | None) -> None:
        pass

    async def run(self, script: Script, *calls: Sequence[Any]) -> list[list[bytes]]:
        for call in calls:
            pack("EVALSHA", script.sha, *call)
        return [[b""] * call[1] for call in calls]

    async def close(self) -> None:
        pass


# -- the floor's ---------------------------------------------------------------------------------------


async def floors(
    first: Sequence[Message], counted: Sequence[Message], redis_url: str, mongo_url: str
) -> Seconds:
    """CPU seconds of the same stages in the tightest loop. It has no admission, engine or release."""
    watch = Stopwatch()
    inbox, landing, least = await connect(redis_url), Landing(redis_url, mongo_url), Least()
    await landing.open()
    for messages in (first, counted):
        watch.seconds = dict.fromkeys(STAGES, 0.0)
        publish_without_a_turn(redis_url, messages)
        with watch.stage("receive"):
            while len(inbox.messages) < len(messages):
                await inbox.wait()
        gc.collect()
        while inbox.messages:
            with watch.stage("engine"):
                batch = await inbox.take()
                now_us = wall_clock()
            with watch.stage("decode"):
                decoded = least.decode(batch, now_us)
            with watch.stage("fold"):
                least.enrich(decoded, now_us)
            with watch.stage("settle"):
                told = least.settle()
            with watch.stage("documents"):
                await landing.insert(least.documents)
            with watch.stage("arguments"):
                packed = landing.pack(least, *told)
            with watch.stage("replies"):
                await landing.send(packed)
    return watch.seconds


# -- the part ------------------------------------------------------------------------------------------

Way = Callable[[Sequence[Message], Sequence[Message], str, str], Coroutine[Any, Any, Seconds]]

def measured(kind: str, count: int, rounds: int) -> list[dict[str, Any]]:
    """A row per stage, and the sum: medians of the rounds, us per message."""
    found: dict[str, list[Seconds]] = {"ours": [], "floor": []}
    with redis_server() as redis, null_mongo() as mongo:
        for number in range(rounds):
            market = workload(kind, count + max(count // 5, BATCH // 5), seed=7 + number)
            for name, way in (("ours", ours), ("floor", floors)):
                work = way(market[:-count], market[-count:], redis.url, mongo.url)
                found[name].append(uvloop.run(work))
    us = {name: _medians(seconds, count) for name, seconds in found.items()}
    return [
        {"workload": kind, "stage": stage, **_row(us["ours"][stage], us["floor"][stage])}
        for stage in (*STAGES, "sum")
    ]


def _medians(rounds: Sequence[Seconds], count: int) -> Seconds:
    made = {stage: median([s[stage] for s in rounds]) / count * 1e6 for stage in STAGES}
    return {**made, "sum": sum(made.values())}


def _row(mine: float, least: float) -> dict[str, Any]:
    return {
        "ours_us": round(mine, 2),
        "floor_us": round(least, 2),
        "more_us": round(mine - least, 2),
        "multiple": round(mine / least, 2) if least >= 0.5 else None,
    }


def run(options: Options) -> list[Report]:
    """A table per workload."""
    reports = []
    rounds = options.rounds if options.quick else max(options.rounds, 5)
    for kind, count in QUICK if options.quick else FULL:
        report = Report(
            "stages", f"{kind}, CPU per message", ["stage", "ours_us", "floor_us", "more_us", "multiple"]
        )
        with quiet():
            report.rows = measured(kind, count, rounds)
        report.notes.append(f"us: user + system time, median of {rounds} rounds")
        reports.append(report)
    return reports
