"""The faults, each a function of a stage under load, and what is promised of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from benchmarks.faults_accidents import ACCIDENTS, HANDLER
from benchmarks.faults_ledger import BRIDGE, STREAM, Promise
from benchmarks.faults_stage import EVERYTHING, Stage
from benchmarks.faults_witness import INTAKE, SERVICE
from enricher.adapters.redis.scripts import load

APPEND = load("stream_append").sha.encode()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything: ``kills`` of a worker that lives for ``life`` seconds at most, ``times`` of
    another fault, seconds a server is frozen, away or refuses."""

    kills: int = 50
    life: float = 3.0
    times: int = 20
    frozen: float = 10.0
    outage: float = 60.0
    refusing: float = 5.0


QUICK = Plan(kills=4, life=1.5, times=4, frozen=3.0, outage=5.0, refusing=2.0)
SHORTEST = Plan(kills=2, life=1.0, times=2, frozen=1.0, outage=1.0, refusing=1.0)

Fault = Callable[[Stage, Plan], Awaitable[None]]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A fault: in words, as a function, what holds, and what the stage is like."""

    about: str
    fault: Fault
    promise: Promise = Promise()
    workers: tuple[str, ...] = ("one",)
    stage: dict[str, Any] = {}


async def worker_killed(stage: Stage, plan: Plan) -> None:
    """Kill -9 of the worker at random moments; it is started again under its name."""
    for _ in range(plan.kills):
        await asyncio.sleep(stage.random.uniform(0.05, plan.life))
        await stage.end_worker("one")
        stage.fault_ended()
        await stage.start_worker("one")


async def worker_stopped(stage: Stage, plan: Plan) -> None:
    """SIGTERM of the worker at random moments; it is started again under its name."""
    for _ in range(max(2, plan.kills // 10)):
        await asyncio.sleep(stage.random.uniform(0.05, plan.life))
        code = await stage.end_worker("one", signal.SIGTERM)
        if code != 0:
            raise RuntimeError(f"ended with {code} after SIGTERM: {stage.log('one')}")
        stage.fault_ended()
        await stage.start_worker("one")


async def one_of_two_killed(stage: Stage, plan: Plan) -> None:
    """Kill -9 of one of two workers at random; all is well again before the next is killed."""
    for _ in range(max(2, plan.kills // 5)):
        await asyncio.sleep(stage.random.uniform(0.05, plan.life))
        name = stage.random.choice(("one", "two"))
        await stage.end_worker(name)
        stage.fault_ended()
        await stage.start_worker(name)
        await stage.bridged()


async def redis_killed(stage: Stage, plan: Plan) -> None:
    """Kill -9 of Redis, which comes back with its data."""
    for _ in range(max(2, plan.times // 4)):
        await asyncio.sleep(stage.random.uniform(0.5, 1.5))
        stage.redis.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(stage.redis.start)
        stage.fault_ended()
        await stage.subscribed(1)


async def failed_over(stage: Stage, plan: Plan) -> None:
    """The replica of Redis takes over; every other time all stay connected to the old primary."""
    for number in range(max(2, plan.times // 4)):
        await asyncio.sleep(stage.random.uniform(0.5, 1.5))
        await stage.fail_over(cut=number % 2 == 1)
        stage.fault_ended()


async def mongo_killed(stage: Stage, plan: Plan) -> None:
    """Kill -9 of the document server, which comes back with its data."""
    for _ in range(max(2, plan.times // 4)):
        await asyncio.sleep(stage.random.uniform(0.5, 1.5))
        stage.mongo.kill()
        await asyncio.to_thread(stage.mongo.start)
        stage.fault_ended()


async def redis_frozen(stage: Stage, plan: Plan) -> None:
    """Redis answers nothing, its connections stay."""
    stage.redis.pause()
    await asyncio.sleep(plan.frozen)
    stage.redis.resume()
    stage.fault_ended()
    await stage.subscribed(1)


async def mongo_frozen(stage: Stage, plan: Plan) -> None:
    """The document server answers nothing, its connections stay."""
    stage.mongo.pause()
    await asyncio.sleep(plan.frozen)
    stage.mongo.resume()
    stage.fault_ended()


async def mongo_away(stage: Stage, plan: Plan) -> None:
    """The document server cannot be reached for a while."""
    stage.mongo.kill()
    await asyncio.sleep(plan.outage)
    await asyncio.to_thread(stage.mongo.start)
    stage.fault_ended()


async def connections_cut(stage: Stage, plan: Plan) -> None:
    """Every connection of the worker is reset, at random moments."""
    for _ in range(plan.times):
        await asyncio.sleep(stage.random.uniform(0.05, 0.5))
        for proxy in stage.proxies.values():
            proxy.cut()
        stage.fault_ended()
    await stage.subscribed(1)


async def replies_swallowed(stage: Stage, plan: Plan) -> None:
    """A write is applied and its reply never comes: of the commit, of the append, of the documents."""
    writes = (
        ("redis", lambda request: b"EVALSHA" in request),
        ("redis", lambda request: b"XADD" in request or APPEND in request),
        ("mongo", lambda request: b"underlying_ticks" in request),
    )
    for number in range(plan.times):
        name, is_write = writes[number % len(writes)]
        proxy = stage.proxies[name]
        before = proxy.lost_replies
        proxy.lose_next_reply(is_write)
        async with asyncio.timeout(30):
            while proxy.lost_replies == before:
                await asyncio.sleep(0.01)
        stage.fault_ended()
        await asyncio.sleep(stage.random.uniform(0.05, 0.3))


async def group_destroyed(stage: Stage, plan: Plan) -> None:
    """Somebody destroys the consumer group of the intake."""
    for _ in range(plan.times):
        await asyncio.sleep(stage.random.uniform(0.05, 0.5))
        await stage.client.xgroup_destroy(INTAKE, SERVICE)
        stage.fault_ended()


async def flushed(stage: Stage, plan: Plan) -> None:
    """FLUSHALL while entries wait."""
    for _ in range(max(2, plan.times // 4)):
        stage.workers["one"].send_signal(signal.SIGSTOP)
        await asyncio.sleep(stage.random.uniform(0.2, 0.5))
        await stage.witness.flush()
        stage.workers["one"].send_signal(signal.SIGCONT)
        stage.fault_ended()
        await asyncio.sleep(1.0)


async def resent(stage: Stage, plan: Plan) -> None:
    """Nothing: the stage itself sends again and out of order."""
    await asyncio.sleep(plan.times / 4)


async def out_of_memory(stage: Stage, plan: Plan) -> None:
    """Redis answers writes with OOM."""
    await stage.client.config_set("maxmemory", 1)
    await asyncio.sleep(plan.refusing)
    await stage.client.config_set("maxmemory", 0)
    stage.fault_ended()


RIGHTS = (("-publish",), ("-set",), ("-xack",), ("-evalsha",), ("resetkeys", "~none"), ("off",))


async def rights_taken(stage: Stage, plan: Plan) -> None:
    """A right after the other is taken from the workers' user, and given back."""
    for rules in RIGHTS[: max(2, plan.times // 3)]:
        await stage.may(*rules)
        await asyncio.sleep(plan.refusing / 2)
        await stage.may(*EVERYTHING)
        stage.fault_ended()
        await asyncio.sleep(stage.random.uniform(0.2, 0.5))


async def unknown_errors(stage: Stage, plan: Plan) -> None:
    """The document server answers writes with errors that nobody knows."""
    for code in (8000, 16500, 1)[: max(2, plan.times // 5)]:
        await stage.documents_fail(code)
        await asyncio.sleep(plan.refusing / 2)
        await stage.documents_fail(0)
        stage.fault_ended()
        await asyncio.sleep(stage.random.uniform(0.2, 0.5))


async def clock_set(stage: Stage, plan: Plan) -> None:
    """The worker's clock is set back and forth, but never so far back that messages are from its future."""
    for number in range(max(4, plan.times)):
        stage.set_clock((50, -4, 3600, 0, 7200, -3)[number % 6])
        await asyncio.sleep(stage.random.uniform(0.1, plan.refusing / 2))
        stage.fault_ended()
    if "clock_set" not in stage.log("one"):
        raise RuntimeError(f"the worker has not noticed that its clock was set: {stage.log('one')}")


async def cannot_save(stage: Stage, plan: Plan) -> None:
    """Redis answers writes with MISCONF, because it could not write its snapshot."""
    # A folder in its place is what even root cannot write over.
    in_the_way = stage.redis.folder / "dump.rdb"
    in_the_way.mkdir()
    await stage.client.config_set("save", "3600 1000000")
    await _save(stage, "err")
    await asyncio.sleep(plan.refusing)
    in_the_way.rmdir()
    await _save(stage, "ok")
    stage.fault_ended()
    await stage.client.config_set("save", "")


async def _save(stage: Stage, status: str) -> None:
    await stage.client.bgsave()
    async with asyncio.timeout(30):
        while (await stage.client.info("persistence"))["rdb_last_bgsave_status"] != status:
            await asyncio.sleep(0.02)


async def evicted(stage: Stage, plan: Plan) -> None:
    """Redis runs short of memory and may evict any key: claims, the intake, caches."""
    await stage.client.config_set("maxmemory-policy", "allkeys-lru")
    used = (await stage.client.info("memory"))["used_memory"]
    await stage.client.config_set("maxmemory", used + 200_000)
    ends = asyncio.get_running_loop().time() + plan.refusing
    number = 0
    while asyncio.get_running_loop().time() < ends:
        await stage.client.set(f"filler:{number}", b"x" * 20_000, ex=60)
        number += 1
        await asyncio.sleep(0.01)
    gone = (await stage.client.info("stats"))["evicted_keys"]
    await stage.client.config_set("maxmemory", 0)
    stage.fault_ended()
    stage.notes.append(
        f"allkeys-lru: Redis evicted {gone} keys, claims and the intake among them; what the bridge appended "
        "and nobody has seen again counts as lost before"
    )


MAILS, DEAD_MAILS = "email_ingestion_stream", "email_ingestion_dlq"


async def handler_accidents(stage: Stage, plan: Plan) -> None:
    """Beside the market mails are handled, by a function that does to its task whatever it can."""
    sent = 0
    for _ in range(max(1, plan.times // 4)):
        for _ in ACCIDENTS:
            raw = f"Message-ID: <{sent}@x>\r\nSubject: {sent}\r\n\r\ntext".encode()
            await stage.client.xadd(MAILS, {"raw": raw})
            sent += 1
        async with asyncio.timeout(60):
            while await stage.client.xlen(DEAD_MAILS) < sent:
                await asyncio.sleep(0.02)
        stage.fault_ended()
        await asyncio.sleep(stage.random.uniform(0.2, 0.5))


NOTHING = Promise(complete=False, once=False, intake=(), windows=False)

SCENARIOS: dict[str, Scenario] = {
    "worker_killed": Scenario(about="kill -9 of the worker", fault=worker_killed),
    "worker_stopped": Scenario(about="SIGTERM of the worker", fault=worker_stopped),
    "one_of_two_killed": Scenario(
        about="two workers bridge one channel, kill -9 of one",
        fault=one_of_two_killed,
        # Each of them has seen a part: windows of the whole take shards.
        promise=Promise(intake=(STREAM, BRIDGE), windows=False),
        workers=("one", "two"),
        # Only here does anybody wait for the lease of a worker that does not come back under its name.
        stage={"lease": 3.0},
    ),
    "redis_killed": Scenario(about="kill -9 of Redis (appendfsync always)", fault=redis_killed),
    "failed_over": Scenario(
        about="Redis fails over to its replica and back", fault=failed_over, stage={"replicated": True}
    ),
    "mongo_killed": Scenario(about="kill -9 of the document server (journaled)", fault=mongo_killed),
    "redis_frozen": Scenario(about="Redis answers nothing", fault=redis_frozen),
    "mongo_frozen": Scenario(about="the document server answers nothing", fault=mongo_frozen),
    "mongo_away": Scenario(about="the document server is unreachable", fault=mongo_away),
    "connections_cut": Scenario(
        about="every connection of the worker is reset", fault=connections_cut, stage={"proxied": True}
    ),
    "replies_swallowed": Scenario(
        about="a write is applied, its reply lost", fault=replies_swallowed, stage={"proxied": True}
    ),
    "group_destroyed": Scenario(about="XGROUP DESTROY", fault=group_destroyed),
    "resent": Scenario(
        about="messages sent again and out of order", fault=resent, stage={"disorder": True}
    ),
    "out_of_memory": Scenario(about="Redis answers OOM", fault=out_of_memory),
    "cannot_save": Scenario(about="Redis answers MISCONF", fault=cannot_save),
    "clock_set": Scenario(
        about="the worker's clock is set back and forth", fault=clock_set, stage={"clocked": True}
    ),
    "rights_taken": Scenario(
        about="rights of the worker's Redis user are taken and given back",
        fault=rights_taken,
        stage={"ruled": True},
    ),
    "unknown_errors": Scenario(
        about="the document server answers with error codes on no list", fault=unknown_errors
    ),
    "handler_accidents": Scenario(
        about="handlers cancel, exit and swallow what they should not",
        fault=handler_accidents,
        stage={
            "overrides": (
                *("mail.enabled=true", f"mail.handler={HANDLER}"),
                *("mail.max_retries=0", "mail.timeout=1", "mail.block=100ms"),
            )
        },
    ),
    "flushed": Scenario(about="FLUSHALL", fault=flushed, promise=NOTHING),
    "evicted": Scenario(
        about="Redis evicts keys (allkeys-lru)",
        fault=evicted,
        promise=NOTHING,
        stage={"disorder": True},
    ),
}
